//! A daemon that was killed had another layout, or steered otherwise: its pods are refused until the next one of its name is
//! in force, and then nothing of it is left. Who lives is left alone.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use ebpf_redirect::{
    Mechanism, Redirect as _, RedirectError, Spared,
    iptables::{IptablesRedirect, Options},
    remains::{Places, Remains, dead},
};

use super::{
    lifecycle::{assert_gone, loaded, pins},
    support::{Pod, WORLD_V4, accept, addr, assert_connected, listener, named, unique},
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
