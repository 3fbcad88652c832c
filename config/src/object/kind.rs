//! Kinds that Canopy does not read: somebody else's, or a slip. In an API group of which it reads something, a kind
//! that the group does not have is a slip, and its object must never vanish as if it were somebody else's.

use super::{Kind, NotAnObject, join};
use crate::{
    document::{Node, shorten},
    finding::{Reason, Severity},
    schema::similar,
    suspect::{self, Found},
};

/// Kinds of the groups of which Canopy reads something, those it reads aside: Kubernetes 1.37, Gateway API 1.4
/// (experimental channel), Istio 1.28.
const OTHERS: [(&str, &[&str]); 6] = [
    (
        "",
        &[
            "Binding",
            "ComponentStatus",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "List",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Status",
        ],
    ),
    (
        "gateway.networking.k8s.io",
        &["BackendTLSPolicy", "Gateway", "GatewayClass", "ListenerSet", "TCPRoute", "TLSRoute", "UDPRoute"],
    ),
    ("networking.k8s.io", &["IPAddress", "Ingress", "IngressClass", "ServiceCIDR"]),
    (
        "networking.istio.io",
        &[
            "DestinationRule",
            "EnvoyFilter",
            "Gateway",
            "ProxyConfig",
            "Sidecar",
            "VirtualService",
            "WorkloadEntry",
            "WorkloadGroup",
        ],
    ),
    ("security.istio.io", &["RequestAuthentication"]),
    ("canopy.mesh", &[]),
];

/// Kinds of other groups that limit which pods reach which: what network plugins (Calico, Cilium, Antrea, and those that obey the
/// network-policy-api) call theirs. Whoever comes to be of them is to be added.
const LIMITING: [(&str, &[&str]); 5] = [
    (
        "policy.networking.k8s.io",
        &["AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"],
    ),
    ("projectcalico.org", &["GlobalNetworkPolicy", "NetworkPolicy"]),
    ("crd.projectcalico.org", &["GlobalNetworkPolicy", "NetworkPolicy"]),
    ("cilium.io", &["CiliumClusterwideNetworkPolicy", "CiliumNetworkPolicy"]),
    ("crd.antrea.io", &["ClusterNetworkPolicy", "NetworkPolicy"]),
];

/// What there is to say of an object of a kind that is not read.
pub(super) fn unknown(root: &Node, kind: &str, api_version: &str, prefix: &str) -> NotAnObject {
    let (of, item) = (group(api_version), kind.strip_suffix("List").unwrap_or(kind));
    let limits = LIMITING.iter().any(|(other, kinds)| *other == of && kinds.contains(&item));
    let (reason, (severity, field, message)) = match limits {
        true => (Reason::NotEvaluated, unevaluated(kind, api_version)),
        false => (Reason::UnknownKind, judge(kind, api_version)),
    };
    let at = root.get(field).unwrap_or(root).at;
    let field = join(prefix, field);
    NotAnObject { severity, reason, at, field, message, found: Found::default() }
}

fn unevaluated(kind: &str, api_version: &str) -> (Severity, &'static str, String) {
    let message = format!(
        "{} of {} is not evaluated by Canopy: as long as any is there, all connections between pods of this node go across the \
         network, whose plugin decides, and none by a way that it cannot see",
        shorten(kind),
        shorten(api_version)
    );
    (Severity::Warning, "kind", message)
}

/// A document with two kinds was two: whichever comes second would vanish with one that is not read.
pub(super) fn merged(root: &Node, prefix: &str) -> Option<NotAnObject> {
    let twice = |key: &str| root.entries().iter().filter(|entry| entry.key == key).nth(1);
    let second = twice("kind").or_else(|| twice("apiVersion"))?;
    let first = root.entries().iter().find(|entry| entry.key == second.key)?;
    let message = format!("given twice, first on line {}: is a line --- missing before it?", first.at.line);
    Some(super::rejected(second.at, join(prefix, &second.key), Reason::Duplicate, message))
}

fn judge(kind: &str, api_version: &str) -> (Severity, &'static str, String) {
    let group = group(api_version);
    if kind == "List" && group.is_empty() {
        let message = format!("a List of {:?} is not read: write v1", shorten(api_version));
        return (Severity::Rejected, "apiVersion", message);
    }
    let mut ours = Kind::ALL.into_iter().filter(|known| group_of(*known) == group).peekable();
    let is_read = ours.peek().is_some();
    if let Some(near) = ours.find(|known| known.as_str() == kind) {
        let message =
            format!("{kind} of {:?} is not read: write {}", shorten(api_version), near.api_versions()[0]);
        return (Severity::Rejected, "apiVersion", message);
    }
    if is_read {
        return match slip(kind, group) {
            Some(message) => (Severity::Rejected, "kind", message),
            None => ignored(kind, api_version),
        };
    }
    // A slip in the group, of a kind that can only be meant so.
    let groups = Kind::ALL.into_iter().filter(|known| known.as_str() == kind);
    match groups
        .into_iter()
        .find(|known| similar::nearest(group, std::iter::once(group_of(*known))).is_some())
        .or_else(|| suspect::is_meant(kind, api_version))
    {
        Some(known) => {
            let message =
                format!("there is no {}: did you mean {}?", shorten(api_version), known.api_versions()[0]);
            (Severity::Rejected, "apiVersion", message)
        }
        None => ignored(kind, api_version),
    }
}

fn ignored(kind: &str, api_version: &str) -> (Severity, &'static str, String) {
    let message = format!("{} of {} is not for Canopy: ignored", shorten(kind), shorten(api_version));
    (Severity::Ignored, "kind", message)
}

/// What is wrong with a kind of a group that is read; `None` if the group has it.
fn slip(kind: &str, group: &str) -> Option<String> {
    let ours = Kind::ALL.into_iter().filter(|known| group_of(*known) == group).map(Kind::as_str);
    let others =
        OTHERS.iter().filter(|(other, _)| *other == group).flat_map(|(_, kinds)| kinds.iter().copied());
    let item = kind.strip_suffix("List");
    if item.is_some_and(|item| ours.clone().any(|known| known == item)) {
        let message = "a list of them in this version is not read: write kind: List and apiVersion: v1";
        return Some(message.to_owned());
    }
    let is_there = |kind: &str| others.clone().any(|known| known == kind);
    if is_there(kind) || item.is_some_and(is_there) {
        return None;
    }
    let name = if group.is_empty() { "v1" } else { group };
    Some(match similar::nearest(kind, ours.chain(others)) {
        Some(meant) => format!("{name} has no kind {}: did you mean {meant}?", shorten(kind)),
        None => format!("{name} has no kind {}: correct the kind or the apiVersion", shorten(kind)),
    })
}

/// Empty for the core group, whose versions have none.
fn group(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

fn group_of(kind: Kind) -> &'static str {
    group(kind.api_versions()[0])
}
