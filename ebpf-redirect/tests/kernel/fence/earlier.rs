//! Sockets that the application has when the fence is raised, and sockets with a right that is not theirs to give.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use aya::{
    maps::{Map, MapData},
    programs::links::{FdLink, PinnedLink},
};
use ebpf_redirect::Exclusions;
use ebpf_redirect_abi::FlowKey;
use socket2::{Domain, Socket, Type};

use super::{
    frames::{ACK, PacketSocket, TCP, Wire, dissolve, ip, tcp},
    lab::{Lab, LabPod, arrives},
};
use crate::{
    lifecycle::pins,
    support::{PATIENCE, accept, assert_connected, listener, try_accept},
};

/// Connections of the application before it is enrolled: out and in, for each family.
fn connections(pod: &LabPod) -> Vec<(TcpStream, TcpStream)> {
    let mut all = Vec::new();
    for (there, here) in pod.outside_at(80).into_iter().zip(pod.at(8080)) {
        let server = pod.pod.world.inside(|| listener(there));
        let client = pod.pod.connect(there).unwrap();
        all.push((client, accept(&server).0));
        let app = pod.pod.serve(here);
        let client = pod.pod.dial(here).unwrap();
        all.push((accept(&app).0, client));
    }
    all
}

#[test]
fn connections_from_before_enrolment_go_on() {
    let lab = Lab::new();
    let pod = lab.pod();
    let connections = connections(&pod);
    let dual: SocketAddr = "[::]:8081".parse().unwrap();
    let app = pod.pod.serve(dual);
    let mapped = pod.pod.dial(pod.at(8081)[0]).unwrap();
    let mapped = (accept(&app).0, mapped);
    let _fenced = lab.enrol(&pod);
    for (near, far) in connections.iter().chain([&mapped]) {
        for _ in 0..2 {
            assert_connected(near, far);
            assert_connected(far, near);
        }
    }
    lab.assert_nothing_met(&pod, &[]);
}

#[test]
fn a_connection_from_before_is_known_by_its_socket_and_not_by_its_name() {
    let lab = Lab::new();
    let pod = lab.pod();
    let there = pod.outside_at(80)[0];
    let server = pod.pod.world.inside(|| listener(there));
    let client = pod.pod.connect(there).unwrap();
    let (accepted, from) = accept(&server);
    let _fenced = lab.enrol(&pod);
    let frame = Wire::out(&pod).ip(&ip(
        from.ip(),
        there.ip(),
        TCP,
        &tcp(((from.ip(), from.port()), (there.ip(), 80)), ACK, b"forged"),
    ));
    // Before and after its first segment.
    for dropped in [1, 2] {
        pod.pod.netns.inside(|| PacketSocket::open(true).unwrap().send(&frame)).unwrap();
        assert_eq!(lab.dropped(&pod, "raw"), dropped);
        assert_connected(&client, &accepted);
    }
}

/// Takes away the row that says that a connection is from before.
fn forget(lab: &Lab) {
    let pin = pins(&lab.instance).into_iter().find(|pin| pin.ends_with("EARLIER")).unwrap();
    let map = MapData::from_pin(pin).unwrap();
    let rows = aya::maps::HashMap::<_, [u8; size_of::<FlowKey>()], u32>::try_from(Map::HashMap(map)).unwrap();
    let keys: Vec<_> = rows.keys().map(Result::unwrap).collect();
    let mut rows = rows;
    assert!(!keys.is_empty());
    keys.iter().for_each(|key| rows.remove(key).unwrap());
}

#[test]
fn an_applications_connection_that_was_never_steered_is_dropped() {
    let lab = Lab::new();
    let pod = lab.pod();
    let connections = connections(&pod);
    let _fenced = lab.enrol(&pod);
    // As a connection that was made past the hooks would be: an ordinary socket that nobody knows.
    forget(&lab);
    for (near, far) in &connections {
        let before = lab.dropped(&pod, "not_steered");
        assert!(!arrives(near, far));
        assert!(lab.dropped(&pod, "not_steered") > before);
    }
}

#[test]
fn a_connect_that_the_application_began_before_is_finished() {
    let lab = Lab::new();
    let pod = lab.pod();
    let there = pod.outside_at(80)[0];
    // Nobody answers the first SYN.
    pod.pod.world.ip("link set eth0 down");
    let socket = pod.pod.netns.inside(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        drop(socket.connect(&there.into()));
        socket.set_nonblocking(false).unwrap();
        socket
    });
    let _fenced = lab.enrol(&pod);
    pod.pod.world.ip("link set eth0 up");
    let server = pod.pod.world.inside(|| listener(there));
    assert_connected(&socket.into(), &accept(&server).0);
    lab.assert_nothing_met(&pod, &[]);
}

/// Ends the steering of connections into the pod, behind the daemon's back.
fn stop_steering_inbound(lab: &Lab) {
    let lookup = pins(&lab.instance).into_iter().find(|pin| pin.parent().unwrap().ends_with("pods")).unwrap();
    let link: FdLink = PinnedLink::from_pin(lookup).unwrap().unpin().unwrap();
    drop(link);
    // A child that is just being started has it, too, until it is another program.
    std::thread::sleep(Duration::from_secs(1));
}

#[test]
fn a_marked_client_socket_that_is_turned_into_a_listener_hands_nothing_on() {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol_with(&pod, &Exclusions { outbound_ports: vec![5432], ..Exclusions::default() });
    stop_steering_inbound(&lab);
    let there = pod.outside_at(5432)[0];
    let server = pod.pod.world.inside(|| listener(there));
    for (of, here) in [("the proxy's", pod.at(8080)[0]), ("an exception's", pod.at(8081)[0])] {
        let socket = pod.pod.netns.inside(|| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
        if of == "the proxy's" {
            ebpf_redirect::Redirect::exempt(&lab.redirect, std::os::fd::AsFd::as_fd(&socket), None).unwrap();
        }
        socket.set_reuse_address(true).unwrap();
        socket.connect(&there.into()).unwrap();
        drop(accept(&server));
        dissolve(&socket).unwrap();
        socket.bind(&here.into()).unwrap();
        socket.listen(8).unwrap();
        let client = pod.pod.dial(here).unwrap();
        let listening: std::net::TcpListener = socket.into();
        let Some((accepted, _)) = try_accept(&listening, PATIENCE) else {
            panic!("{of}: the handshake is the kernel's own and passes")
        };
        let before = lab.dropped(&pod, "not_steered");
        assert!(!arrives(&accepted, &client), "{of}");
        assert!(lab.dropped(&pod, "not_steered") > before, "{of}");
    }
}

#[test]
fn a_socket_whose_exception_ended_is_steered_and_its_mark_is_gone() {
    let lab = Lab::new();
    let pod = lab.pod();
    let fenced = lab.enrol_with(&pod, &Exclusions { outbound_ports: vec![5432], ..Exclusions::default() });
    let [there, elsewhere] = [pod.outside_at(5432)[0], pod.outside_at(80)[0]];
    let server = pod.pod.world.inside(|| listener(there));
    let socket = pod.pod.netns.inside(|| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
    socket.connect(&there.into()).unwrap();
    let first = accept(&server).0;
    dissolve(&socket).unwrap();
    drop(first);
    socket.connect(&elsewhere.into()).unwrap();
    let mut client: TcpStream = socket.into();
    client.write_all(b"steered").unwrap();
    accept(fenced.proxy.outbound(elsewhere));
    lab.assert_nothing_met(&pod, &[]);
}
