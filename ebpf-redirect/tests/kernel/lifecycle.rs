//! Coming and going: what is left behind, who is disturbed, and what is lost meanwhile.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use aya::{
    maps::loaded_maps,
    programs::{links::PinnedLink, loaded_programs},
};
use ebpf_redirect::kernel::KernelRedirect;

use super::support::{Pod, WORLD_V4, accept, addr, assert_connected, named, redirect, try_accept, unique};

/// Everything that an instance has pinned.
pub(crate) fn pins(instance: &str) -> Vec<PathBuf> {
    pins_in(&PathBuf::from(format!("/sys/fs/bpf/canopy/v{}", ebpf_redirect_abi::LAYOUT)).join(instance))
}

/// What is pinned in an instance's folder.
pub(crate) fn pins_in(root: &Path) -> Vec<PathBuf> {
    let parts = fs::read_dir(root).into_iter().flatten().flatten();
    let pins = parts.flat_map(|part| fs::read_dir(part.path()).into_iter().flatten().flatten());
    pins.map(|pin| pin.path()).collect()
}

/// The programs behind an instance's pins, and all maps that these programs use.
pub(crate) fn loaded(instance: &str) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let links = pins(instance).into_iter().filter(|pin| !pin.parent().unwrap().ends_with("maps"));
    let programs: BTreeSet<u32> = links
        .map(|pin| PinnedLink::from_pin(pin).unwrap())
        .map(|link| aya::programs::links::FdLink::from(link).info().unwrap().program_id())
        .collect();
    let infos = loaded_programs().flatten().filter(|program| programs.contains(&program.id()));
    let maps = infos.flat_map(|program| program.map_ids().unwrap().unwrap_or_default()).collect();
    (programs, maps)
}

fn remaining(programs: &BTreeSet<u32>, maps: &BTreeSet<u32>) -> (Vec<u32>, Vec<u32>) {
    let live: BTreeSet<u32> = loaded_programs().flatten().map(|program| program.id()).collect();
    let live_maps: BTreeSet<u32> = loaded_maps().flatten().map(|map| map.id()).collect();
    (programs.intersection(&live).copied().collect(), maps.intersection(&live_maps).copied().collect())
}

/// The kernel frees programs and maps a grace period after their last holder is gone.
pub(crate) fn assert_gone(programs: &BTreeSet<u32>, maps: &BTreeSet<u32>) {
    for _ in 0..100 {
        if remaining(programs, maps) == (Vec::new(), Vec::new()) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("left in the kernel: {:?}", remaining(programs, maps));
}

fn tw_reuse(pod: &Pod) -> String {
    pod.netns.inside(|| fs::read_to_string("/proc/sys/net/ipv4/tcp_tw_reuse").unwrap().trim().to_owned())
}

#[test]
fn a_clean_stop_leaves_nothing() {
    let instance = unique();
    let redirect = named(&instance);
    let pods = [Pod::new(), Pod::new()];
    let before = tw_reuse(&pods[0]);
    let proxies = pods.each_ref().map(|pod| pod.listen(&redirect));
    let guards = [0, 1].map(|i: usize| pods[i].enrol(&redirect, &proxies[i]));
    let client = pods[0].connect(addr(WORLD_V4, 80)).unwrap();
    let (programs, maps) = loaded(&instance);
    assert!(programs.len() == 9 && maps.len() >= 10, "seven hooks and two lookups: {programs:?} {maps:?}");
    assert_eq!(tw_reuse(&pods[0]), "1");
    drop(guards);
    assert_eq!(tw_reuse(&pods[0]), before);
    assert_eq!(pins(&instance).iter().filter(|pin| pin.parent().unwrap().ends_with("pods")).count(), 0);
    drop(redirect);
    assert!(pins(&instance).is_empty());
    assert!(!PathBuf::from(format!("/sys/fs/bpf/canopy/v{}/{instance}", ebpf_redirect_abi::LAYOUT)).exists());
    drop(client);
    drop(proxies);
    assert_gone(&programs, &maps);
}

#[test]
fn a_pod_that_leaves_is_steered_no_more_while_others_are() {
    let redirect = redirect();
    let pods = [Pod::new(), Pod::new()];
    let proxies = pods.each_ref().map(|pod| pod.listen(&redirect));
    let [first, _second] = [0, 1].map(|i: usize| pods[i].enrol(&redirect, &proxies[i]));
    drop(first);
    let to = addr(WORLD_V4, 80);
    let server = pods[0].world.inside(|| super::support::listener(to));
    let client = pods[0].connect(to).unwrap();
    assert_connected(&client, &accept(&server).0);
    let app = pods[0].serve(SocketAddr::new(pods[0].v4, 8080));
    let client = pods[0].dial(SocketAddr::new(pods[0].v4, 8080)).unwrap();
    assert_connected(&client, &accept(&app).0);
    let client = pods[1].connect(to).unwrap();
    assert_connected(&client, &accept(&proxies[1].outbound_v4).0);
    let again = pods[0].enrol(&redirect, &proxies[0]);
    let client = pods[0].connect(to).unwrap();
    assert_connected(&client, &accept(&proxies[0].outbound_v4).0);
    drop(again);
}

#[test]
fn the_guards_outlive_the_handle() {
    let instance = unique();
    let redirect = named(&instance);
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let guard = pod.enrol(&redirect, &proxy);
    drop(redirect);
    let client = pod.connect(addr(WORLD_V4, 80)).unwrap();
    assert_connected(&client, &accept(&proxy.outbound_v4).0);
    drop(guard);
    assert!(pins(&instance).is_empty());
}

#[test]
fn a_pod_whose_namespace_is_gone_leaves_cleanly() {
    let instance = unique();
    let redirect = named(&instance);
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let guard = pod.enrol(&redirect, &proxy);
    drop(proxy);
    drop(pod);
    drop(guard);
    assert_eq!(pins(&instance).iter().filter(|pin| pin.parent().unwrap().ends_with("pods")).count(), 0);
    let next = Pod::new();
    let proxy = next.listen(&redirect);
    let _guard = next.enrol(&redirect, &proxy);
    let client = next.connect(addr(WORLD_V4, 80)).unwrap();
    assert_connected(&client, &accept(&proxy.outbound_v4).0);
}

#[test]
fn two_instances_do_not_meet() {
    let redirects: [KernelRedirect; 2] = [redirect(), redirect()];
    let pods = [Pod::new(), Pod::new()];
    let proxies = [0, 1].map(|i: usize| pods[i].listen(&redirects[i]));
    let [first_guard, second_guard] = [0, 1].map(|i: usize| pods[i].enrol(&redirects[i], &proxies[i]));
    let assert_steered = |i: usize| {
        let client = pods[i].connect(addr(WORLD_V4, 80)).unwrap();
        assert_eq!(client.peer_addr().unwrap(), addr(WORLD_V4, 80));
        assert_connected(&client, &accept(&proxies[i].outbound_v4).0);
        let client = pods[i].dial(SocketAddr::new(pods[i].v6, 80)).unwrap();
        assert_connected(&client, &accept(&proxies[i].inbound_v6).0);
    };
    assert_steered(0);
    assert_steered(1);
    let [first, second] = redirects;
    drop((first_guard, first));
    assert_steered(1);
    drop((second_guard, second));
}

/// Greets every connection until told to stop and none is left.
fn greet(listener: &TcpListener, stop: &AtomicBool) -> u32 {
    let mut greeted = 0;
    loop {
        match try_accept(listener, Duration::from_millis(20)) {
            Some((mut stream, _)) => {
                std::io::Write::write_all(&mut stream, b"!").unwrap();
                greeted += 1;
            }
            None if stop.load(Ordering::Relaxed) => return greeted,
            None => {}
        }
    }
}

#[test]
fn listeners_are_replaced_under_load_without_losing_a_connection() {
    const CONNECTIONS: u32 = 3000;
    let redirect = redirect();
    let pod = Pod::new();
    let proxies = [pod.listen(&redirect), pod.listen(&redirect)];
    let mut guard = pod.enrol(&redirect, &proxies[0]);
    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let (greeted, flips) = thread::scope(|scope| {
        let greeters = proxies.each_ref().map(|proxy| scope.spawn(|| greet(&proxy.outbound_v4, &stop)));
        let flipper = scope.spawn(|| {
            let mut flips = 0;
            while !done.load(Ordering::Relaxed) {
                flips += 1;
                guard.replace_listeners(&proxies[flips % 2].listeners()).unwrap();
            }
            flips
        });
        pod.netns.inside(|| {
            for i in 0..CONNECTIONS {
                let mut client =
                    std::net::TcpStream::connect(addr(WORLD_V4, 80)).unwrap_or_else(|e| panic!("{i}: {e}"));
                client.set_read_timeout(Some(super::support::PATIENCE)).unwrap();
                client.read_exact(&mut [0]).unwrap_or_else(|e| panic!("{i}: {e}"));
            }
        });
        done.store(true, Ordering::Relaxed);
        let flips = flipper.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        (greeters.map(|greeter| greeter.join().unwrap()), flips)
    });
    assert_eq!(greeted[0] + greeted[1], CONNECTIONS);
    assert!(greeted[0] > 0 && greeted[1] > 0 && flips > 10, "{greeted:?} {flips}");
}
