//! An AuthorizationPolicy as `istio.security.Authorization`.
//!
//! The two differ where a list is empty: to Istio a clause without matches is true and a match without fields is false, in the model
//! it is the other way round. What Istio cannot say must never be said more openly: an ALLOW of it matches nothing.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;

use crate::{
    discovery::messages::{
        self, Authorization, Block, Empty, Match, ServiceAccountMatch, StringMatch, string_match::Type,
    },
    model::{
        Action, AuthorizationPolicy, AuthorizationRule, Clause, ConnectionMatch, Scope, Service, TextMatch,
        Workload, has_all,
    },
    name::{Namespace, ServiceAccount, ServiceName},
};

/// How workloads come by a policy, in Istio's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::discovery) enum Reach {
    /// All have it.
    Mesh,
    /// All of the policy's namespace have it.
    Namespace,
    /// Those that name it, which are of this namespace, or of any.
    Named(Option<Namespace>),
}

/// How workloads come by a policy.
pub(in crate::discovery) fn reach(policy: &AuthorizationPolicy) -> Reach {
    match &policy.scope {
        Scope::Mesh => Reach::Mesh,
        Scope::Namespace(namespace) if *namespace == policy.name.namespace => Reach::Namespace,
        Scope::Namespace(namespace) => Reach::Named(Some(namespace.clone())),
        Scope::Selected { namespace, .. } => Reach::Named(namespace.clone()),
        Scope::Services(_) => Reach::Named(Some(policy.name.namespace.clone())),
        Scope::Pods(_) => Reach::Named(None),
    }
}

/// Whether a workload in the reach of a policy has to name it. Where nobody can tell who is behind a Service, all have to.
pub(in crate::discovery) fn is_about(
    policy: &AuthorizationPolicy,
    workload: &Workload,
    services: &BTreeMap<ServiceName, Arc<Service>>,
) -> bool {
    let in_reach = match reach(policy) {
        Reach::Mesh | Reach::Namespace => return false,
        Reach::Named(namespace) => namespace.is_none_or(|namespace| namespace == workload.pod.namespace),
    };
    in_reach
        && match &policy.scope {
            Scope::Selected { labels, .. } => has_all(&workload.labels, labels),
            Scope::Services(names) => {
                let has = |service: &Arc<Service>| service.members.have(&service.name, workload);
                !is_resolved(policy, services) || names.iter().filter_map(|name| services.get(name)).any(has)
            }
            Scope::Pods(pods) => pods.contains(&workload.pod),
            Scope::Mesh | Scope::Namespace(_) => true,
        }
}

/// Whether it is known whom a policy is about.
fn is_resolved(policy: &AuthorizationPolicy, services: &BTreeMap<ServiceName, Arc<Service>>) -> bool {
    let Scope::Services(names) = &policy.scope else { return true };
    names.iter().all(|name| services.get(name).is_some_and(|service| service.members.known))
}

/// The message of a policy.
pub(in crate::discovery) fn raise(
    policy: &AuthorizationPolicy,
    services: &BTreeMap<ServiceName, Arc<Service>>,
) -> Authorization {
    let scope = match reach(policy) {
        Reach::Mesh => messages::Scope::Global,
        Reach::Namespace => messages::Scope::Namespace,
        Reach::Named(_) => messages::Scope::WorkloadSelector,
    };
    let rules = || policy.rules.iter().filter_map(|it| rule(it, policy.action)).collect();
    let (action, rules) = match policy.action {
        Action::Allow if is_resolved(policy, services) => (messages::Action::Allow, rules()),
        // It may be about workloads that others allow more for, to which it must add nothing: matches nothing.
        Action::Allow => (messages::Action::Allow, Vec::new()),
        Action::Deny => (messages::Action::Deny, rules()),
        // A rule without clauses matches everything.
        Action::Unreadable => (messages::Action::Deny, vec![messages::Rule::default()]),
    };
    Authorization {
        name: policy.name.name.as_str().to_owned(),
        namespace: policy.name.namespace.as_str().to_owned(),
        scope: scope.into(),
        action: action.into(),
        rules,
        dry_run: false,
        extensions: vec![super::extension(policy)],
    }
}

/// `None` for a rule that matches nothing.
fn rule(rule: &AuthorizationRule, action: Action) -> Option<messages::Rule> {
    let clauses: Option<Vec<_>> = rule.clauses.iter().map(|it| clause(it, action)).collect();
    Some(messages::Rule { clauses: clauses?.into_iter().flatten().collect() })
}

/// `None` for one that is never true, `Some(None)` for one that always is.
fn clause(clause: &Clause, action: Action) -> Option<Option<messages::Clause>> {
    // What connections do not show holds where it denies, and never where it allows.
    let may_hold = |it: &&ConnectionMatch| !it.unenforceable || action == Action::Deny;
    let matches: Vec<Match> = clause.any.iter().filter(may_hold).map(one).collect();
    if matches.is_empty() {
        return None;
    }
    let holds = matches.iter().any(|it| *it == Match::default());
    Some((!holds).then_some(messages::Clause { matches }))
}

fn one(it: &ConnectionMatch) -> Match {
    Match {
        namespaces: texts(&it.namespaces),
        not_namespaces: texts(&it.not_namespaces),
        principals: texts(&it.principals),
        not_principals: texts(&it.not_principals),
        source_ips: blocks(&it.source_ips),
        not_source_ips: blocks(&it.not_source_ips),
        destination_ips: blocks(&it.destination_ips),
        not_destination_ips: blocks(&it.not_destination_ips),
        destination_ports: it.ports.iter().copied().map(u32::from).collect(),
        not_destination_ports: it.not_ports.iter().copied().map(u32::from).collect(),
        service_accounts: accounts(&it.service_accounts),
        not_service_accounts: accounts(&it.not_service_accounts),
        extensions: Vec::new(),
    }
}

fn texts(texts: &[TextMatch]) -> Vec<StringMatch> {
    let text = |text: &TextMatch| {
        let r#type = match text {
            TextMatch::Exact(text) => Type::Exact(text.clone()),
            // Nobody's identity begins with nothing; Istio lets a caller without one be like that.
            TextMatch::Prefix(text) | TextMatch::Suffix(text) if text.is_empty() => Type::Presence(Empty {}),
            TextMatch::Prefix(text) => Type::Prefix(text.clone()),
            TextMatch::Suffix(text) => Type::Suffix(text.clone()),
            TextMatch::Present => Type::Presence(Empty {}),
        };
        StringMatch { r#type: Some(r#type) }
    };
    texts.iter().map(text).collect()
}

fn blocks(nets: &[IpNet]) -> Vec<Block> {
    nets.iter()
        .map(|net| Block { address: super::bytes(net.addr()), length: net.prefix_len().into() })
        .collect()
}

fn accounts(accounts: &[(Namespace, ServiceAccount)]) -> Vec<ServiceAccountMatch> {
    let account = |(namespace, account): &(Namespace, ServiceAccount)| ServiceAccountMatch {
        namespace: namespace.as_str().to_owned(),
        service_account: account.as_str().to_owned(),
    };
    accounts.iter().map(account).collect()
}
