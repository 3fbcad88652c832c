//! Files of policies, damaged at random: nothing vanishes without a word, what breaks further loses nothing, and a
//! daemon that starts has what one has that comes to see the same.

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

const TEXTS: [&str; 4] = [
    include_str!("../../examples/policies/policies.yaml"),
    include_str!("../../tests/fuzz/seeds/lowering/lists.yaml"),
    include_str!("../../tests/fuzz/seeds/lowering/lost-policies.yaml"),
    include_str!("../../tests/fuzz/seeds/lowering/signs.yaml"),
];

fn look(store: &mut Store, text: &str) -> Outcome {
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text))]);
    store.apply(&files)
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
