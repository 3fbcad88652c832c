//! Objects of every kind that have much to do with each other, each in several versions.

/// A version of an object, as a document. Versions beyond the last are the first ones again.
pub(super) fn text_of(object: usize, version: usize) -> String {
    let (head, spec) = UNIVERSE[object];
    let versions: Vec<&str> = spec.split(" | ").collect();
    format!("---\n{head}\n{}\n", versions[version % versions.len()].trim())
}

/// How many objects there are.
pub(super) const OBJECTS: usize = UNIVERSE.len();

/// The one that nobody here evaluates.
pub(super) const UNEVALUATED: usize = 24;

const UNIVERSE: [(&str, &str); 36] = [
    (
        "{apiVersion: v1, kind: Namespace,",
        "metadata: {name: shop}} | metadata: {name: shop, labels: {canopy.mesh/mode: node}}}",
    ),
    (
        "{apiVersion: v1, kind: Namespace,",
        "metadata: {name: bank}} | metadata: {name: bank, labels: {a: b}}}",
    ),
    (
        "{apiVersion: canopy.mesh/v1alpha1, kind: Tenant, metadata: {name: team},",
        "spec: {namespaces: [shop]}} | spec: {namespaces: [shop], egress: mesh}} | spec: {namespaces: [shop], budget: {objects: 12}}} | spec: {namespaces: [shop, bank]}} | spec: {namespaces: 7}}",
    ),
    ("{apiVersion: v1, kind: ServiceAccount,", "metadata: {name: web, namespace: shop}}"),
    (
        "{apiVersion: v1, kind: Pod, spec: {containers: [{name: c, ports: [{name: web, containerPort: 8080}]}], serviceAccountName: web},",
        "metadata: {name: p, namespace: shop, labels: {app: a}}, status: {podIP: 10.1.0.1}} | metadata: {name: p, namespace: shop, labels: {app: b}}, status: {podIP: 10.1.0.1}} | metadata: {name: p, namespace: shop, labels: {app: a}}, status: {podIP: 10.1.0.2}} | metadata: {name: p, namespace: shop, labels: {app: a}}, status: {podIP: 10.1.0.7}} | metadata: {name: p, namespace: shop, labels: {app: a}}, status: {podIP: 10.1.0.1, conditions: [{type: Ready, status: 'False'}]}} | metadata: {name: p, namespace: shop, labels: {app: a}}, status: {podIP: 10.1.0.1, hostIP: 10.0.0.3}}",
    ),
    (
        "{apiVersion: v1, kind: Pod, spec: {containers: [{name: c}], nodeName: one},",
        "metadata: {name: q, namespace: shop, labels: {app: a}, annotations: {canopy.mesh/netns: /run/netns/q, canopy.mesh/exclude-inbound-ports: '9090'}}, status: {podIP: 10.1.0.2}} | metadata: {name: q, namespace: shop, labels: {app: a}, annotations: {canopy.mesh/netns: /run/netns/r}}, status: {podIP: 10.1.0.2}} | metadata: {name: q, namespace: shop, labels: {canopy.mesh/mode: 'off'}}, status: {podIP: 10.1.0.2, hostIP: 10.7.0.1}} | metadata: {name: q, namespace: shop, annotations: {canopy.mesh/netns: /run/netns/q}}, status: {podIP: x}}",
    ),
    (
        "{apiVersion: v1, kind: Pod, spec: {containers: [{name: c}], nodeName: one},",
        "metadata: {name: r, namespace: bank, labels: {app: a}, annotations: {canopy.mesh/netns: /run/netns/r}}, status: {podIP: 10.1.0.3, hostIP: 10.7.0.1}} | metadata: {name: r, namespace: bank, labels: {app: a}}, status: {podIP: 10.1.0.1}} | metadata: {name: r, namespace: bank}, status: {podIP: 10.1.0.4, hostIP: 10.7.0.2}}",
    ),
    (
        "{apiVersion: v1, kind: Pod, metadata: {name: h, namespace: bank},",
        "spec: {containers: [{name: c}], hostNetwork: true}, status: {podIP: 10.7.0.1}} | spec: {containers: [{name: c}], hostNetwork: true}, status: {podIP: 10.7.0.2}} | spec: {containers: [{name: c}]}, status: {podIP: 10.0.0.2}}",
    ),
    (
        "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop},",
        "spec: {clusterIP: 10.0.0.1, selector: {app: a}, ports: [{port: 80, targetPort: web}]}} | spec: {clusterIP: 10.0.0.1, selector: {app: b}, ports: [{port: 80}]}} | spec: {clusterIP: 10.0.0.1, selector: {app: a}, ports: [{port: 81}]}} | spec: {clusterIP: 10.0.0.2, selector: {app: a}, ports: [{port: 80}]}} | spec: {type: ExternalName, externalName: a.example}} | spec: {clusterIP: 10.0.0.9, selector: {app: a}, ports: [{port: 80, appProtocol: tcp}]}} | spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}} | spec: {clusterIP: 10.0.0.1, selector: {app: a}, internalTrafficPolicy: Local, sessionAffinity: ClientIP, ports: [{port: 80}]}} | spec: {clusterIP: 10.0.0.1, selector: {app: a}, trafficDistribution: PreferSameNode, ports: [{port: 80}]}}",
    ),
    (
        "{apiVersion: v1, kind: Service,",
        "metadata: {name: t, namespace: shop}, spec: {clusterIP: 10.0.0.2, ports: [{port: 80, name: http}, {port: 90, name: grpc}]}} | metadata: {name: t, namespace: shop, creationTimestamp: '2026-01-02T00:00:00Z'}, spec: {clusterIP: 10.0.0.2, ports: [{port: 80, name: http}]}} | metadata: {name: t, namespace: shop, creationTimestamp: '2026-01-01T00:00:00Z'}, spec: {clusterIP: 10.9.0.1, ports: [{port: 80, name: http}]}} | metadata: {name: t, namespace: shop}, spec: {clusterIP: 10.0.0.2, internalTrafficPolicy: Local, ports: [{port: 80, name: http}]}} | metadata: {name: t, namespace: shop}, spec: {clusterIP: 10.1.0.7, ports: [{port: 80, name: http}]}} | metadata: {name: t, namespace: shop}, spec: {clusterIP: 10.7.0.1, ports: [{port: 80, name: http}]}}",
    ),
    (
        "{apiVersion: v1, kind: Service, metadata: {name: u, namespace: bank},",
        "spec: {clusterIP: 10.0.0.3, ports: [{port: 80}]}} | spec: {clusterIP: 10.0.0.3, selector: {app: a}, ports: [{port: 80}]}} | spec: {clusterIP: 10.9.0.2, ports: [{port: 80}]}} | spec: {clusterIP: x}}",
    ),
    (
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: t-1, namespace: shop, labels: {kubernetes.io/service-name: t}},",
        "ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.9.0.1]}]} | ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.1.0.2], conditions: {ready: false}}]} | ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.1.0.3]}]} | ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.9.0.2]}]} | ports: [{name: http, port: 8080, appProtocol: http}], endpoints: [{addresses: [10.1.0.1], nodeName: one, hints: {forNodes: [{name: one}], forZones: [{name: z}]}}, {addresses: [10.1.0.2], conditions: {ready: false, serving: true, terminating: true}}]} | ports: 7}",
    ),
    (
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [{name: http, port: 8080, appProtocol: tcp}],",
        "metadata: {name: t-2, namespace: shop, labels: {kubernetes.io/service-name: t}}, endpoints: [{addresses: [10.1.0.1], conditions: {ready: false}}]} | metadata: {name: t-2, namespace: shop, labels: {kubernetes.io/service-name: s}}, endpoints: [{addresses: [10.1.0.2]}]} | metadata: {name: t-2, namespace: shop, labels: {kubernetes.io/service-name: nowhere}}, endpoints: [{addresses: [10.1.0.2]}]} | metadata: {name: t-2, namespace: shop, labels: {kubernetes.io/service-name: t}}, endpoints: [{addresses: [10.0.0.9]}]} | metadata: {name: t-2, namespace: shop, creationTimestamp: '2026-01-01T12:00:00Z', labels: {kubernetes.io/service-name: t}}, endpoints: [{addresses: [10.9.0.1]}]}",
    ),
    (
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [{port: 8080}], metadata: {name: u, namespace: bank, labels: {kubernetes.io/service-name: u}},",
        "endpoints: [{addresses: [10.1.0.3]}]} | endpoints: [{addresses: [10.1.0.1]}]} | endpoints: [{addresses: [10.7.0.1]}]} | endpoints: [{addresses: [10.7.0.9]}]} | endpoints: []}",
    ),
    (
        "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: shop},",
        "spec: {parentRefs: [{group: '', kind: Service, name: s}], rules: [{backendRefs: [{name: s, port: 80}, {name: t, port: 80}]}]}} | spec: {parentRefs: [{group: '', kind: Service, name: s, port: 80}], rules: [{backendRefs: [{name: t, port: 90}]}]}} | spec: {parentRefs: [{group: '', kind: Service, name: t, sectionName: grpc}], rules: [{backendRefs: [{name: nowhere, port: 80}]}]}} | spec: {parentRefs: [{name: gateway}]}} | spec: {parentRefs: 7}}",
    ),
    (
        "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r2, namespace: bank, generation: 7},",
        "spec: {parentRefs: [{group: '', kind: Service, name: t, namespace: shop}], rules: [{backendRefs: [{name: u, port: 80}]}]}} | spec: {parentRefs: [{group: '', kind: Service, name: u}], rules: [{backendRefs: [{group: a.example, kind: Widget, name: w, namespace: shop, port: 1}]}]}} | spec: {parentRefs: [{group: '', kind: Service, name: u}], rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: s, namespace: shop, port: 80}}}], backendRefs: [{name: u, port: 80}]}]}}",
    ),
    (
        "{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: g, namespace: shop},",
        "spec: {parentRefs: [{group: '', kind: Service, name: t, port: 90}], rules: [{backendRefs: [{name: t, port: 90}]}]}} | spec: {parentRefs: [{group: '', kind: Service, name: s}], rules: [{backendRefs: [{name: s, port: 80}]}]}} | spec: {parentRefs: [{group: '', kind: Service, name: t}], rules: [{backendRefs: [{name: u, namespace: bank, port: 80}]}]}}",
    ),
    (
        "{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: f, namespace: shop},",
        "spec: {parentRefs: [{group: '', kind: Service, name: u, namespace: bank}], rules: [{backendRefs: [{name: t, port: 90}]}]}} | spec: {parentRefs: [{group: '', kind: Service, name: t, port: 90}], rules: [{backendRefs: [{name: s, port: 81}]}]}} | spec: {parentRefs: [{group: '', kind: Service, name: s, port: 80}]}}",
    ),
    (
        "{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: g, namespace: shop},",
        "spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: bank}], to: [{group: a.example, kind: Widget}]}} | spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: lab}], to: [{group: a.example, kind: Widget}]}}",
    ),
    (
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: a, namespace: shop},",
        "spec: {targetRefs: [{kind: Service, name: t}], rules: [{}]}} | spec: {targetRefs: [{kind: Service, name: s}], action: DENY, rules: [{}]}} | spec: {selector: {matchLabels: {app: a}}, rules: [{}]}} | spec: {targetRefs: [{kind: Service, name: nowhere}], rules: [{}]}} | spec: {targetRefs: [{kind: Service, name: t}], action: X}}",
    ),
    (
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: b, namespace: bank},",
        "spec: {targetRefs: [{kind: Service, name: u}], rules: [{}]}} | spec: {rules: [{}]}} | spec: {action: DENY, rules: [{from: [{source: {namespaces: [shop]}}]}]}}",
    ),
    (
        "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p, namespace: shop},",
        "spec: {mtls: {mode: PERMISSIVE}}} | spec: {mtls: {mode: STRICT}}} | spec: {mtls: {mode: X}}}",
    ),
    (
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n, namespace: shop},",
        "spec: {podSelector: {}}} | spec: {podSelector: {matchLabels: {app: a}}}} | spec: {podSelector: 7}}",
    ),
    (
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: shop},",
        "spec: {hosts: [a.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}} | spec: {hosts: [b.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS, exportTo: [bank]}}",
    ),
    (
        "{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: c, namespace: bank}, spec: {}",
        ", x: 1} | }",
    ),
    (
        "{apiVersion: v1, kind: Service, metadata: {name: v, namespace: lab},",
        "spec: {clusterIP: 10.0.0.21, ports: [{port: 80}]}} | spec: {clusterIP: 10.0.0.22, ports: [{port: 80}]}} | spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}}",
    ),
    (
        "{apiVersion: v1, kind: Service, metadata: {name: w, namespace: lab},",
        "spec: {clusterIP: 10.0.0.23, ports: [{port: 80}]}} | spec: {clusterIP: 10.0.0.24, ports: [{port: 80}]}}",
    ),
    (
        "{apiVersion: v1, kind: Service, metadata: {name: d},",
        "spec: {clusterIP: 10.0.0.31, ports: [{port: 80}]}} | spec: {clusterIP: 10.0.0.32, ports: [{port: 80}]}}",
    ),
    (
        "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r3, namespace: lab},",
        "spec: {parentRefs: [{group: '', kind: Service, name: v}], rules: [{backendRefs: [{name: w, port: 80}]}]}} | spec: {parentRefs: [{group: '', kind: Service, name: w}], rules: [{backendRefs: [{name: v, port: 80}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}]}]}}",
    ),
    (
        "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r4, namespace: shop},",
        "spec: {parentRefs: [{group: '', kind: Service, name: s}], rules: [{matches: [{path: {value: /a}}], backendRefs: [{name: s, port: 80}]}]}} | spec: {parentRefs: [{group: '', kind: Service, name: t}], rules: [{matches: [{path: {value: /b}}], backendRefs: [{name: s, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: t, port: 80}}}]}]}]}}",
    ),
    (
        "{apiVersion: v1, kind: Pod, spec: {containers: [{name: c, ports: [{name: web, containerPort: 8080}]}]},",
        "metadata: {name: x, namespace: shop, labels: {app: b}}, status: {podIP: 10.1.0.21}} | metadata: {name: x, namespace: shop, labels: {app: a}}, status: {podIP: 10.1.0.21}} | metadata: {name: x, namespace: shop, labels: {app: a, topology.kubernetes.io/zone: z}, deletionTimestamp: '2026-01-01T00:00:00Z', annotations: {canopy.mesh/netns: /run/netns/x}}, status: {podIP: 10.1.0.21}} | metadata: {name: x, namespace: shop, labels: {app: a, canopy.mesh/mode: 'off'}}, status: {podIP: 10.9.0.1}}",
    ),
    (
        "{apiVersion: v1, kind: Pod, spec: {containers: [{name: c}]},",
        "metadata: {name: y, namespace: bank, labels: {app: a}}, status: {podIP: 10.1.0.22}} | metadata: {name: y, namespace: bank, labels: {app: b}, annotations: {canopy.mesh/netns: /run/netns/y, canopy.mesh/exclude-inbound-ports: '9090'}}, status: {podIP: 10.1.0.22}} | metadata: {name: y, namespace: bank}, status: {podIP: 10.1.0.22, hostIP: 10.7.0.3}}",
    ),
    (
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [{name: http, port: 8080}],",
        "metadata: {name: a-0, namespace: shop, labels: {kubernetes.io/service-name: t}}, endpoints: [{addresses: [10.1.0.21]}]} | metadata: {name: a-0, namespace: shop, labels: {kubernetes.io/service-name: t}}, endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0.21], conditions: {ready: false}}]} | metadata: {name: a-0, namespace: shop, labels: {kubernetes.io/service-name: t}}, endpoints: [{addresses: [10.0.0.2]}]} | metadata: {name: a-0, namespace: shop, creationTimestamp: '2026-01-01T12:00:00Z', labels: {kubernetes.io/service-name: t}}, endpoints: [{addresses: [10.0.0.2]}]} | metadata: {name: a-0, namespace: shop, labels: {kubernetes.io/service-name: t}}, endpoints: [{addresses: [10.7.0.3]}]}",
    ),
    (
        "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p, namespace: bank},",
        "spec: {mtls: {mode: STRICT}}} | spec: {mtls: {mode: PERMISSIVE}}}",
    ),
    (
        "{apiVersion: v1, kind: Service, metadata: {name: z, namespace: shop},",
        "spec: {clusterIP: 10.0.0.41, selector: {app: b}, ports: [{port: 80, targetPort: web}]}} | spec: {clusterIP: 10.0.0.41, selector: {app: a}, ports: [{port: 80, targetPort: web}]}} | spec: {type: ExternalName, externalName: z.example}}",
    ),
    (
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: c, namespace: shop},",
        "spec: {targetRefs: [{kind: Service, name: z}], rules: [{}]}} | spec: {targetRefs: [{kind: Service, name: s}], rules: [{}]}} | spec: {targetRefs: [{kind: Service, name: z}], action: X}}",
    ),
];
