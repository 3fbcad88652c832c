//! Who may call whom: AuthorizationPolicy and PeerAuthentication, as far as connections show it (layers 3 and 4).
//!
//! In the shape in which Istio's control plane sends them to node proxies: rules of clauses of matches. Plain data, used
//! as it is where connections are decided; deciding is not done here.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Labels;
use crate::name::{Namespace, PodName, PolicyName, ServiceAccount, ServiceName};

/// Which workloads a policy is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Scope {
    /// All of the mesh (an object of the root namespace).
    Mesh,
    /// All of one namespace.
    Namespace(Namespace),
    /// Those with these labels.
    Selected {
        /// In this namespace, or in any.
        namespace: Option<Namespace>,
        /// What they must have, all of it.
        labels: Labels,
    },
    /// Those behind these Services of its namespace. Where it is not known who is behind one, it may be about any other
    /// workload of the namespace, too: it must then refuse there what it would refuse, and allow nothing.
    Services(Vec<ServiceName>),
    /// These pods, of whatever namespace: those that a control plane says it is about.
    Pods(BTreeSet<PodName>),
}

/// An AuthorizationPolicy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationPolicy {
    /// Its namespace and name.
    pub name: PolicyName,
    /// Whom it protects.
    pub scope: Scope,
    /// What it does to what its rules match.
    pub action: Action,
    /// Any of them has to match. None of them: nothing is matched.
    pub rules: Vec<AuthorizationRule>,
}

impl AuthorizationPolicy {
    /// What is in force in the place of a policy that cannot be read.
    pub(crate) fn unreadable(name: PolicyName, scope: Scope) -> Self {
        Self { name, scope, action: Action::Unreadable, rules: Vec::new() }
    }
}

/// What a policy does to connections that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Allows them, and by being there denies what no such policy allows.
    Allow,
    /// Denies them.
    Deny,
    /// Denies everything: what it was meant to say cannot be read.
    Unreadable,
}

/// All of its clauses have to hold; without one, everything matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationRule {
    /// The clauses.
    pub clauses: Vec<Clause>,
}

/// Any of its matches has to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    /// The matches.
    pub any: Vec<ConnectionMatch>,
}

/// What a connection has to be like. Every field that says anything has to hold; within a field, any value will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionMatch {
    /// The caller's principal, `TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
    pub principals: Vec<TextMatch>,
    /// And not one of these.
    pub not_principals: Vec<TextMatch>,
    /// The namespace in the caller's identity.
    pub namespaces: Vec<TextMatch>,
    /// And not one of these.
    pub not_namespaces: Vec<TextMatch>,
    /// The service account in the caller's identity.
    pub service_accounts: Vec<(Namespace, ServiceAccount)>,
    /// And not one of these.
    pub not_service_accounts: Vec<(Namespace, ServiceAccount)>,
    /// Networks that the caller's address is in.
    pub source_ips: Vec<IpNet>,
    /// And not in these.
    pub not_source_ips: Vec<IpNet>,
    /// Networks that the destination is in.
    pub destination_ips: Vec<IpNet>,
    /// And not in these.
    pub not_destination_ips: Vec<IpNet>,
    /// The destination's port, the app's own.
    pub ports: Vec<u16>,
    /// And not one of these.
    pub not_ports: Vec<u16>,
    /// It also asks for what connections do not show (requests, tokens). Nobody can say that it holds, so it must
    /// never open anything: it is false where it would allow and true where it would deny.
    pub unenforceable: bool,
}

/// How a text is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextMatch {
    /// It is this.
    Exact(String),
    /// It begins so.
    Prefix(String),
    /// It ends so.
    Suffix(String),
    /// There is one at all.
    Present,
}

/// Istio's way of writing it: `abc`, `abc*`, `*abc`, `*`.
impl From<&str> for TextMatch {
    fn from(text: &str) -> Self {
        match (text, text.strip_prefix('*'), text.strip_suffix('*')) {
            ("*", ..) => Self::Present,
            (_, Some(suffix), _) => Self::Suffix(suffix.to_owned()),
            (_, None, Some(prefix)) => Self::Prefix(prefix.to_owned()),
            _ => Self::Exact(text.to_owned()),
        }
    }
}

/// A PeerAuthentication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerAuthentication {
    /// Its namespace and name.
    pub name: PolicyName,
    /// Seconds since the epoch; of several for one workload the oldest counts.
    pub created: Option<i64>,
    /// Whom it protects.
    pub scope: Scope,
    /// `None`: as the next wider one says.
    pub mode: Option<PeerMode>,
    /// Ports that are treated in another way; `None` is as the workload.
    pub ports: Vec<(u16, Option<PeerMode>)>,
    /// It could not be read. Nobody in its scope takes plaintext, whatever a narrower one says: it may have been that one.
    pub unreadable: bool,
}

impl PeerAuthentication {
    /// What is in force in the place of an object that cannot be read: nothing it could have said is stricter.
    pub(crate) fn unreadable(name: PolicyName, scope: Scope) -> Self {
        let mode = Some(PeerMode::Strict);
        Self { name, created: None, scope, mode, ports: Vec::new(), unreadable: true }
    }
}

/// Whether a caller has to prove who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerMode {
    /// It has to.
    Strict,
    /// It may.
    #[default]
    Permissive,
    /// As `Permissive`: what comes through the tunnel is taken in any case.
    Disable,
}
