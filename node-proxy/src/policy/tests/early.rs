//! What the kernel is given and what is decided, compared for policies and callers at random.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use config::{
    identity::Identity,
    model::{Action, AuthorizationPolicy, AuthorizationRule, Clause, ConnectionMatch, Scope, TextMatch},
    name::{Name, Namespace, PolicyName},
};
use ipnet::IpNet;
use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};

use crate::{
    policy::{Inbound, decide_inbound, early},
    snapshot::policies::{InboundPolicy, PeerRule},
    telemetry::Reason,
};

/// Few, and within each other, so that rules and callers meet.
const NETWORKS: [&str; 9] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3/32",
    "11.0.0.0/8",
    "::/0",
    "fd00::/8",
    "fd00::1/128",
    "::fffe:0:0/95",
];
const CALLERS: [&str; 6] = ["10.1.2.3", "10.1.9.9", "10.2.0.1", "11.0.0.1", "fd00::1", "2001:db8::1"];
const PORTS: [u16; 3] = [80, 443, 9090];

fn networks() -> impl Strategy<Value = Vec<IpNet>> {
    vec(select(&NETWORKS[..]).prop_map(|text| text.parse().unwrap()), 0..3)
}

fn ports() -> impl Strategy<Value = Vec<u16>> {
    vec(select(&PORTS[..]), 0..3)
}

/// What the kernel can compare.
fn plain_match() -> impl Strategy<Value = ConnectionMatch> {
    (networks(), ports()).prop_map(|(source_ips, ports)| ConnectionMatch {
        source_ips,
        ports,
        ..Default::default()
    })
}

/// And what it cannot: one thing more, or nothing more.
fn any_match() -> impl Strategy<Value = ConnectionMatch> {
    (plain_match(), 0..12_u8, networks(), select(&PORTS[..])).prop_map(|(one, more, networks, port)| {
        let text = vec![TextMatch::Exact("web".to_owned())];
        let account = vec![("web".try_into().unwrap(), "front".try_into().unwrap())];
        match more {
            0 => ConnectionMatch { principals: vec![TextMatch::Present], ..one },
            1 => ConnectionMatch { not_principals: vec![TextMatch::Present], ..one },
            2 => ConnectionMatch { namespaces: text, ..one },
            3 => ConnectionMatch { not_namespaces: text, ..one },
            4 => ConnectionMatch { service_accounts: account, ..one },
            5 => ConnectionMatch { not_service_accounts: account, ..one },
            6 => ConnectionMatch { not_source_ips: networks, ..one },
            7 => ConnectionMatch { destination_ips: networks, ..one },
            8 => ConnectionMatch { not_destination_ips: networks, ..one },
            9 => ConnectionMatch { not_ports: vec![port], ..one },
            10 => ConnectionMatch { unenforceable: true, ..one },
            _ => one,
        }
    })
}

fn rules(one: impl Strategy<Value = ConnectionMatch>) -> impl Strategy<Value = Vec<AuthorizationRule>> {
    let clause = vec(one, 0..4).prop_map(|any| Clause { any });
    vec(vec(clause, 0..4).prop_map(|clauses| AuthorizationRule { clauses }), 0..3)
}

fn policy(action: Action, rules: Vec<AuthorizationRule>) -> Arc<AuthorizationPolicy> {
    let namespace = Namespace::try_from("shop").unwrap();
    let name = PolicyName::new(namespace.clone(), Name::try_from("policy").unwrap());
    Arc::new(AuthorizationPolicy { name, scope: Scope::Namespace(namespace), action, rules })
}

/// As compilation puts policies together.
fn protection() -> impl Strategy<Value = InboundPolicy> {
    let action = select(&[Action::Deny, Action::Deny, Action::Deny, Action::Allow, Action::Unreadable][..]);
    let policies = vec((action, rules(any_match())).prop_map(|(action, rules)| policy(action, rules)), 0..4);
    (policies, any::<bool>()).prop_map(|(policies, is_strict)| {
        let (allow, deny) = policies.into_iter().partition(|policy| policy.action == Action::Allow);
        let strict = is_strict.then(|| policy(Action::Deny, Vec::new()).name.clone());
        InboundPolicy { peers: PeerRule { strict, ports: Vec::new() }, deny, allow, doubtful: Vec::new() }
    })
}

fn caller() -> impl Strategy<Value = (IpAddr, u16)> {
    (select(&CALLERS[..]).prop_map(|text| text.parse().unwrap()), select(&[80, 443, 9090, 22][..]))
}

/// What the kernel does: any row will do.
fn is_denied_early(protection: &InboundPolicy, (client, port): (IpAddr, u16)) -> bool {
    let denials = early::denials(protection.deny.iter().map(|policy| &**policy)).denials;
    let matches = |ports: &[u16]| ports.is_empty() || ports.contains(&port);
    denials.iter().any(|denial| denial.cidr.contains(&client) && matches(&denial.ports))
}

fn decide(
    protection: &InboundPolicy,
    identity: Option<&Identity>,
    (client, port): (IpAddr, u16),
) -> Option<Reason> {
    let destination = (IpAddr::from([10, 0, 0, 9]), port).into();
    decide_inbound(protection, &Inbound { identity, client, destination }).err().map(|denied| denied.reason())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn nobody_is_refused_early_whom_the_decision_would_let_in(
        protection in protection(),
        caller in caller(),
    ) {
        let identity = |namespace: &str, account: &str| Identity {
            trust_domain: "cluster.local".try_into().unwrap(),
            namespace: namespace.try_into().unwrap(),
            service_account: account.try_into().unwrap(),
        };
        if is_denied_early(&protection, caller) {
            for identity in [None, Some(&identity("web", "front")), Some(&identity("bank", "teller"))] {
                prop_assert!(decide(&protection, identity, caller).is_some(), "{identity:?} would be let in");
            }
        }
    }

    #[test]
    fn what_needs_networks_and_ports_alone_is_refused_early_whenever_it_is_decided_so(
        rules in rules(plain_match()),
        caller in caller(),
    ) {
        let protection = InboundPolicy { deny: vec![policy(Action::Deny, rules)], ..InboundPolicy::default() };
        let decided = decide(&protection, None, caller) == Some(Reason::PolicyDenied);
        prop_assert_eq!(is_denied_early(&protection, caller), decided);
    }
}

/// That the properties above are asked about enough that is denied, and enough that is not.
#[test]
fn about_some_of_what_is_made_up_the_kernel_has_something_to_say() {
    let mut runner = TestRunner::new(ProptestConfig { cases: 1000, ..ProptestConfig::default() });
    let (denied, all) = (AtomicU32::new(0), AtomicU32::new(0));
    let both = (protection(), rules(plain_match()), caller());
    let ran = runner.run(&both, |(protection, rules, caller)| {
        let plain = InboundPolicy { deny: vec![policy(Action::Deny, rules)], ..InboundPolicy::default() };
        for protection in [protection, plain] {
            all.fetch_add(1, Relaxed);
            denied.fetch_add(u32::from(is_denied_early(&protection, caller)), Relaxed);
        }
        Ok(())
    });
    ran.unwrap();
    let (denied, all) = (denied.into_inner(), all.into_inner());
    assert!(denied > all / 20 && denied < all * 19 / 20, "{denied} of {all}");
}
