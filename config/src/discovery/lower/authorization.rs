//! Authorization: who may come in to workloads, by Istio's rules of clauses of matches.
//!
//! A condition that is not understood must never open anything: where it would allow it does not hold, where it would deny it does.

use std::sync::Arc;

use super::{Bad, Lowered, Note, Object, decode, facts, names, unknown};
use crate::{
    discovery::{Resource, messages},
    document::shorten,
    finding::Reason,
    model::{Action, AuthorizationPolicy, AuthorizationRule, Clause, ConnectionMatch, Scope},
    name::PolicyName,
};

mod conditions;

pub(super) fn lower(resource: &Resource) -> Result<Lowered, Bad> {
    let name = names::policy(&resource.name)?;
    let message: messages::Authorization = decode(&resource.body, "Authorization")?;
    if format!("{}/{}", message.namespace, message.name) != resource.name {
        let said = shorten(&format!("{}/{}", message.namespace, message.name));
        return Err(Bad::invalid(format!("says that it is {said}")));
    }
    if let Some(own) = facts::of_extension::<AuthorizationPolicy>(&message.extensions)? {
        facts::check_name(&own.name, &name)?;
        return Ok(Lowered { object: Object::Authorization(Arc::new(own)), notes: Vec::new() });
    }
    said(&message, &resource.body, name)
}

/// Istio's word.
fn said(message: &messages::Authorization, body: &[u8], name: PolicyName) -> Result<Lowered, Bad> {
    let not_known = |what: &str, number: i32| Bad::invalid(format!("its {what} {number} is not known here"));
    let scope = messages::Scope::try_from(message.scope).map_err(|_| not_known("scope", message.scope))?;
    let action = match messages::Action::try_from(message.action) {
        Ok(messages::Action::Allow) => Action::Allow,
        Ok(messages::Action::Deny) => Action::Deny,
        Err(_) => return Err(not_known("action", message.action)),
    };
    let mut rules = rules(message, body)?;
    // Whatever it is, it may narrow each of them.
    if unknown::has_others(&fields(body)?, &KNOWN) || !message.extensions.is_empty() {
        rules.iter_mut().for_each(|rule| rule.clauses.push(odd()));
    }
    let is_odd = |one: &ConnectionMatch| one.unenforceable;
    let odd = rules.iter().flat_map(|rule| &rule.clauses).flat_map(|clause| &clause.any).any(is_odd);
    let notes = if odd { vec![Note::not_obeyed(unenforceable(action))] } else { Vec::new() };
    if message.dry_run {
        let notes = vec![Note::not_obeyed(
            "a dry run: the policy decides nothing, and what it would decide is not logged",
        )];
        return Ok(Lowered { object: Object::DryRun(name), notes });
    }
    let by_scope = |scope| Arc::new(AuthorizationPolicy { scope, name: name.clone(), action, rules });
    let object = match scope {
        messages::Scope::Global => Object::Authorization(by_scope(Scope::Mesh)),
        messages::Scope::Namespace => {
            Object::Authorization(by_scope(Scope::Namespace(name.namespace.clone())))
        }
        messages::Scope::WorkloadSelector => Object::Named(by_scope(Scope::Pods(Default::default()))),
    };
    Ok(Lowered { object, notes })
}

fn unenforceable(action: Action) -> &'static str {
    match action {
        Action::Allow => {
            "has conditions that are not known here: an alternative that asks for one allows nothing"
        }
        Action::Deny | Action::Unreadable => {
            "has conditions that are not known here: each counts as true, so that more is denied than was asked for"
        }
    }
}

/// The fields of a policy; the last are others' extensions, since ours is read elsewhere.
const KNOWN: [u32; 7] = [1, 2, 3, 4, 5, 6, 7];
const RULES: u32 = 5;
const CLAUSES: u32 = 1;
const MATCHES: u32 = 2;

/// Decoded messages, with the bytes that each was decoded from.
fn with_bytes<'a, M>(
    decoded: &'a [M],
    fields: &[unknown::Field<'a>],
    number: u32,
) -> Result<Vec<(&'a M, &'a [u8])>, Bad> {
    let bytes = unknown::messages(fields, number);
    if bytes.len() != decoded.len() {
        return Err(unwalkable());
    }
    Ok(decoded.iter().zip(bytes).collect())
}

fn fields(bytes: &[u8]) -> Result<Vec<unknown::Field<'_>>, Bad> {
    unknown::fields(bytes).ok_or_else(unwalkable)
}

fn unwalkable() -> Bad {
    Bad::new(Reason::Malformed, "its rules are written in a way that is not read here")
}

fn rules<'a>(message: &'a messages::Authorization, body: &'a [u8]) -> Result<Vec<AuthorizationRule>, Bad> {
    let all = with_bytes(&message.rules, &fields(body)?, RULES)?;
    all.into_iter().map(|(rule, bytes)| self::rule(rule, bytes)).collect()
}

/// An unknown field of a rule is one more clause.
fn rule<'a>(rule: &'a messages::Rule, bytes: &'a [u8]) -> Result<AuthorizationRule, Bad> {
    let fields = fields(bytes)?;
    let all = with_bytes(&rule.clauses, &fields, CLAUSES)?;
    let clauses = all.into_iter().map(|(clause, bytes)| self::clause(clause, bytes));
    let mut clauses: Vec<Clause> = clauses.filter_map(Result::transpose).collect::<Result<_, Bad>>()?;
    if unknown::has_others(&fields, &[CLAUSES]) {
        clauses.push(odd());
    }
    Ok(AuthorizationRule { clauses })
}

/// `None` of one that says nothing and so holds. An unknown field could narrow or widen it: nothing of it is believed.
fn clause<'a>(clause: &'a messages::Clause, bytes: &'a [u8]) -> Result<Option<Clause>, Bad> {
    let fields = fields(bytes)?;
    if unknown::has_others(&fields, &[MATCHES]) {
        return Ok(Some(odd()));
    }
    let all = with_bytes(&clause.matches, &fields, MATCHES)?;
    let any = all.into_iter().map(|(one, bytes)| conditions::lower(one, bytes));
    // A match that says nothing is passed over: it never holds.
    let any = any.filter_map(Result::transpose).collect::<Result<Vec<ConnectionMatch>, Bad>>()?;
    Ok((!clause.matches.is_empty()).then_some(Clause { any }))
}

fn odd() -> Clause {
    Clause { any: vec![ConnectionMatch { unenforceable: true, ..ConnectionMatch::default() }] }
}
