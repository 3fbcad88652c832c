//! What stands in for security objects of which no version can be in force, and what is told about it.
//!
//! Placed after all others, under names that nobody has: it must never replace a policy that is in force, and is never
//! among the versions to fall back on.

use std::sync::Arc;

use super::{Candidate, Doubt, Linking, policies};
use crate::{
    finding::{Finding, Reason, Severity},
    lower::{AuthorizationDraft, Draft, Lowered},
    model::Scope,
    name::{Name, Namespace, PolicyName},
};

/// Puts the stand-in of a candidate into force, unless a version of it is.
pub(super) fn place(linking: &mut Linking, candidate: &Candidate) {
    let Some(version) = candidate.stand_in.as_ref().filter(|_| !linking.used.contains_key(&candidate.object))
    else {
        return;
    };
    let mut renamed = (**version).clone();
    let name = match &mut renamed.draft {
        Draft::Authorization(AuthorizationDraft { policy: Some(policy), .. }) => &mut policy.name,
        Draft::PeerAuthentication(peers) => &mut peers.name,
        Draft::Network(policy) => &mut policy.name,
        _ => return,
    };
    *name = free(name, |name| is_taken(linking, version, name));
    if policies::place(linking, &Arc::new(renamed)).is_ok() {
        linking.findings.push(stood_in(candidate, version));
        linking.stood_in.insert(candidate.object.clone(), Arc::clone(version));
    }
}

fn is_taken(linking: &Linking, version: &Lowered, name: &PolicyName) -> bool {
    match &version.draft {
        Draft::Authorization(_) => linking.mesh.authorization.contains_key(name),
        Draft::PeerAuthentication(_) => linking.mesh.peer_authentication.contains_key(name),
        _ => linking.mesh.network_policies.contains_key(name),
    }
}

/// The name, or one like it that nobody has.
fn free(name: &PolicyName, is_taken: impl Fn(&PolicyName) -> bool) -> PolicyName {
    let text = name.name.as_str();
    let stem = text[..text.len().min(STEM)].trim_end_matches(['-', '.']);
    let numbered = |number: u32| Name::try_from(format!("{stem}-{number}").as_str()).ok();
    let others = (2..).map_while(numbered).map(|other| PolicyName::new(name.namespace.clone(), other));
    let mut names = std::iter::once(name.clone()).chain(others);
    names.find(|name| !is_taken(name)).unwrap_or_else(|| name.clone())
}

/// Names have at most 253 characters; a number has at most ten.
const STEM: usize = 240;

/// Tells what is in force in the place of an object, for whom, and why.
pub(super) fn stood_in(candidate: &Candidate, version: &Lowered) -> Finding {
    let why = match candidate.doubt {
        Doubt::Unreadable if candidate.fresh.is_some() => "is refused, and no other version is known",
        Doubt::Unreadable => "cannot be read, and no good version is known",
        Doubt::Signs => "may be in a part that cannot be read, and no good version is known",
        Doubt::Contradicted => "is there more than once, and not the same",
        Doubt::TooMany => "is beyond the limit of objects",
        Doubt::OverBudget => "is beyond its tenant's budget",
    };
    let does = match &version.draft {
        Draft::PeerAuthentication(peers) => format!("{} no plaintext", takes(&peers.scope)),
        Draft::Network(policy) => {
            let namespace = &policy.name.namespace;
            format!("no short cut is taken past the network to and from pods of namespace {namespace}")
        }
        Draft::Authorization(AuthorizationDraft { policy: Some(policy), .. }) => {
            format!("{} no connection", takes(&policy.scope))
        }
        Draft::Tenant(draft) => {
            let names: Vec<&str> = draft.tenant.namespaces.iter().map(Namespace::as_str).collect();
            format!("pods of namespace {} are kept to the mesh", names.join(", "))
        }
        _ => String::new(),
    };
    let message = format!("{why}: {does} until this is mended");
    candidate.finding((Severity::Warning, Reason::StoodIn), message)
}

pub(crate) fn takes(scope: &Scope) -> String {
    match scope {
        Scope::Mesh => "the whole mesh takes".to_owned(),
        Scope::Namespace(namespace) => format!("namespace {namespace} takes"),
        Scope::Selected { namespace, labels } => {
            let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let of =
                namespace.as_ref().map_or_else(|| "any namespace".to_owned(), |of| format!("namespace {of}"));
            format!("pods of {of} with {} take", labels.join(","))
        }
        Scope::Services(services) => {
            let names: Vec<String> = services.iter().map(ToString::to_string).collect();
            format!("pods behind Service {} take", names.join(", "))
        }
        Scope::Pods(pods) => {
            let names: Vec<String> = pods.iter().map(ToString::to_string).collect();
            format!("pods {} take", names.join(", "))
        }
    }
}
