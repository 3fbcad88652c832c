//! From manifests to explanations: every stage, every reason for which a configuration can refuse, and who is named for it.

use std::{path::PathBuf, sync::Arc};

use config::{
    model::Service,
    store::{FileText, Options, Outcome as Configured, Store},
};

use super::{told::Outcome, *};
use crate::control::compile::compile;

mod calls;
mod deliveries;
mod refusals;
mod routes;

/// Callers and receivers of three tenants on node-a, one pod on node-b, and one that is not in the mesh.
const MESH: &str = include_str!("tests/mesh.yaml");

/// A configuration, compiled as node-a would.
struct Mesh {
    configured: Configured,
    snapshots: BTreeMap<TenantId, Arc<Snapshot>>,
    waiting: BTreeMap<PodName, String>,
    node: NodeName,
}

impl Mesh {
    /// The mesh of all tests, and more manifests.
    fn with(more: &str) -> Self {
        let node = NodeName::try_from("node-a").unwrap();
        let texts = [("mesh.yaml", MESH), ("more.yaml", more)];
        let files = texts.map(|(path, text)| (PathBuf::from(path), FileText::from(text)));
        let options = Options { node: Some(node.clone()), ..Options::default() };
        let configured = Store::new(options).apply(&BTreeMap::from(files));
        let snapshots = compile(&configured.mesh);
        Self { configured, snapshots, waiting: BTreeMap::new(), node }
    }

    /// The same after an edit that no manifest can make.
    fn edited(mut self, edit: impl FnOnce(&mut config::model::Mesh)) -> Self {
        let mut mesh = (*self.configured.mesh).clone();
        edit(&mut mesh);
        self.snapshots = compile(&mesh);
        self.configured.mesh = Arc::new(mesh);
        self
    }

    fn try_tell(&self, ask: &Ask) -> Result<Explanation, ExplainError> {
        let world = World {
            mesh: &self.configured.mesh,
            snapshots: &self.snapshots,
            basis: &self.configured.basis,
            waiting: &self.waiting,
            node: Some(&self.node),
            domain: &ClusterDomain::default(),
        };
        explain(world, &ask.question().unwrap())
    }

    fn tell(&self, from: &str, to: &str) -> Explanation {
        self.try_tell(&ask(from, to)).unwrap()
    }
}

fn ask(from: &str, to: &str) -> Ask {
    Ask { from: from.to_owned(), to: to.to_owned(), ..Ask::default() }
}

/// What a stage says, each time it is there, with its details.
fn said(explanation: &Explanation, stage: Name) -> String {
    let stages = explanation.stages.iter().filter(|one| one.stage == stage);
    let lines = stages
        .flat_map(|one| std::iter::once(&one.says).chain(one.details.iter().map(|detail| &detail.says)));
    lines.cloned().collect::<Vec<_>>().join("\n")
}

/// Every object that a stage names, with its owner and its place.
fn objects(explanation: &Explanation, stage: Name) -> Vec<String> {
    let stages = explanation.stages.iter().filter(|one| one.stage == stage);
    let named = stages.flat_map(|one| {
        one.object.iter().chain(one.details.iter().filter_map(|detail| detail.object.as_ref()))
    });
    named.map(place).collect()
}

fn place(object: &Object) -> String {
    let file = object.file.as_deref().unwrap_or("nowhere");
    format!("{object} of {} in {file}:{}", object.owner, object.line.unwrap_or_default())
}

/// Its outcome and reason.
fn fate(explanation: &Explanation) -> (Outcome, Option<&str>) {
    (explanation.verdict.outcome, explanation.verdict.reason.as_deref())
}

#[test]
fn a_caller_is_told_with_its_owner_and_whom_it_speaks_as() {
    let told = Mesh::with("").tell("shop/web", "cart:80");
    assert!(
        said(&told, Name::Caller).contains("of tenant shop, speaks as spiffe://cluster.local/ns/shop/sa/web")
    );
    assert_eq!(objects(&told, Name::Caller), ["Pod shop/web of shop in mesh.yaml:20"]);
    assert_eq!((told.asked.as_str(), told.configuration_version), ("shop/web → cart:80  GET /", 1));
}

#[test]
fn who_cannot_be_asked_about_is_refused_with_what_to_do() {
    let mut mesh = Mesh::with("");
    let why = |mesh: &Mesh, from, to| mesh.try_tell(&ask(from, to)).unwrap_err();
    assert!(
        matches!(why(&mesh, "shop/nobody", "cart:80"), ExplainError::NoSuchPod { near, .. } if !near.is_empty())
    );
    let elsewhere = why(&mesh, "far/remote", "cart.shop:80").to_string();
    assert!(elsewhere.contains("on node node-b: ask the daemon there"), "{elsewhere}");
    assert!(matches!(why(&mesh, "kept/app", "example.org:443"), ExplainError::UnknownHost { .. }));
    assert!(matches!(why(&mesh, "shop/web", "nobody:80"), ExplainError::NoAddress { .. }));
    mesh.waiting.insert("shop/web".split_once('/').map(pod).unwrap(), "no\u{1b}[2J such file".to_owned());
    let waits = why(&mesh, "shop/web", "cart:80").to_string();
    assert!(waits.contains("not served: no") && !waits.contains('\u{1b}'), "{waits}");
    mesh.waiting.clear();
    mesh.snapshots.clear();
    assert!(matches!(why(&mesh, "shop/web", "cart:80"), ExplainError::NotCompiled { .. }));
}

fn pod((namespace, name): (&str, &str)) -> PodName {
    PodName::new(namespace.try_into().unwrap(), name.try_into().unwrap())
}

#[test]
fn a_service_is_known_by_each_of_its_names_and_by_its_address() {
    let mesh = Mesh::with("");
    for to in [
        "cart",
        "cart.shop",
        "cart.shop.svc",
        "cart.shop.svc.cluster.local",
        "CART.shop.svc.cluster.local",
        "10.96.0.1",
    ] {
        let told = mesh.tell("shop/web", &format!("{to}:80"));
        assert!(
            said(&told, Name::Destination).contains("10.96.0.1:80 is port 80 of Service shop/cart"),
            "{to}"
        );
        assert_eq!(objects(&told, Name::Destination), ["Service shop/cart of shop in mesh.yaml:71"], "{to}");
        assert_eq!(fate(&told), (Outcome::Carried, None), "{to}");
    }
    let told = mesh.tell("bank/ledger", "cart:80");
    assert!(
        said(&told, Name::Destination).contains("cart:80 is no Service of the mesh"),
        "of another namespace it is another name"
    );
}

#[test]
fn a_destination_is_a_pod_an_address_outside_or_a_port_that_a_service_does_not_have() {
    let mesh = Mesh::with("");
    let told = mesh.tell("shop/web", "10.0.0.2:8080");
    assert!(said(&told, Name::Destination).contains("is the pod shop/cart itself: no route applies"));
    let told = mesh.tell("shop/web", "203.0.113.9:443");
    assert!(said(&told, Name::Destination).contains("nothing that the mesh knows: outside"));
    assert!(told.verdict.says.contains("passthrough"), "{}", told.verdict.says);
    let told = mesh.tell("shop/web", "10.96.0.1:81");
    assert!(said(&told, Name::Destination).contains("has this address, and no port 81; it has: 80"));
    let told = mesh.tell("shop/web", "headless:9000");
    assert!(
        said(&told, Name::Destination).contains("10.0.0.2:9000 is the pod shop/cart itself"),
        "as DNS answers"
    );
    let told = mesh.tell("shop/web", "example.org:443");
    assert_eq!(fate(&told), (Outcome::Carried, None));
}

#[test]
fn a_protocol_is_told_with_who_says_so() {
    let routed = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\n\
        spec: {parentRefs: [{group: '', kind: Service, name: plain}], rules: [{backendRefs: [{name: plain, port: 80}]}]}\n";
    let (bare, routed) = (Mesh::with(""), Mesh::with(routed));
    for (mesh, to, expected) in [
        (&bare, "cart:80", "HTTP: port 80 of Service shop/cart declares it"),
        (&bare, "grpc:80", "HTTP/2: port 80 of Service shop/grpc declares it"),
        (&bare, "raw:80", "opaque bytes: port 80 of Service shop/raw declares it"),
        (
            &bare,
            "plain:80",
            "the first bytes decide, as nothing is declared by port 80 of Service shop/plain: this request is taken for HTTP",
        ),
        (
            &routed,
            "plain:80",
            "HTTP: port 80 of Service shop/plain declares nothing, and an HTTPRoute is attached",
        ),
        (&bare, "10.0.0.2:8080", "HTTP: what Services say of this port of the pod declares it"),
        (&bare, "203.0.113.9:1", "opaque bytes, as is what is outside the mesh"),
    ] {
        assert_eq!(said(&mesh.tell("shop/web", to), Name::Protocol), expected, "{to}");
    }
    let ask = Ask { path: Some("/x".to_owned()), ..ask("shop/web", "raw:80") };
    let told = bare.try_tell(&ask).unwrap();
    assert!(said(&told, Name::Protocol).contains("--path, --method and --header say nothing here"));
}

#[test]
fn a_way_out_is_told_with_the_entry_that_opens_it() {
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: out, namespace: kept}\n\
        spec: {hosts: [out.example.org], addresses: [203.0.113.9], ports: [{number: 443, name: tls}]}\n";
    let told = Mesh::with(entry).tell("kept/app", "203.0.113.9:443");
    assert_eq!(fate(&told), (Outcome::Carried, None));
    assert_eq!(objects(&told, Name::Egress), ["ServiceEntry kept/out of kept in more.yaml:1"]);
    let told = Mesh::with(entry).tell("shop/web", "203.0.113.9:443");
    assert_eq!(objects(&told, Name::Egress), ["Tenant shop of the cluster's administrators in mesh.yaml:2"]);
}

/// Words that their authors chose: of rules, headers and paths, and of what is asked.
#[test]
fn nothing_that_is_told_has_a_control_character_or_is_long() {
    let evil = "\\e\\x9b\\x7f\\a";
    let long = "x".repeat(1000);
    let route = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop}}\nspec:\n\
         \x20 parentRefs: [{{group: '', kind: Service, name: cart}}]\n  rules:\n\
         \x20 - matches: [{{path: {{type: RegularExpression, value: \"/{evil}|{long}\"}}, queryParams: [{{name: q, value: \"{evil}\"}}]}}]\n\
         \x20   backendRefs: [{{name: cart, port: 80}}]\n\
         \x20 - matches: [{{headers: [{{name: x, value: \"{evil}{long}\"}}]}}]\n    backendRefs: [{{name: cart, port: 80}}]\n"
    );
    let mesh = Mesh::with(&route);
    assert_eq!(mesh.configured.mesh.routes.len(), 1, "{:#?}", mesh.configured.findings);
    let ask = Ask {
        path: Some(format!("/{long}?q={long}")),
        headers: vec![format!("x: {long}ü")],
        ..ask("shop/web", "cart:80")
    };
    let told = mesh.try_tell(&ask).unwrap();
    assert_eq!(fate(&told), (Outcome::Refused, Some("no_route")));
    let text = serde_json::to_value(&told).unwrap();
    let mut values = vec![&text];
    while let Some(value) = values.pop() {
        match value {
            serde_json::Value::String(text) => {
                assert!(!text.contains(|letter: char| letter.is_control()), "{text:?}");
                assert!(text.chars().count() < 700, "{text}");
            }
            serde_json::Value::Array(items) => values.extend(items),
            serde_json::Value::Object(map) => values.extend(map.values()),
            _ => {}
        }
    }
}

#[test]
fn an_explanation_is_the_same_after_it_was_json() {
    let told = Mesh::with("").tell("shop/web", "cart:80");
    let text = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), told);
}

/// Also of those of other nodes, of which nobody compiles anything here.
#[test]
fn what_protects_a_workload_is_told_as_it_is_compiled() {
    let policies = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: all, namespace: istio-system}\n\
        spec: {action: DENY, rules: [{from: [{source: {namespaces: [x]}}]}]}\n---\n\
        apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: behind, namespace: shop}\n\
        spec: {targetRefs: [{group: '', kind: Service, name: cart}], rules: [{}]}\n---\n\
        apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n, namespace: shop}\n\
        spec: {podSelector: {matchLabels: {app: cart}}, policyTypes: [Ingress, Egress]}\n";
    let mesh = Mesh::with(policies);
    let protections = Protections::of(&mesh.configured.mesh);
    let local = mesh.configured.mesh.workloads.values().filter(|workload| workload.netns.is_some());
    let mut seen = 0;
    for workload in local {
        let snapshot = &mesh.snapshots[&workload.tenant];
        assert_eq!(
            protections.inbound(workload),
            **snapshot.policies.of(&workload.pod).unwrap(),
            "{}",
            workload.pod
        );
        let (told, compiled) =
            (protections.network(workload), &snapshot.directory.network.pods[&workload.pod]);
        assert_eq!((told.ingress, told.egress), (compiled.ingress.clone(), compiled.egress.clone()));
        seen += 1;
    }
    assert_eq!(seen, 4);
}

/// A Service of the mesh, to be changed.
fn service<'a>(mesh: &'a mut config::model::Mesh, name: &str) -> &'a mut Service {
    let name = ServiceName::new("shop".try_into().unwrap(), name.try_into().unwrap());
    Arc::make_mut(mesh.services.get_mut(&name).unwrap())
}
