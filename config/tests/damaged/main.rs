//! Files of policies, damaged at random and in every single way: nothing vanishes without a word, no security object vanishes
//! at all, what breaks further loses nothing, and a daemon that starts has what one has that comes to see the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use config::{
    finding::{Reason, Severity},
    model::Mesh,
    store::{FileText, Options, Outcome, Store},
};
use proptest::prelude::*;

use self::{
    damages::Damaged,
    protection::{Written, answer, protections, written},
};

mod damages;
mod protection;

const TEXTS: [&str; 4] = [
    include_str!("../../../examples/policies/policies.yaml"),
    include_str!("../../../tests/fuzz/seeds/lowering/lists.yaml"),
    include_str!("../../../tests/fuzz/seeds/lowering/lost-policies.yaml"),
    include_str!("../../../tests/fuzz/seeds/lowering/signs.yaml"),
];

fn look(store: &mut Store, text: &str) -> Outcome {
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text))]);
    store.apply(&files)
}

/// The same beside a file that has nothing to do with it.
fn look_beside(store: &mut Store, text: &str) -> Outcome {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: kept}\n";
    let files = [("a.yaml", text), ("b.yaml", namespace)];
    store.apply(&files.map(|(path, text)| (PathBuf::from(path), FileText::from(text))).into())
}

/// A mesh without its version, which counts what a daemon has seen.
fn unversioned(mesh: &Mesh) -> Mesh {
    Mesh { version: 0, ..mesh.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_policies_lose_nothing_and_all_daemons_agree(
        which in 0..TEXTS.len(), from in 0_usize..3000, length in 0_usize..60, put in "[ -~\n]{0,12}"
    ) {
        let text = TEXTS[which];
        let (from, to) = (from % text.len(), (from % text.len() + length).min(text.len()));
        prop_assume!(text.is_char_boundary(from) && text.is_char_boundary(to));
        let damaged = [&text[..from], &put, &text[to..]].concat();

        let mut started = Store::new(Options::default());
        let first = look(&mut started, &damaged);
        let rejections = first.findings.iter().filter(|finding| finding.severity == Severity::Rejected);
        let rejected: BTreeSet<_> = rejections.filter_map(|finding| finding.object.as_ref()).collect();
        prop_assert!(first.accepted + rejected.len() >= first.objects, "{damaged}\n{:#?}", first.findings);
        prop_assert!(look(&mut started, &damaged).changes.is_empty(), "{damaged}");
        prop_assert_eq!(&*look(&mut started, "{").mesh, &*first.mesh, "broken further:\n{}", &damaged);
        prop_assert!(look(&mut started, &damaged).changes.is_empty(), "{damaged}");

        let mut running = Store::new(Options::default());
        running.apply(&BTreeMap::new());
        let seen = look(&mut running, &damaged);
        prop_assert_eq!(unversioned(&seen.mesh), unversioned(&first.mesh), "{}", &damaged);

        // Over a good version: what was in force stays, or the damage says what became of it.
        let mut good = Store::new(Options::default());
        look(&mut good, text);
        let before: BTreeSet<_> = good.in_force().cloned().collect();
        let after = look(&mut good, &damaged);
        let kept: BTreeSet<_> = good.in_force().cloned().collect();
        let is_broken = after.findings.iter().any(|finding| finding.severity == Severity::Rejected);
        prop_assert!(!is_broken || before.is_subset(&kept), "{damaged}\nlost: {:?}", before.difference(&kept));
        let told = after.findings.iter().filter(|finding| finding.reason == Reason::StoodIn).count();
        let there = [&after.mesh.authorization.len(), &after.mesh.peer_authentication.len(), &after.mesh.network_policies.len()];
        prop_assert!(told <= there.into_iter().sum::<usize>());
    }
}

/// What a daemon says and does of a text after it was damaged: one that starts, and one that has had it whole.
fn lost(text: &str, objects: &[Written], damaged: &Damaged) -> Vec<String> {
    let started = look_beside(&mut Store::new(Options::default()), &damaged.text);
    let mut running = Store::new(Options::default());
    look_beside(&mut running, text);
    let kept = look_beside(&mut running, &damaged.text);
    let mut lost = Vec::new();
    for (daemon, outcome) in [("starts", started), ("runs", kept)] {
        let left = protections(&outcome.mesh);
        let missing = objects.iter().filter(|object| answer(object, damaged, (&outcome, &left)).is_none());
        lost.extend(missing.map(|Written { does, .. }| {
            let found: Vec<_> = outcome.findings.iter().map(ToString::to_string).collect();
            format!(
                "{}, to one that {daemon}: {} {}/{}\n{}",
                damaged.how,
                does.kind,
                does.namespace,
                does.name,
                found.join("\n")
            )
        }));
    }
    lost
}

/// Fails with all that is lost of a text, by every single damage to it.
fn assert_none_is_lost(text: &str) {
    let whole = look_beside(&mut Store::new(Options::default()), text);
    let all = protections(&whole.mesh);
    let objects = written(text, &all);
    assert!(objects.len() == all.len(), "{all:#?}");
    assert!(
        !objects.is_empty() && objects.iter().all(|object| !object.does.stands_in),
        "{:#?}",
        whole.findings
    );
    let damages = damages::all(text);
    let lost: Vec<String> = damages.iter().flat_map(|damaged| lost(text, &objects, damaged)).collect();
    assert!(lost.is_empty(), "{} of {} damages:\n{}", lost.len(), damages.len(), lost.join("\n\n"));
}

/// Objects, one in each document.
fn documents(objects: &[&str]) -> String {
    objects.join("---\n")
}

fn item(object: &str) -> String {
    format!("- {}\n", object.trim_end().replace('\n', "\n  "))
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: cart\n  namespace: market\nspec:\n  ports:\n  - port: 80\n";
const ALLOW: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: allow\n  namespace: shop\nspec:\n  selector:\n    matchLabels:\n      app: cart\n  \
    rules:\n  - from:\n    - source:\n        namespaces:\n        - web\n    to:\n    - operation:\n        ports:\n        - \"8080\"\n";
const DENY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: deny\n  namespace: bank\nspec:\n  action: DENY\n  rules:\n  - from:\n    - source:\n        ipBlocks:\n        - 10.0.0.0/8\n  - to:\n    - operation:\n        ports:\n        - \"22\"\n";
const PEERS: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: strict\n  namespace: vault\nspec:\n  mtls:\n    mode: STRICT\n";
const OF_ALL: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: mesh\n  namespace: istio-system\nspec:\n  mtls:\n    mode: STRICT\n";
const TENANT: &str = "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata:\n  name: team\nspec:\n  namespaces:\n  - kept\n  egress: mesh\n";
const NETWORK: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: narrow\n  namespace: lab\nspec:\n  podSelector: {}\n  ingress:\n  - from:\n    - podSelector:\n        matchLabels:\n          app: web\n    ports:\n    - port: 8080\n";

#[test]
fn no_security_object_of_a_file_of_documents_vanishes_by_any_single_damage() {
    assert_none_is_lost(&documents(&[ALLOW, PEERS]));
    assert_none_is_lost(&documents(&[DENY, SERVICE, NETWORK]));
    assert_none_is_lost(&documents(&[OF_ALL, PEERS]));
    assert_none_is_lost(&documents(&[TENANT, PEERS]));
}

#[test]
fn no_security_object_of_a_list_vanishes_by_any_single_damage() {
    let items = |objects: &[&str]| objects.iter().map(|object| item(object)).collect::<String>();
    assert_none_is_lost(&format!("apiVersion: v1\nkind: List\nitems:\n{}", items(&[DENY, PEERS])));
    // As the API server sends them, and as kubectl writes them.
    let bare = |name: &str, namespace: &str, spec: &str| {
        item(&format!("metadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  {spec}\n"))
    };
    for (version, kind, spec) in [
        ("security.istio.io/v1", "AuthorizationPolicy", "action: DENY\n  rules:\n  - {}"),
        ("security.istio.io/v1", "PeerAuthentication", "mtls:\n    mode: STRICT"),
        ("networking.k8s.io/v1", "NetworkPolicy", "podSelector: {}"),
    ] {
        let head =
            format!("apiVersion: {version}\nkind: {kind}List\nmetadata:\n  resourceVersion: \"\"\nitems:\n");
        assert_none_is_lost(&[head, bare("one", "shop", spec), bare("other", "bank", spec)].concat());
    }
}
