//! Two directories, and what is told of the way from one to the other: by tenant, and to nobody whom it does not touch.

use std::fs;

use super::*;

/// A copy of the example of two tenants, with edits: file, what stands there, what is to stand there.
fn example(edits: &[(&str, &str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/two-tenants");
    for entry in fs::read_dir(shipped).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
    }
    for (file, from, to) in edits {
        let path = directory.path().join(file);
        let text = fs::read_to_string(&path).unwrap_or_default();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }
    directory
}

fn before(directory: &Path) -> Before {
    let options = Options::default();
    let outcome = offline::read(directory, options.clone()).unwrap();
    let said = outcome.findings.iter().map(Finding::gist).collect();
    let directory = directory.to_owned();
    Before { what: "BEFORE".to_owned(), directory, options, mesh: outcome.mesh, basis: outcome.basis, said }
}

/// What is told, with the names of the two directories.
fn told(from: &tempfile::TempDir, to: &tempfile::TempDir) -> (Report, String) {
    let report = before(from.path()).against(to.path()).unwrap();
    let text = text::render(&report, Palette::plain());
    let names = [(to.path(), "AFTER"), (from.path(), "BEFORE")];
    let text = names.iter().fold(text, |text, (path, name)| text.replace(path.to_str().unwrap(), name));
    (report, text)
}

#[test]
fn the_same_changes_nothing_for_anybody() {
    let (report, text) = told(&example(&[]), &example(&[]));
    assert!(!report.differs);
    assert_eq!(text, "AFTER, as if it were BEFORE, against BEFORE\n\nnothing changes for bank, shop\n");
}

#[test]
fn a_change_is_told_to_its_owner_with_its_field_and_nothing_changes_for_the_other() {
    let edit = ("20-shop-route.yaml", "weight: 90", "weight: 70");
    let (report, text) = told(&example(&[]), &example(&[edit]));
    let expected = "\
AFTER, as if it were BEFORE, against BEFORE

tenant shop
  ~ HTTPRoute shop/cart  AFTER/20-shop-route.yaml:3
      rules[1].backends[0].weight: 90 → 70
  routes     of Service shop/cart: HTTPRoute shop/cart, for all its callers, but those that have routes of their own

nothing changes for bank, but how its calls to Service shop/cart are routed
";
    assert_eq!(text, expected);
    assert!(report.differs);
    let policy = ("10-shop.yaml", "labels: { app: frontend }", "labels: { app: frontend, tier: web }");
    let (_, text) = told(&example(&[]), &example(&[policy]));
    assert!(text.ends_with("\nnothing changes for bank\n"), "{text}");
}

#[test]
fn a_policy_that_comes_is_told_with_whom_it_shuts_out_to_both_ends() {
    let after = example(&[]);
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: not-from-carts, namespace: bank}\n\
        spec: {selector: {matchLabels: {app: ledger}}, action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/cart]}}]}]}\n";
    fs::write(after.path().join("policy.yaml"), policy).unwrap();
    let (_, text) = told(&example(&[]), &after);
    let expected = "\
AFTER, as if it were BEFORE, against BEFORE

tenant bank
  + AuthorizationPolicy bank/not-from-carts  AFTER/policy.yaml:1
  revoked    shop/sa/cart → bank/sa/ledger at port 9090 and all others: is refused by AuthorizationPolicy bank/not-from-carts (policy_denied, 2 pairs of pods)

tenant shop
  revoked    shop/sa/cart → bank/sa/ledger at port 9090 and all others: is refused by AuthorizationPolicy bank/not-from-carts (policy_denied, 2 pairs of pods)
";
    assert_eq!(text, expected);
    let (_, back) = told(&after, &example(&[]));
    assert!(back.contains("  - AuthorizationPolicy bank/not-from-carts  BEFORE/policy.yaml:1\n"), "{back}");
    assert!(
        back.contains(
            "  granted    shop/sa/cart → bank/sa/ledger at port 9090 and all others: was refused by"
        ),
        "{back}"
    );
}

#[test]
fn pods_and_endpoints_that_come_and_go_are_told() {
    let gone = ("10-shop.yaml", "name: cart-v2\n", "name: cart-v3\n");
    let (_, text) = told(&example(&[]), &example(&[gone]));
    for line in [
        "  + Pod shop/cart-v3  AFTER/10-shop.yaml:55\n",
        "  - Pod shop/cart-v2  BEFORE/10-shop.yaml:55\n",
        "  workload   shop/cart-v2 goes, and its connections end\n",
        "  workload   shop/cart-v3 comes\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let moved = (
        "10-shop.yaml",
        "- { name: http, port: 80, targetPort: http }",
        "- { name: http, port: 80, targetPort: 8081 }",
    );
    let (_, text) = told(&example(&[]), &example(&[moved]));
    let line = "  endpoints  of Service shop/cart-v1 port 80: + 10.77.0.12:8081, [fd77::12]:8081 - 10.77.0.12:8080, [fd77::12]:8080\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_broken_edit_changes_nothing_and_says_what_is_kept_and_what_is_rejected() {
    let broken = ("20-shop-route.yaml", "weight: 90", "weight: ninety");
    let (report, text) = told(&example(&[]), &example(&[broken]));
    let [shop] = &report.tenants[..] else { panic!("{text}") };
    assert!(shop.objects.is_empty() && shop.routes.is_empty(), "{text}");
    assert!(report.differs, "somebody is to be told");
    for words in [
        "AFTER/20-shop-route.yaml:19:46: rejected: HTTPRoute shop/cart: ",
        ": kept last good version (from line 3 of BEFORE/20-shop-route.yaml)",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(text.ends_with("\nnothing changes for bank\n"), "{text}");
    // What is said of both is no difference.
    let (report, text) = told(&example(&[broken]), &example(&[broken]));
    assert!(!report.differs, "{text}");
}

#[test]
fn nothing_that_manifests_say_writes_more_than_text() {
    let evil =
        ("10-shop.yaml", "labels: { app: frontend }", "labels: { app: frontend, x: \"\\e[31m\\x9b\\x7f\" }");
    let unread = ("10-shop.yaml", "kind: ServiceAccount", "kind: \"\\e[31m\\x9b\"");
    for edit in [evil, unread] {
        let (report, text) = told(&example(&[]), &example(&[edit]));
        assert!(report.differs);
        assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text:?}");
        let json = style::json(&report).unwrap();
        assert!(!json.contains(|letter: char| letter.is_control() && letter != '\n'), "{json:?}");
    }
}

#[test]
fn lists_are_bounded_and_what_is_left_out_is_counted() {
    let after = example(&[]);
    let account = |at: usize| {
        format!("---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: a{at}, namespace: shop}}\n")
    };
    fs::write(after.path().join("many.yaml"), (0..250).map(account).collect::<String>()).unwrap();
    let (report, text) = told(&example(&[]), &after);
    assert_eq!(report.tenants[0].objects.len(), 250);
    assert_eq!(text.matches("  + ServiceAccount").count(), 200);
    assert!(text.contains("  and 50 more\n"), "{text}");
}
