//! What no manifest says in this way, but an object of the model may: where the words of the two differ most.

use std::collections::BTreeMap;

use super::{
    authorization::{Reach, is_about, raise, reach},
    service::{PortOf, pods},
};
use crate::{
    discovery::messages::{
        Authorization, Clause as TheirClause, Empty, Match, Rule, StringMatch, string_match,
    },
    identity::{Identity, TrustDomain},
    model::{
        Action, AppProtocol, AuthorizationPolicy, AuthorizationRule, Clause, ConnectionMatch, Endpoint,
        Scope, Service, ServicePort, TextMatch, Workload,
    },
    name::{Name, Namespace, PodName, PolicyName, ServiceAccount, ServiceName, TenantId},
};

fn namespace(name: &str) -> Namespace {
    Namespace::try_from(name).unwrap()
}

fn name(name: &str) -> Name {
    Name::try_from(name).unwrap()
}

/// All of the clauses, any of the matches of each.
type Clauses<'a> = &'a [&'a [ConnectionMatch]];

fn policy(action: Action, clauses: Clauses<'_>) -> AuthorizationPolicy {
    let clauses = clauses.iter().map(|any| Clause { any: any.to_vec() }).collect();
    AuthorizationPolicy {
        name: PolicyName::new(namespace("shop"), name("p")),
        scope: Scope::Namespace(namespace("shop")),
        action,
        rules: vec![AuthorizationRule { clauses }],
    }
}

fn raised(policy: &AuthorizationPolicy) -> Authorization {
    raise(policy, &BTreeMap::new())
}

fn ports(ports: &[u16]) -> ConnectionMatch {
    ConnectionMatch { ports: ports.to_vec(), ..ConnectionMatch::default() }
}

fn unenforceable(one: ConnectionMatch) -> ConnectionMatch {
    ConnectionMatch { unenforceable: true, ..one }
}

/// A rule whose clauses are of one match each, which is of one port.
fn of_ports(ports: &[u32]) -> Option<Rule> {
    let one = |port: &u32| Match { destination_ports: vec![*port], ..Match::default() };
    let clauses = ports.iter().map(|port| TheirClause { matches: vec![one(port)] }).collect();
    Some(Rule { clauses })
}

#[test]
fn clauses_that_are_empty_mean_what_they_mean_here() {
    let everything = ConnectionMatch::default;
    let table: [(&str, Clauses<'_>, Option<Rule>); 6] = [
        ("no clause: true", &[], of_ports(&[])),
        ("one of no match: false", &[&[ports(&[1])], &[]], None),
        ("one of anything: true", &[&[ports(&[1])], &[everything()]], of_ports(&[1])),
        ("or of anything: true", &[&[ports(&[1]), everything()], &[ports(&[2])]], of_ports(&[2])),
        ("all of anything: true", &[&[everything()]], of_ports(&[])),
        ("two", &[&[ports(&[1])], &[ports(&[2])]], of_ports(&[1, 2])),
    ];
    for (row, clauses, expected) in table {
        for action in [Action::Allow, Action::Deny] {
            let rules = raised(&policy(action, clauses)).rules;
            assert_eq!(rules, expected.clone().into_iter().collect::<Vec<_>>(), "{row} {action:?}");
        }
    }
}

#[test]
fn what_connections_do_not_show_holds_where_it_denies_and_never_where_it_allows() {
    let table: [(&str, Clauses<'_>, Option<Rule>, Option<Rule>); 4] = [
        ("alone", &[&[unenforceable(ports(&[]))]], None, of_ports(&[])),
        ("with what they show", &[&[unenforceable(ports(&[1]))]], None, of_ports(&[1])),
        (
            "in place of what they show",
            &[&[unenforceable(ports(&[])), ports(&[1])]],
            of_ports(&[1]),
            of_ports(&[]),
        ),
        ("beside what they show", &[&[ports(&[1])], &[unenforceable(ports(&[2]))]], None, of_ports(&[1, 2])),
    ];
    for (row, clauses, allows, denies) in table {
        for (action, expected) in [(Action::Allow, allows), (Action::Deny, denies)] {
            let rules = raised(&policy(action, clauses)).rules;
            assert_eq!(rules, expected.into_iter().collect::<Vec<_>>(), "{row} {action:?}");
        }
    }
}

#[test]
fn a_text_that_begins_or_ends_with_nothing_is_that_there_is_an_identity() {
    for text in [TextMatch::Prefix(String::new()), TextMatch::Suffix(String::new()), TextMatch::Present] {
        let one = ConnectionMatch { not_namespaces: vec![text], ..ConnectionMatch::default() };
        let rules = raised(&policy(Action::Deny, &[&[one]])).rules;
        let expected = StringMatch { r#type: Some(string_match::Type::Presence(Empty {})) };
        assert_eq!(rules[0].clauses[0].matches[0].not_namespaces, [expected]);
    }
}

#[test]
fn what_cannot_be_read_denies_everything_whatever_rules_it_has() {
    let raised = raised(&policy(Action::Unreadable, &[&[]]));
    assert_eq!(raised.action(), crate::discovery::messages::Action::Deny);
    assert_eq!(raised.rules, [Rule::default()]);
}

#[test]
fn a_policy_of_a_whole_namespace_that_is_not_its_own_is_named_by_its_workloads() {
    let mut policy = policy(Action::Allow, &[]);
    assert_eq!(reach(&policy), Reach::Namespace);
    policy.scope = Scope::Namespace(namespace("bank"));
    assert_eq!(reach(&policy), Reach::Named(Some(namespace("bank"))));
    for (of, expected) in [("bank", true), ("shop", false)] {
        let identity = Identity {
            trust_domain: TrustDomain::default(),
            namespace: namespace(of),
            service_account: ServiceAccount::try_from("default").unwrap(),
        };
        let pod = PodName::new(namespace(of), name("p"));
        let pod = Workload::new(pod, TenantId::Namespace(namespace(of)), identity);
        assert_eq!(is_about(&policy, &pod, &BTreeMap::new()), expected, "{of}");
    }
}

#[test]
fn a_pod_with_an_address_of_each_family_answers_on_one_port_and_says_what_it_speaks() {
    let pod = |of: &str| PodName::new(namespace("shop"), name(of));
    let endpoint = |address: &str, of: &str, ready, protocol| Endpoint {
        ready,
        workload: Some(pod(of)),
        ..Endpoint::new(address.parse().unwrap(), protocol)
    };
    let endpoints = vec![
        endpoint("10.0.0.1:8080", "both", false, AppProtocol::Undeclared),
        endpoint("[fd00::1]:8080", "both", true, AppProtocol::Undeclared),
        endpoint("10.0.0.2:8080", "own", true, AppProtocol::Tcp),
        endpoint("10.0.0.3:8080", "third", true, AppProtocol::Tcp),
    ];
    let port = ServicePort { number: 80, name: None, protocol: AppProtocol::Http1, endpoints };
    let name = ServiceName::new(namespace("shop"), name("web"));
    let service = Service { ports: vec![port], ..Service::new(name) };
    let said = pods(&service);
    let port = |protocol| PortOf { number: 80, target: 8080, protocol, ready: true };
    assert_eq!(*said[&pod("both")], [port(AppProtocol::Http1)]);
    assert_eq!(*said[&pod("own")], [port(AppProtocol::Tcp)]);
    assert!(
        std::sync::Arc::ptr_eq(&said[&pod("own")], &said[&pod("third")]),
        "what is said alike is held once"
    );
}
