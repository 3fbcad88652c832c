//! A daemon that was killed had another layout, or steered otherwise: its pods are refused until the next one of its name is
//! in force, and then nothing of it is left. Who lives is left alone.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use ebpf_redirect::{
    Denial, Exclusions, FenceChoice, Mechanism, Redirect as _, RedirectError, Spared,
    iptables::{IptablesRedirect, Options},
    remains::{Places, Remains, dead},
};

use super::{
    fence::lab::{self, Lab, LabPod},
    lifecycle::{assert_gone, loaded, pins, pins_in},
    support::{Pod, Proxy, WORLD_V4, accept, addr, assert_connected, listener, named, unique},
    survival::{assert_refused, steer_and_die},
};

/// A layout that no build has.
struct Foreign(PathBuf);

impl Foreign {
    /// Makes an instance one of such a layout.
    fn of(instance: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let layout = 100 * std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed);
        let foreign = Self(PathBuf::from(format!("/sys/fs/bpf/canopy/v{layout}")).join(instance));
        rename(&own_layout(instance), &foreign.0);
        foreign
    }

    fn pins(&self) -> BTreeSet<PathBuf> {
        pins_in(&self.0).into_iter().collect()
    }
}

/// Another test may remove the folders around it, which are empty for a moment.
fn rename(from: &Path, to: &Path) {
    let moved = (0..10).find_map(|_| {
        fs::create_dir_all(to.parent()?).ok()?;
        fs::rename(from, to).ok()
    });
    moved.expect("the pins can be moved");
}

fn own_layout(instance: &str) -> PathBuf {
    PathBuf::from(format!("/sys/fs/bpf/canopy/v{}", ebpf_redirect_abi::LAYOUT)).join(instance)
}

fn places() -> Places {
    Places { run: std::env::temp_dir().join(unique()), ..Places::default() }
}

fn assert_nothing_left(places: &Places, instance: &str) {
    assert!(pins(instance).is_empty(), "{:?}", pins(instance));
    assert!(!dead(places).iter().any(|dead| dead.instance == instance));
    fs::remove_dir(&places.run).expect("neither a lock nor a note");
}

#[test]
fn hooks_of_another_layout_stay_until_the_next_start_is_in_force() {
    let (instance, places, pod) = (unique(), places(), Pod::new());
    let server = pod.world.inside(|| listener(addr(WORLD_V4, 80)));
    steer_and_die(&instance, &pod);
    let (programs, maps) = loaded(&instance);
    let foreign = Foreign::of(&instance);
    let found = dead(&places).into_iter().find(|dead| dead.instance == instance).unwrap();
    assert_eq!((found.pods, &found.at), (1, &foreign.0));
    assert_refused(&pod);
    // A start that fails.
    drop((Remains::hold(places.clone(), &instance).unwrap(), named(&instance)));
    assert!(foreign.0.exists());
    assert_refused(&pod);

    let remains = Remains::hold(places.clone(), &instance).unwrap();
    let redirect = named(&instance);
    let proxy = pod.listen(&redirect);
    let guard = pod.enrol(&redirect, &proxy);
    assert!(pod.connect(addr(WORLD_V4, 80)).is_err(), "neither to the new proxy nor around it");
    assert_eq!(redirect.release_unclaimed(Spared::NOBODY).unwrap(), 0);
    remains.clear(Mechanism::Kernel);
    assert!(!foreign.0.parent().unwrap().exists(), "nor is the layout's folder left");
    assert_gone(&programs, &maps);
    let client = pod.connect(addr(WORLD_V4, 80)).unwrap();
    assert_connected(&client, &accept(&proxy.outbound_v4).0);
    let client = pod.dial(SocketAddr::new(pod.v4, 8080)).unwrap();
    assert_connected(&client, &accept(&proxy.inbound_v4).0);
    drop((guard, redirect, remains));
    assert_connected(&pod.connect(addr(WORLD_V4, 80)).unwrap(), &accept(&server).0);
    assert_nothing_left(&places, &instance);
}

#[test]
fn hooks_are_cleared_by_a_start_that_steers_by_iptables() {
    let (instance, places, pod) = (unique(), places(), Pod::new());
    let server = pod.world.inside(|| listener(addr(WORLD_V4, 80)));
    steer_and_die(&instance, &pod);
    let (programs, maps) = loaded(&instance);
    let remains = Remains::hold(places.clone(), &instance).unwrap();
    let redirect = IptablesRedirect::open(Options { state: places.notes(&instance) }).unwrap();
    let proxy = pod.listen(&redirect);
    let guard = pod.enrol(&redirect, &proxy);
    assert!(pod.connect(addr(WORLD_V4, 80)).is_err(), "not yet in force");
    remains.clear(redirect.mechanism());
    assert_gone(&programs, &maps);
    let client = pod.connect(addr(WORLD_V4, 80)).unwrap();
    assert_connected(&client, &accept(&proxy.outbound_v4).0);
    drop((guard, redirect, remains));
    assert_connected(&pod.connect(addr(WORLD_V4, 80)).unwrap(), &accept(&server).0);
    assert_nothing_left(&places, &instance);
}

#[test]
fn rules_are_cleared_by_a_start_that_steers_by_hooks() {
    let (instance, places, pod) = (unique(), places(), Pod::new());
    let server = pod.world.inside(|| listener(addr(WORLD_V4, 80)));
    let crashed = IptablesRedirect::open(Options { state: places.notes(&instance) }).unwrap();
    let gone = pod.listen(&crashed);
    #[expect(clippy::mem_forget, reason = "a crash drops nothing")]
    std::mem::forget(pod.enrol(&crashed, &gone));
    drop(gone);
    let found = dead(&places).into_iter().find(|dead| dead.instance == instance).unwrap();
    assert_eq!((found.pods, found.at), (1, places.notes(&instance)));
    assert_refused(&pod);
    let remains = Remains::hold(places.clone(), &instance).unwrap();
    assert!(dead(&places).iter().all(|dead| dead.instance != instance), "its name is held");
    let redirect = named(&instance);
    let proxy = pod.listen(&redirect);
    let guard = pod.enrol(&redirect, &proxy);
    remains.clear(redirect.mechanism());
    let client = pod.dial(SocketAddr::new(pod.v4, 8080)).unwrap();
    assert_connected(&client, &accept(&proxy.inbound_v4).0);
    drop((guard, redirect, remains));
    assert_connected(&pod.connect(addr(WORLD_V4, 80)).unwrap(), &accept(&server).0);
    assert_nothing_left(&places, &instance);
}

#[test]
fn one_name_is_one_daemon_whichever_way_and_in_whichever_layout_it_steers() {
    let (instance, places, pod) = (unique(), places(), Pod::new());
    let refused = |places: &Places| {
        matches!(Remains::hold(places.clone(), &instance), Err(RedirectError::InstanceInUse { .. }))
    };
    let redirect = named(&instance);
    let proxy = pod.listen(&redirect);
    let guard = pod.enrol(&redirect, &proxy);
    assert!(refused(&places), "it holds its pins");
    let foreign = Foreign::of(&instance);
    assert!(refused(&places), "in another layout too");
    assert!(dead(&places).iter().all(|dead| dead.instance != instance));
    rename(&foreign.0, &own_layout(&instance));
    drop((guard, redirect));
    let held = Remains::hold(places.clone(), &instance).unwrap();
    assert!(refused(&places), "and its name, without any pins");
    drop(held);
    drop(fs::remove_dir(foreign.0.parent().unwrap()));
    assert_nothing_left(&places, &instance);
}

/// Connections of the pod, out and in, come to this proxy.
fn assert_steered(pod: &Pod, proxy: &Proxy) {
    let client = pod.connect(addr(WORLD_V4, 80)).unwrap();
    assert_eq!(client.peer_addr().unwrap(), addr(WORLD_V4, 80));
    assert_connected(&client, &accept(&proxy.outbound_v4).0);
    let client = pod.dial(SocketAddr::new(pod.v6, 8080)).unwrap();
    assert_connected(&client, &accept(&proxy.inbound_v6).0);
}

#[test]
fn a_living_daemon_of_another_layout_steers_on_while_one_of_ours_comes_and_goes() {
    let (its_name, our_name, places) = (unique(), unique(), places());
    let [its_pod, our_pod] = [Pod::new(), Pod::new()];
    let server = our_pod.world.inside(|| listener(addr(WORLD_V4, 80)));
    let its = named(&its_name);
    let its_proxy = its_pod.listen(&its);
    let its_guard = its_pod.enrol(&its, &its_proxy);
    let foreign = Foreign::of(&its_name);
    let its_pins = foreign.pins();
    assert!(!its_pins.is_empty());
    assert_steered(&its_pod, &its_proxy);

    let remains = Remains::hold(places.clone(), &our_name).unwrap();
    let ours = named(&our_name);
    let our_proxy = our_pod.listen(&ours);
    let our_guard = our_pod.enrol(&ours, &our_proxy);
    assert_eq!(ours.release_unclaimed(Spared::NOBODY).unwrap(), 0, "nothing of another's is unclaimed");
    remains.clear(Mechanism::Kernel);
    assert_steered(&our_pod, &our_proxy);
    assert_steered(&its_pod, &its_proxy);
    assert!(dead(&places).iter().all(|dead| dead.instance != its_name), "it lives");

    // Of a pod that both have enrolled, the connections are whose it was first.
    let second_proxy = its_pod.listen(&ours);
    let second_guard = its_pod.enrol(&ours, &second_proxy);
    assert_steered(&its_pod, &its_proxy);
    drop((second_guard, our_guard, ours));
    assert_eq!(remains.release().unwrap(), [], "nothing of ours is left");
    assert_connected(&our_pod.connect(addr(WORLD_V4, 80)).unwrap(), &accept(&server).0);
    assert_steered(&its_pod, &its_proxy);
    assert_eq!(foreign.pins(), its_pins);
    drop(remains);
    assert_nothing_left(&places, &our_name);
    // It removes its pins where it made them.
    rename(&foreign.0, &own_layout(&its_name));
    drop(fs::remove_dir(foreign.0.parent().unwrap()));
    drop((its_guard, its));
    assert!(pins(&its_name).is_empty(), "{:?}", pins(&its_name));
}

/// The fence lets the outsider connect, but not to the denied port.
fn assert_fenced(pod: &LabPod, proxy: &Proxy) {
    let [denied, open] = [80, 81].map(|port| pod.at(port)[0]);
    assert_connected(&pod.pod.dial(open).unwrap(), &accept(&proxy.inbound_v4).0);
    let refused = pod.pod.world.inside(|| TcpStream::connect_timeout(&denied, Duration::from_millis(300)));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_living_daemon_of_another_layout_fences_on_while_one_of_ours_comes_and_goes() {
    let (lab, our_name) = (Lab::new(), unique());
    let (its_pod, our_pod) = (lab.pod(), lab.pod());
    let denials = [Denial { cidr: "0.0.0.0/0".parse().unwrap(), ports: vec![80] }];
    let mut its = lab.enrol(&its_pod);
    assert!(its.guard.set_denials(&denials, &[]).unwrap());
    let foreign = Foreign::of(&lab.instance);
    let its_pins = foreign.pins();
    assert!(its_pins.iter().any(|pin| pin.parent().unwrap().ends_with("fences")), "{its_pins:?}");
    assert_fenced(&its_pod, &its.proxy);

    let ours = lab::open(&lab.node, &our_name, FenceChoice::Required).unwrap();
    let our_proxy = our_pod.pod.listen(&ours);
    let enrolled = lab.node.inside(|| our_pod.pod.try_enrol(&ours, &our_proxy, &Exclusions::default()));
    let mut our_guard = enrolled.unwrap();
    assert!(our_guard.set_denials(&denials, &[]).unwrap());
    assert_fenced(&our_pod, &our_proxy);
    assert_fenced(&its_pod, &its.proxy);

    drop((our_guard, ours));
    assert!(pins(&our_name).is_empty(), "{:?}", pins(&our_name));
    assert_fenced(&its_pod, &its.proxy);
    assert_eq!(foreign.pins(), its_pins);
    rename(&foreign.0, &own_layout(&lab.instance));
    drop(fs::remove_dir(foreign.0.parent().unwrap()));
}
