//! From one node, each of what may be said of endpoints.

use std::net::SocketAddr;

use config::model::AppProtocol;

use super::*;

/// `10.0.0.1 ready node=a for=a,b zones=z draining`: an address, and what is said of it.
fn endpoint(text: &str) -> Arc<Endpoint> {
    let mut words = text.split(' ');
    let address = SocketAddr::new(words.next().unwrap().parse().unwrap(), 80);
    let mut endpoint = Endpoint { ready: false, ..Endpoint::new(address, AppProtocol::Tcp) };
    let mut topology = Topology::default();
    for word in words {
        match word.split_once('=') {
            None if word == "ready" => endpoint.ready = true,
            None => endpoint.draining = word == "draining",
            Some(("node", node)) => topology.node = Some(node.try_into().unwrap()),
            Some(("for", nodes)) => {
                topology.for_nodes = nodes.split(',').map(|node| node.try_into().unwrap()).collect();
            }
            Some((_, zones)) => {
                topology.for_zones = zones.split(',').map(|zone| zone.try_into().unwrap()).collect();
            }
        }
    }
    endpoint.topology = (topology != Topology::default()).then(|| Box::new(topology));
    Arc::new(endpoint)
}

/// The last parts of the addresses that are gone to from node `a` in zone `z`, and why; `None` for all that are ready.
fn from_a(reach: Reach, endpoints: &[&str]) -> Option<(Narrowing, Vec<String>)> {
    let here = Here { node: "a".try_into().ok(), zone: "z".try_into().ok() };
    told(narrow(&endpoints.iter().map(|text| endpoint(text)).collect::<Vec<_>>(), reach, &here))
}

fn told(narrowed: Option<Narrowed>) -> Option<(Narrowing, Vec<String>)> {
    let Narrowed { to, by } = narrowed?;
    let last = |endpoint: &Arc<Endpoint>| {
        let text = endpoint.address.ip().to_string();
        text.rsplit(['.', ':']).next().unwrap().to_owned()
    };
    Some((by, to.iter().map(last).collect()))
}

fn to(by: Narrowing, last: &[&str]) -> Option<(Narrowing, Vec<String>)> {
    Some((by, last.iter().map(ToString::to_string).collect()))
}

#[test]
fn a_service_for_callers_of_the_endpoints_own_node_goes_to_no_other() {
    let reach = Reach::Node;
    let (own, other) = ("10.0.0.1 ready node=a", "10.0.0.2 ready node=b");
    assert_eq!(from_a(reach, &[own, other]), to(Narrowing::Reach, &["1"]));
    assert_eq!(from_a(reach, &[other]), to(Narrowing::Reach, &[]));
    assert_eq!(from_a(reach, &["10.0.0.3 ready"]), to(Narrowing::Reach, &[]), "nobody says where it is");
    assert_eq!(from_a(reach, &["10.0.0.4 node=a", other]), to(Narrowing::Reach, &[]), "not ready");
    assert_eq!(from_a(reach, &["10.0.0.5 draining node=a", other]), to(Narrowing::Reach, &["5"]));
    assert_eq!(from_a(reach, &["10.0.0.5 draining node=a", own, other]), to(Narrowing::Reach, &["1"]));
    assert_eq!(from_a(reach, &["10.0.0.6 draining node=b"]), to(Narrowing::Reach, &[]));
}

#[test]
fn a_node_without_a_name_has_no_endpoint_of_its_own() {
    let nowhere = Here::default();
    for text in ["10.0.0.1 ready", "10.0.0.1 ready node=a"] {
        assert_eq!(
            told(narrow(&[endpoint(text)], Reach::Node, &nowhere)),
            to(Narrowing::Reach, &[]),
            "{text}"
        );
        assert_eq!(told(narrow(&[endpoint(text)], Reach::Cluster, &nowhere)), None, "{text}");
    }
    let hinted = [endpoint("10.0.0.1 ready for=a zones=z"), endpoint("10.0.0.2 ready for=b zones=y")];
    assert_eq!(told(narrow(&hinted, Reach::Cluster, &nowhere)), None);
}

#[test]
fn hints_count_where_all_that_are_ready_have_them_and_one_is_for_here() {
    use Narrowing::{NodeHints, ZoneHints};
    let hints = |endpoints: &[&str]| from_a(Reach::Cluster, endpoints);
    let cases: [(&str, &[&str], _); 9] = [
        ("for this node", &["10.0.0.1 ready for=a", "10.0.0.2 ready for=b"], to(NodeHints, &["1"])),
        ("for several", &["10.0.0.1 ready for=b,a", "10.0.0.2 ready for=a"], to(NodeHints, &["1", "2"])),
        ("one says nothing", &["10.0.0.1 ready for=a", "10.0.0.2 ready"], None),
        ("none is for here", &["10.0.0.1 ready for=b", "10.0.0.2 ready for=b"], None),
        ("for this zone", &["10.0.0.1 ready zones=y", "10.0.0.2 ready zones=z"], to(ZoneHints, &["2"])),
        ("one says nothing of zones", &["10.0.0.1 ready zones=z", "10.0.0.2 ready for=b"], None),
        (
            "not for this node, but for its zone",
            &["10.0.0.1 ready for=b zones=z", "10.0.0.2 ready for=c zones=y"],
            to(ZoneHints, &["1"]),
        ),
        (
            "the node comes before the zone",
            &["10.0.0.1 ready for=b zones=z", "10.0.0.2 ready for=a zones=z"],
            to(NodeHints, &["2"]),
        ),
        ("what is not ready is not asked", &["10.0.0.1 ready for=a", "10.0.0.2"], to(NodeHints, &["1"])),
    ];
    for (what, endpoints, expected) in cases {
        assert_eq!(hints(endpoints), expected, "{what}");
    }
    let unready = ["10.0.0.1 for=a", "10.0.0.2 ready for=b"];
    assert_eq!(hints(&unready), None, "what is not ready is for nobody");
}

#[test]
fn what_ends_and_still_serves_is_gone_to_where_nobody_is_ready() {
    let cluster = |endpoints: &[&str]| from_a(Reach::Cluster, endpoints);
    assert_eq!(cluster(&["10.0.0.1 draining", "10.0.0.2"]), to(Narrowing::Draining, &["1"]));
    assert_eq!(cluster(&["10.0.0.1 draining", "10.0.0.2 ready"]), None);
    assert_eq!(cluster(&["10.0.0.1", "10.0.0.2"]), None);
    assert_eq!(cluster(&[]), None);
}

#[test]
fn each_address_family_is_decided_about_by_itself() {
    let both = ["10.0.0.1 draining", "10.0.0.2", "fd00::3 ready", "fd00::4"];
    assert_eq!(from_a(Reach::Cluster, &both), to(Narrowing::Draining, &["1", "3"]));
    let both = ["10.0.0.1 ready for=a", "10.0.0.2 ready for=b", "fd00::3 ready", "fd00::4 ready for=a"];
    assert_eq!(from_a(Reach::Cluster, &both), to(Narrowing::NodeHints, &["1", "3", "4"]));
}
