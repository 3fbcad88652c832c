//! Another process is given what the path of a connection needs: it does that for its own sockets, and no more. It is the same
//! process here; what it holds is only what came as bytes and descriptors.

use std::{
    net::{SocketAddr, TcpStream},
    os::fd::AsFd as _,
    sync::Arc,
};

use ebpf_redirect::{
    Delegation, Enrolment, Exclusions, Redirect, RedirectError, Side, Spared, delegation::DESCRIPTORS,
    kernel::KernelRedirect,
};
use socket2::{Domain, Socket, Type};

use super::support::{Pod, WORLD_V4, WORLD_V6, accept, addr, assert_connected, counted, listener, redirect};

/// What arrives at the other process.
fn delegated(redirect: &KernelRedirect) -> Arc<dyn Redirect> {
    let sent = redirect.delegate().unwrap();
    let descriptors: Vec<_> = sent.descriptors().iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    assert_eq!(descriptors.len(), DESCRIPTORS);
    Delegation::from_parts(&sent.bytes(), descriptors).unwrap().redirect().unwrap()
}

/// A connection from inside the pod that the delegate has marked as the proxy's.
fn deliver(delegate: &dyn Redirect, pod: &Pod, to: SocketAddr, client: Option<SocketAddr>) -> TcpStream {
    pod.netns.inside(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        delegate.exempt(socket.as_fd(), client).unwrap();
        socket.connect(&to.into()).unwrap();
        socket.into()
    })
}

#[test]
fn a_delegate_knows_where_what_it_accepted_was_going() {
    let redirect = redirect();
    let delegate = delegated(&redirect);
    let pod = Pod::new();
    let proxy = pod.listen(&*delegate);
    let _guard = pod.enrol(&redirect, &proxy);
    for ip in [WORLD_V4, WORLD_V6] {
        let to = addr(ip, 8080);
        let client = pod.connect(to).unwrap();
        let (accepted, peer) = accept(proxy.outbound(to));
        let origin = delegate.origin(accepted.as_fd(), Side::Outbound, peer).unwrap();
        assert_eq!((origin.destination, origin.client), (to, client.local_addr().unwrap()));
    }
    for ip in [pod.v4, pod.v6] {
        let to = SocketAddr::new(ip, 8080);
        let client = pod.dial(to).unwrap();
        let (accepted, peer) = accept(proxy.inbound(to));
        let origin = delegate.origin(accepted.as_fd(), Side::Inbound, peer).unwrap();
        assert_eq!((origin.destination, origin.client), (to, client.local_addr().unwrap()));
    }
    let dialled = pod.netns.inside(|| TcpStream::connect(proxy.outbound_v4.local_addr().unwrap()).unwrap());
    let (accepted, peer) = accept(&proxy.outbound_v4);
    let refused = delegate.origin(accepted.as_fd(), Side::Outbound, peer);
    assert!(matches!(refused, Err(RedirectError::NotSteered)), "{refused:?}");
    drop(dialled);
}

#[test]
fn a_delegates_own_connections_pass_and_its_deliveries_show_the_client() {
    let redirect = redirect();
    let delegate = delegated(&redirect);
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let _guard = pod.enrol(&redirect, &proxy);
    let to = addr(WORLD_V4, 8080);
    let server = pod.world.inside(|| listener(to));
    let through = deliver(&*delegate, &pod, to, None);
    assert_connected(&through, &accept(&server).0);
    assert_eq!(counted(&redirect, "connect4", "passed_exempt"), 1);
    let (at, client) = (SocketAddr::new(pod.v4, 8081), addr("192.0.2.9", 4321));
    let app = pod.serve(at);
    let delivery = deliver(&*delegate, &pod, at, Some(client));
    let (accepted, peer) = accept(&app);
    assert_eq!(peer, client);
    assert_connected(&delivery, &accepted);
}

#[test]
fn a_delegate_has_no_power_over_pods() {
    let redirect = redirect();
    let delegate = delegated(&redirect);
    let pod = Pod::new();
    let proxy = pod.listen(&redirect);
    let enrolment = Enrolment {
        pod: &pod.name,
        netns: pod.netns.fd(),
        addresses: &[pod.v4, pod.v6],
        listeners: proxy.listeners(),
        exclusions: &Exclusions::default(),
    };
    let refused = |error: RedirectError| matches!(error, RedirectError::NotDelegated { .. });
    assert!(refused(delegate.enrol(&enrolment).unwrap_err()));
    assert!(refused(delegate.release_unclaimed(Spared::NOBODY).unwrap_err()));
    assert!(matches!(delegate.delegate(), Err(RedirectError::CannotDelegate { .. })));
    assert!(delegate.counters().unwrap().is_empty() && delegate.fences().unwrap().is_empty());
    // Still to be had by whom it is: the refusals have claimed nothing.
    let _guard = redirect.enrol(&enrolment).unwrap();
}

#[test]
fn a_delegation_gives_one_map_and_that_is_the_notes_on_sockets() {
    let redirect = redirect();
    let sent = redirect.delegate().unwrap();
    let [notes] = sent.descriptors()[..] else { panic!("one descriptor") };
    let about = format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&notes));
    let about = std::fs::read_to_string(about).unwrap();
    // BPF_MAP_TYPE_SK_STORAGE: its rows are reached by descriptors of sockets and by nothing else.
    assert!(about.lines().any(|line| line.split_whitespace().eq(["map_type:", "24"])), "{about}");
}
