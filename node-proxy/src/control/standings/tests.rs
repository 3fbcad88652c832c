//! Objects from one configuration to the next: since when, and what their owners hear.

use std::{path::PathBuf, time::Duration};

use config::store::{FileText, Options, Store};

use super::*;

const TENANT: &str =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {canopy.mesh/mode: node}}\n";

fn service(port: &str, generation: u32) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: cart, namespace: shop, generation: {generation}}}\n\
         spec: {{clusterIP: 10.96.0.1, selector: {{app: cart}}, ports: [{{port: {port}}}]}}\n"
    )
}

/// A store and what is kept of its objects.
struct Set {
    store: Store,
    standings: Standings,
    at: SystemTime,
}

impl Set {
    fn new() -> Self {
        let store = Store::new(Options::default());
        Self { store, standings: Standings::default(), at: SystemTime::UNIX_EPOCH }
    }

    /// What owners hear, a second after the last edit.
    fn edit(&mut self, text: &str) -> Vec<String> {
        self.at += Duration::from_secs(1);
        let texts = [("a.yaml", TENANT), ("b.yaml", text)];
        let files = texts.map(|(name, text)| (PathBuf::from(name), FileText::from(text))).into();
        let outcome = self.store.apply(&files);
        let are_there = |owner: &TenantId| outcome.mesh.tenants.contains_key(owner);
        let news = self.standings.take(&outcome.standings, are_there, self.at);
        news.into_iter().map(|(tenant, news)| format!("{tenant}: {}", news.what)).collect()
    }

    fn shown(&self, name: &str, tenant: Option<&str>) -> serde_json::Value {
        let all = self.standings.to_json(tenant);
        let objects = all["objects"].as_array().unwrap();
        objects.iter().find(|object| object["name"] == name).cloned().unwrap_or_default()
    }
}

#[test]
fn an_object_that_is_rejected_is_told_of_once_and_so_is_its_mending_and_times_are_those_of_the_change() {
    let mut set = Set::new();
    assert!(set.edit(&service("80", 1)).is_empty(), "all is well");
    let told = set.edit(&service("none", 2));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("ns/shop: Service shop/cart is not accepted (WrongType), and its last good version stays in force: spec.ports[0].port: "), "{told:?}");
    assert!(set.edit(&service("none", 3)).is_empty(), "it is the same");
    let shown = set.shown("cart", Some("ns/shop"));
    assert_eq!((&shown["observedGeneration"], &shown["tenant"]), (&3.into(), &"ns/shop".into()), "{shown}");
    let condition = |about: &str| {
        let conditions = shown["conditions"].as_array().unwrap();
        let condition = conditions.iter().find(|condition| condition["type"] == about).unwrap();
        (
            condition["status"].as_str().unwrap(),
            condition["reason"].as_str().unwrap(),
            condition["lastTransitionTime"].as_str().unwrap(),
        )
    };
    assert_eq!(condition("Accepted"), ("False", "WrongType", "1970-01-01T00:00:02Z"));
    assert_eq!(condition("Programmed"), ("False", "KeptLastGood", "1970-01-01T00:00:02Z"));
    assert_eq!(condition("Conflicted"), ("False", "NoConflicts", "1970-01-01T00:00:01Z"));
    assert_eq!(set.standings.rejected(), [("WrongType", 1)].into());
    assert_eq!(set.edit(&service("80", 4)), ["ns/shop: Service shop/cart is accepted again"]);
    assert!(set.standings.rejected().is_empty());
}

#[test]
fn an_owner_is_shown_what_is_in_its_own_namespaces() {
    let mut set = Set::new();
    set.edit(&service("80", 1));
    assert!(set.shown("cart", Some("ns/bank")).is_null());
    assert!(set.shown("cart", None).is_object() && set.shown("shop", None).is_object());
    assert!(
        set.shown("shop", Some("ns/shop")).is_null(),
        "a namespace is nobody's to write but the cluster's"
    );
}

#[test]
fn an_object_that_is_rejected_from_the_beginning_is_told_of_too() {
    let told = Set::new().edit(&service("none", 1));
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("(WrongType), and no version of it is in force: "), "{told:?}");
}

#[test]
fn whoever_makes_up_a_namespace_tells_nobody_and_no_owner_is_told_much_at_once() {
    let mut set = Set::new();
    let nowhere = service("none", 1).replace("namespace: shop", "namespace: nowhere");
    assert!(set.edit(&nowhere).is_empty());
    let many = |broken: &str| -> String {
        let one = |number: usize| {
            let named = service(broken, 1).replace("name: cart", &format!("name: cart-{number}"));
            format!("---\n{}", named.replace("10.96.0.1", &format!("10.96.1.{number}")))
        };
        (1..100).map(one).collect()
    };
    assert_eq!(set.edit(&many(&format!("'{}'", "x".repeat(5000)))).len(), TOLD);
    assert!(short(&"ä".repeat(1000)).chars().count() <= LETTERS + 1);
}

#[test]
fn an_owner_is_not_told_who_has_what_an_object_of_its_own_claims() {
    let mut set = Set::new();
    set.edit(&service("80", 1));
    let rival = format!("{}---\n{}", service("80", 1), service("80", 1).replace("name: cart", "name: rival"));
    let told = set.edit(&rival);
    assert!(told.len() == 1 && told[0].contains("(Conflict)") && !told[0].contains("cart"), "{told:?}");
    let message = |shown: serde_json::Value| shown["conditions"][0]["message"].as_str().unwrap().to_owned();
    assert!(message(set.shown("rival", None)).contains("Service shop/cart"));
    assert!(!message(set.shown("rival", Some("ns/shop"))).contains("cart"));
}

proptest::proptest! {
    #[test]
    fn after_any_edits_of_any_objects_what_is_shown_is_what_is_shown_of_the_last_alone(
        edits in proptest::collection::vec(proptest::collection::btree_map(0..6_u32, 0..4_u32, 0..6), 1..8),
    ) {
        // An object in one of some versions, of which one is broken.
        let one = |(number, version): (&u32, &u32)| {
            let port = if *version == 0 { "none".to_owned() } else { (80 + version).to_string() };
            service(&port, *version).replace("cart", &format!("s{number}")).replace("10.96.0.1", &format!("10.96.0.{number}")) + "---\n"
        };
        let texts: Vec<String> = edits.iter().map(|edit| edit.iter().map(one).collect()).collect();
        let mut set = Set::new();
        let mut outcome = None;
        for text in &texts {
            set.edit(text);
            outcome = Some(Arc::clone(&set.standings.last));
        }
        let mut fresh = Standings::default();
        fresh.take(&outcome.unwrap(), |_| true, SystemTime::UNIX_EPOCH);
        let said = |standings: &Standings| -> Vec<Arc<Standing>> {
            standings.kept.values().map(|kept| Arc::clone(&kept.standing)).collect()
        };
        proptest::prop_assert_eq!(said(&set.standings), said(&fresh));
        proptest::prop_assert!(set.standings.kept.values().all(|kept| kept.since.len() == kept.standing.conditions.len()));
    }
}
