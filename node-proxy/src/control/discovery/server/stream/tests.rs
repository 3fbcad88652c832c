//! What a stream answers to what it hears and notes. One line of a transcript is one response: its type, what it brings (`+`), what it
//! takes back (`-`).

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use config::{
    discovery::Site,
    store::{FileText, Options, Store},
};

use super::*;
use crate::control::discovery::protocol::{Node, Status, Struct, Value};

mod on_demand;
mod order;

/// Files, the shelf that they make, and one stream that reads from it.
pub(super) struct Bench {
    store: Store,
    files: BTreeMap<PathBuf, FileText>,
    pub(super) shelf: Shelf,
    pub(super) stream: Stream,
    /// Of each type, the last response.
    pub(super) last: HashMap<String, Response>,
}

impl Bench {
    /// With these files.
    pub(super) fn new(files: &[(&str, String)]) -> Self {
        let site = Site { domain: "cluster.local".try_into().unwrap(), cluster: "c".to_owned() };
        let mut bench = Self {
            store: Store::new(Options { node: "no.node".try_into().ok(), ..Options::default() }),
            files: BTreeMap::new(),
            shelf: Shelf::new(site),
            stream: Stream::new(Proof::Trusted),
            last: HashMap::new(),
        };
        for (name, text) in files {
            bench.files.insert(PathBuf::from(name), FileText::from(&**text));
        }
        bench.stock();
        bench
    }

    /// Writes a file: whether the stream may have something to send.
    pub(super) fn write(&mut self, name: &str, text: &str) -> bool {
        self.files.insert(PathBuf::from(name), FileText::from(text));
        self.stock()
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.files.remove(&PathBuf::from(name)).unwrap();
        self.stock()
    }

    fn stock(&mut self) -> bool {
        let outcome = self.store.apply(&self.files);
        let findings: Vec<_> = outcome.findings.iter().map(ToString::to_string).collect();
        assert_eq!(outcome.accepted, outcome.objects, "{findings:#?}");
        let changed = self.shelf.stock(&outcome.mesh);
        let change = Change::of_shelf(&self.shelf, changed);
        self.stream.note(&change, &self.shelf)
    }

    pub(super) fn hear(&mut self, request: &Request) -> Vec<Notice> {
        self.stream.hear(request, &self.shelf).unwrap()
    }

    pub(super) fn ask(&mut self, kind: Kind, subscribe: &[&str], unsubscribe: &[&str]) {
        let notices = self.hear(&request(kind, subscribe, unsubscribe));
        assert_eq!(notices, []);
    }

    /// One response, if one is due.
    pub(super) fn one(&mut self) -> Option<String> {
        loop {
            match self.stream.next(&self.shelf) {
                Next::Pause => {}
                Next::Wait => return None,
                Next::Send(_, response) => {
                    let line = transcript(&response);
                    self.last.insert(response.type_url.clone(), response);
                    return Some(line);
                }
            }
        }
    }

    /// All responses that are due, each acknowledged.
    pub(super) fn all(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.one() {
            let is_of = |kind: &Kind| line.split(':').next() == kind.type_url().rsplit('.').next();
            let kind = Kind::ALL.into_iter().find(is_of).unwrap();
            lines.push(line);
            self.answer(kind, None);
        }
        lines
    }

    /// Answers the last response of a type.
    pub(super) fn answer(&mut self, kind: Kind, error: Option<&str>) -> Vec<Notice> {
        let nonce = self.last[kind.type_url()].nonce.clone();
        let error = error.map(|message| Status { code: 3, message: message.to_owned() });
        self.hear(&Request { nonce, error, ..request(kind, &[], &[]) })
    }

    /// The versions of the last response of a type.
    pub(super) fn versions(&self, kind: Kind) -> HashMap<String, String> {
        let resources = self.last[kind.type_url()].resources.iter();
        resources.map(|resource| (resource.name.clone(), resource.version.clone())).collect()
    }
}

pub(super) fn request(kind: Kind, subscribe: &[&str], unsubscribe: &[&str]) -> Request {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Request {
        type_url: kind.type_url().to_owned(),
        subscribe: owned(subscribe),
        unsubscribe: owned(unsubscribe),
        ..Request::default()
    }
}

fn transcript(response: &Response) -> String {
    let word = response.type_url.rsplit('.').next().unwrap();
    let brings = response.resources.iter().map(|resource| format!(" +{}", resource.name));
    let takes = response.removed.iter().map(|name| format!(" -{name}"));
    brings.chain(takes).fold(format!("{word}:"), |line, more| line + &more)
}

pub(super) fn namespace(name: &str, label: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{is: {label}}}}}\n")
}

/// A pod of the namespace `shop`.
pub(super) fn pod(name: &str, app: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {app}}}}}\n\
         spec: {{nodeName: node-a, containers: [{{name: c, livenessProbe: {{httpGet: {{path: /well, port: 80}}}}}}]}}\n\
         status: {{podIP: '{address}'}}\n---\n"
    )
}

/// A Service of the namespace `shop`, in front of the app of its name.
pub(super) fn service(name: &str, vip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: {vip}, selector: {{app: {name}}}, ports: [{{port: 80}}]}}\n---\n"
    )
}

pub(super) fn policy(name: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{action: DENY, rules: [{{from: [{{source: {{namespaces: [bank]}}}}]}}]}}\n"
    )
}

#[test]
fn all_of_a_type_are_sent_once_and_then_what_changes() {
    for subscribe in [&[][..], &["*"]] {
        let mut bench = Bench::new(&[("a", namespace("bank", "one")), ("b", namespace("shop", "one"))]);
        bench.ask(Kind::Namespace, subscribe, &[]);
        assert_eq!(bench.all(), ["Namespace: +bank +shop"]);
        assert!(bench.write("b", &namespace("shop", "two")));
        assert_eq!(bench.all(), ["Namespace: +shop"]);
        assert!(!bench.write("b", &format!("# the same\n{}", namespace("shop", "two"))));
        bench.write("c", &namespace("new", "one"));
        bench.remove("a");
        assert_eq!(bench.all(), ["Namespace: +new", "Namespace: -bank"]);
        assert_eq!(bench.all(), [""; 0]);
    }
}

#[test]
fn a_type_of_which_there_is_nothing_is_answered_so_that_nobody_waits_for_it() {
    let mut bench = Bench::new(&[]);
    bench.ask(Kind::Route, &[], &[]);
    assert_eq!(bench.all(), ["Route:"]);
    assert_eq!(bench.all(), [""; 0], "and once");
}

#[test]
fn with_the_last_response_of_a_type_it_is_said_that_it_was_all_but_not_to_who_asks_for_some() {
    let mut bench = Bench::new(&[("a", namespace("shop", "one")), ("b", pod("a", "a", "10.1.0.1"))]);
    bench.ask(Kind::Namespace, &[], &[]);
    bench.ask(Kind::Route, &[], &[]);
    bench.ask(Kind::Address, &["shop/none"], &[]);
    bench.all();
    let is_whole = |kind: Kind| bench.last[kind.type_url()].is_whole();
    assert!(is_whole(Kind::Namespace) && is_whole(Kind::Route), "of nothing, too");
    assert!(!is_whole(Kind::Address));
}

#[test]
fn nothing_is_sent_of_a_type_that_was_not_asked_for() {
    let mut bench = Bench::new(&[("a", namespace("shop", "one"))]);
    bench.ask(Kind::Address, &[], &[]);
    assert_eq!(bench.all(), ["Address:"]);
    assert!(!bench.write("a", &namespace("shop", "two")));
    assert_eq!(bench.all(), [""; 0]);
}

#[test]
fn who_comes_back_is_sent_what_it_has_not_and_told_what_is_gone() {
    let files = ["gone", "same", "shop"].map(|name| (name, namespace(name, "one")));
    let mut bench = Bench::new(&files);
    bench.ask(Kind::Namespace, &[], &[]);
    bench.one();
    let mut initial_versions = bench.versions(Kind::Namespace);
    initial_versions.insert("another's".to_owned(), "v7".to_owned());
    bench.stream = Stream::new(Proof::Trusted);
    bench.remove("gone");
    bench.write("shop", &namespace("shop", "two"));
    bench.write("new", &namespace("new", "one"));
    bench.hear(&Request { initial_versions, ..request(Kind::Namespace, &[], &[]) });
    assert_eq!(bench.all(), ["Namespace: +new +shop", "Namespace: -another's -gone"]);
    // A nonce of a stream of before is nothing's answer.
    bench.stream = Stream::new(Proof::Trusted);
    bench.hear(&Request { nonce: "1".to_owned(), ..request(Kind::Namespace, &[], &[]) });
    assert_eq!(bench.all(), ["Namespace: +new +same +shop"]);
}

#[test]
fn who_is_up_to_date_is_told_so_and_costs_no_encoding() {
    let mut bench = Bench::new(&[("a", namespace("shop", "one"))]);
    bench.ask(Kind::Namespace, &[], &[]);
    bench.one();
    let initial_versions = bench.versions(Kind::Namespace);
    bench.stream = Stream::new(Proof::Trusted);
    bench.hear(&Request { initial_versions, ..request(Kind::Namespace, &[], &[]) });
    assert_eq!(bench.all(), ["Namespace:"]);
    assert_eq!(bench.stream.encoded(), 0);
}

#[test]
fn what_changes_while_a_response_is_under_way_is_merged_and_waits_for_its_answer() {
    let mut bench = Bench::new(&[("a", namespace("shop", "one"))]);
    bench.ask(Kind::Namespace, &[], &[]);
    assert_eq!(bench.one().unwrap(), "Namespace: +shop");
    for label in ["two", "three", "four"] {
        bench.write("a", &namespace("shop", label));
        bench.write(label, &namespace(label, "new"));
        assert_eq!(bench.one(), None, "{label}");
    }
    bench.remove("three");
    assert_eq!(bench.stream.encoded(), 1, "nothing is made that cannot be sent");
    let stale = Request { nonce: "77".to_owned(), ..request(Kind::Namespace, &[], &[]) };
    bench.hear(&stale);
    assert_eq!(bench.one(), None, "a stale answer answers nothing");
    assert!(bench.stream.awaits_answer(Kind::Namespace));
    bench.answer(Kind::Namespace, None);
    assert_eq!(bench.all(), ["Namespace: +four +shop +two"]);
    assert!(!bench.stream.awaits_answer(Kind::Namespace));
}

#[test]
fn a_version_that_is_not_taken_is_told_and_not_sent_again_until_it_changes() {
    let mut bench = Bench::new(&[("a", namespace("bank", "one")), ("b", namespace("shop", "one"))]);
    bench.ask(Kind::Namespace, &[], &[]);
    bench.one();
    let notices = bench.answer(Kind::Namespace, Some("shop: no such field"));
    let [Notice::Nack { kind: Kind::Namespace, message, resources }] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!(message, "shop: no such field");
    let versions = bench.versions(Kind::Namespace);
    assert_eq!(*resources, [(Arc::from("shop"), Version::of(&versions["shop"]))], "the one that it names");
    assert_eq!(bench.all(), [""; 0]);
    bench.write("a", &namespace("bank", "two"));
    assert_eq!(bench.one().unwrap(), "Namespace: +bank", "the others go on");
    let notices = bench.answer(Kind::Namespace, Some("out of memory"));
    assert!(matches!(&notices[..], [Notice::Nack { resources, .. }] if resources.len() == 1), "{notices:?}");
    bench.write("b", &namespace("shop", "two"));
    assert_eq!(bench.all(), ["Namespace: +shop"]);
    // An answer that answers nothing complains of nothing.
    assert_eq!(bench.answer(Kind::Namespace, Some("again")), []);
}

#[test]
fn a_type_that_is_not_served_is_answered_once() {
    let mut bench = Bench::new(&[]);
    let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let strange = Request { type_url: type_url.clone(), ..Request::default() };
    assert_eq!(bench.hear(&strange), [Notice::Strange { type_url: type_url.clone() }]);
    assert_eq!(bench.one().unwrap(), "Cluster:");
    assert_eq!(bench.hear(&Request { nonce: bench.last[&type_url].nonce.clone(), ..strange.clone() }), []);
    assert_eq!(bench.hear(&strange), []);
    assert_eq!(bench.one(), None);
    for number in 0..10 * STRANGE {
        bench.hear(&Request { type_url: format!("x/{number}"), ..Request::default() });
    }
    assert_eq!(bench.stream.strange.len(), STRANGE);
}

#[test]
fn a_stream_may_ask_for_so_much_and_no_more() {
    let mut bench = Bench::new(&[]);
    let many: Vec<String> = (0..SUBSCRIPTIONS).map(|number| format!("/{number}")).collect();
    bench.hear(&Request { subscribe: many, ..request(Kind::Address, &[], &["*"]) });
    let one_more = request(Kind::Address, &["/x"], &[]);
    assert_eq!(bench.stream.hear(&one_more, &bench.shelf), Err(Refusal::TooMany));
    let mut bench = Bench::new(&[]);
    let long = "x".repeat(NAME_BYTES + 1);
    let refused = bench.stream.hear(&request(Kind::Address, &[&long], &[]), &bench.shelf);
    assert_eq!(refused, Err(Refusal::TooLong(NAME_BYTES + 1)));
}

/// The first request of a node of this name.
fn from_node(name: &str) -> Request {
    let fields = [("NODE_NAME".to_owned(), Value { text: Some(name.to_owned()) })].into();
    let node = Node { metadata: Some(Struct { fields }), ..Node::default() };
    Request { node: Some(node), ..request(Kind::Address, &[], &[]) }
}

#[test]
fn probes_are_told_to_the_pods_own_node_where_its_name_is_proven() {
    let mut versions = Vec::new();
    let node = |name: &str| Proof::Node(name.try_into().unwrap());
    for (proof, name, is_told) in [
        (Proof::Trusted, "node-a", true),
        (Proof::Trusted, "node-b", false),
        (Proof::Nothing, "node-a", false),
        (Proof::Trusted, "no name", false),
        (node("node-a"), "node-a", true),
        (node("node-b"), "node-b", false),
    ] {
        let mut bench = Bench::new(&[("a", pod("cart-1", "cart", "10.0.0.1"))]);
        bench.stream = Stream::new(proof.clone());
        let notices = bench.hear(&from_node(name));
        assert_eq!(notices.is_empty(), name != "no name", "{notices:?}");
        bench.one();
        let body = bench.last[Kind::Address.type_url()].resources[0].resource.clone().unwrap().value;
        let tells = String::from_utf8_lossy(&body).contains("/well");
        assert_eq!(tells, is_told, "{proof:?} {name}");
        versions.extend(bench.versions(Kind::Address).into_values());
    }
    assert_ne!(versions[0], versions[1]);
    assert_eq!(versions[1], versions[2]);
}

#[test]
fn who_has_proven_to_be_a_node_asks_as_no_other_and_need_not_say_which() {
    let of_a = || Stream::new(Proof::Node("node-a".try_into().unwrap()));
    let mut bench = Bench::new(&[("a", pod("cart-1", "cart", "10.0.0.1"))]);
    for name in ["node-b", "no name", ""] {
        bench.stream = of_a();
        let heard = bench.stream.hear(&from_node(name), &bench.shelf);
        assert_eq!(heard, Err(Refusal::OtherNode), "{name}");
    }
    bench.stream = of_a();
    bench.hear(&request(Kind::Address, &[], &[]));
    bench.one();
    let body = bench.last[Kind::Address.type_url()].resources[0].resource.clone().unwrap().value;
    assert!(String::from_utf8_lossy(&body).contains("/well"), "its own probes");
}

#[test]
fn many_resources_are_looked_up_in_slices_and_sent_as_one() {
    let many = (0..2 * SLICE + 1).map(|number| namespace(&format!("n{number}"), "one") + "---\n");
    let mut bench = Bench::new(&[("a", many.collect())]);
    bench.ask(Kind::Namespace, &[], &[]);
    let mut pauses = 0;
    let sent = loop {
        match bench.stream.next(&bench.shelf) {
            Next::Send(_, response) => break response.resources.len(),
            next => assert_eq!(next, Next::Pause),
        }
        pauses += 1;
        // What changes meanwhile is in it in its last version, and what goes is not.
        bench.write("b", &namespace("added", &format!("l{pauses}")));
        if pauses == 1 {
            bench.write("c", &namespace("brief", "one"));
        } else {
            bench.remove("c");
        }
    };
    assert_eq!((pauses, sent), (2, 2 * SLICE + 2));
    assert_eq!(bench.one(), None);
    assert_eq!(bench.stream.encoded(), 2 * SLICE as u64 + 4);
}
