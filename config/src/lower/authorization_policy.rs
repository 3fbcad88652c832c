//! AuthorizationPolicy (security.istio.io): who may connect to whom.
//!
//! What cannot be enforced on connections must never open anything: it is kept as such, and reported. Nothing here
//! decides.

use serde::{Deserialize, Serialize};

use super::{
    Context, Meta, Place,
    scope::{self, Home},
};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    model::{Action, AuthorizationPolicy, AuthorizationRule, Scope},
    name::{PolicyName, RootNamespace},
};

pub(in crate::lower) use self::values::network;

mod conditions;
mod names;
mod operations;
mod sources;
mod values;

/// A policy whose targets have not been looked up yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AuthorizationDraft {
    /// `None` for one that decides nothing here: another action, a dry run, a target of somebody else's.
    pub(crate) policy: Option<AuthorizationPolicy>,
    /// Where its target Services are written.
    pub(crate) targets_place: Option<Place>,
}

const SPEC: [&str; 6] = ["action", "provider", "rules", "selector", "targetRef", "targetRefs"];
/// Written by those who want to see what a policy would do.
const DRY_RUN: &str = "istio.io/dry-run";

pub(super) fn lower(
    context: &mut Context<'_>,
    root: &Node,
    meta: Meta,
    root_namespace: &RootNamespace,
) -> Option<AuthorizationDraft> {
    let empty = Node { value: crate::document::Value::Map(Vec::new()), at: root.at };
    // Without a spec, it allows nothing.
    let spec = root.get("spec").unwrap_or(&empty);
    let namespace = meta.namespace?;
    let home = Home::new(&namespace, root_namespace);
    let action = action(context, root, spec)?;
    let targets = scope::targets(context, spec, home);
    let deciding = action.unwrap_or(Action::Allow);
    let rules = spec.items_of("rules").iter().filter_map(|node| rule(context, node, &namespace, deciding));
    let rules: Vec<_> = rules.collect();
    if deciding == Action::Deny && spec.items_of("rules").is_empty() {
        // Istio refuses it, too. The end of a file may be lost.
        let message =
            "required: a policy that denies says what. Add rules, or an empty rule {} for everything";
        context.missing(spec, "rules", message);
    }
    let targets_place = spec.get("targetRefs").or(spec.get("targetRef")).map(|node| context.place(node));
    let scope = match (targets, scope::selector(spec)) {
        // All of its targets are somebody else's.
        (Some(services), _) if services.is_empty() => {
            return Some(AuthorizationDraft { policy: None, targets_place });
        }
        (Some(services), _) => Scope::Services(services),
        (None, Some(labels)) => {
            Scope::Selected { namespace: (!home.is_root).then(|| namespace.clone()), labels }
        }
        (None, None) => home.whole(),
    };
    let name = PolicyName::new(namespace.clone(), meta.name);
    let policy = action.map(|action| AuthorizationPolicy { name, scope, action, rules });
    Some(AuthorizationDraft { policy, targets_place })
}

/// What is in force in the place of a policy that cannot be read.
pub(super) fn unreadable(
    root: &Node,
    meta: Meta,
    root_namespace: &RootNamespace,
) -> Option<AuthorizationPolicy> {
    let namespace = meta.namespace?;
    let scope = scope::of_unreadable(root.get("spec"), Home::new(&namespace, root_namespace), &SPEC);
    Some(AuthorizationPolicy::unreadable(PolicyName::new(namespace, meta.name), scope))
}

/// The action; `Some(None)` for one that never decides.
fn action(context: &mut Context<'_>, root: &Node, spec: &Node) -> Option<Option<Action>> {
    let node = spec.get("action");
    let action = match node.and_then(Node::text) {
        None | Some("ALLOW") => Some(Action::Allow),
        Some("DENY") => Some(Action::Deny),
        Some("CUSTOM") => {
            let message =
                "no external authorizer is asked, so none can agree: what the rules match is denied";
            context.note(Severity::NotObeyed, Reason::NotObeyed, node?, message);
            Some(Action::Deny)
        }
        Some("AUDIT") => {
            let message =
                "has no part in decisions, and there is no audit log: every connection is in the access log";
            context.note(Severity::NotObeyed, Reason::NotObeyed, node?, message);
            None
        }
        Some(_) => {
            context.invalid(node?, format!("must be ALLOW, DENY, CUSTOM or AUDIT, not {}", node?.describe()));
            return None;
        }
    };
    let dry_run = root.at_path(&["metadata", "annotations", DRY_RUN]);
    if let Some(node) = dry_run.filter(|node| node.text() == Some("true")) {
        let message = "a dry run: the policy decides nothing, and what it would decide is not logged";
        context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
        return Some(None);
    }
    Some(action)
}

fn rule(
    context: &mut Context<'_>,
    node: &Node,
    namespace: &crate::name::Namespace,
    action: Action,
) -> Option<AuthorizationRule> {
    let from = values::alternatives(context, node, "from", |context, item| {
        let source = values::one(context, item, "source")?;
        sources::lower(context, source, namespace, action)
    });
    let to = values::alternatives(context, node, "to", |context, item| {
        let operation = values::one(context, item, "operation")?;
        operations::lower(context, operation, action)
    });
    let when = node.items_of("when").iter();
    let when = when.filter_map(|item| conditions::lower(context, item, namespace, action));
    let mut clauses: Vec<_> = when.collect();
    clauses.extend(from.into_iter().chain(to));
    Some(AuthorizationRule { clauses })
}
