//! A link in the middle that is narrower than the pod's: the router's reports that packets are too big pass the fence, in both
//! families. Over IPv6 no router may cut packets up, so that without them nothing large would ever arrive.

use std::{net::SocketAddr, process::Command, thread};

use super::{
    lab::Lab,
    ordinary::{drain, pump},
};
use crate::support::{Netns, PATIENCE, accept, listener};

/// A family's way to a host behind the narrow link.
struct Way {
    /// As `ip` knows the family.
    family: &'static str,
    /// What lets the node route it.
    forwarding: &'static str,
    router: &'static str,
    host: &'static str,
    /// Of the link's addresses.
    prefix: u8,
    /// What else is said of them.
    options: &'static str,
    /// What a peer says that it can take which knows nothing of its own link.
    segment: u32,
}

const V4: Way = Way {
    family: "-4",
    forwarding: "/proc/sys/net/ipv4/ip_forward",
    router: "192.0.2.1",
    host: "192.0.2.2",
    prefix: 30,
    options: "",
    segment: 1460,
};
const V6: Way = Way {
    family: "-6",
    forwarding: "/proc/sys/net/ipv6/conf/all/forwarding",
    router: "2001:db8:2::1",
    host: "2001:db8:2::2",
    prefix: 64,
    options: " nodad",
    segment: 1440,
};
/// The least that IPv6 allows.
const MTU: u32 = 1280;
const BYTES: usize = 1 << 20;

/// A host behind the node's router and a narrow link.
fn behind(lab: &Lab, way: &Way) -> Netns {
    let Way { family, forwarding, router, host, prefix, options, segment } = way;
    let far = Netns::new();
    far.ip(&format!("link add eth0 mtu {MTU} type veth peer name far netns {}", lab.node.name()));
    lab.node.ip(&format!("addr add {router}/{prefix} dev far{options}"));
    lab.node.ip(&format!("link set far mtu {MTU} up"));
    far.ip(&format!("addr add {host}/{prefix} dev eth0{options}"));
    far.ip("link set eth0 up");
    // The peer does not say what it can take, so that the router has to.
    far.ip(&format!("{family} route add default via {router} advmss {segment}"));
    lab.node.inside(|| std::fs::write(forwarding, "1")).unwrap();
    far
}

/// Much goes to that host, and the pod has learnt how narrow the way is.
fn assert_reports_pass(way: &Way) {
    let lab = Lab::new();
    let pod = lab.pod();
    let _fenced = lab.enrol(&pod);
    let far = behind(&lab, way);
    let to = SocketAddr::new(way.host.parse().unwrap(), 80);
    let server = far.inside(|| listener(to));
    let out = pod.through(&lab.redirect, to);
    let near = accept(&server).0;
    // Without a report nothing would come to an end by itself for a quarter of an hour.
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    out.set_write_timeout(Some(PATIENCE)).unwrap();
    let received = thread::scope(|scope| {
        scope.spawn(|| pump(out, BYTES));
        drain(near)
    });
    assert_eq!(received, BYTES);
    let arguments = ["-n", pod.pod.netns.name(), way.family, "route", "get", way.host];
    let route = Command::new("ip").args(arguments).output().unwrap();
    let route = String::from_utf8_lossy(&route.stdout).into_owned();
    assert!(route.contains(&format!("mtu {MTU}")), "{route}");
    lab.assert_nothing_met(&pod, &[]);
}

#[test]
fn a_report_that_packets_are_too_big_reaches_the_proxys_connection() {
    assert_reports_pass(&V4);
}

#[test]
fn the_same_report_passes_over_ipv6_where_no_router_may_cut_packets_up() {
    assert_reports_pass(&V6);
}
