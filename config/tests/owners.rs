//! Who owns a tenant is a user's number, which the Tenant says; anything else is refused where it is written.

use std::{collections::BTreeMap, path::PathBuf};

use config::store::{FileText, Options, Outcome, Store};

fn lowered(owner: &str) -> Outcome {
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\napiVersion: canopy.mesh/v1alpha1\nkind: Tenant\n\
         metadata: {{name: team}}\nspec:\n  namespaces: [shop]\n{owner}\n"
    );
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text.as_str()))]);
    Store::new(Options::default()).apply(&files)
}

fn owners(outcome: &Outcome) -> Vec<Option<u32>> {
    outcome.mesh.tenants.values().map(|tenant| tenant.owner).collect()
}

#[test]
fn an_owner_is_the_user_that_the_tenant_names_and_none_where_it_names_none() {
    for (said, owner) in [("  owner: {uid: 20017}", Some(20_017)), ("  owner: {uid: 0}", Some(0)), ("", None)]
    {
        let outcome = lowered(said);
        assert_eq!(owners(&outcome), [owner], "{said}");
        assert!(outcome.findings.is_empty(), "{said}: {:?}", outcome.findings);
    }
}

#[test]
fn what_is_no_users_number_is_refused_with_its_place_and_gives_nobody_the_tenant() {
    for said in
        ["{uid: -1}", "{uid: 4294967295}", "{uid: 99999999999}", "{uid: root}", "{}", "{uid: 1.5}", "17"]
    {
        let outcome = lowered(&format!("  owner: {said}"));
        let found: Vec<String> = outcome.findings.iter().map(ToString::to_string).collect();
        assert!(
            found.iter().any(|finding| finding.contains("a.yaml:10") && finding.contains("owner")),
            "{said}: {found:?}"
        );
        assert!(owners(&outcome).iter().all(Option::is_none), "{said}");
    }
}
