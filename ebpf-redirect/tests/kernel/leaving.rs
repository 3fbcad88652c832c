//! A stop that leaves pods refused: what lives goes on, nothing begins, the next start takes over; or they are let go.

use std::{fs, io::ErrorKind, net::SocketAddr};

use ebpf_redirect::{
    Parting, Redirect as _, RedirectError, Spared,
    iptables::{IptablesRedirect, Options},
    remains::{Places, Remains, dead},
};

use super::{
    lifecycle::{assert_gone, loaded, pins},
    support::{Pod, WORLD_V4, accept, addr, assert_connected, listener, named, unique},
    survival::assert_refused,
};

/// Steers the pod, and stops so.
fn leave(instance: &str, pod: &Pod, parting: Parting) {
    let redirect = named(instance);
    let proxy = pod.listen(&redirect);
    let guard = pod.enrol(&redirect, &proxy);
    let client = pod.dial(SocketAddr::new(pod.v4, 8080)).unwrap();
    let accepted = accept(&proxy.inbound_v4).0;
    guard.leave(parting);
    let begun = pod.dial(SocketAddr::new(pod.v4, 8080)).map(drop).unwrap_err();
    assert_eq!(begun.kind(), ErrorKind::ConnectionRefused, "though the listeners are still there");
    assert_connected(&client, &accepted);
}

fn places() -> Places {
    Places { run: std::env::temp_dir().join(unique()), ..Places::default() }
}

#[test]
fn pods_that_were_left_closed_are_refused_until_the_next_start_takes_them_over() {
    let (instance, pod, other) = (unique(), Pod::new(), Pod::new());
    let _app = pod.serve(SocketAddr::new(pod.v4, 8080));
    let servers = [&pod, &other].map(|pod| pod.world.inside(|| listener(addr(WORLD_V4, 80))));
    leave(&instance, &pod, Parting::Closed);
    assert_refused(&pod);
    assert_connected(&other.connect(addr(WORLD_V4, 80)).unwrap(), &accept(&servers[1]).0);
    let redirect = named(&instance);
    assert_eq!(redirect.unclaimed(), 1);
    assert_refused(&pod);
    let proxy = pod.listen(&redirect);
    let guard = pod.enrol(&redirect, &proxy);
    let client = pod.dial(SocketAddr::new(pod.v4, 8080)).unwrap();
    assert_connected(&client, &accept(&proxy.inbound_v4).0);
    assert_eq!(redirect.release_unclaimed(Spared::NOBODY).unwrap(), 0);
    drop((guard, redirect));
    assert!(pins(&instance).is_empty());
}

#[test]
fn of_a_pod_that_was_left_open_outbound_nothing_that_is_begun_with_it_comes_to_its_app() {
    let (instance, pod) = (unique(), Pod::new());
    let _app = pod.serve(SocketAddr::new(pod.v4, 8080));
    let server = pod.world.inside(|| listener(addr(WORLD_V4, 80)));
    leave(&instance, &pod, Parting::OutboundOpen);
    assert_connected(&pod.connect(addr(WORLD_V4, 80)).unwrap(), &accept(&server).0);
    for to in [pod.v4, pod.v6] {
        assert!(pod.dial(SocketAddr::new(to, 8080)).is_err(), "{to}");
    }
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
fn a_pod_that_goes_while_nobody_runs_is_let_go_by_the_next_start() {
    let instance = unique();
    let gone = Pod::new();
    leave(&instance, &gone, Parting::Closed);
    drop(gone);
    let redirect = named(&instance);
    assert_eq!(redirect.release_unclaimed(Spared::NOBODY).unwrap(), 1);
    drop(redirect);
    assert!(pins(&instance).is_empty());
}

#[test]
fn what_was_left_is_let_go_when_asked_and_never_what_lives() {
    let (instance, places, pod) = (unique(), places(), Pod::new());
    let app = pod.serve(SocketAddr::new(pod.v4, 8080));
    leave(&instance, &pod, Parting::Closed);
    let (programs, maps) = loaded(&instance);
    assert!(!programs.is_empty() && !maps.is_empty());
    let notes = places.notes(&instance);
    let crashed = IptablesRedirect::open(Options { state: notes.clone() }).unwrap();
    let proxy = pod.listen(&crashed);
    pod.enrol(&crashed, &proxy).leave(Parting::Closed);
    drop((crashed, proxy));

    let alive = named(&instance);
    let refused = Remains::hold(places.clone(), &instance).map(drop);
    assert!(matches!(refused, Err(RedirectError::InstanceInUse { .. })));
    drop(alive);
    assert_refused(&pod);

    let released = Remains::hold(places.clone(), &instance).unwrap().release().unwrap();
    assert_eq!(released.iter().map(|what| what.pods).collect::<Vec<_>>(), [1, 1], "{released:?}");
    assert_eq!(released[1].at, notes);
    let client = pod.dial(SocketAddr::new(pod.v4, 8080)).unwrap();
    assert_connected(&client, &accept(&app).0);
    assert!(pins(&instance).is_empty());
    assert_gone(&programs, &maps);
    assert!(!dead(&places).iter().any(|dead| dead.instance == instance));
    assert!(Remains::hold(places.clone(), &instance).unwrap().release().unwrap().is_empty(), "nothing twice");
    fs::remove_dir(&places.run).expect("neither a lock nor a note");
}
