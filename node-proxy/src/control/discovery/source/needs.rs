//! What a node asks for one by one though no pod dials it: its own pods, and the Services that what it knows refers to.
//!
//! Asked for again at every look, so that what is not there yet is heard of when it comes. It must never ask for what nobody here
//! needs: the routes of a Service that no pod has dialled lead nowhere.

use std::collections::BTreeSet;

use config::{
    discovery::service_name,
    model::{BackendTarget, Filter, HttpRoute, Mesh, Rule, Scope},
    name::{ClusterDomain, Namespace, ServiceName},
};

/// Names of the Services that routes of known Services lead to, and of those by which policies say whether they are about pods of
/// these namespaces.
pub(super) fn services(mesh: &Mesh, here: &BTreeSet<&Namespace>, domain: &ClusterDomain) -> BTreeSet<String> {
    let leads =
        |route: &&HttpRoute| route.parents.iter().any(|parent| mesh.services.contains_key(&parent.service));
    let routes = mesh.routes.values().map(|route| &**route).filter(leads);
    let behind = routes.flat_map(targets);
    let policies = mesh.authorization.values().filter(|policy| here.contains(&policy.name.namespace));
    let about = policies.flat_map(|policy| match &policy.scope {
        Scope::Services(services) => services.as_slice(),
        _ => &[],
    });
    behind.chain(about).map(|service| service_name(domain, service)).collect()
}

fn targets(route: &HttpRoute) -> impl Iterator<Item = &ServiceName> {
    route.rules.iter().flat_map(of_rule).filter_map(|target| match target {
        BackendTarget::Service { service, .. } => Some(service),
        BackendTarget::Invalid(_) => None,
    })
}

fn of_rule(rule: &Rule) -> impl Iterator<Item = &BackendTarget> {
    let backends = rule.backends.iter();
    backends
        .flat_map(|one| std::iter::once(&one.target).chain(mirrors(&one.filters)))
        .chain(mirrors(&rule.filters))
}

fn mirrors(filters: &[Filter]) -> impl Iterator<Item = &BackendTarget> {
    filters
        .iter()
        .filter_map(|filter| if let Filter::Mirror(mirror) = filter { Some(&mirror.target) } else { None })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use config::store::{FileText, Options, Store};

    use super::*;

    const SERVICES: &str = "\
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: shop}
spec: {clusterIP: 10.96.0.NUMBER, ports: [{port: 80, name: http}]}
---
";
    const REST: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: of-cart, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: cart}]
  rules:
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: mirror, port: 80}}}]
    backendRefs: [{name: green, port: 80}, {name: nobody, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: of-other, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: other}]
  rules: [{backendRefs: [{name: unneeded, port: 80}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: of-door, namespace: shop}
spec: {targetRefs: [{kind: Service, group: '', name: door}], action: DENY, rules: [{}]}
";

    fn mesh() -> Mesh {
        let names = ["cart", "green", "mirror", "other", "unneeded", "door"];
        let one = |(number, name): (usize, &&str)| {
            SERVICES.replace("NAME", name).replace("NUMBER", &number.to_string())
        };
        let text: String = names.iter().enumerate().map(one).collect::<String>() + REST;
        let files = BTreeMap::from([(Path::new("a.yaml").to_owned(), FileText::from(&*text))]);
        let mut mesh = Mesh::clone(&Store::new(Options::default()).apply(&files).mesh);
        // As a node has it: routes and policies as a whole, of the Services what its pods have dialled.
        mesh.services.retain(|name, _| name.name.as_str() == "cart");
        mesh
    }

    #[test]
    fn what_routes_of_a_dialled_service_lead_to_is_asked_for_and_nothing_of_others() {
        let domain = "cluster.local".try_into().unwrap();
        let named = |name: &str| format!("shop/{name}.shop.svc.cluster.local");
        let needed = services(&mesh(), &BTreeSet::new(), &domain);
        assert_eq!(needed, [named("green"), named("mirror")].into());
        let shop = Namespace::try_from("shop").unwrap();
        let here = services(&mesh(), &BTreeSet::from([&shop]), &domain);
        assert_eq!(
            here,
            [named("door"), named("green"), named("mirror")].into(),
            "whom a policy here is about"
        );
    }
}
