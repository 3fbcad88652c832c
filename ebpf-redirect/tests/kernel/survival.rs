//! A daemon that is killed: its pods are refused, nobody else notices, and the next one of the same name goes on.

use std::{
    io::{BufRead as _, BufReader, ErrorKind},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use ebpf_redirect::{
    Exclusions, FenceChoice, Parting, Redirect as _, RedirectError, Spared,
    kernel::{KernelRedirect, Options},
};

use super::{
    lifecycle::pins,
    support::{Pod, WORLD_V4, accept, addr, assert_connected, listener, named, unique},
};

/// Another process that steers the pod, and is killed.
pub(crate) fn steer_and_die(instance: &str, pod: &Pod) {
    let mut child: Child = Command::new(env!("CARGO_BIN_EXE_hold-pod"))
        .args([instance, &pod.netns.path(), &pod.name, &pod.v4.to_string(), &pod.v6.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "steering\n");
    let client = pod.connect(addr(WORLD_V4, 80)).unwrap();
    assert_eq!(client.peer_addr().unwrap(), addr(WORLD_V4, 80));
    child.kill().unwrap();
    child.wait().unwrap();
}

pub(crate) fn assert_refused(pod: &Pod) {
    let outbound = pod.connect(addr(WORLD_V4, 80)).map(drop).unwrap_err();
    assert_eq!(outbound.kind(), ErrorKind::ConnectionRefused);
    let inbound = pod.dial(SocketAddr::new(pod.v4, 8080)).map(drop).unwrap_err();
    assert_eq!(inbound.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn after_a_kill_pods_are_refused_until_the_next_start_takes_them_over() {
    let instance = unique();
    let (pod, bystander) = (Pod::new(), Pod::new());
    let _app = pod.serve(SocketAddr::new(pod.v4, 8080));
    let _server = pod.world.inside(|| listener(addr(WORLD_V4, 80)));
    steer_and_die(&instance, &pod);
    assert_refused(&pod);
    let unsteered = bystander.world.inside(|| listener(addr(WORLD_V4, 80)));
    let client = bystander.connect(addr(WORLD_V4, 80)).unwrap();
    assert_connected(&client, &accept(&unsteered).0);

    let redirect = named(&instance);
    assert_eq!(redirect.unclaimed(), 1);
    assert_refused(&pod);
    let proxy = pod.listen(&redirect);
    let guard = pod.enrol(&redirect, &proxy);
    assert_eq!(redirect.unclaimed(), 0);
    let client = pod.connect(addr(WORLD_V4, 80)).unwrap();
    let (accepted, peer) = accept(&proxy.outbound_v4);
    assert_eq!(peer, addr(WORLD_V4, 80));
    assert_connected(&client, &accepted);
    let client = pod.dial(SocketAddr::new(pod.v4, 8080)).unwrap();
    assert_connected(&client, &accept(&proxy.inbound_v4).0);
    assert_eq!(redirect.release_unclaimed(Spared::NOBODY).unwrap(), 0);
    drop((guard, redirect));
    assert!(pins(&instance).is_empty());
}

#[test]
fn a_start_that_fails_before_it_is_in_force_leaves_the_pods_refused() {
    let instance = unique();
    let (pod, fresh) = (Pod::new(), Pod::new());
    let _app = pod.serve(SocketAddr::new(pod.v4, 8080));
    let servers = [&pod, &fresh].map(|pod| pod.world.inside(|| listener(addr(WORLD_V4, 80))));
    steer_and_die(&instance, &pod);
    let left = pins(&instance);
    drop(named(&instance));
    assert_eq!(pins(&instance), left, "nothing enrolled");
    assert_refused(&pod);

    let redirect = named(&instance);
    let proxies = [&pod, &fresh].map(|pod| pod.listen(&redirect));
    let guards = [(&pod, &proxies[0]), (&fresh, &proxies[1])].map(|(pod, proxy)| pod.enrol(&redirect, proxy));
    drop((guards, proxies));
    assert_eq!(redirect.unclaimed(), 1, "given back");
    drop(redirect);
    assert_eq!(pins(&instance), left, "one found there and one new pod enrolled");
    assert_refused(&pod);
    assert_connected(&fresh.connect(addr(WORLD_V4, 80)).unwrap(), &accept(&servers[1]).0);

    let redirect = named(&instance);
    let proxy = pod.listen(&redirect);
    let guard = pod.enrol(&redirect, &proxy);
    let client = pod.connect(addr(WORLD_V4, 80)).unwrap();
    assert_connected(&client, &accept(&proxy.outbound_v4).0);
    assert_eq!(redirect.release_unclaimed(Spared::NOBODY).unwrap(), 0);
    drop((guard, redirect));
    assert!(pins(&instance).is_empty());
}

#[test]
fn pods_that_nobody_takes_over_are_released() {
    let instance = unique();
    let pod = Pod::new();
    let server = pod.world.inside(|| listener(addr(WORLD_V4, 80)));
    steer_and_die(&instance, &pod);
    let redirect = named(&instance);
    assert_eq!(redirect.release_unclaimed(Spared::NOBODY).unwrap(), 1);
    let client = pod.connect(addr(WORLD_V4, 80)).unwrap();
    assert_connected(&client, &accept(&server).0);
    assert_eq!(redirect.release_unclaimed(Spared::NOBODY).unwrap(), 0);
}

#[test]
fn a_pod_that_somebody_names_stays_refused_until_it_is_enrolled_however_long_that_fails() {
    let (instance, pod, other) = (unique(), Pod::new(), Pod::new());
    let _app = pod.serve(SocketAddr::new(pod.v4, 8080));
    let servers = [&pod, &other].map(|pod| pod.world.inside(|| listener(addr(WORLD_V4, 80))));
    steer_and_die(&instance, &pod);
    steer_and_die(&instance, &other);
    // It wants a fence, which the link of these pods has no place for: an enrolment fails when its pod is found already.
    let options = Options { instance: instance.clone(), fence: FenceChoice::Required, ..Options::default() };
    let redirect = KernelRedirect::open(options).unwrap();
    assert_eq!(redirect.release_unclaimed(Spared::All).unwrap(), 0);
    [&pod, &other].into_iter().for_each(assert_refused);
    assert_eq!(redirect.release_unclaimed(Spared::These(&[pod.netns.fd()])).unwrap(), 1);
    assert_connected(&other.connect(addr(WORLD_V4, 80)).unwrap(), &accept(&servers[1]).0);
    assert_refused(&pod);
    let proxy = pod.listen(&redirect);
    let failed = pod.try_enrol(&redirect, &proxy, &Exclusions::default()).unwrap_err();
    assert!(matches!(failed, RedirectError::NoFence { .. }), "{failed}");
    assert_refused(&pod);
    assert_eq!(redirect.unclaimed(), 1);
    drop(redirect);
    // And one that succeeds, and leaves the pod to be enrolled anew.
    let redirect = named(&instance);
    pod.enrol(&redirect, &proxy).leave(Parting::Closed);
    assert_eq!(redirect.unclaimed(), 1);
    assert_refused(&pod);
    drop(redirect);
    let redirect = named(&instance);
    assert_refused(&pod);
    let guard = pod.enrol(&redirect, &proxy);
    assert_eq!(redirect.release_unclaimed(Spared::NOBODY).unwrap(), 0);
    let client = pod.dial(SocketAddr::new(pod.v4, 8080)).unwrap();
    assert_connected(&client, &accept(&proxy.inbound_v4).0);
    drop((guard, redirect));
    assert!(pins(&instance).is_empty());
}

#[test]
fn pins_that_cannot_be_taken_over_are_cleared() {
    let instance = unique();
    let pod = Pod::new();
    steer_and_die(&instance, &pod);
    // As if another build had laid them out: one table is now of another kind.
    let table = |name: &str| pins(&instance).into_iter().find(|pin| pin.ends_with(name)).unwrap();
    let (ports, counters) = (table("PORTS"), table("COUNTERS"));
    std::fs::remove_file(&ports).unwrap();
    std::fs::rename(&counters, &ports).unwrap();
    let redirect = named(&instance);
    let proxy = pod.listen(&redirect);
    let guard = pod.enrol(&redirect, &proxy);
    let client = pod.connect(addr(WORLD_V4, 80)).unwrap();
    assert_connected(&client, &accept(&proxy.outbound_v4).0);
    assert_eq!(redirect.release_unclaimed(Spared::NOBODY).unwrap(), 0);
    drop((guard, redirect));
    assert!(pins(&instance).is_empty(), "{:?}", pins(&instance));
}
