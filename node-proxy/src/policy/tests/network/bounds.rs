//! Policies that say so much that nobody's connections may wait for it to be read.

use config::{
    model::{
        ContainerPort, LabelExpression, LabelOperator, LabelSelector, NetworkPeer, NetworkPolicy,
        NetworkPort, NetworkRule, PortRange,
    },
    name::PolicyName,
};

use super::*;
use crate::{policy::network::LOOKED_AT, snapshot::network::PodNetwork};

/// An end with one egress policy, of one rule.
fn limited(rule: NetworkRule) -> PodNetwork {
    let name = PolicyName::new("shop".try_into().unwrap(), "p".try_into().unwrap());
    let selector = LabelSelector::default();
    let policy =
        NetworkPolicy { name, pods: selector, ingress: None, egress: Some(vec![rule]), unreadable: false };
    PodNetwork { ingress: Vec::new(), egress: vec![Arc::new(policy)] }
}

/// What a policy of one rule says of a connection from web to cart, which has so many ports of the name `web`.
fn by_rule(peers: Vec<NetworkPeer>, ports: Vec<NetworkPort>, named: usize) -> Evaluated {
    let mesh = mesh(&policy("p", "bank", "{podSelector: {}}"));
    let network = network(&mesh);
    let (policies, none) = (limited(NetworkRule { peers, ports }), PodNetwork::default());
    let (web, cart) = (&mesh.workloads[&name(WEB)], &mesh.workloads[&name(CART)]);
    let container = ContainerPort { number: 80, ..cart.ports[0].clone() };
    let containers = [vec![container; named], cart.ports.clone()].concat();
    let namespace = &network.namespaces[&cart.pod.namespace];
    let end = |workload: &Arc<Workload>, pod| End { address: workload.addresses[0], pod: Some(pod) };
    let source = end(web, Pod { namespace, labels: &web.labels, ports: &[], policies: &policies });
    let to = end(cart, Pod { namespace, labels: &cart.labels, ports: &containers, policies: &none });
    evaluate(Asked::Source, &source, &to, (8080, Transport::Tcp))
}

#[test]
fn policies_that_say_more_than_is_looked_at_are_not_known_to_allow_anything() {
    let others = |count: usize| (0..count).map(|n| format!("app-{n}"));
    let peer = |selector| vec![NetworkPeer::Pods { namespaces: None, pods: Some(selector) }];
    let values = |count: usize| {
        let key = "app".to_owned();
        let values = others(count).chain(["cart".to_owned()]).collect();
        let expressions = vec![LabelExpression { key, operator: LabelOperator::In(values) }];
        peer(LabelSelector { expressions, ..LabelSelector::default() })
    };
    let expressions = |count: usize| {
        let one = LabelExpression { key: "app".to_owned(), operator: LabelOperator::Exists };
        peer(LabelSelector { expressions: vec![one; count], ..LabelSelector::default() })
    };
    let blocks = |count: usize| {
        let elsewhere = NetworkPeer::Block { cidr: "192.0.2.0/24".parse().unwrap(), except: Vec::new() };
        [vec![elsewhere; count], peer(LabelSelector::default())].concat()
    };
    let but = |count: usize| {
        let except = vec!["10.9.0.0/16".parse().unwrap(); count];
        let block = NetworkPeer::Block { cidr: "10.0.0.0/8".parse().unwrap(), except };
        [vec![block], peer(LabelSelector::default())].concat()
    };
    let port = |port| NetworkPort { protocol: Transport::Tcp, port };
    let ports = |count: usize| {
        [vec![port(PortRange::Numbers(1, 2)); count], vec![port(PortRange::Numbers(8080, 8080))]].concat()
    };
    let named = || vec![port(PortRange::Named("web".try_into().unwrap()))];
    let (few, many) = (LOOKED_AT - 10, LOOKED_AT);
    for (what, ask) in [
        ("values", &(|count| by_rule(values(count), vec![], 0)) as &dyn Fn(usize) -> Evaluated),
        ("expressions", &|count| by_rule(expressions(count), vec![], 0)),
        ("blocks", &|count| by_rule(blocks(count), vec![], 0)),
        ("exceptions", &|count| by_rule(but(count), vec![], 0)),
        ("ports", &|count| by_rule(vec![], ports(count), 0)),
        ("ports of a name", &|count| by_rule(vec![], named(), count)),
    ] {
        assert_eq!([ask(few), ask(many)], [Allowed, Unknown], "{what}");
    }
    assert_eq!(by_rule(values(90_000), ports(40_000), 40_000), Unknown);
}
