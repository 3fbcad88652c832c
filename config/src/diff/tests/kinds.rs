//! Every kind that is read: an object of it that comes, goes or says something else is told, to whose it is, with the field.

use super::*;

/// A kind, an object of it, and edits: what stands there, what is to stand there, the field that is told.
type Case = (Kind, &'static str, &'static [(&'static str, &'static str, &'static str)]);

const BASE: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: base, namespace: shop}
spec: {clusterIP: 10.96.9.9, selector: {app: base}, ports: [{name: http, port: 80}]}
";

const CASES: [Case; 13] = [
    (
        Kind::Namespace,
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n",
        &[("team: a", "team: b", "labels.team")],
    ),
    (
        Kind::ServiceAccount,
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x, namespace: shop}\n",
        // It says nothing but that it is there.
        &[],
    ),
    (
        Kind::Pod,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: shop, labels: {app: a}, annotations: {canopy.mesh/netns: /run/netns/x}}\n\
         spec: {serviceAccountName: default, nodeName: a, containers: [{name: c, ports: [{containerPort: 80}]}]}\nstatus: {podIP: 10.0.0.1}\n",
        &[
            ("app: a", "app: b", "labels.app"),
            ("serviceAccountName: default", "serviceAccountName: other", "identity.service_account"),
            ("podIP: 10.0.0.1", "podIP: 10.0.0.2", "addresses[0]"),
            ("nodeName: a", "nodeName: b", "node"),
        ],
    ),
    (
        Kind::Service,
        "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: shop}\n\
         spec: {clusterIP: 10.96.0.1, selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}]}\n",
        &[
            ("10.96.0.1", "10.96.0.2", "vips[0]"),
            ("app: a", "app: b", "selector.app"),
            ("port: 80,", "port: 81,", "ports[0].number"),
            ("clusterIP", "internalTrafficPolicy: Local, clusterIP", "reach"),
            ("clusterIP", "sessionAffinity: ClientIP, clusterIP", "affinity"),
        ],
    ),
    (
        Kind::EndpointSlice,
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x, namespace: shop, labels: {kubernetes.io/service-name: base}}\n\
         addressType: IPv4\nports: [{name: http, port: 8080, protocol: TCP}]\nendpoints: [{addresses: [10.0.0.9], conditions: {ready: true}}]\n",
        &[
            ("10.0.0.9", "10.0.0.8", "endpoints[0].address"),
            ("ready: true", "ready: false", "endpoints[0].ready"),
            ("port: 8080", "port: 8081", "ports"),
        ],
    ),
    (
        Kind::HttpRoute,
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: x, namespace: shop}\n\
         spec: {parentRefs: [{group: '', kind: Service, name: base}], rules: [{matches: [{path: {type: Exact, value: /a}}], \
         timeouts: {request: 5s}, backendRefs: [{name: base, port: 80, weight: 9}]}]}\n",
        &[
            ("weight: 9", "weight: 8", "rules[0].backends[0].weight"),
            ("value: /a", "value: /b", "rules[0].matches[0].path.exact"),
            ("request: 5s", "request: 6s", "rules[0].timeouts.request"),
        ],
    ),
    (
        Kind::GrpcRoute,
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: x, namespace: shop}\n\
         spec: {parentRefs: [{group: '', kind: Service, name: base}], rules: [{matches: [{method: {service: a.B, method: C}}], \
         backendRefs: [{name: base, port: 80}]}]}\n",
        &[("service: a.B", "service: a.D", "rules[0].matches[0].path.rpc.service.exact")],
    ),
    (
        Kind::ReferenceGrant,
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: x, namespace: shop}\n\
         spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: bank}], to: [{group: '', kind: Service}]}\n",
        &[
            ("namespace: bank", "namespace: lab", "from"),
            ("kind: Service}", "kind: Service, name: base}", "to"),
        ],
    ),
    (
        Kind::Tenant,
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: x}\nspec: {namespaces: [shop], egress: any, budget: {connections: 10}}\n",
        &[
            ("egress: any", "egress: mesh", "egress"),
            ("namespaces: [shop]", "namespaces: [shop], isolation: process", "isolation"),
            ("connections: 10", "connections: 11", "budget"),
        ],
    ),
    (
        Kind::AuthorizationPolicy,
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: x, namespace: shop}\n\
         spec: {action: DENY, selector: {matchLabels: {app: a}}, rules: [{from: [{source: {namespaces: [bank]}}]}]}\n",
        &[("DENY", "ALLOW", "action"), ("app: a", "app: b", "scope"), ("[bank]", "[lab]", "rules[0]")],
    ),
    (
        Kind::PeerAuthentication,
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: x, namespace: shop}\n\
         spec: {selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}, portLevelMtls: {80: {mode: PERMISSIVE}}}\n",
        &[
            ("mode: STRICT", "mode: PERMISSIVE", "mode"),
            ("80: {mode: PERMISSIVE}", "81: {mode: PERMISSIVE}", "ports"),
        ],
    ),
    (
        Kind::NetworkPolicy,
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: x, namespace: shop}\n\
         spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 80}]}]}\n",
        &[("app: a", "app: b", "ingress"), ("port: 80", "port: 81", "ingress")],
    ),
    (
        Kind::ServiceEntry,
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: x, namespace: shop}\n\
         spec: {hosts: [a.example], addresses: [203.0.113.7], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}\n",
        &[
            ("a.example", "b.example", "hosts"),
            ("203.0.113.7", "203.0.113.8", "addresses"),
            ("number: 443", "number: 444", "ports"),
        ],
    ),
];

fn named(difference: &Difference, kind: Kind) -> Option<&ObjectChange> {
    difference.objects.iter().find(|change| Kind::of(&change.object) == Some(kind))
}

#[test]
fn every_kind_has_a_case() {
    let kinds: Vec<&str> = CASES.iter().map(|(kind, ..)| kind.as_str()).collect();
    assert_eq!(kinds, Kind::ALL.map(Kind::as_str));
    for (kind, text, _) in CASES {
        let outcome = read(&[
            ("a.yaml", if kind == Kind::Namespace { text } else { BASE }),
            ("b.yaml", if kind == Kind::Namespace { "# nothing" } else { text }),
        ]);
        let rejected: Vec<_> = outcome
            .findings
            .iter()
            .filter(|one| one.severity == crate::finding::Severity::Rejected)
            .collect();
        assert!(rejected.is_empty(), "{}: {rejected:#?}", kind.as_str());
    }
}

#[test]
fn an_object_of_every_kind_that_comes_or_goes_is_told_to_whose_it_is() {
    for (kind, text, _) in CASES.into_iter().filter(|(kind, ..)| *kind != Kind::Namespace) {
        let (without, with) = ([("a.yaml", BASE)], [("a.yaml", BASE), ("b.yaml", text)]);
        for (difference, what) in
            [(difference(&without, &with), What::Added), (difference(&with, &without), What::Removed)]
        {
            let change = named(&difference, kind).unwrap_or_else(|| panic!("{} {what:?}", kind.as_str()));
            assert_eq!(change.what, what, "{}", kind.as_str());
            let owner = if kind == Kind::Tenant { "x" } else { "ns/shop" };
            assert_eq!(change.owner.to_string(), owner, "{}", kind.as_str());
        }
    }
}

#[test]
fn what_an_object_of_every_kind_says_differently_is_told_with_its_field() {
    for (kind, text, edits) in CASES {
        for (from, to, field) in edits {
            assert!(text.contains(from), "{}: {from}", kind.as_str());
            let edited = text.replacen(from, to, 1);
            let base = if kind == Kind::Namespace { "# nothing" } else { BASE };
            let difference =
                difference(&[("a.yaml", base), ("b.yaml", text)], &[("a.yaml", base), ("b.yaml", &edited)]);
            let change = named(&difference, kind)
                .unwrap_or_else(|| panic!("{}: {to}: {difference:#?}", kind.as_str()));
            assert_eq!(change.what, What::Changed, "{}: {to}", kind.as_str());
            let told = change.fields.fields.iter().any(|told| told.field.starts_with(field));
            assert!(told, "{}: {to}: {:#?}", kind.as_str(), change.fields);
        }
    }
}
