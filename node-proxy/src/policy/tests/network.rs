//! NetworkPolicy, case by case as the API's documentation describes them (networking.k8s.io/v1 NetworkPolicySpec).

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, rc::Rc, sync::Arc};

use config::{
    model::{Mesh, Transport, Workload},
    name::PodName,
    store::{FileText, Options, Store},
};
use ebpf_redirect::{Origin, Side};

use crate::{
    accept::{Accepted, Protocol},
    capture::{Arrival, Captured, Delivered, Presence, Tree},
    control::compile::compile,
    handoff::{self, pipe::pipe},
    identity::identify,
    policy::{
        self, decide,
        network::{Asked, End, Evaluated, Pod, allows, evaluate},
    },
    snapshot::{Destination, network::Network},
    sys::netns::Netns,
};
use Evaluated::{Allowed, Denied, Unknown};

mod bounds;

const PODS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: Namespace
metadata: {name: bank, labels: {team: b}}
";

/// Pods of this machine: name, namespace, address, labels.
const ON_THIS_MACHINE: [(&str, &str, &str, &str); 4] = [
    ("web", "shop", "10.0.0.1", "{app: web, tier: front}"),
    ("cart", "shop", "10.0.0.2", "{app: cart}"),
    ("teller", "bank", "10.0.0.3", "{app: teller}"),
    ("vault", "bank", "10.0.0.4", "{app: vault}"),
];

fn mesh(policies: &str) -> Arc<Mesh> {
    let mut text = PODS.to_owned();
    for (name, namespace, address, labels) in ON_THIS_MACHINE {
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {labels}, \
             annotations: {{canopy.mesh/netns: /run/netns/{name}}}}}\n\
             spec: {{containers: [{{name: c, ports: [{{name: web, containerPort: 8080}}]}}]}}\n\
             status: {{podIP: {address}}}\n"
        );
    }
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from((text + policies).as_str()))]);
    Store::new(Options::default()).apply(&files).mesh
}

fn network(mesh: &Mesh) -> Arc<Network> {
    Arc::clone(&compile(mesh).values().next().unwrap().directory.network)
}

fn policy(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

fn name(text: &str) -> PodName {
    let (namespace, name) = text.split_once('/').unwrap();
    PodName::new(namespace.try_into().unwrap(), name.try_into().unwrap())
}

/// Whether one pod may connect to another, at a port.
fn ask(policies: &str, from: &str, to: &str, port: u16) -> Evaluated {
    ask_of(Asked::Both, policies, (from, to), port)
}

fn ask_of(asked: Asked, policies: &str, (from, to): (&str, &str), port: u16) -> Evaluated {
    let mesh = mesh(policies);
    let (source, destination) = (&mesh.workloads[&name(from)], &mesh.workloads[&name(to)]);
    let address = SocketAddr::new(destination.addresses[0], port);
    allows(&network(&mesh), asked, source, destination, address)
}

const WEB: &str = "shop/web";
const CART: &str = "shop/cart";
const TELLER: &str = "bank/teller";

#[test]
fn pods_that_no_policy_selects_are_not_isolated() {
    assert_eq!(ask("", WEB, CART, 80), Allowed);
    let of_others = policy("p", "bank", "{podSelector: {}}");
    assert_eq!(ask(&of_others, WEB, CART, 80), Allowed);
    assert_eq!(ask(&of_others, WEB, TELLER, 80), Denied);
}

/// Policies of namespace shop, and whether web (same namespace) and teller (another) reach cart on 8080 and 81.
#[test]
fn what_an_ingress_policy_lets_in() {
    let cart = "podSelector: {matchLabels: {app: cart}}";
    for (spec, web, teller) in [
        // No rule: nothing comes in. One empty rule: everything does.
        ("", [Denied, Denied], [Denied, Denied]),
        ("ingress: []", [Denied, Denied], [Denied, Denied]),
        ("ingress: [{}]", [Allowed, Allowed], [Allowed, Allowed]),
        ("ingress: [{from: []}]", [Allowed, Allowed], [Allowed, Allowed]),
        // A policy that is about egress alone says nothing of ingress.
        ("policyTypes: [Egress]", [Allowed, Allowed], [Allowed, Allowed]),
        ("policyTypes: [Ingress, Egress]", [Denied, Denied], [Denied, Denied]),
        // podSelector alone: pods of the policy's own namespace.
        ("ingress: [{from: [{podSelector: {}}]}]", [Allowed, Allowed], [Denied, Denied]),
        (
            "ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]",
            [Allowed, Allowed],
            [Denied, Denied],
        ),
        (
            "ingress: [{from: [{podSelector: {matchLabels: {app: teller}}}]}]",
            [Denied, Denied],
            [Denied, Denied],
        ),
        // namespaceSelector alone: all pods of these namespaces.
        ("ingress: [{from: [{namespaceSelector: {}}]}]", [Allowed, Allowed], [Allowed, Allowed]),
        (
            "ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}]}]",
            [Denied, Denied],
            [Allowed, Allowed],
        ),
        (
            "ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bank}}}]}]",
            [Denied, Denied],
            [Allowed, Allowed],
        ),
        // Both in one item add up; in two items they are alternatives.
        (
            "ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}, podSelector: {matchLabels: {app: web}}}]}]",
            [Denied, Denied],
            [Denied, Denied],
        ),
        (
            "ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}, {podSelector: {matchLabels: {app: web}}}]}]",
            [Allowed, Allowed],
            [Allowed, Allowed],
        ),
        // Ports: numbers, names, ranges, all of a protocol.
        ("ingress: [{ports: [{port: 8080}]}]", [Allowed, Denied], [Allowed, Denied]),
        ("ingress: [{ports: [{port: web}]}]", [Allowed, Denied], [Allowed, Denied]),
        ("ingress: [{ports: [{port: other}]}]", [Denied, Denied], [Denied, Denied]),
        ("ingress: [{ports: [{port: 80, endPort: 90}]}]", [Denied, Allowed], [Denied, Allowed]),
        ("ingress: [{ports: [{port: 80, endPort: 8080}]}]", [Allowed, Allowed], [Allowed, Allowed]),
        ("ingress: [{ports: [{protocol: TCP}]}]", [Allowed, Allowed], [Allowed, Allowed]),
        ("ingress: [{ports: [{protocol: UDP, port: 8080}]}]", [Denied, Denied], [Denied, Denied]),
        ("ingress: [{ports: [{protocol: UDP}, {port: 81}]}]", [Denied, Allowed], [Denied, Allowed]),
        // Peers and ports of a rule add up; rules are alternatives.
        (
            "ingress: [{from: [{podSelector: {}}], ports: [{port: 81}]}, {ports: [{port: 8080}]}]",
            [Allowed, Allowed],
            [Allowed, Denied],
        ),
        // Whether a block counts for pods is the network's own choice.
        ("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]", [Unknown, Unknown], [Unknown, Unknown]),
        ("ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]", [Denied, Denied], [Denied, Denied]),
        (
            "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.1/32]}}]}]",
            [Denied, Denied],
            [Unknown, Unknown],
        ),
        (
            "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}, {podSelector: {}}]}]",
            [Allowed, Allowed],
            [Unknown, Unknown],
        ),
        // What cannot be read may say anything.
        ("ingres: []", [Unknown, Unknown], [Unknown, Unknown]),
    ] {
        let policies = policy("p", "shop", &format!("{{{cart}, {spec}}}"));
        for (from, expected) in [(WEB, web), (TELLER, teller)] {
            assert_eq!(
                [ask(&policies, from, CART, 8080), ask(&policies, from, CART, 81)],
                expected,
                "{from}: {spec}"
            );
        }
    }
}

#[test]
fn what_is_not_evaluated_is_outvoted_by_no_policy_that_allows() {
    let all = policy(
        "all",
        "shop",
        "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}",
    );
    assert_eq!(ask(&all, WEB, CART, 80), Allowed);
    let of_a_plugin = "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: z, namespace: bank}\nspec: {}\n";
    let unreadable = policy("z", "shop", "{podSelector: {}, ingres: []}");
    for other in [of_a_plugin, &unreadable] {
        for asked in [Asked::Source, Asked::Destination, Asked::Both] {
            for policies in [format!("{all}{other}"), format!("{other}{all}")] {
                assert_eq!(ask_of(asked, &policies, (WEB, CART), 80), Unknown, "{asked:?}: {policies}");
            }
        }
    }
}

/// Policies of namespace shop about web, and whether it reaches cart (same namespace) and teller (another) on 8080.
#[test]
fn what_an_egress_policy_lets_out() {
    let web = "podSelector: {matchLabels: {app: web}}";
    for (spec, cart, teller) in [
        // Rules for egress make a policy one about egress; none does not.
        ("", Allowed, Allowed),
        ("egress: []", Allowed, Allowed),
        ("policyTypes: [Egress]", Denied, Denied),
        ("policyTypes: [Ingress]", Allowed, Allowed),
        ("policyTypes: [Ingress], egress: [{ports: [{port: 1}]}]", Allowed, Allowed),
        ("egress: [{}]", Allowed, Allowed),
        ("egress: [{to: [{podSelector: {matchLabels: {app: cart}}}]}]", Allowed, Denied),
        ("egress: [{to: [{namespaceSelector: {matchLabels: {team: b}}}]}]", Denied, Allowed),
        ("egress: [{ports: [{port: 8080}]}]", Allowed, Allowed),
        // A name is the destination's own.
        ("egress: [{ports: [{port: web}]}]", Allowed, Allowed),
        ("egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]", Unknown, Unknown),
    ] {
        let policies = policy("p", "shop", &format!("{{{web}, {spec}}}"));
        let asked = (ask(&policies, WEB, CART, 8080), ask(&policies, WEB, TELLER, 8080));
        assert_eq!(asked, (cart, teller), "{spec}");
    }
}

#[test]
fn both_ends_have_to_agree_and_policies_of_one_end_add_up() {
    let out = policy(
        "out",
        "shop",
        "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: [{port: 8080}]}]}",
    );
    let into =
        policy("in", "shop", "{podSelector: {matchLabels: {app: cart}}, ingress: [{ports: [{port: 81}]}]}");
    let also = policy(
        "also",
        "shop",
        "{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 8080}]}]}",
    );
    let both = out + &into;
    for (port, [leaves, enters]) in
        [(8080, [Allowed, Denied]), (81, [Denied, Allowed]), (82, [Denied, Denied])]
    {
        let end = |asked| ask_of(asked, &both, (WEB, CART), port);
        assert_eq!(
            [end(Asked::Source), end(Asked::Destination)],
            [leaves, enters],
            "{port}: each by its own"
        );
    }
    assert_eq!(ask(&both, WEB, CART, 8080), Denied, "cart takes 81 alone");
    assert_eq!(ask(&both, WEB, CART, 81), Denied, "web may go to 8080 alone");
    assert_eq!(ask(&(both + &also), WEB, CART, 8080), Allowed, "one policy more lets it in");
}

#[test]
fn expressions_of_selectors_hold_as_the_api_says() {
    for (expression, expected) in [
        ("{key: app, operator: In, values: [web, api]}", Allowed),
        ("{key: app, operator: In, values: [api]}", Denied),
        ("{key: app, operator: NotIn, values: [api]}", Allowed),
        ("{key: app, operator: NotIn, values: [web]}", Denied),
        // A label that is not there is in no set.
        ("{key: zone, operator: NotIn, values: [x]}", Allowed),
        ("{key: tier, operator: Exists}", Allowed),
        ("{key: zone, operator: Exists}", Denied),
        ("{key: zone, operator: DoesNotExist}", Allowed),
        ("{key: tier, operator: DoesNotExist}", Denied),
    ] {
        let spec = format!(
            "{{podSelector: {{}}, ingress: [{{from: [{{podSelector: {{matchExpressions: [{expression}]}}}}]}}]}}"
        );
        assert_eq!(ask(&policy("p", "shop", &spec), WEB, CART, 80), expected, "{expression}");
    }
}

#[test]
fn a_pod_reaches_itself_and_nothing_is_known_of_pods_elsewhere() {
    let closed = policy("p", "shop", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
    assert_eq!(ask(&closed, WEB, WEB, 80), Allowed);
    let mesh = mesh("");
    let mut elsewhere = (*mesh.workloads[&name(CART)]).clone();
    elsewhere.pod = name("shop/elsewhere");
    let to = SocketAddr::new(elsewhere.addresses[0], 80);
    for asked in [Asked::Source, Asked::Destination, Asked::Both] {
        assert_eq!(allows(&network(&mesh), asked, &mesh.workloads[&name(WEB)], &elsewhere, to), Unknown);
    }
}

#[test]
fn blocks_count_for_addresses_outside_the_cluster() {
    let spec =
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}]}]}";
    let mesh = mesh(&policy("p", "shop", spec));
    let network = network(&mesh);
    let cart = &mesh.workloads[&name(CART)];
    let pod = Pod {
        namespace: &network.namespaces[&cart.pod.namespace],
        labels: &cart.labels,
        ports: &cart.ports,
        policies: &network.pods[&cart.pod],
    };
    let destination = End { address: cart.addresses[0], pod: Some(pod) };
    for (address, expected) in [("192.0.2.1", Allowed), ("192.0.2.200", Denied), ("198.51.100.1", Denied)] {
        let source = End { address: address.parse().unwrap(), pod: None };
        let both = evaluate(Asked::Both, &source, &destination, (80, Transport::Tcp));
        assert_eq!(both, expected, "{address}");
    }
}

/// What the receiver's cell says of a connection that another cell of the node hands to it; `from` is all that is said of
/// the caller.
fn hand_over(policies: &str, from: &str, known: bool) -> Result<(), policy::Denied> {
    let mesh = mesh(policies);
    let receiver = Arc::clone(&mesh.workloads[&name(TELLER)]);
    let mut caller = Workload::clone(&mesh.workloads[&name(from)]);
    if !known {
        caller.pod = name("shop/new");
    }
    let ends = Origin {
        destination: SocketAddr::new(receiver.addresses[0], 8080),
        client: SocketAddr::new(caller.addresses[0], 40_000),
    };
    let delivered = Delivered {
        origin: ends,
        identity: caller.identity.clone(),
        pod: Some(caller.pod.clone()),
        unseen_from: Some(Arc::new(caller)),
        trace: None,
        said: None,
    };
    let tree = Tree {
        workload: Arc::clone(&receiver),
        netns: Rc::new(Netns::current().unwrap()),
        id: 1,
        presence: Presence::default(),
    };
    let captured = Captured {
        stream: handoff::End::from(pipe(64).1).into(),
        accept_addr: ends.client,
        side: Side::Inbound,
        tree: Rc::new(tree),
        arrival: Arrival::Delivered(Box::new(delivered)),
    };
    let accepted = Accepted {
        captured,
        origin: ends,
        destination: Destination::Outside,
        protocol: Protocol::Tcp,
        prefix: bytes::Bytes::new(),
    };
    decide(&compile(&mesh)[&receiver.tenant], &identify(accepted, None)).map(drop)
}

#[test]
fn a_connection_that_is_handed_over_is_permitted_where_its_receiver_s_own_policies_let_it_in() {
    let from_web = "podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]";
    let into = policy("into", "bank", &format!("{{{from_web}}}"));
    let out = policy("out", "shop", "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}");
    let refused = Err(policy::Denied::NetworkPolicy);
    for (what, policies, from, known, expected) in [
        ("no policy", "", WEB, true, Ok(())),
        ("the caller is let in", into.as_str(), WEB, true, Ok(())),
        ("another is not", into.as_str(), CART, true, refused.clone()),
        ("the caller may not go out, which its own cell knows", out.as_str(), WEB, true, Ok(())),
        ("the caller is not known yet", "", WEB, false, refused),
    ] {
        assert_eq!(hand_over(policies, from, known), expected, "{what}");
    }
}
