//! A Tenant that cannot be read may be one that is kept to the mesh: so are the namespaces that it names, from the first look
//! at a directory on, and no others.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    finding::Reason,
    opt_in::Kept,
    store::{FileText, Options, Outcome, Store},
};

fn files(text: &str) -> BTreeMap<PathBuf, FileText> {
    let namespace =
        |name: &str| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    let all = ["shop", "bank", "lab"].map(namespace).concat();
    BTreeMap::from([
        (PathBuf::from("a.yaml"), FileText::from(text)),
        (PathBuf::from("namespaces.yaml"), FileText::from(all.as_str())),
    ])
}

/// The namespaces whose pods are kept to the mesh.
fn kept(outcome: &Outcome) -> String {
    let mesh = &outcome.mesh;
    let is_kept = |tenant| mesh.tenants[tenant].egress.is_mesh();
    let kept = mesh.membership.iter().filter(|(_, tenant)| is_kept(tenant));
    kept.map(|(namespace, _)| namespace.as_str()).collect::<Vec<_>>().join(" ")
}

const TENANT: &str = "\
apiVersion: canopy.mesh/v1alpha1
kind: Tenant
metadata: {name: team}
spec: {namespaces: [shop, bank], egress: mesh}
";

fn with(from: &str, to: &str) -> String {
    assert!(TENANT.contains(from), "{from}");
    TENANT.replace(from, to)
}

#[test]
fn what_is_left_of_a_tenant_keeps_the_namespaces_that_it_names_to_the_mesh() {
    for (name, text) in [
        ("whole", TENANT.to_owned()),
        ("an unknown field", with("egress", "egres")),
        ("no such word", with("egress: mesh", "egress: Mesh")),
        ("a mapping", with("[shop, bank]", "{shop: , bank: }")),
        ("one text", with("[shop, bank]", "shop bank").replace("shop bank", "[shop, [bank]]")),
        ("an open list", with("bank]", "bank")),
        ("an open mapping", with("mesh}", "mesh")),
        ("a kind in a list", with("kind: Tenant", "kind: [Tenant]")),
        ("a kind of nothing", with("kind: Tenant", "kind: ~")),
        ("a slip in the kind", with("kind: Tenant", "kind: Tennant")),
        ("another key for it", with("kind:", "foo:")),
        ("another version", with("v1alpha1", "v9")),
        ("a slip in the group", with("canopy.mesh", "canpy.mesh")),
        ("no version", with("apiVersion: canopy.mesh/v1alpha1\n", "")),
        ("no name", with("name: team", "")),
        ("a namespace too much", with("name: team", "name: team, namespace: shop")),
        ("twice", format!("{TENANT}spec: {{namespaces: []}}\n")),
        ("with a list of none", TENANT.replace("kind: Tenant", "kind: TenantList")),
        ("too deep", format!("{TENANT}status: {{a: {}{}}}\n", "[".repeat(60), "]".repeat(60))),
    ] {
        let outcome = Store::new(Options::default()).apply(&files(&text));
        assert_eq!(kept(&outcome), "bank shop", "{name}: {:#?}", outcome.findings);
        let told = outcome.findings.iter().filter(|finding| finding.reason == Reason::StoodIn).count();
        assert_eq!(told > 0, name != "whole", "{name}: {:#?}", outcome.findings);
        // Mended, its own word counts; and a good version goes on, whatever it was.
        let mut store = Store::new(Options::default());
        store.apply(&files(&text));
        assert_eq!(kept(&store.apply(&files(&with("mesh}", "any}")))), "", "{name}: mended");
        if name != "whole" {
            assert_eq!(kept(&store.apply(&files(&text))), "", "{name}: broken after a good version");
        }
    }
    let list = TENANT.lines().skip(2).collect::<Vec<_>>().join("\n  ").replace("egress: mesh", "egress: 7");
    let list = format!("apiVersion: canopy.mesh/v1alpha1\nkind: TenantList\nitems:\n- {list}\n");
    assert_eq!(kept(&Store::new(Options::default()).apply(&files(&list))), "bank shop", "an item of a list");
}

/// Not in force beside `team`, which has `bank`.
fn other() -> String {
    with("name: team", "name: other").replace("[shop, bank]", "[bank, lab]")
}

#[test]
fn a_tenant_that_is_refused_beside_another_keeps_what_nobody_else_has() {
    let any = with("mesh}", "any}");
    for (text, expected) in [(other(), "lab"), (other().replace("mesh}", "any}"), "")] {
        let outcome = Store::new(Options::default()).apply(&files(&format!("{any}---\n{text}")));
        assert_eq!(kept(&outcome), expected, "{:#?}", outcome.findings);
    }
}

#[test]
fn a_tenant_that_cannot_be_read_keeps_what_it_names_and_no_other_tenant_has() {
    let any = with("mesh}", "any}");
    for (name, text) in [
        ("unreadable", other().replace("egress: mesh", "egress: [")),
        ("with an unknown word", other().replace("egress: mesh", "egress: any, more: 1")),
    ] {
        let outcome = Store::new(Options::default()).apply(&files(&format!("{any}---\n{text}")));
        assert_eq!(kept(&outcome), "lab", "{name}: {:#?}", outcome.findings);
        for tenant in outcome.mesh.tenants.values().filter(|tenant| tenant.egress.is_mesh()) {
            assert_eq!(tenant.kept(), Kept::Perhaps, "{name}: {} takes in nobody without a label", tenant.id);
        }
    }
}

#[test]
fn tenants_of_others_and_words_of_others_keep_nobody() {
    for text in [
        "apiVersion: capsule.clastix.io/v1beta2\nkind: Tenant\nmetadata: {name: shop}\nspec: {namespaces: [shop]}\n",
        "apiVersion: minio.min.io/v2\nkind: Tenant\nmetadata: {name: shop}\nspec: [\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: shop, namespace: bank, annotations: {canopy.mesh/netns: x, kind: Tenant}}\nspec: [\n",
        "apiVersion: v1\nkind: [ConfigMap]\nmetadata: {name: shop, labels: {canopy.mesh/mode: node}}\ndata: {kind: [Tenant], shop: bank}\n",
    ] {
        let outcome = Store::new(Options::default()).apply(&files(text));
        assert_eq!(kept(&outcome), "", "{text}: {:#?}", outcome.findings);
    }
}
