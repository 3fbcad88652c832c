//! What workloads, Services and policies say in Istio's words.

use config::discovery::messages::{
    AppProtocol, Authorization, Port, TunnelProtocol, WorkloadStatus,
    load_balancing::{Mode, Scope},
    string_match,
};

use super::*;

const UID: &str = "c1//Pod/shop/web-1";

#[test]
fn a_pod_says_who_and_where_it_is_and_what_services_say_of_it() {
    let source = Source::of(&[NAMESPACE, POD, SERVICE]);
    let pod = source.workload(UID);
    let said = [&pod.uid, &pod.name, &pod.namespace, &pod.trust_domain, &pod.service_account, &pod.node];
    assert_eq!(said, [UID, "web-1", "shop", "cluster.local", "web", "one"]);
    assert_eq!((pod.addresses, pod.network.as_str()), (vec![vec![10, 0, 0, 1]], ""));
    assert_eq!(
        (pod.tunnel_protocol, pod.status),
        (TunnelProtocol::Hbone.into(), WorkloadStatus::Healthy.into())
    );
    assert_eq!((pod.cluster_id.as_str(), pod.workload_type), ("c1", 2), "POD");
    assert_eq!((pod.canonical_name.as_str(), pod.canonical_revision.as_str()), ("web", "latest"));
    let http = Port { service_port: 80, target_port: 8080, app_protocol: AppProtocol::Http11.into() };
    let raw = Port { service_port: 90, target_port: 8080, app_protocol: AppProtocol::Tcp.into() };
    let services: Vec<_> = pod.services.into_iter().map(|(name, list)| (name, list.ports)).collect();
    assert_eq!(services, [("shop/web.shop.svc.cluster.local".to_owned(), vec![http, raw])]);
    assert_eq!(pod.authorization_policies, [""; 0]);
}

#[test]
fn a_pod_that_is_not_ready_or_not_of_the_mesh_is_said_to_be_so() {
    let table = [
        ("as it is", "", "", WorkloadStatus::Healthy, TunnelProtocol::Hbone),
        (
            "not of the mesh",
            "redirection: enabled",
            "redirection: pending",
            WorkloadStatus::Healthy,
            TunnelProtocol::None,
        ),
        (
            "not ready",
            "status: {",
            "status: {conditions: [{type: Ready, status: 'False'}], ",
            WorkloadStatus::Unhealthy,
            TunnelProtocol::Hbone,
        ),
    ];
    for (row, from, to, status, tunnel) in table {
        let source = Source::of(&[NAMESPACE, &POD.replace(from, to), SERVICE]);
        let pod = source.workload(UID);
        assert_eq!((pod.status, pod.tunnel_protocol), (status.into(), tunnel.into()), "{row}");
        assert_eq!(pod.services.len(), 1, "{row}");
    }
    let alone = Source::of(&[NAMESPACE, POD]).workload(UID);
    assert_eq!(alone.status(), WorkloadStatus::Healthy, "nobody says that it is not ready");
}

#[test]
fn a_pod_that_takes_connections_of_one_service_alone_names_that_one_alone() {
    let not_ready = POD.replace("status: {", "status: {conditions: [{type: Ready, status: 'False'}], ");
    let early = SERVICE.replace("name: web,", "name: early,").replace("10.96.0.1", "10.96.0.2");
    let early = early.replace("spec:", "spec:\n  publishNotReadyAddresses: true");
    let pod = Source::of(&[NAMESPACE, &not_ready, SERVICE, &early]).workload(UID);
    assert_eq!(pod.status(), WorkloadStatus::Healthy);
    assert_eq!(pod.services.into_keys().collect::<Vec<_>>(), ["shop/early.shop.svc.cluster.local"]);
}

#[test]
fn a_service_says_its_addresses_and_the_port_of_its_pods_where_all_have_one() {
    let other = POD.replace("web-1", "web-2").replace("10.0.0.1", "10.0.0.2").replace("8080", "9090");
    let name = "shop/web.shop.svc.cluster.local";
    for (pods, raw) in [(vec![POD], 8080), (vec![POD, &other], 0)] {
        let source = Source::of(&[&[NAMESPACE, SERVICE], &pods[..]].concat());
        let service = source.service(name);
        let said = [&service.name, &service.namespace, &service.hostname];
        assert_eq!(said, ["web", "shop", "web.shop.svc.cluster.local"]);
        let [vip] = &service.addresses[..] else { panic!("{service:?}") };
        assert_eq!((&vip.address[..], vip.network.as_str(), vip.length), (&[10, 96, 0, 1][..], "", None));
        let ports: Vec<_> = service.ports.iter().map(|port| (port.service_port, port.target_port)).collect();
        assert_eq!(ports, [(80, 8080), (90, raw)], "the first is a number, the second each pod's own");
        assert!(service.canonical);
        let json: serde_json::Value = serde_json::from_str(&own(&service.extensions)).unwrap();
        assert_eq!(json["ports"][0]["endpoints"].as_array().map(Vec::len), Some(pods.len()));
    }
}

/// A policy in one line: scope, action, and rules as alternatives of all of the alternatives of a clause.
fn line(policy: &Authorization) -> String {
    let text = |text: &messages::StringMatch| match &text.r#type {
        Some(string_match::Type::Exact(text)) => text.clone(),
        Some(string_match::Type::Prefix(text)) => format!("{text}*"),
        Some(string_match::Type::Suffix(text)) => format!("*{text}"),
        Some(string_match::Type::Presence(_)) => "*".to_owned(),
        None => "?".to_owned(),
    };
    let one = |it: &messages::Match| {
        let mut parts = Vec::new();
        for (word, texts) in [
            ("of", &it.namespaces),
            ("not-of", &it.not_namespaces),
            ("by", &it.principals),
            ("not-by", &it.not_principals),
        ] {
            parts.extend(texts.iter().map(|it| format!("{word} {}", text(it))));
        }
        for (word, blocks) in [
            ("from", &it.source_ips),
            ("not-from", &it.not_source_ips),
            ("at", &it.destination_ips),
            ("not-at", &it.not_destination_ips),
        ] {
            parts.extend(blocks.iter().map(|it| format!("{word} {:?}/{}", it.address, it.length)));
        }
        for (word, ports) in [("to", &it.destination_ports), ("not-to", &it.not_destination_ports)] {
            parts.extend(ports.iter().map(|port| format!("{word} {port}")));
        }
        for (word, accounts) in [("as", &it.service_accounts), ("not-as", &it.not_service_accounts)] {
            parts.extend(accounts.iter().map(|it| format!("{word} {}:{}", it.namespace, it.service_account)));
        }
        parts.join(" & ")
    };
    let clause = |clause: &messages::Clause| clause.matches.iter().map(one).collect::<Vec<_>>().join(" | ");
    let rule = |rule: &messages::Rule| {
        format!("[{}]", rule.clauses.iter().map(|it| format!("({})", clause(it))).collect::<String>())
    };
    let rules: String = policy.rules.iter().map(rule).collect();
    let (scope, action) = (policy.scope(), policy.action());
    format!("{scope:?} {action:?} {rules}").trim_end().to_owned()
}

#[test]
fn policies_say_the_same_in_istios_words_and_never_more_where_these_have_no_such() {
    let table = [
        ("nothing said: nothing allowed", "{}", "Namespace Allow"),
        ("anything", "{rules: [{}]}", "Namespace Allow []"),
        ("anything denied", "{action: DENY, rules: [{}]}", "Namespace Deny []"),
        ("by label", "{selector: {matchLabels: {app: web}}, rules: [{}]}", "WorkloadSelector Allow []"),
        (
            "names",
            "{rules: [{from: [{source: {principals: [cluster.local/ns/a/sa/b, 'cluster.local/*', '*/sa/b', '*']}}]}]}",
            "Namespace Allow [(by cluster.local/ns/a/sa/b & by cluster.local/* & by */sa/b & by *)]",
        ),
        (
            "their opposites",
            "{rules: [{from: [{source: {notPrincipals: ['*'], notNamespaces: [a], serviceAccounts: [a/b], notServiceAccounts: [c]}}]}]}",
            "Namespace Allow [(not-of a & not-by * & as a:b & not-as shop:c)]",
        ),
        (
            "addresses and ports",
            "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8], notIpBlocks: ['fd00::1']}}], to: [{operation: {ports: ['80'], notPorts: ['90']}}]}]}",
            "Namespace Allow [(from [10, 0, 0, 0]/8 & not-from [253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]/128)(to 80 & not-to 90)]",
        ),
        (
            "alternatives",
            "{rules: [{from: [{source: {namespaces: [a]}}, {source: {namespaces: [b]}}]}, {to: [{operation: {ports: ['1']}}]}]}",
            "Namespace Allow [(of a | of b)][(to 1)]",
        ),
        (
            "what requests alone show is nothing that allows",
            "{rules: [{from: [{source: {namespaces: [a]}}], to: [{operation: {methods: [GET]}}]}, {to: [{operation: {methods: [GET]}}, {operation: {ports: ['1']}}]}]}",
            "Namespace Allow [(to 1)]",
        ),
        (
            "and it is all that denies",
            "{action: DENY, rules: [{from: [{source: {namespaces: [a]}}], to: [{operation: {methods: [GET], ports: ['1']}}]}, {to: [{operation: {methods: [GET]}}]}]}",
            "Namespace Deny [(of a)(to 1)][]",
        ),
        (
            "of a Service whose pods are known",
            "{targetRefs: [{group: '', kind: Service, name: web}], rules: [{to: [{operation: {ports: ['1']}}]}]}",
            "WorkloadSelector Allow [(to 1)]",
        ),
        (
            "of one that is not there: nothing it allows",
            "{targetRefs: [{group: '', kind: Service, name: lost}], rules: [{to: [{operation: {ports: ['1']}}]}]}",
            "WorkloadSelector Allow",
        ),
        (
            "but all it denies",
            "{action: DENY, targetRefs: [{group: '', kind: Service, name: lost}], rules: [{to: [{operation: {ports: ['1']}}]}]}",
            "WorkloadSelector Deny [(to 1)]",
        ),
        ("that cannot be read: everything is denied", "{action: PERHAPS}", "Namespace Deny []"),
    ];
    for (row, spec, expected) in table {
        let source = Source::of(&[NAMESPACE, POD, SERVICE, &policy("p", spec)]);
        let raised = source.policy("shop/p");
        assert_eq!(line(&raised), expected, "{row}");
        assert_eq!(
            (raised.name.as_str(), raised.namespace.as_str(), raised.dry_run),
            ("p", "shop", false),
            "{row}"
        );
        assert!(own(&raised.extensions).contains(r#""name":{"namespace":"shop","name":"p"}"#), "{row}");
    }
    let of_root = policy("p", "{rules: [{}]}").replace("namespace: shop", "namespace: istio-system");
    assert_eq!(line(&Source::of(&[&of_root]).policy("istio-system/p")), "Global Allow []");
}

#[test]
fn a_pod_names_the_policies_that_are_about_it_alone() {
    let target = |name: &str, service: &str| {
        policy(
            name,
            &format!("{{targetRefs: [{{group: '', kind: Service, name: {service}}}], rules: [{{}}]}}"),
        )
    };
    let of_root =
        |name: &str, spec: &str| policy(name, spec).replace("namespace: shop", "namespace: istio-system");
    let elsewhere = SERVICE.replace("name: web,", "name: elsewhere,").replace("10.96.0.1", "10.96.0.2");
    let objects = [
        NAMESPACE,
        POD,
        SERVICE,
        &elsewhere.replace("app: web", "app: other"),
        &policy("of-all", "{rules: [{}]}"),
        &of_root("of-the-mesh", "{rules: [{}]}"),
        &policy("by-label", "{selector: {matchLabels: {app: web}}, rules: [{}]}"),
        &policy("of-others", "{selector: {matchLabels: {app: other}}, rules: [{}]}"),
        &of_root("by-label", "{selector: {matchLabels: {app: web}}, rules: [{}]}"),
        &target("behind", "web"),
        &target("behind-another", "elsewhere"),
        &target("behind-nobody-knows", "lost"),
    ];
    let pod = Source::of(&objects).workload(UID);
    let expected = ["istio-system/by-label", "shop/behind", "shop/behind-nobody-knows", "shop/by-label"];
    assert_eq!(pod.authorization_policies, expected);
}

#[test]
fn a_service_says_how_far_its_connections_go_and_a_pod_in_which_zone_it_is() {
    use Scope::{Network, Node, Region, Subzone, Zone};
    let placed = POD
        .replace("labels: {", "labels: {topology.kubernetes.io/zone: z, topology.kubernetes.io/region: r, ");
    for (spec, pod, expected) in [
        ("", &*placed, None),
        ("internalTrafficPolicy: Local", &placed, Some((Mode::Strict, &[Node][..]))),
        (
            "trafficDistribution: PreferSameNode",
            &placed,
            Some((Mode::Failover, &[Network, Region, Zone, Subzone, Node][..])),
        ),
        ("trafficDistribution: PreferClose", &placed, Some((Mode::Failover, &[Network, Region, Zone][..]))),
        ("trafficDistribution: PreferClose", POD, None),
    ] {
        let service = SERVICE.replace("spec:", &format!("spec:\n  {spec}"));
        let source = Source::of(&[NAMESPACE, pod, &service]);
        let said = source.service("shop/web.shop.svc.cluster.local").load_balancing;
        let said = said.map(|said| (said.mode(), said.routing_preference().collect::<Vec<_>>()));
        assert_eq!(said, expected.map(|(mode, scopes)| (mode, scopes.to_vec())), "{spec}");
        let locality = source.workload(UID).locality.map(|place| [place.region, place.zone, place.subzone]);
        let expected = (pod != POD).then(|| ["r", "z", ""].map(str::to_owned));
        assert_eq!(locality, expected, "{spec}");
    }
}
