//! What became of each object, in the words of Gateway API's conditions.

use std::{path::PathBuf, sync::Arc};

use config::{
    condition::{About, Standing},
    store::{FileText, Options, Store},
};

const NAMESPACE: &str =
    "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {canopy.mesh/mode: node}}\n";
const SERVICE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\n\
    spec: {clusterIP: 10.96.0.1, selector: {app: cart}, ports: [{port: 80, name: http}]}\n";

fn apply(store: &mut Store, text: &str) -> Vec<Arc<Standing>> {
    let text = format!("{NAMESPACE}{SERVICE}{text}");
    store.apply(&[(PathBuf::from("a.yaml"), FileText::from(&*text))].into()).standings.to_vec()
}

fn of(standings: &[Arc<Standing>], name: &str, about: About) -> (bool, &'static str) {
    let standing = standings.iter().find(|standing| &*standing.object.name == name).expect("an object");
    let condition = standing.of(about).expect("a condition");
    (condition.status, condition.reason)
}

fn route(parent: &str, backend: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: split, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: {parent}}}]\n  \
         rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]\n"
    )
}

#[test]
fn a_route_says_whether_it_has_a_parent_and_whether_its_backends_are_there() {
    for (parent, backend, accepted, resolved) in [
        ("cart", "cart", (true, "Accepted"), (true, "ResolvedRefs")),
        ("cart", "none", (true, "Accepted"), (false, "BackendNotFound")),
        ("none", "cart", (false, "NoMatchingParent"), (true, "ResolvedRefs")),
    ] {
        let standings = apply(&mut Store::new(Options::default()), &route(parent, backend));
        assert_eq!(of(&standings, "split", About::Accepted), accepted, "{parent} {backend}");
        assert_eq!(of(&standings, "split", About::ResolvedRefs), resolved, "{parent} {backend}");
    }
}

#[test]
fn an_object_that_claims_what_another_has_is_in_conflict() {
    let rival = SERVICE.replace("name: cart", "name: rival");
    let standings = apply(&mut Store::new(Options::default()), &rival);
    assert_eq!(of(&standings, "rival", About::Conflicted), (true, "Conflict"));
    assert_eq!(of(&standings, "rival", About::Accepted), (false, "Conflict"));
    assert_eq!(of(&standings, "rival", About::Programmed), (false, "NotInForce"));
    assert_eq!(of(&standings, "cart", About::Conflicted), (false, "NoConflicts"));
    assert!(standings.iter().filter(|standing| standing.is_well()).count() >= 2);
}

#[test]
fn what_is_in_force_in_the_place_of_an_object_is_said() {
    let policy = |action: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: deny, namespace: shop}}\nspec: {{action: {action}, rules: [{{}}]}}\n"
        )
    };
    let mut store = Store::new(Options::default());
    let standings = apply(&mut store, &policy("NONSENSE"));
    assert_eq!(of(&standings, "deny", About::Programmed), (false, "StoodIn"));
    let standings = apply(&mut store, &policy("DENY"));
    assert_eq!(of(&standings, "deny", About::Programmed), (true, "Programmed"));
    let standings = apply(&mut store, &policy("NONSENSE"));
    assert_eq!(of(&standings, "deny", About::Programmed), (false, "KeptLastGood"));
    assert!(!of(&standings, "deny", About::Accepted).0);
}

#[test]
fn a_route_whose_port_another_kind_has_is_in_conflict_and_a_gateways_route_is_nobodys_business() {
    let grpc = route("cart", "cart").replace("HTTPRoute", "GRPCRoute").replace("name: split", "name: calls");
    let standings = apply(&mut Store::new(Options::default()), &(route("cart", "cart") + &grpc));
    assert_eq!(of(&standings, "calls", About::Accepted), (true, "Accepted"));
    assert_eq!(of(&standings, "calls", About::ResolvedRefs), (true, "ResolvedRefs"));
    assert!(of(&standings, "split", About::Conflicted).0 && !of(&standings, "split", About::Accepted).0);
    let ingress = route("cart", "cart").replace("{group: '', kind: Service, name: cart}", "{name: public}");
    let standings = apply(&mut Store::new(Options::default()), &ingress);
    assert!(!standings.iter().any(|standing| &*standing.object.name == "split"));
}
