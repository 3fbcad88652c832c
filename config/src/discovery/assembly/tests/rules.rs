//! Authorization in Istio's words: what is understood, and that what is not opens nothing.

use super::*;
use crate::{
    discovery::messages::{Action, Scope},
    model::{Action as Does, ConnectionMatch, Scope as About, TextMatch},
};

fn of(message: &Authorization) -> Made {
    made(vec![(Kind::Authorization, vec![of_authorization(message)])])
}

fn matches(policy: &AuthorizationPolicy) -> Vec<Vec<Vec<ConnectionMatch>>> {
    let clauses = |rule: &crate::model::AuthorizationRule| {
        rule.clauses.iter().map(|clause| clause.any.clone()).collect()
    };
    policy.rules.iter().map(clauses).collect()
}

#[test]
fn a_policy_says_what_its_rules_say() {
    let allow = only(Match {
        principals: vec![exact("cluster.local/ns/shop/sa/web"), present()],
        ..Match::default()
    });
    let deny =
        only(Match { destination_ports: vec![8080], not_destination_ports: vec![9090], ..Match::default() });
    let allow =
        own_policy(&of(&authorization("shop/a", Scope::Namespace, Action::Allow, vec![allow])), "shop/a");
    let deny = own_policy(&of(&authorization("root/d", Scope::Global, Action::Deny, vec![deny])), "root/d");
    assert_eq!(
        (allow.action, allow.scope.clone()),
        (Does::Allow, About::Namespace("shop".try_into().unwrap()))
    );
    let principals = vec![TextMatch::Exact("cluster.local/ns/shop/sa/web".to_owned()), TextMatch::Present];
    assert_eq!(matches(&allow), [[[ConnectionMatch { principals, ..ConnectionMatch::default() }]]]);
    assert_eq!((deny.action, deny.scope.clone()), (Does::Deny, About::Mesh));
    let ports = ConnectionMatch { ports: vec![8080], not_ports: vec![9090], ..ConnectionMatch::default() };
    assert_eq!(matches(&deny), [[[ports]]]);
}

#[test]
fn a_strict_namespace_refuses_those_who_prove_nothing() {
    let strict = only(Match { not_principals: vec![present()], ..Match::default() });
    let name = "istio-system/istio_converted_static_strict";
    let message = authorization(name, Scope::WorkloadSelector, Action::Deny, vec![strict]);
    let mut named = workload("shop/cart-0", "10.1.0.5");
    named.authorization_policies = vec![name.to_owned()];
    let others = [named, workload("shop/cart-1", "10.1.0.6")].map(of_workload);
    let made =
        made(vec![(Kind::Authorization, vec![of_authorization(&message)]), (Kind::Address, others.into())]);
    let policies: Vec<_> = made.mesh.authorization.values().collect();
    let [policy] = policies.as_slice() else { panic!("{policies:?}") };
    assert!(
        policy.name.to_string().starts_with("istio-system/istio-converted-static-strict-"),
        "{}",
        policy.name
    );
    assert_eq!(
        policy.scope,
        About::Pods([pod("shop/cart-0")].into()),
        "about those that name it, of any namespace"
    );
    let refused = ConnectionMatch { not_principals: vec![TextMatch::Present], ..ConnectionMatch::default() };
    assert_eq!((policy.action, matches(policy)), (Does::Deny, vec![vec![vec![refused]]]));
}

#[test]
fn a_policy_is_about_the_pods_that_name_it_as_they_come_and_go() {
    let mut assembly = assembly();
    let rule = only(Match { principals: vec![present()], ..Match::default() });
    let message = authorization("shop/only", Scope::WorkloadSelector, Action::Allow, vec![rule]);
    assembly.take(Kind::Authorization, vec![of_authorization(&message)], &[]);
    let scope = |assembly: &mut Assembly| own_policy(&assembly.make(), "shop/only").scope;
    assert_eq!(scope(&mut assembly), About::Pods([].into()));
    let mut named = workload("shop/cart-0", "10.1.0.5");
    named.authorization_policies = vec!["shop/only".to_owned()];
    assembly.take(Kind::Address, vec![of_workload(named)], &[]);
    assert_eq!(scope(&mut assembly), About::Pods([pod("shop/cart-0")].into()));
    assembly.take(Kind::Address, vec![of_workload(workload("shop/cart-0", "10.1.0.5"))], &[]);
    assert_eq!(scope(&mut assembly), About::Pods([].into()));
}

/// Appends a field that nobody knows to the innermost message of these, each in a field of the one before.
fn with_unknown(path: &[u8], inner: &[u8]) -> Vec<u8> {
    match path.split_first() {
        None => [inner, &[0xfa, 0x06, 1, 7]].concat(),
        Some((number, rest)) => {
            let nested = with_unknown(rest, inner);
            [&[number << 3 | 2, u8::try_from(nested.len()).unwrap()], nested.as_slice()].concat()
        }
    }
}

#[test]
fn a_condition_that_nobody_knows_holds_where_it_would_deny_and_not_where_it_would_allow() {
    let port = Match { destination_ports: vec![8080], ..Match::default() }.encode_to_vec();
    let plain = ConnectionMatch { ports: vec![8080], ..ConnectionMatch::default() };
    let odd = ConnectionMatch { unenforceable: true, ..ConnectionMatch::default() };
    let odd_port = ConnectionMatch { unenforceable: true, ..plain.clone() };
    let clause =
        Clause { matches: vec![Match { destination_ports: vec![8080], ..Match::default() }] }.encode_to_vec();
    let rule = Rule { clauses: vec![Clause { matches: Vec::new() }] }.encode_to_vec();
    let principal = exact("cluster.local/ns/shop/sa/web").encode_to_vec();
    let extended = vec![only(Match { extensions: vec![Extension::default()], ..Match::default() })];
    for (what, rules, expected) in [
        ("in a match", with_unknown(&[5, 1, 2], &port), vec![vec![odd_port]]),
        ("in a clause", with_unknown(&[5, 1], &clause), vec![vec![odd.clone()]]),
        ("in a rule", with_unknown(&[5], &rule), vec![vec![odd.clone()]]),
        ("in a text", with_unknown(&[5, 1, 2, 3], &principal), vec![vec![odd.clone()]]),
        ("an unknown way of comparing", with_unknown(&[5, 1, 2, 3], &[]), vec![vec![odd.clone()]]),
        ("in a text that is not to be", with_unknown(&[5, 1, 2, 4], &principal), vec![vec![odd.clone()]]),
        (
            "in a network",
            with_unknown(&[5, 1, 2, 5], &[0x0a, 4, 10, 0, 0, 0, 0x10, 8]),
            vec![vec![odd.clone()]],
        ),
        (
            "in an account",
            with_unknown(&[5, 1, 2, 11], &[0x0a, 1, b'a', 0x12, 1, b'b']),
            vec![vec![odd.clone()]],
        ),
        (
            "an extension of a match",
            Authorization { rules: extended, ..Default::default() }.encode_to_vec(),
            vec![vec![odd]],
        ),
    ] {
        for action in [Action::Allow, Action::Deny] {
            let mut body = authorization("shop/x", Scope::Namespace, action, Vec::new()).encode_to_vec();
            body.extend(&rules);
            let made = made(vec![(Kind::Authorization, vec![resource("shop/x", body)])]);
            let policy = own_policy(&made, "shop/x");
            assert_eq!(matches(&policy), std::slice::from_ref(&expected), "{what} {action:?}");
            let said = (Severity::NotObeyed, Reason::NotObeyed, "discovery/Authorization/shop/x".to_owned());
            assert_eq!(told(&made), [said], "{what}");
        }
    }
}

#[test]
fn what_would_be_like_everybody_or_nobody_is_not_believed() {
    let prefix = |text: &str| StringMatch { r#type: Some(string_match::Type::Prefix(text.to_owned())) };
    let suffix = StringMatch { r#type: Some(string_match::Type::Suffix(String::new())) };
    for value in [
        exact(""),
        prefix(""),
        suffix,
        exact("spiffe://cluster.local/ns/a/sa/b"),
        StringMatch { r#type: None },
    ] {
        let rule = only(Match { principals: vec![present(), value.clone()], ..Match::default() });
        let policy =
            own_policy(&of(&authorization("shop/x", Scope::Namespace, Action::Deny, vec![rule])), "shop/x");
        let odd = ConnectionMatch { unenforceable: true, ..ConnectionMatch::default() };
        assert_eq!(matches(&policy), [[[odd]]], "{value:?}");
    }
}

#[test]
fn a_clause_without_matches_holds_and_a_match_that_says_nothing_is_passed_over() {
    let empty = Rule { clauses: vec![Clause { matches: Vec::new() }] };
    let policy = |rule| {
        own_policy(&of(&authorization("shop/x", Scope::Namespace, Action::Allow, vec![rule])), "shop/x")
    };
    assert_eq!(matches(&policy(empty)), [Vec::<Vec<ConnectionMatch>>::new()], "any connection");
    assert_eq!(matches(&policy(only(Match::default()))), [[Vec::<ConnectionMatch>::new()]], "no connection");
}

#[test]
fn a_dry_run_decides_nothing_and_that_is_said() {
    let rule = only(Match { destination_ports: vec![80], ..Match::default() });
    let message =
        Authorization { dry_run: true, ..authorization("shop/x", Scope::Global, Action::Deny, vec![rule]) };
    let made = of(&message);
    assert!(made.mesh.authorization.is_empty());
    assert!(made.findings[0].message.starts_with("a dry run"), "{:?}", made.findings);
}

#[test]
fn a_policy_with_a_value_that_is_none_is_refused_whole() {
    let block = |address: &[u8], length| messages::Block { address: address.to_vec(), length };
    let bad = [
        Match { destination_ports: vec![0], ..Match::default() },
        Match { destination_ports: vec![70_000], ..Match::default() },
        Match { source_ips: vec![block(&[10, 0, 0, 0], 33)], ..Match::default() },
        Match { source_ips: vec![block(&[10, 0, 0], 8)], ..Match::default() },
    ];
    for one in bad {
        let mut assembly = assembly();
        let message = authorization("shop/x", Scope::Namespace, Action::Deny, vec![only(one.clone())]);
        assert_eq!(
            assembly.take(Kind::Authorization, vec![of_authorization(&message)], &[]).len(),
            1,
            "{one:?}"
        );
        assert_eq!(own_policy(&assembly.make(), "shop/x").action, Does::Unreadable, "{one:?}");
    }
}

#[test]
fn a_word_about_a_policy_that_is_not_known_narrows_what_it_allows_to_nothing() {
    let rule = Rule { clauses: Vec::new() };
    for action in [Action::Allow, Action::Deny] {
        let policy = authorization("shop/p", Scope::Namespace, action, vec![rule.clone()]);
        let mut body = policy.encode_to_vec();
        // Field 100, a number.
        body.extend([0xa0, 0x06, 1]);
        let made = made(vec![(Kind::Authorization, vec![resource("shop/p", body)])]);
        let policy = made.mesh.authorization.values().next().unwrap();
        let odd = policy.rules[0].clauses.iter().flat_map(|clause| &clause.any).any(|one| one.unenforceable);
        assert!(odd, "{action:?}");
    }
}
