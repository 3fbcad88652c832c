//! What protects whom, in force as it is written or standing in, and when that is as good as it was.

use std::collections::BTreeMap;

use config::{
    finding::Severity,
    model::{Action, Egress, Mesh, Scope},
    name::PolicyName,
    store::Outcome,
};

use crate::damages::Damaged;

/// A security object in force, or a namespace that a Tenant keeps to the mesh.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Protection {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    scope: Scope,
    /// It stands in for one that cannot be read.
    pub stands_in: bool,
    says: String,
}

pub(crate) fn protections(mesh: &Mesh) -> Vec<Protection> {
    let of = |kind, name: &PolicyName, scope: &Scope, stands_in, says| Protection {
        kind,
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        scope: scope.clone(),
        stands_in,
        says,
    };
    let authorization = mesh.authorization.values().map(|policy| {
        let stands_in = policy.action == Action::Unreadable;
        of("AuthorizationPolicy", &policy.name, &policy.scope, stands_in, format!("{policy:?}"))
    });
    let peers = mesh.peer_authentication.values().map(|peers| {
        of("PeerAuthentication", &peers.name, &peers.scope, peers.unreadable, format!("{peers:?}"))
    });
    let network = mesh.network_policies.values().map(|policy| {
        let scope = Scope::Namespace(policy.name.namespace.clone());
        of("NetworkPolicy", &policy.name, &scope, policy.unreadable, format!("{policy:?}"))
    });
    let is_kept = |tenant| mesh.tenants.get(tenant).is_some_and(|tenant| tenant.egress == Egress::Mesh);
    let kept =
        mesh.membership.iter().filter(|(_, tenant)| is_kept(tenant)).map(|(namespace, _)| Protection {
            kind: "Tenant",
            namespace: namespace.to_string(),
            name: "team".to_owned(),
            scope: Scope::Namespace(namespace.clone()),
            stands_in: false,
            says: String::new(),
        });
    authorization.chain(peers).chain(network).chain(kept).collect()
}

impl Protection {
    /// Whether this stands in, and refuses all that the other could: a policy that refuses everybody refuses plaintext.
    fn covers(&self, other: &Protection) -> bool {
        let is_wide = match &self.scope {
            Scope::Mesh => true,
            Scope::Namespace(namespace) => namespace.as_str() == other.namespace,
            narrow => *narrow == other.scope,
        };
        self.stands_in && is_wide && self.is_of_kind(other)
    }

    fn is_of_kind(&self, other: &Protection) -> bool {
        self.kind == other.kind || (self.kind, other.kind) == ("AuthorizationPolicy", "PeerAuthentication")
    }
}

/// An object of a text: what it does, and on which lines it is.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub does: Protection,
    pub first: usize,
    pub last: usize,
}

/// Where each object is: in the document (or item of a list) that names it and its kind.
pub(crate) fn written(text: &str, whole: &[Protection]) -> Vec<Written> {
    let mut starts: Vec<usize> = vec![0];
    let is_start = |line: &str| line == "---" || line.starts_with("- ");
    starts.extend((0..).zip(text.lines()).filter(|(_, line)| is_start(line)).map(|(number, _)| number));
    let lines: Vec<&str> = text.lines().collect();
    starts.push(lines.len());
    let parts: BTreeMap<usize, String> =
        starts.windows(2).map(|pair| (pair[0], lines[pair[0]..pair[1]].join("\n"))).collect();
    let of = |does: &Protection| {
        let has_it = |part: &String| part.contains(&format!("name: {}", does.name));
        let (first, part) = parts.iter().find(|(_, part)| has_it(part))?;
        Some(Written { does: does.clone(), first: *first, last: first + part.lines().count() - 1 })
    };
    whole.iter().filter_map(of).collect()
}

/// Bytes of a text from a line on, without its indentation.
fn left_of(text: &str, line: usize) -> usize {
    text.split_inclusive('\n')
        .skip(line)
        .filter(|line| !line.starts_with("---"))
        .map(|line| line.trim().len())
        .sum()
}

/// Bytes of an object without which it cannot be told from any other: `- apiVersion: secu`.
const SIGNS: usize = 18;

/// Why an object is not lost by a damage; `None` if it is.
pub(crate) fn answer(
    object: &Written,
    damaged: &Damaged,
    (outcome, left): (&Outcome, &[Protection]),
) -> Option<&'static str> {
    let does = &object.does;
    if left.contains(does) {
        return Some("in force");
    }
    if left.iter().any(|other| other.covers(does)) {
        return Some("stood in for");
    }
    // The line of a separator is of both its neighbours.
    let (first, last) = damaged.lines;
    if last + 1 < object.first || first > object.last + 1 {
        return None;
    }
    if damaged.how.starts_with("cut") && left_of(&damaged.text, object.first) < SIGNS {
        return Some("cut off before it");
    }
    let is_rejected = outcome.findings.iter().any(|finding| finding.severity == Severity::Rejected);
    if !is_rejected {
        let is_another = |other: &&Protection| other.kind == does.kind && other.namespace == does.namespace;
        let says_nothing = damaged.text.trim().is_empty();
        let is_moved = !damaged.text.contains(&format!("namespace: {}\n", does.namespace));
        return (says_nothing || is_moved || left.iter().any(|other| is_another(&other)))
            .then_some("valid as it is now");
    }
    let left_of_it: Vec<&str> =
        damaged.text.lines().skip(object.first).take(object.last + 3 - object.first).collect();
    let names_it = left_of_it.iter().any(|line| line.contains(&does.namespace));
    let is_somewhere = left.iter().any(|other| other.stands_in && other.is_of_kind(does));
    (!names_it && (is_somewhere || does.kind == "Tenant"))
        .then_some("stood in for, in no namespace that can be told")
}
