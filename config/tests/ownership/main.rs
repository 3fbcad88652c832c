//! Who may say what, and whom it affects: every cell of the tables of docs/concepts/ownership.md, as far as the model and what
//! is told about it show. What connections meet then is seen in snapshots: node-proxy, control/compile/tests/ownership.rs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::LazyLock,
};

use config::{
    finding::Finding,
    model::Mesh,
    name::{Namespace, NodeName, TenantId},
    part,
    store::{FileText, Options, Outcome, Store},
};

mod said;

use said::{
    Case, cases, hostile, objects, page,
    scene::{self, Text, tenant_of},
};

/// Files by name; a later text takes the place of an earlier one.
fn files(texts: &[&[Text]]) -> BTreeMap<PathBuf, FileText> {
    let all = texts.iter().copied().flatten();
    all.map(|(name, text)| (PathBuf::from(name), FileText::from(text.as_str()))).collect()
}

fn store() -> Store {
    let node = NodeName::try_from(scene::NODE).ok();
    let node_addresses = vec![scene::OWN_ADDRESS.parse().expect("an address")];
    Store::new(Options { node, node_addresses, ..Options::default() })
}

/// What is there before a case, and after it: to who starts with it, and to who sees it come.
struct Tried {
    case: Case,
    before: Outcome,
    after: [(&'static str, Outcome); 3],
}

fn tried(case: Case) -> Tried {
    let scene = scene::files();
    let there = files(&[&scene, &case.given]);
    let with = |said: &[Text]| files(&[&scene, &case.given, said]);
    let before = store().apply(&there);
    let edited = |said: &[Text]| {
        let mut store = store();
        store.apply(&there);
        store.apply(&with(said))
    };
    let after = [
        ("at the start", store().apply(&with(&case.said))),
        ("as an edit", edited(&case.said)),
        ("as an edit that says it is older", edited(&scene::older(&case.said))),
    ];
    Tried { case, before, after }
}

static TRIED: LazyLock<Vec<Tried>> = LazyLock::new(|| cases().into_iter().map(tried).collect());

/// Checks every cell, and names all of which something is not so.
fn each(check: impl Fn(&Case, &Outcome, &Outcome) -> Vec<String>) {
    let mut wrong = Vec::new();
    for Tried { case, before, after } in TRIED.iter() {
        for (when, outcome) in after {
            let complaints = check(case, before, outcome).into_iter();
            wrong.extend(complaints.map(|complaint| format!("{}, {when}: {complaint}", case.name)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_scene_by_itself_is_told_nothing() {
    let outcome = store().apply(&files(&[&scene::files()]));
    assert!(outcome.findings.is_empty(), "{:#?}", outcome.findings);
    assert_eq!(outcome.mesh.workloads.len(), 2 * scene::NAMESPACES.len());
    assert_eq!(outcome.mesh.services.len(), scene::NAMESPACES.len());
    for (namespace, tenant) in &outcome.mesh.membership {
        assert_eq!(tenant.to_string(), tenant_of(namespace.as_str()), "{namespace}");
    }
}

#[test]
fn every_kind_that_is_read_has_a_row_and_every_row_is_of_such_a_kind() {
    let table = page::table(page::OBJECTS);
    let kind = |row: &Vec<&'static str>| row[0].split([' ', ',']).next().unwrap_or_default();
    let rows: BTreeSet<&str> = table.iter().skip(1).map(kind).collect();
    assert_eq!(rows, config::kinds().collect());
}

#[test]
fn every_row_of_the_page_is_tried_and_by_every_writer() {
    let rows =
        |heading| -> BTreeSet<&str> { page::table(heading).iter().skip(1).map(|row| row[0]).collect() };
    assert_eq!(rows(page::OBJECTS), objects::ROWS.iter().map(|(name, _)| *name).collect());
    assert_eq!(rows(page::HOSTILE), hostile::ROWS.iter().map(|(name, _)| *name).collect());
    let writers = objects::Writer::ALL.map(objects::Writer::column);
    assert_eq!(page::table(page::OBJECTS)[0][1..], writers);
}

#[test]
fn what_is_told_is_what_the_page_says_and_nothing_else() {
    each(|case, before, after| {
        let new = after.findings.iter().filter(|finding| !is_there(before, finding));
        let new: Vec<&Finding> = new.collect();
        let unexpected = new.iter().filter(|finding| !case.told.iter().any(|told| is_like(finding, told)));
        let missing = case.told.iter().filter(|told| !new.iter().any(|finding| is_like(finding, told)));
        let unexpected = unexpected.map(|finding| format!("told besides: {finding}"));
        unexpected.chain(missing.map(|told| format!("nobody is told {told:?}"))).collect()
    });
}

fn is_there(before: &Outcome, finding: &Finding) -> bool {
    before.findings.iter().any(|other| other.object == finding.object && other.message == finding.message)
}

fn is_like(finding: &Finding, told: &page::Told) -> bool {
    let reason = serde_json::to_value(finding.reason).expect("a word");
    finding.severity.as_str() == told.severity && reason == told.reason && finding.message.contains(told.says)
}

#[test]
fn what_somebody_writes_makes_entries_of_that_namespace_and_changes_no_other() {
    each(|case, before, after| {
        let own = BTreeSet::from([case.of.to_owned()]);
        let changed = changed(&before.mesh, &after.mesh);
        let is_so = changed.is_subset(&own) && (case.changes.is_empty() || changed == own);
        if is_so { Vec::new() } else { vec![format!("entries of {changed:?} are others")] }
    });
}

/// The namespaces of which anything in a mesh is another than before; for a tenant, one of its.
fn changed(before: &Mesh, after: &Mesh) -> BTreeSet<String> {
    fn keys<K: Ord + Clone, V: PartialEq>(
        before: &BTreeMap<K, V>,
        after: &BTreeMap<K, V>,
        of: impl Fn(&K) -> String,
    ) -> Vec<String> {
        let all: BTreeSet<&K> = before.keys().chain(after.keys()).collect();
        all.into_iter().filter(|key| before.get(key) != after.get(key)).map(of).collect()
    }
    let tenant = |tenant: &TenantId| tenant.as_str().to_owned();
    let own = |namespace: &Namespace| namespace.to_string();
    [
        keys(&before.tenants, &after.tenants, tenant),
        keys(&before.membership, &after.membership, own),
        keys(&before.namespaces, &after.namespaces, own),
        keys(&before.workloads, &after.workloads, |pod| own(&pod.namespace)),
        keys(&before.services, &after.services, |service| own(&service.namespace)),
        keys(&before.routes, &after.routes, |route| own(&route.namespace)),
        keys(&before.authorization, &after.authorization, |policy| own(&policy.namespace)),
        keys(&before.peer_authentication, &after.peer_authentication, |policy| own(&policy.namespace)),
        keys(&before.network_policies, &after.network_policies, |policy| own(&policy.namespace)),
        keys(&before.service_entries, &after.service_entries, |entry| own(&entry.namespace)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn what_somebody_configures_is_told_to_the_cells_that_it_is_about_and_to_no_others() {
    each(|case, before, after| {
        let affected: BTreeSet<&str> = case.changes.iter().map(|part| tenant_of(part.of)).collect();
        let configured = |mesh: &Mesh, tenant: &TenantId| without_facts(part::of(mesh, tenant));
        let differs =
            |tenant: &&TenantId| configured(&before.mesh, tenant) != configured(&after.mesh, tenant);
        let told: BTreeSet<&str> = before.mesh.tenants.keys().filter(differs).map(TenantId::as_str).collect();
        // Of facts (who is where, and who answers for what) all are told.
        let all = |outcome: &Outcome| without_facts(Mesh::clone(&outcome.mesh));
        let expected = if all(before) == all(after) { BTreeSet::new() } else { affected };
        // An entry that opens nothing to anybody is still its own tenant's to know.
        let own = told.iter().all(|tenant| *tenant == tenant_of(case.of) || expected.contains(tenant));
        if own && expected.is_subset(&told) {
            Vec::new()
        } else {
            vec![format!("the cells of {told:?} are told, not of {expected:?}")]
        }
    });
}

fn without_facts(mesh: Mesh) -> Mesh {
    Mesh {
        version: 0,
        membership: BTreeMap::new(),
        namespaces: BTreeMap::new(),
        workloads: BTreeMap::new(),
        services: BTreeMap::new(),
        ..mesh
    }
}

#[test]
fn a_slice_in_force_is_not_undone_by_what_others_write_later_and_can_still_be_changed() {
    let scene = scene::files();
    let undated = |text: Text| {
        (text.0, text.1.replace("creationTimestamp: '2026-01-01T00:00:00Z'", "").replace(", }", "}"))
    };
    let slice = |addresses: &[&str]| {
        let text = scene::object("EndpointSlice", "bank", objects::SLICE, &objects::slice(addresses));
        [undated(("bank-slice.yaml".to_owned(), text))]
    };
    let (first, second) = (slice(&[scene::SOMEWHERE]), slice(&[scene::SOMEWHERE, scene::OUTSIDE]));
    let service = scene::object("Service", "forum", "name: more", &objects::service(scene::SOMEWHERE, ""));
    let annotations = format!("annotations: {{{}}}", scene::netns("more", "forum"));
    let node = scene::pod_object("more", "forum", &annotations, "");
    let node = node.replace("status: {", &format!("status: {{hostIP: {}, ", scene::SOMEWHERE));
    for (what, text) in [("a Service's address", service), ("a node's, by a pod's word", node)] {
        let later = [undated(("0-said.yaml".to_owned(), text))];
        let mut store = store();
        store.apply(&files(&[&scene, &first]));
        for (slice, endpoints) in [(&first, 1), (&second, 2)] {
            let outcome = store.apply(&files(&[&scene, slice, &later]));
            assert!(outcome.findings.is_empty(), "{what}: {:#?}", outcome.findings);
            let bank = outcome.mesh.services.iter().find(|(name, _)| name.to_string() == "bank/web").unwrap();
            assert_eq!(bank.1.ports[0].endpoints.len(), endpoints, "{what}");
        }
        let newcomer = self::store().apply(&files(&[&scene, &first, &later]));
        assert!(!newcomer.findings.is_empty(), "{what}: a slice that is as young is refused");
    }
}
