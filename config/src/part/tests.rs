//! What is in a tenant's part, and what must not be.

use std::{collections::BTreeMap, path::PathBuf};

use super::*;
use crate::store::{FileText, Options, Store};

const TWO: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank}
spec: {clusterIP: 10.96.0.2, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: teller, namespace: bank, labels: {app: teller}, annotations: {canopy.mesh/netns: /run/netns/teller}}
spec:
  containers:
  - name: c
    livenessProbe: {httpGet: {port: 80, path: /, httpHeaders: [{name: authorization, value: a-secret}]}}
status: {podIP: 10.0.0.2}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: of-bank, namespace: bank}
spec: {action: ALLOW, rules: [{from: [{source: {namespaces: [bank]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: of-all, namespace: istio-system}
spec: {action: DENY, rules: [{from: [{source: {namespaces: [evil]}}]}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: of-bank, namespace: bank}
spec: {mtls: {mode: STRICT}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: of-bank, namespace: bank}
spec: {podSelector: {}, policyTypes: [Ingress]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: of-the-owner, namespace: bank}
spec:
  parentRefs: [{group: '', kind: Service, name: ledger, port: 80}]
  rules: [{backendRefs: [{name: ledger, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: of-a-caller, namespace: bank}
spec:
  parentRefs: [{group: '', kind: Service, name: web, namespace: shop, port: 80}]
  rules: [{backendRefs: [{name: ledger, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: of-both, namespace: bank}
spec:
  parentRefs:
  - {group: '', kind: Service, name: ledger, port: 80}
  - {group: '', kind: Service, name: web, namespace: shop, port: 80}
  rules: [{backendRefs: [{name: ledger, port: 80}]}]
";

fn mesh() -> Arc<Mesh> {
    let files: BTreeMap<PathBuf, FileText> = [("all.yaml".into(), FileText::from(TWO))].into();
    let mesh = Store::new(Options::default()).apply(&files).mesh;
    let counts = (mesh.routes.len(), mesh.authorization.len(), mesh.network_policies.len());
    assert_eq!((mesh.workloads.len(), mesh.services.len(), counts), (1, 2, (3, 2, 1)));
    mesh
}

fn tenant(name: &str) -> TenantId {
    TenantId::Namespace(name.try_into().unwrap())
}

fn names<K: ToString, V>(of: &BTreeMap<K, V>) -> Vec<String> {
    of.keys().map(ToString::to_string).collect()
}

#[test]
fn a_part_has_what_all_share_and_of_others_no_policy_and_no_route_of_their_own_calls() {
    let mesh = mesh();
    let shop = of(&mesh, &tenant("shop"));
    assert_eq!(names(&shop.authorization), ["istio-system/of-all"]);
    assert_eq!(
        (names(&shop.tenants).len(), shop.peer_authentication.len(), shop.network_policies.len()),
        (1, 0, 0)
    );
    assert_eq!(names(&shop.routes), ["bank/of-both", "bank/of-the-owner"]);
    let both = shop.routes.values().next().unwrap();
    assert_eq!(both.parents.len(), 1, "the other is for bank's own callers: {:?}", both.parents);
    assert_eq!((names(&shop.services), &shop.membership), (names(&mesh.services), &mesh.membership));
    let teller = shop.workloads.values().next().unwrap();
    assert!(teller.netns.as_ref().is_some_and(|netns| netns.as_os_str().is_empty()), "it is here, somewhere");
    assert!(!format!("{shop:?}").contains("a-secret"), "what is asked of another's pod is not told");
}

#[test]
fn a_part_has_all_of_its_own() {
    let mesh = mesh();
    let bank = of(&mesh, &tenant("bank"));
    let whole = |mesh: &Mesh| {
        (
            (mesh.routes.clone(), mesh.authorization.clone(), mesh.workloads.clone()),
            (mesh.peer_authentication.clone(), mesh.network_policies.clone()),
        )
    };
    assert_eq!(whole(&bank), whole(&mesh));
}

#[test]
fn what_did_not_change_is_the_same_object_again_after_it_was_bytes() {
    let mesh = mesh();
    let through_bytes = || postcard::from_bytes::<Mesh>(&postcard::to_stdvec(&*mesh).unwrap()).unwrap();
    let (before, mut now) = (through_bytes(), through_bytes());
    let web = now.services.keys().next().unwrap().clone();
    Arc::make_mut(now.services.get_mut(&web).unwrap()).vips.clear();
    adopt(&mut now, &before);
    for (name, service) in &now.services {
        assert_eq!(Arc::ptr_eq(service, &before.services[name]), *name != web, "{name}");
    }
    let same = |(name, policy)| Arc::ptr_eq(policy, &before.authorization[name]);
    assert!(now.authorization.iter().all(same));
    assert_ne!(now, before);
}

#[test]
fn a_policy_about_pods_is_told_to_those_whose_pods_they_are_whoever_wrote_it() {
    let mut mesh = Mesh::clone(&mesh());
    let teller = mesh.workloads.keys().next().unwrap().clone();
    for policy in mesh.authorization.values_mut().filter(|policy| policy.name.name.as_str() == "of-all") {
        Arc::make_mut(policy).scope = Scope::Pods([teller.clone()].into());
    }
    assert_eq!(names(&of(&mesh, &tenant("bank")).authorization), ["bank/of-bank", "istio-system/of-all"]);
    assert_eq!(names(&of(&mesh, &tenant("shop")).authorization), Vec::<String>::new());
}
