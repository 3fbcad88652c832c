//! How fences come, stay and go: what is left, what is taken over, where there can be none, and who else is on the link.

use std::{
    io::{BufRead as _, BufReader},
    net::UdpSocket,
    process::{Command, Stdio},
    time::Duration,
};

use ebpf_redirect::{Enrolment, Exclusions, FenceChoice, FenceState, Redirect as _, Spared, kernel::Filter};

use super::{
    frames::{PacketSocket, SYN, TCP, Wire, ip, tcp},
    lab::{Lab, LabPod, eventually, open},
};
use crate::{
    lifecycle::{assert_gone, loaded, pins},
    support::{PATIENCE, Pod, accept, assert_connected, listener, redirect, unique},
};

/// Sends a segment past the hooks; says whether it arrives.
fn escapes(pod: &LabPod) -> bool {
    let (from, to) = (pod.pod.v4, pod.outside[0]);
    let frame = Wire::out(pod).ip(&ip(from, to, TCP, &tcp(((from, 4000), (to, 80)), SYN, b"past-the-fence")));
    let watcher = pod.pod.world.inside(|| PacketSocket::open(false)).unwrap();
    pod.pod.netns.inside(|| PacketSocket::open(true).unwrap().send(&frame)).unwrap();
    watcher.sees(b"past-the-fence", Duration::from_secs(1))
}

fn fence_pins(instance: &str) -> usize {
    pins(instance).iter().filter(|pin| pin.parent().unwrap().ends_with("fences")).count()
}

#[test]
fn a_pod_that_leaves_is_fenced_no_more_while_others_are_and_nothing_is_left_in_the_end() {
    let lab = Lab::new();
    let pods = [lab.pod(), lab.pod()];
    let [first, second] = pods.each_ref().map(|pod| lab.enrol(pod));
    assert_eq!(pods.each_ref().map(|pod| lab.state(pod)), [FenceState::Enforcing; 2]);
    assert_eq!(fence_pins(&lab.instance), 4);
    assert_eq!(pods.each_ref().map(escapes), [false, false]);
    let (programs, maps) = loaded(&lab.instance);
    drop(first);
    assert_eq!(fence_pins(&lab.instance), 2);
    // What is taken down stands as long as a child that is just being started has it.
    eventually("the first is fenced no more", || pods.each_ref().map(escapes) == [true, false]);
    let again = lab.enrol(&pods[0]);
    assert_eq!(pods.each_ref().map(escapes), [false, false]);
    drop((again, second));
    let Lab { redirect, instance, node: _node, .. } = lab;
    drop(redirect);
    assert!(pins(&instance).is_empty());
    eventually("nobody is fenced", || pods.each_ref().map(escapes) == [true, true]);
    assert_gone(&programs, &maps);
}

#[test]
fn the_fence_of_a_daemon_that_was_killed_stands_until_the_next_one_takes_it_over() {
    let lab = Lab::new();
    let pod = lab.pod();
    let instance = unique();
    let mut child = Command::new("nsenter")
        .args([&format!("--net={}", lab.node.path()), env!("CARGO_BIN_EXE_hold-pod")])
        .args([
            &instance,
            &pod.pod.netns.path(),
            &pod.pod.name,
            &pod.pod.v4.to_string(),
            &pod.pod.v6.to_string(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "steering\n");
    assert!(!escapes(&pod));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!escapes(&pod), "nobody runs");
    let left = fence_pins(&instance);

    let next = open(&lab.node, &instance, FenceChoice::Required).unwrap();
    assert_eq!(next.unclaimed(), 1);
    let proxy = pod.pod.listen(&next);
    let guard = lab.node.inside(|| pod.pod.enrol(&next, &proxy));
    assert_eq!(fence_pins(&instance), left);
    assert!(!escapes(&pod));
    let there = pod.outside_at(81)[0];
    let server = pod.pod.world.inside(|| listener(there));
    assert_connected(&pod.through(&next, there), &accept(&server).0);
    let client = pod.pod.dial(pod.at(8080)[0]).unwrap();
    assert_connected(&client, &accept(&proxy.inbound_v4).0);
    assert_eq!(next.release_unclaimed(Spared::NOBODY).unwrap(), 0);
    drop((guard, next));
    assert!(pins(&instance).is_empty());
    eventually("it is fenced no more", || escapes(&pod));
}

#[test]
fn a_daemon_that_wants_no_fences_takes_down_those_of_a_dead_one() {
    let lab = Lab::with(FenceChoice::Off);
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    assert_eq!(lab.state(&pod), FenceState::Off);
    assert_eq!(fence_pins(&lab.instance), 0);
    assert!(escapes(&pod));
}

#[test]
fn two_daemons_fence_a_pod_each() {
    let lab = Lab::new();
    let other = unique();
    let second = open(&lab.node, &other, FenceChoice::Required).unwrap();
    let pods = [lab.pod(), lab.pod()];
    let _first = lab.enrol(&pods[0]);
    let proxy = pods[1].pod.listen(&second);
    let guard = lab.node.inside(|| pods[1].pod.enrol(&second, &proxy));
    assert_eq!(pods.each_ref().map(escapes), [false, false]);
    let there = pods[0].outside_at(80)[0];
    let server = pods[0].pod.world.inside(|| listener(there));
    assert_connected(&pods[0].through(&lab.redirect, there), &accept(&server).0);
    lab.assert_nothing_met(&pods[0], &["raw"]);
    drop((guard, second));
    eventually("the second's is fenced no more", || pods.each_ref().map(escapes) == [false, true]);
}

#[test]
fn programs_behind_the_fence_run_too() {
    let lab = Lab::new();
    let pod = lab.pod();
    // Another program on the same link, that was there first: one that does not know the pod's IPv6 address.
    let other = open(&lab.node, &unique(), FenceChoice::Observe).unwrap();
    let proxy = pod.pod.listen(&other);
    let enrolment = Enrolment {
        pod: &pod.pod.name,
        netns: pod.pod.netns.fd(),
        addresses: &[pod.pod.v4],
        listeners: proxy.listeners(),
        exclusions: &Exclusions::default(),
    };
    let _behind = lab.node.inside(|| other.enrol(&enrolment)).unwrap();
    let _fenced = lab.enrol(&pod);
    let there = pod.outside_at(53)[1];
    let server = pod.pod.world.inside(|| UdpSocket::bind(there)).unwrap();
    let client = pod.pod.netns.inside(|| UdpSocket::bind("[::]:0")).unwrap();
    client.send_to(b"hello", there).unwrap();
    assert_eq!(server.recv(&mut [0; 8]).unwrap(), 5);
    lab.assert_nothing_met(&pod, &[]);
    let seen = other.fences().unwrap().remove(0).packets;
    assert!(seen.iter().any(|packets| packets.reason == "source" && packets.observed > 0), "{seen:?}");
}

#[test]
fn a_pod_whose_link_ends_elsewhere_is_enrolled_without_a_fence_or_not_at_all() {
    let lab = Lab::with(FenceChoice::Auto);
    let elsewhere = Pod::new();
    let proxy = elsewhere.listen(&lab.redirect);
    let guard = lab.node.inside(|| elsewhere.enrol(&lab.redirect, &proxy));
    let fences = lab.redirect.fences().unwrap();
    assert_eq!(fences.iter().map(|fence| fence.state).collect::<Vec<_>>(), [FenceState::Unavailable]);
    drop(guard);
    assert!(lab.redirect.fences().unwrap().is_empty());
    let strict = open(&lab.node, &unique(), FenceChoice::Required).unwrap();
    let proxy = elsewhere.listen(&strict);
    let refused =
        lab.node.inside(|| elsewhere.try_enrol(&strict, &proxy, &Exclusions::default())).unwrap_err();
    assert_eq!(refused.reason(), "redirect_no_fence");
    assert!(refused.to_string().contains("eth0"), "{refused}");
    let unfenced = redirect();
    let proxy = elsewhere.listen(&unfenced);
    let _guard = elsewhere.enrol(&unfenced, &proxy);
}

#[test]
fn every_link_of_a_pod_that_ends_on_the_node_is_fenced() {
    let lab = Lab::new();
    let pod = lab.pod();
    pod.pod.netns.ip(&format!("link add eth1 type veth peer name second netns {}", lab.node.name()));
    let _fenced = lab.enrol(&pod);
    assert_eq!(fence_pins(&lab.instance), 4);
}

#[test]
fn a_pod_whose_link_is_gone_leaves_cleanly_and_comes_again() {
    let lab = Lab::new();
    let pod = lab.pod();
    let fenced = lab.enrol(&pod);
    lab.node.ip(&format!("link delete {}", pod.link));
    drop(fenced);
    assert_eq!(fence_pins(&lab.instance), 0);
    let next = lab.pod();
    let _fenced = lab.enrol(&next);
    assert!(!escapes(&next));
}

#[test]
fn drops_are_traced_with_their_reason_but_a_flood_of_them_is_not() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    let trace = lab.redirect.trace(Filter { pod: Some(pod.pod.name.clone()) }).unwrap();
    assert!(!escapes(&pod));
    let decision = trace.next(PATIENCE).unwrap();
    assert_eq!((decision.hook, decision.event), ("fence_send", "dropped_raw"));
    assert_eq!((decision.source.ip(), decision.destination.port()), (pod.pod.v4, 80));
    assert_eq!(decision.pod.as_deref(), Some(pod.pod.name.as_str()));
    let (from, to) = (pod.pod.v4, pod.outside[0]);
    let frame = Wire::out(&pod).ip(&ip(from, to, TCP, &tcp(((from, 4000), (to, 80)), SYN, b"")));
    pod.pod.netns.inside(|| {
        let socket = PacketSocket::open(false).unwrap();
        (0..2000).for_each(|_| socket.send(&frame).unwrap());
    });
    eventually("the flood", || lab.dropped(&pod, "raw") == 2001);
    let mut traced = 0;
    while trace.next(if traced < 50 { PATIENCE } else { Duration::from_millis(300) }).is_some() {
        traced += 1;
    }
    assert!((50..1000).contains(&traced), "{traced}");
    assert_eq!(trace.lost(), 0);
}

#[test]
fn a_fence_that_observes_lets_everything_pass_and_counts_it() {
    let lab = Lab::with(FenceChoice::Observe);
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    assert_eq!(lab.state(&pod), FenceState::Observing);
    assert!(escapes(&pod));
    assert_eq!((lab.observed(&pod, "raw"), lab.dropped(&pod, "raw")), (1, 0));
    let counted = crate::support::counted(&lab.redirect, "fence_send", "observed_raw");
    assert_eq!(counted, 1);
}
