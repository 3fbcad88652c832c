//! Whatever the edits: a shelf is what it would be if it had seen the last mesh alone, and says of each edit what it changed.

use proptest::prelude::*;

use super::*;

/// What a file of each kind may be, in two namespaces; the first is that it is not there.
fn choices(place: usize) -> Vec<String> {
    let (namespace, which, number) = (["shop", "bank"][place % 2], (place / 2) % 5, place / 10);
    let meta = |name: &str| format!("name: {name}, namespace: {namespace}");
    let target = |service: &str| format!("targetRefs: [{{group: '', kind: Service, name: {service}}}]");
    let pod = |label: &str, spec: &str, status: &str| {
        let number = 2 * number + which;
        let address = format!("10.{}.0.{number}", place % 2);
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{{}, labels: {{app: {label}}}, annotations: {{ambient.istio.io/redirection: enabled}}}}, spec: {{{spec}}}, \
             status: {{podIP: {address}{status}}}}}",
            meta(&format!("pod-{number}"))
        )
    };
    let probe = "nodeName: one, containers: [{name: c, livenessProbe: {httpGet: {port: 80, path: /x}}}]";
    let service = |selector: &str, vip: &str, ports: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{{}}}, spec: {{{selector}clusterIP: {vip}, ports: [{ports}]}}}}",
            meta(&format!("svc-{number}"))
        )
    };
    let vip = format!("10.96.{}.{number}", place % 2);
    let slice = |address: &str| {
        format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {{{}, labels: \
             {{kubernetes.io/service-name: svc-{number}}}}}, endpoints: [{{addresses: ['{address}']}}], ports: [{{name: a, port: 9}}]}}",
            meta(&format!("slice-{number}"))
        )
    };
    let policy = |namespace: &str, spec: &str| {
        policy(&format!("policy-{number}"), spec)
            .replace("namespace: shop", &format!("namespace: {namespace}"))
    };
    let mut all = vec![String::new()];
    all.extend(match which {
        0 | 1 => vec![
            pod("x", "nodeName: one, containers: [{name: c}]", ""),
            pod("y", "nodeName: two, containers: [{name: c}]", ""),
            pod("x", probe, ""),
            pod("x", &probe.replace("/x", "/y"), ""),
            pod("y", probe, ", conditions: [{type: Ready, status: 'False'}]"),
        ],
        2 => vec![
            service("selector: {app: x}, ", &vip, "{name: a, port: 80}"),
            service("selector: {app: y}, ", &vip, "{name: a, port: 80}, {name: b, port: 81}"),
            service("", "None", "{name: a, port: 80}"),
            service(
                "selector: {app: x}, internalTrafficPolicy: Local, sessionAffinity: ClientIP, ",
                &vip,
                "{name: a, port: 80}",
            ),
        ],
        3 => vec![slice(&format!("10.{}.0.0", place % 2)), slice("192.0.2.1"), slice("127.0.0.1")],
        _ => vec![
            policy(namespace, "{rules: [{}]}"),
            policy(namespace, "{selector: {matchLabels: {app: x}}, rules: [{}]}"),
            policy(namespace, "{selector: {matchLabels: {app: y}}, action: DENY, rules: [{}]}"),
            policy("istio-system", "{selector: {matchLabels: {app: x}}, rules: [{}]}"),
            policy(namespace, &format!("{{{}, rules: [{{}}]}}", target("svc-0"))),
            policy(namespace, &format!("{{{}, action: DENY, rules: [{{}}]}}", target("svc-1"))),
            policy(namespace, "{action: PERHAPS}"),
        ],
    });
    all
}

/// Three of each kind in each namespace, and of pods six.
const PLACES: usize = 30;

fn file(place: usize) -> String {
    format!("{place:02}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_shelf_after_any_edits_is_that_of_the_last_mesh(
        edits in prop::collection::vec(prop::collection::vec((0..PLACES, 0_usize..8), 1..12), 1..8)
    ) {
        let readers = [Reader::default(), reader("one"), reader("two")];
        let look = |shelf: &Shelf| readers.each_ref().map(|reader| all(shelf, reader));
        let mut source = Source::new();
        let mut before = look(&source.shelf);
        for edit in edits {
            let texts: Vec<_> = edit.into_iter().map(|(place, choice)| {
                let choices = choices(place);
                (file(place), choices[choice % choices.len()].clone())
            }).collect();
            let changed = source.edit(texts.iter().map(|(file, text)| (file.as_str(), text.as_str())));
            let after = look(&source.shelf);
            prop_assert_eq!(changed, differing(&before, &after));
            before = after;
        }
        let mut fresh = Shelf::new(site());
        let mesh = source.mesh();
        let new = fresh.stock(&mesh);
        prop_assert_eq!(&look(&fresh), &before);
        prop_assert_eq!(new.len(), before[0].len(), "all of it is new");
        for resource in before[0].values() {
            for asked in resource.aliases.iter().chain([&resource.name]) {
                prop_assert_eq!(source.shelf.find(asked), fresh.find(asked));
            }
        }
        for host in 0..6 {
            let asked = format!("/10.0.0.{host}");
            prop_assert_eq!(source.shelf.find(&asked), fresh.find(&asked));
        }
    }
}
