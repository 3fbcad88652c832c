//! By which delivery each endpoint is reached, and why; and what goes past the proxy.

use super::*;

const LIMITED: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: cart, namespace: shop}\n\
    spec: {podSelector: {matchLabels: {app: cart}}, ingress: [{from: [{podSelector: {matchLabels: {app: nobody}}}]}]}\n";
const OPEN: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: cart, namespace: shop}\n\
    spec: {podSelector: {matchLabels: {app: cart}}, ingress: [{}]}\n";

#[test]
fn every_delivery_is_told_with_its_reason() {
    for (more, from, to, expected) in [
        ("", "shop/web", "cart:80", "direct (same_tenant: "),
        ("", "shop/web", "ledger.bank:80", "handoff (other_tenant: "),
        ("", "shop/web", "remote.far:80", "tunnel (other_node: "),
        ("", "shop/web", "bare.far:80", "network (not_meshed: "),
        ("", "shop/web", "203.0.113.9:443", "passthrough (outside: "),
        (LIMITED, "shop/web", "cart:80", "tunnel (network_policy: "),
        (LIMITED, "kept/app", "cart.shop:80", "tunnel (network_policy: "),
        (OPEN, "shop/web", "cart:80", "direct (same_tenant: "),
    ] {
        let told = Mesh::with(more).tell(from, to);
        let says = said(&told, Name::Endpoint);
        assert!(says.contains(expected), "{from} {to}: {says}");
        assert_eq!(fate(&told), (Outcome::Carried, None), "{from} {to}");
    }
}

#[test]
fn network_policies_are_told_with_what_each_says_and_a_pair_that_they_do_not_allow_is_the_networks_to_refuse()
{
    let told = Mesh::with(OPEN).tell("shop/web", "cart:80");
    let says = said(&told, Name::Network);
    assert!(says.contains("allow the pair, so that the network need not see it"), "{says}");
    assert!(says.contains("what may reach the receiver: NetworkPolicy shop/cart allows it"), "{says}");
    let told = Mesh::with(LIMITED).tell("shop/web", "cart:80");
    assert_eq!(objects(&told, Name::Network), ["NetworkPolicy shop/cart of shop in more.yaml:1"]);
    assert!(said(&told, Name::Network).contains("NetworkPolicy shop/cart does not allow it"));
    let says = &told.verdict.says;
    assert!(
        says.ends_with("unless the network's plugin refuses it, as NetworkPolicy shop/cart has it"),
        "{says}"
    );
    let block = LIMITED.replace("podSelector: {matchLabels: {app: nobody}}", "ipBlock: {cidr: 10.0.0.0/8}");
    let told = Mesh::with(&block).tell("shop/web", "cart:80");
    assert!(said(&told, Name::Network).contains("NetworkPolicy shop/cart cannot be evaluated here"));
    assert_eq!(
        said(&Mesh::with("").tell("shop/web", "cart:80"), Name::Network),
        "",
        "without any, nothing is told"
    );
}

#[test]
fn what_a_pod_of_another_node_lets_in_is_told_by_what_its_own_daemon_decides_by() {
    let allow = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: allow, namespace: far}\n\
        spec: {rules: [{from: [{source: {namespaces: [bank]}}]}]}\n";
    let told = Mesh::with(allow).tell("shop/web", "remote.far:80");
    assert_eq!(fate(&told), (Outcome::Refused, Some("no_policy_allows")));
    assert!(said(&told, Name::Receiver).contains("where it refuses, the caller is answered peer_denied"));
    assert_eq!(fate(&Mesh::with(allow).tell("bank/ledger", "remote.far:80")), (Outcome::Carried, None));
    // Nobody asks on behalf of a pod that is not in the mesh.
    let told = Mesh::with(allow).tell("shop/web", "bare.far:80");
    assert_eq!(fate(&told), (Outcome::Carried, None));
    assert!(said(&told, Name::Receiver).contains("no proxy of the mesh answers for it"));
}

#[test]
fn what_is_not_steered_is_told_with_why_and_is_plaintext_where_it_arrives() {
    let mesh = Mesh::with("");
    for (from, to, why, where_to) in [
        ("shop/web", "127.0.0.1:80", "loopback never leaves the pod", "within the pod itself"),
        ("shop/web", "10.0.0.1:80", "it is the pod's own address", "within the pod itself"),
        (
            "shop/web",
            "[fe80::1]:80",
            "link-local addresses are not steered, and a fenced pod's connections to them are refused",
            "outside the mesh",
        ),
        ("shop/web", "203.0.113.9:7000", "canopy.mesh/exclude-outbound-ports has 7000", "outside the mesh"),
        (
            "bank/ledger",
            "10.0.0.2:80",
            "canopy.mesh/exclude-outbound-cidrs has 10.0.0.2/32",
            "10.0.0.2:80 (shop/cart), past the proxy",
        ),
    ] {
        let told = mesh.tell(from, to);
        assert_eq!(said(&told, Name::Capture), format!("not steered to the proxy: {why}"));
        assert_eq!(fate(&told), (Outcome::Passed, None), "{from} {to}");
        assert!(told.verdict.says.contains(where_to), "{}", told.verdict.says);
    }
    let told = mesh.tell("bank/ledger", "10.0.0.2:80");
    assert!(said(&told, Name::Receiver).contains("lets in plaintext from 10.0.1.1"));
    // Its cluster address is another one.
    assert_eq!(said(&mesh.tell("bank/ledger", "cart.shop:80"), Name::Capture), "");
}

#[test]
fn a_pod_that_is_out_of_the_mesh_goes_past_it() {
    let out = MESH.replace(
        "metadata: {name: ledger, namespace: bank, labels: {app: ledger}",
        "metadata: {name: ledger, namespace: bank, labels: {app: ledger, canopy.mesh/mode: 'off'}",
    );
    let files = BTreeMap::from([(PathBuf::from("mesh.yaml"), FileText::from(out.as_str()))]);
    let mut mesh = Mesh::with("");
    mesh.configured =
        Store::new(Options { node: Some(mesh.node.clone()), ..Options::default() }).apply(&files);
    mesh.snapshots = compile(&mesh.configured.mesh);
    let told = mesh.tell("bank/ledger", "cart.shop:80");
    assert!(said(&told, Name::Capture).contains("out of the mesh"));
    assert_eq!(fate(&told), (Outcome::Passed, None));
    assert!(
        said(&told, Name::Destination)
            .contains("the cluster's own balancing picks an endpoint; no route applies")
    );
}

#[test]
fn a_port_that_the_receiver_leaves_alone_asks_nobody() {
    let alone = MESH.replace(
        "canopy.mesh/netns: /run/netns/cart}",
        "canopy.mesh/netns: /run/netns/cart, canopy.mesh/exclude-inbound-ports: '80'}",
    );
    let files = BTreeMap::from([(PathBuf::from("mesh.yaml"), FileText::from(alone.as_str()))]);
    let mut mesh = Mesh::with("");
    mesh.configured =
        Store::new(Options { node: Some(mesh.node.clone()), ..Options::default() }).apply(&files);
    mesh.snapshots = compile(&mesh.configured.mesh);
    let told = mesh.tell("bank/ledger", "10.0.0.2:80");
    assert!(said(&told, Name::Receiver).contains("exclude-inbound-ports has 80: no policy is asked"));
}

#[test]
fn endpoints_that_are_not_picked_are_told_with_why() {
    let mesh = Mesh::with("").edited(|mesh| {
        let endpoints = &mut service(mesh, "cart").ports[0].endpoints;
        let mut unready = endpoints[0].clone();
        unready.ready = false;
        unready.address.set_ip("10.0.7.7".parse().unwrap());
        let mut other = endpoints[0].clone();
        other.address.set_ip("fd00::2".parse().unwrap());
        endpoints.extend([unready, other]);
    });
    let says = said(&mesh.tell("shop/web", "cart:80"), Name::Backend);
    assert!(says.contains("not ready, and so not picked: 10.0.7.7:8080"), "{says}");
    assert!(says.contains("ready at IPv6, too: 1; a connection by IPv4 goes to IPv4"), "{says}");
    let many = Mesh::with("").edited(|mesh| {
        let endpoints = &mut service(mesh, "cart").ports[0].endpoints;
        let one = endpoints[0].clone();
        endpoints.extend((1..=300).map(|port| {
            let mut other = one.clone();
            other.address.set_port(port);
            other
        }));
    });
    let told = many.tell("shop/web", "cart:80");
    assert!(
        said(&told, Name::Backend).contains("45 more endpoints were not looked at"),
        "{}",
        said(&told, Name::Backend)
    );
}
