//! A tenant with more objects than its budget has room for keeps those that are first, on every node the same, and loses none that
//! protects something; another tenant's are as they were.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use config::{
    condition::{About, Standing},
    finding::Reason,
    store::{FileText, Options, Outcome, Store},
};

fn files(texts: &[(&str, String)]) -> BTreeMap<PathBuf, FileText> {
    texts.iter().map(|(path, text)| (PathBuf::from(path), FileText::from(text.as_str()))).collect()
}

fn tenants(budget: &str) -> String {
    let namespace =
        |name: &str| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    let all = ["shop", "bank"].map(namespace).concat();
    format!(
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: team}}\n\
         spec: {{namespaces: [shop], budget: {budget}}}\n{all}"
    )
}

fn service(namespace: &str, name: &str, number: u8) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{clusterIP: 10.0.0.{number}, ports: [{{port: 80}}]}}\n"
    )
}

fn deny(namespace: &str, name: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{selector: {{matchLabels: {{app: {name}}}}}, action: ALLOW, rules: [{{}}]}}\n"
    )
}

fn started(texts: &[(&str, String)]) -> Outcome {
    Store::new(Options::default()).apply(&files(texts))
}

fn services(outcome: &Outcome) -> Vec<String> {
    outcome.mesh.services.keys().map(ToString::to_string).collect()
}

fn left_out(outcome: &Outcome) -> Vec<String> {
    let beyond = outcome.findings.iter().filter(|finding| finding.reason == Reason::OverBudget);
    let mut names: Vec<_> =
        beyond.filter_map(|finding| finding.object.as_ref().map(ToString::to_string)).collect();
    names.sort();
    names
}

#[test]
fn what_is_beyond_the_count_is_the_same_whoever_came_first_and_another_tenant_has_all_of_its_own() {
    let shop =
        |names: &[&str]| names.iter().zip(1..).map(|(name, n)| service("shop", name, n)).collect::<String>();
    let bank = service("bank", "x", 101) + &service("bank", "y", 102) + &service("bank", "z", 103);
    let texts = |names: &[&str]| {
        vec![("tenants", tenants("{objects: 2}")), ("shop", shop(names)), ("bank", bank.clone())]
    };
    let mut store = Store::new(Options::default());
    let before = store.apply(&files(&texts(&["b", "c"])));
    assert_eq!((services(&before).len(), left_out(&before)), (5, vec![]));
    let after = store.apply(&files(&texts(&["b", "c", "a"])));
    let expected = ["bank/x", "bank/y", "bank/z", "shop/a", "shop/b"];
    assert_eq!(services(&after), expected);
    assert_eq!(left_out(&after), ["Service shop/c"]);
    let again = started(&texts(&["c", "a", "b"]));
    assert_eq!((services(&again), left_out(&again)), (services(&after), left_out(&after)));
    assert!(again.mesh.tenants.values().map(|tenant| tenant.left_out).eq([1, 0]), "{:?}", again.mesh.tenants);
    let mended = store.apply(&files(&texts(&["c", "b"])));
    assert_eq!((services(&mended).len(), left_out(&mended)), (5, vec![]));
    let raised = |budget: &str| {
        let mut texts = texts(&["a", "b", "c"]);
        texts[0].1 = tenants(budget);
        left_out(&started(&texts))
    };
    assert!(raised("{objects: 3}").is_empty() && raised("{}").is_empty());
    let unbudgeted = Options { unbudgeted: true, ..Options::default() };
    assert!(left_out(&Store::new(unbudgeted).apply(&files(&texts(&["a", "b", "c"])))).is_empty());
}

#[test]
fn what_protects_comes_first_and_denies_where_there_is_no_room() {
    let all = service("shop", "a", 1) + &deny("shop", "p") + &deny("shop", "q");
    let with = |budget: &str| started(&[("tenants", tenants(budget)), ("shop", all.clone())]);
    let told = |outcome: &Outcome| {
        outcome.findings.iter().filter(|finding| finding.reason == Reason::StoodIn).count()
    };
    let one = with("{objects: 2}");
    assert_eq!((left_out(&one), told(&one)), (vec!["Service shop/a".to_owned()], 0));
    assert_eq!(one.mesh.authorization.len(), 2);
    let none = with("{objects: 1}");
    assert_eq!(left_out(&none), ["AuthorizationPolicy shop/q", "Service shop/a"]);
    assert_eq!((none.mesh.authorization.len(), told(&none)), (2, 1), "it still counts");
    let [first, second] = [&one, &none].map(|outcome| {
        let last = outcome.mesh.authorization.values().last().cloned();
        last.map(|policy| format!("{policy:?}"))
    });
    assert_ne!(first, second, "and lets nobody in");
    let mut store = Store::new(Options::default());
    store.apply(&files(&[("tenants", tenants("{}")), ("shop", all.clone())]));
    let lowered = store.apply(&files(&[("tenants", tenants("{objects: 1}")), ("shop", all.clone())]));
    assert_eq!(lowered.mesh.authorization, none.mesh.authorization, "what was in force does not matter");
}

#[test]
fn what_weighs_too_much_is_left_out_and_what_is_small_behind_it_is_not() {
    let prefix = |name: &str, kind: &str| {
        let of_one = |number| format!("{{path: {{type: {kind}, value: /a{number}}}}}");
        let matches = (0..64).map(of_one).collect::<Vec<_>>().join(", ");
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  parentRefs: [{{group: '', kind: Service, name: z, port: 80}}]\n\
             \x20 rules: [{{matches: [{matches}]}}]\n"
        )
    };
    let text = |kind: &str| prefix("a", kind) + &prefix("b", "PathPrefix") + &service("shop", "z", 1);
    let with = |kind: &str| started(&[("tenants", tenants("{compiledBytes: 1Mi}")), ("shop", text(kind))]);
    assert!(left_out(&with("PathPrefix")).is_empty());
    let heavy = with("RegularExpression");
    assert_eq!(left_out(&heavy), ["HTTPRoute shop/a"], "{:#?}", heavy.findings);
    assert_eq!((heavy.mesh.routes.len(), services(&heavy).len()), (1, 1));
}

#[test]
fn what_of_a_grpc_route_becomes_a_regular_expression_weighs_as_one() {
    let with = |method: &str| {
        let matches = vec![format!("{{method: {{{method}}}}}"); 64].join(", ");
        let route = format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: a, namespace: shop}}\n\
             spec:\n  parentRefs: [{{group: '', kind: Service, name: z, port: 80}}]\n\
             \x20 rules: [{{matches: [{matches}]}}]\n"
        );
        let outcome = started(&[
            ("tenants", tenants("{compiledBytes: 1Mi}")),
            ("shop", route + &service("shop", "z", 1)),
        ]);
        left_out(&outcome)
    };
    for light in ["service: a.B, method: Get", "service: a.B"] {
        assert_eq!(with(light), [""; 0], "{light}");
    }
    for heavy in
        ["method: Get", "type: RegularExpression, service: a.B", "type: RegularExpression, method: Get"]
    {
        assert_eq!(with(heavy), ["GRPCRoute shop/a"], "{heavy}");
    }
}

fn standing<'a>(outcome: &'a Outcome, object: &str) -> Option<&'a Standing> {
    outcome
        .standings
        .iter()
        .map(|standing| &**standing)
        .find(|standing| standing.object.to_string() == object)
}

#[test]
fn of_many_objects_that_wait_some_are_told_of_and_the_number_of_the_others() {
    let texts = |from: u8| {
        let shop: String = (from..from + 40).map(|n| service("shop", &format!("s{n}"), n)).collect();
        files(&[("tenants", tenants("{updatesPerSecond: 1}")), ("all", shop)])
    };
    let mut store = Store::new(Options::default());
    store.apply_at(&texts(1), Duration::ZERO);
    let changed = store.apply_at(&texts(50), Duration::from_millis(1));
    let changed =
        if changed.again.is_none() { store.apply_at(&texts(100), Duration::from_millis(2)) } else { changed };
    assert_eq!(left_out(&changed).len(), 32);
    let told = changed.findings.iter().find(|finding| finding.reason == Reason::OverBudget).unwrap();
    assert!(told.message.ends_with("so are 48 objects more of it"), "{}", told.message);
}

#[test]
fn changes_that_come_too_fast_are_put_off_and_taken_up_together_and_nobody_else_waits() {
    let texts = |shop: &[u8], bank: &str| {
        let shop: String = shop.iter().map(|n| service("shop", &format!("s{n}"), *n)).collect();
        let policy = if bank == "x" { deny("shop", "p") } else { String::new() };
        files(&[
            ("tenants", tenants("{updatesPerSecond: 2}")),
            // Both tenants in one file.
            ("all", service("bank", bank, 101) + &shop + &policy),
        ])
    };
    let at = Duration::from_millis;
    let mut store = Store::new(Options::default());
    let first = store.apply_at(&texts(&[1], "x"), at(0));
    assert_eq!((services(&first), first.again), (vec!["bank/x".to_owned(), "shop/s1".to_owned()], None));
    for (time, shop) in [(10, &[1, 2][..]), (20, &[1, 2, 3])] {
        let outcome = store.apply_at(&texts(shop, "x"), at(time));
        assert_eq!(
            (services(&outcome).len(), outcome.again),
            (1 + shop.len(), None),
            "as many as in a second"
        );
    }
    // A third in the same second: its own wait, also what was removed; the other's do not.
    let early = store.apply_at(&texts(&[4], "y"), at(30));
    assert_eq!(services(&early), ["bank/y", "shop/s1", "shop/s2", "shop/s3"]);
    assert_eq!(early.mesh.authorization.len(), 1, "and so is a policy");
    assert_eq!(
        (early.again, left_out(&early).len()),
        (Some(at(480)), 5),
        "each object: {:#?}",
        early.findings
    );
    for (object, known) in [("s4", "new"), ("s1", "gone")] {
        let standing = standing(&early, &format!("Service shop/{object}")).unwrap();
        let programmed = standing.of(About::Programmed).unwrap();
        assert_eq!((programmed.status, programmed.reason), (false, "PutOff"), "{known}");
        let until = "put off until the next change of tenant team is due, in 500 ms at most";
        assert!(programmed.message.starts_with(until), "{}", programmed.message);
        assert!(standing.of(About::Accepted).unwrap().status, "nothing is wrong with it: {known}");
    }
    assert!(standing(&early, "Service bank/y").unwrap().is_well());
    let still = store.apply_at(&texts(&[5], "z"), at(100));
    assert!(standing(&still, "Service shop/s4").is_none(), "it went before its turn came");
    assert_eq!((services(&still).len(), still.again), (4, Some(at(410))));
    assert_eq!(services(&still)[0], "bank/z");
    let file_gone = files(&[("tenants", tenants("{updatesPerSecond: 2}"))]);
    let gone = store.apply_at(&file_gone, at(110));
    assert_eq!(services(&gone), ["shop/s1", "shop/s2", "shop/s3"]);
    let last = store.apply_at(&texts(&[6], "z"), at(510));
    assert_eq!((services(&last), last.again), (vec!["bank/z".to_owned(), "shop/s6".to_owned()], None));
    assert!(last.mesh.authorization.is_empty() && left_out(&last).is_empty());
    let told: Vec<String> = last.standings.iter().map(|standing| standing.object.to_string()).collect();
    let of_files = Store::new(Options::default()).apply(&texts(&[6], "z"));
    let fresh: Vec<String> = of_files.standings.iter().map(|standing| standing.object.to_string()).collect();
    assert_eq!(told, fresh, "who waited is told of as anybody");
    assert!(last.standings.iter().all(|standing| standing.is_well()));
    let again = store.apply_at(&texts(&[6], "z"), at(510));
    assert_eq!((again.again, again.changes.is_empty()), (None, true), "what does not change costs nothing");
}
