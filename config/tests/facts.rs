//! What is known of pods and namespaces: nodes, membership in the mesh, labels, probes.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    finding::{Reason, Severity},
    model::{HttpScheme, ProbeCheck, Workload},
    name::NodeName,
    store::{FileText, Options, Outcome, Store},
};

fn apply(text: &str, node: Option<&str>) -> Outcome {
    let node = node.map(|name| NodeName::try_from(name).expect("a node's name"));
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text))]);
    Store::new(Options { node, ..Options::default() }).apply(&files)
}

fn workload(outcome: &Outcome, name: &str) -> Workload {
    let found = outcome.mesh.workloads.values().find(|workload| workload.pod.name.as_str() == name);
    found.map(|workload| (**workload).clone()).unwrap_or_else(|| panic!("{name}: {:#?}", outcome.findings))
}

fn rejections(outcome: &Outcome) -> usize {
    outcome.findings.iter().filter(|finding| finding.severity == Severity::Rejected).count()
}

/// A pod whose metadata and node are given.
fn pod(name: &str, address: u8, metadata: &str, node: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop{metadata}}}\n\
         spec: {{{node}containers: [{{name: c}}]}}\nstatus: {{podIP: 10.0.0.{address}}}\n"
    )
}

const NETNS: &str = ", annotations: {canopy.mesh/netns: /run/netns/x}";

#[test]
fn a_pod_of_another_node_has_no_network_namespace_here_and_clashes_with_none() {
    let text = pod("here", 1, NETNS, "nodeName: one, ") + &pod("there", 2, NETNS, "nodeName: two, ");
    let outcome = apply(&text, Some("one"));
    assert_eq!(rejections(&outcome), 0, "{:#?}", outcome.findings);
    assert!(workload(&outcome, "here").netns.is_some());
    let there = workload(&outcome, "there");
    assert_eq!((there.netns, there.meshed), (None, true), "still of the mesh, only not here");
    assert_eq!(there.node, Some(NodeName::try_from("two").unwrap()));
    // Without a node of its own, the reader takes every path for its machine's, and one owner for each.
    assert_eq!(rejections(&apply(&text, None)), 1);
}

#[test]
fn a_pod_that_names_no_node_is_on_this_one() {
    let outcome = apply(&pod("p", 1, NETNS, ""), Some("one"));
    assert!(workload(&outcome, "p").netns.is_some());
}

#[test]
fn pods_of_a_tenant_that_is_kept_to_the_mesh_are_in_it_whatever_their_labels_say() {
    let tenant = "---\napiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: t}\n\
        spec: {namespaces: [shop], egress: EGRESS}\n";
    let off = ", labels: {canopy.mesh/mode: 'off'}, annotations: {canopy.mesh/netns: /run/netns/x}";
    let namespace =
        "---\nkind: Namespace\napiVersion: v1\nmetadata: {name: shop, labels: {canopy.mesh/mode: 'off'}}\n";
    for (egress, captured) in [("mesh", true), ("any", false)] {
        let text = format!("{namespace}{}{}", tenant.replace("EGRESS", egress), pod("p", 1, off, ""));
        let outcome = apply(&text, None);
        let found = workload(&outcome, "p");
        assert_eq!((found.netns.is_some(), found.meshed), (captured, captured), "{egress}");
        let fields: Vec<&str> = outcome
            .findings
            .iter()
            .filter(|finding| finding.reason == Reason::NotPermitted)
            .map(|finding| &*finding.field)
            .collect();
        let label = "metadata.labels[canopy.mesh/mode]";
        assert_eq!(fields, if captured { vec![label, label] } else { vec![] }, "{:#?}", outcome.findings);
        let not_captured =
            outcome.findings.iter().any(|finding| finding.message.contains("it is not captured"));
        assert_eq!(not_captured, !captured, "{:#?}", outcome.findings);
    }
    let kept = tenant.replace("EGRESS", "mesh");
    for (nodes, here, told) in
        [("nodeName: one, ", Some("one"), true), ("nodeName: two, ", Some("one"), false)]
    {
        let outcome = apply(&format!("{kept}{}", pod("p", 1, "", nodes)), here);
        let said =
            outcome.findings.iter().any(|finding| finding.message.contains("names no network namespace"));
        assert_eq!(said, told, "{nodes}: {:#?}", outcome.findings);
    }
    let host = "hostNetwork: true, ";
    for (egress, told) in [("mesh", true), ("any", false)] {
        let outcome = apply(&format!("{}{}", tenant.replace("EGRESS", egress), pod("p", 1, "", host)), None);
        let said =
            outcome.findings.iter().any(|finding| finding.message.contains("the node's network, although"));
        assert_eq!(said, told, "{egress}: {:#?}", outcome.findings);
    }
}

#[test]
fn a_slice_names_no_address_of_the_node_that_reads_nor_any_that_means_a_node() {
    let slice = |address: &str| {
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        format!(
            "kind: Service\napiVersion: v1\nmetadata: {{name: s, namespace: shop}}\nspec: {{ports: [{{port: 80}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: e, namespace: shop, labels: {{kubernetes.io/service-name: s}}}}\n\
             addressType: {family}\nports: [{{port: 80}}]\nendpoints: [{{addresses: ['{address}']}}]\n"
        )
    };
    let node_addresses = vec!["192.0.2.1".parse().unwrap()];
    let options = || Options { node_addresses: node_addresses.clone(), ..Options::default() };
    let file = |text: String| BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text.as_str()))]);
    for (address, refused) in [
        ("192.0.2.1", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("169.254.169.254", true),
        ("fe80::1", true),
        ("0.0.0.0", true),
        ("::ffff:127.0.0.1", true),
        ("203.0.113.7", false),
    ] {
        let outcome = Store::new(options()).apply(&file(slice(address)));
        assert_eq!(rejections(&outcome), usize::from(refused), "{address}: {:#?}", outcome.findings);
        let endpoints = outcome.mesh.services.values().flat_map(|service| &service.ports[0].endpoints);
        assert_eq!(endpoints.count(), usize::from(!refused), "{address}");
    }
}

#[test]
fn an_address_in_two_slices_is_one_endpoint_that_is_ready_if_either_says_so() {
    let service =
        "kind: Service\napiVersion: v1\nmetadata: {name: s, namespace: shop}\nspec: {ports: [{port: 80}]}\n";
    let slice = |name: &str, ready: bool| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: s}}}}\n\
             addressType: IPv4\nports: [{{port: 80}}]\n\
             endpoints: [{{addresses: [203.0.113.7], conditions: {{ready: {ready}}}}}]\n"
        )
    };
    for (one, other) in [(true, true), (true, false), (false, true), (false, false)] {
        let outcome = apply(&format!("{service}{}{}", slice("a", one), slice("b", other)), None);
        assert_eq!(rejections(&outcome), 0, "{:#?}", outcome.findings);
        let endpoints = outcome.mesh.services.values().flat_map(|service| &service.ports[0].endpoints);
        let ready: Vec<bool> = endpoints.map(|endpoint| endpoint.ready).collect();
        assert_eq!(ready, [one || other], "{one} and {other}");
    }
}

#[test]
fn membership_in_the_mesh_is_the_pods_word_then_its_namespaces() {
    let plain = "kind: Namespace\napiVersion: v1\nmetadata: {name: shop}\n";
    let labelled =
        "kind: Namespace\napiVersion: v1\nmetadata: {name: shop, labels: {canopy.mesh/mode: node}}\n";
    let off = ", labels: {canopy.mesh/mode: 'off'}";
    let on = ", labels: {canopy.mesh/mode: node}";
    let taken_out =
        "kind: Namespace\napiVersion: v1\nmetadata: {name: shop, labels: {canopy.mesh/mode: 'off'}}\n";
    let off_with_netns =
        ", labels: {canopy.mesh/mode: 'off'}, annotations: {canopy.mesh/netns: /run/netns/x}";
    let ambient = ", annotations: {ambient.istio.io/redirection: enabled}";
    let tunnel = ", labels: {networking.istio.io/tunnel: http}";
    for (namespace, metadata, meshed) in [
        (plain, "", false),
        (plain, NETNS, true),
        (plain, ambient, true),
        (plain, tunnel, true),
        (plain, off_with_netns, false),
        (labelled, "", true),
        (labelled, off, false),
        (plain, on, true),
        (taken_out, on, true),
        (taken_out, "", false),
    ] {
        let outcome = apply(&format!("{namespace}{}", pod("p", 1, metadata, "")), None);
        let found = workload(&outcome, "p");
        assert_eq!(found.meshed, meshed, "{namespace}{metadata}");
        assert_eq!(found.netns.is_some(), metadata == NETNS, "{namespace}{metadata}");
    }
}

#[test]
fn a_pod_of_a_tenant_that_is_kept_to_the_mesh_does_not_leave_it_by_its_label_where_its_network_namespace_is_elsewhere()
 {
    let text = "kind: Namespace\napiVersion: v1\nmetadata: {name: shop, labels: {canopy.mesh/mode: node}}\n---\n\
        apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: t}\nspec: {namespaces: [shop], egress: mesh}\n";
    let off = pod("p", 1, ", labels: {canopy.mesh/mode: 'off'}", "");
    assert!(workload(&apply(&format!("{text}{off}"), None), "p").meshed);
}

#[test]
fn a_pod_in_a_sandbox_is_out_of_the_mesh_and_told_so_where_it_was_meant_to_be_in() {
    let labelled =
        "kind: Namespace\napiVersion: v1\nmetadata: {name: shop, labels: {canopy.mesh/mode: node}}\n";
    let plain = "kind: Namespace\napiVersion: v1\nmetadata: {name: shop}\n";
    let handler = ", annotations: {canopy.mesh/runtime-handler: HANDLER}";
    for (namespace, metadata, class, meshed, told) in [
        (labelled, "", "gvisor", false, true),
        (plain, NETNS, "kata", false, true),
        (plain, "", "gvisor", false, false),
        (labelled, ", labels: {canopy.mesh/mode: 'off'}", "gvisor", false, false),
        (labelled, "", "fast", true, false),
        (labelled, &handler.replace("HANDLER", "runsc"), "fast", false, true),
        (labelled, &handler.replace("HANDLER", "runc"), "kata", true, false),
    ] {
        let pod = pod("p", 1, metadata, &format!("runtimeClassName: {class}, "));
        let outcome = apply(&format!("{namespace}{pod}"), None);
        let found = workload(&outcome, "p");
        assert_eq!((found.meshed, found.netns), (meshed, None), "{class} {metadata}");
        let fields = outcome.findings.iter().filter(|finding| finding.reason == Reason::NotAWorkload);
        let fields: Vec<&str> = fields.map(|finding| &*finding.field).collect();
        let expected = if told { vec!["spec.runtimeClassName"] } else { vec![] };
        assert_eq!(fields, expected, "{class} {metadata}: {:#?}", outcome.findings);
    }
}

#[test]
fn what_an_api_server_has_taken_is_no_slip_and_nobody_is_told_what_others_act_on_unless_it_protects_something()
 {
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: shop}\n\
        spec: {action: ALLOW, ofTomorrow: {}}\n";
    let text = pod("p", 1, "", "ofTomorrow: 1, tolerations: [{key: k}], ") + policy;
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text.as_str()))]);
    for (of_cluster, rejected, others) in [(false, 2, 1), (true, 1, 0)] {
        let outcome = Store::new(Options { of_cluster, ..Options::default() }).apply(&files);
        assert_eq!(rejections(&outcome), rejected, "{:#?}", outcome.findings);
        let left = outcome.findings.iter().filter(|finding| finding.reason == Reason::LeftToOthers);
        assert_eq!(left.count(), others);
        assert_eq!(outcome.mesh.workloads.len(), usize::from(of_cluster));
    }
}

#[test]
fn namespaces_have_their_labels_and_their_own_name_which_they_cannot_forge() {
    let text = "kind: Namespace\napiVersion: v1\nmetadata:\n  name: shop\n  labels: {team: a, kubernetes.io/metadata.name: bank}\n";
    let outcome =
        apply(&format!("{text}{}", pod("p", 1, "", "").replace("namespace: shop", "namespace: other")), None);
    let labels = |name: &str| {
        let found = outcome.mesh.namespaces.values().find(|facts| facts.name.as_str() == name).unwrap();
        found.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(labels("shop"), ["kubernetes.io/metadata.name=shop", "team=a"]);
    assert_eq!(labels("other"), ["kubernetes.io/metadata.name=other"]);
}

#[test]
fn a_namespaces_new_label_is_a_change() {
    let namespace = |label: &str| {
        let text =
            format!("kind: Namespace\napiVersion: v1\nmetadata: {{name: shop, labels: {{team: {label}}}}}\n");
        BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text.as_str()))])
    };
    let mut store = Store::new(Options::default());
    store.apply(&namespace("a"));
    assert!(store.apply(&namespace("a")).changes.is_empty());
    assert_eq!(store.apply(&namespace("b")).changes.namespaces.len(), 1);
}

#[test]
fn probes_are_known_with_their_ports_names_resolved() {
    let text = "\
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop}
spec:
  containers:
    - name: c
      ports: [{name: web, containerPort: 8080}]
      livenessProbe: {httpGet: {path: healthz, port: web, httpHeaders: [{name: X-A, value: b}]}}
      readinessProbe: {tcpSocket: {port: 5432}}
      startupProbe: {httpGet: {port: 9, host: 10.9.9.9}}
    - name: d
      livenessProbe: {grpc: {port: 9000, service: cart}}
      readinessProbe: {httpGet: {path: /ready, port: 8443, scheme: HTTPS}}
      startupProbe: {httpGet: {path: /ready, port: web}}
status: {podIP: 10.0.0.1}
";
    let outcome = apply(text, None);
    let http = |scheme, path: &str, headers: &[(&str, &str)]| ProbeCheck::Http {
        scheme,
        path: path.to_owned(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    let found: Vec<_> =
        workload(&outcome, "p").probes.into_iter().map(|probe| (probe.port, probe.check)).collect();
    assert_eq!(
        found,
        [
            (8080, http(HttpScheme::Http, "/healthz", &[("X-A", "b")])),
            (5432, ProbeCheck::Tcp),
            (9000, ProbeCheck::Grpc { service: "cart".to_owned() }),
            (8443, http(HttpScheme::Https, "/ready", &[])),
        ]
    );
    let about = |field: &str| {
        let found = outcome.findings.iter().find(|finding| finding.field == field);
        found.map(|finding| (finding.severity, finding.reason))
    };
    let unresolved = Some((Severity::Warning, Reason::DanglingReference));
    assert_eq!(about("spec.containers[1].startupProbe.httpGet.port"), unresolved);
    let https = Some((Severity::NotObeyed, Reason::NotObeyed));
    assert_eq!(about("spec.containers[1].readinessProbe.httpGet.scheme"), https);
}

#[test]
fn http_hooks_of_a_containers_life_are_no_probes_and_said_to_be_refused_in_the_clear() {
    let text = "\
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop}
spec:
  initContainers:
    - name: sidecar
      restartPolicy: Always
      lifecycle: {preStop: {httpGet: {path: /drain, port: 9100}}}
    - name: once
      livenessProbe: {httpGet: {port: 9200}}
  containers:
    - name: c
      ports: [{name: web, containerPort: 8080}]
      livenessProbe: {httpGet: {path: /same, port: 8080}}
      lifecycle:
        postStart: {httpGet: {path: warm, port: web, httpHeaders: [{name: X-A, value: b}]}}
        preStop: {httpGet: {path: /same, port: web}}
    - name: d
      lifecycle:
        postStart: {tcpSocket: {port: 7000}}
        preStop: {httpGet: {path: /leave, port: 9, host: 10.9.9.9}}
    - name: e
      lifecycle:
        postStart: {exec: {command: [\"true\"]}}
        preStop: {httpGet: {path: /bye, port: nowhere}}
status: {podIP: 10.0.0.1}
";
    let outcome = apply(text, None);
    let found: Vec<_> = workload(&outcome, "p")
        .probes
        .into_iter()
        .map(|probe| match probe.check {
            ProbeCheck::Http { scheme: HttpScheme::Http, path, headers } => (probe.port, path, headers.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [(8080, "/same", 0)];
    assert_eq!(found, expected.map(|(port, path, headers)| (port, path.to_owned(), headers)));
    let about: Vec<_> = outcome
        .findings
        .iter()
        .map(|finding| (finding.severity, finding.reason, finding.field.as_str()))
        .collect();
    let hook = |field| format!("spec.containers[{field}");
    let (unheeded, unresolved) =
        (hook("1].lifecycle.postStart.tcpSocket"), hook("2].lifecycle.preStop.httpGet.port"));
    let refused = [
        "spec.initContainers[0].lifecycle.preStop.httpGet",
        "spec.containers[0].lifecycle.postStart.httpGet",
        "spec.containers[0].lifecycle.preStop.httpGet",
        &unheeded,
    ];
    for field in refused {
        assert!(about.contains(&(Severity::NotObeyed, Reason::NotObeyed, field)), "{field}: {about:?}");
    }
    let elsewhere = "spec.containers[1].lifecycle.preStop.httpGet";
    assert!(about.iter().all(|(.., field)| *field != elsewhere), "{about:?}");
    assert!(about.contains(&(Severity::Warning, Reason::DanglingReference, &unresolved)), "{about:?}");
}

const AROUND: &str = ", annotations: {canopy.mesh/netns: /run/netns/x, canopy.mesh/exclude-outbound-ports: \"443\", \
     canopy.mesh/exclude-outbound-cidrs: 203.0.113.0/24, canopy.mesh/exclude-inbound-ports: \"9090\"}";

#[test]
fn exclusions_do_not_lead_around_a_tenant_that_is_kept_to_the_mesh() {
    let tenant = |egress: &str| {
        format!(
            "---\napiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: t}}\nspec: {{namespaces: [shop], egress: {egress}}}\n"
        )
    };
    let complaints = |outcome: &Outcome| -> Vec<_> {
        let refused = outcome.findings.iter().filter(|finding| finding.reason == Reason::NotPermitted);
        refused.map(|finding| (finding.severity, finding.field.clone())).collect()
    };
    let kept = apply(&(tenant("mesh") + &pod("p", 1, AROUND, "")), None);
    let exclusions = workload(&kept, "p").exclusions;
    assert_eq!((exclusions.outbound_ports, exclusions.outbound_cidrs), (vec![], vec![]));
    assert_eq!(exclusions.inbound_ports, [9090], "what comes in is the pod's own affair");
    assert_eq!(
        complaints(&kept),
        ["ports", "cidrs"].map(|list| {
            (Severity::Warning, format!("metadata.annotations[canopy.mesh/exclude-outbound-{list}]"))
        })
    );
    let free = apply(&(tenant("any") + &pod("p", 1, AROUND, "")), None);
    let exclusions = workload(&free, "p").exclusions;
    assert_eq!((exclusions.outbound_ports.len(), exclusions.outbound_cidrs.len()), (1, 1));
    assert_eq!(complaints(&free), []);
}
