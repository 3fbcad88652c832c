//! What is in force in the place of a resource that protects something, of which no version can be read: the strictest that its name
//! allows.
//!
//! Must never allow anything.

use std::sync::Arc;

use super::{Kind, Object, Resource, facts, names};
use crate::{
    model::{AuthorizationPolicy, NetworkPolicy, PeerAuthentication, Scope},
    name::{PolicyName, RootNamespace, TenantId},
};

/// What stands in for a resource; `None` for what protects nothing.
pub(in crate::discovery) fn of(kind: Kind, resource: &Resource, root: &RootNamespace) -> Option<Object> {
    let (name, scope) = whereabouts(&resource.name, root);
    Some(match kind {
        Kind::Authorization => Object::Authorization(Arc::new(AuthorizationPolicy::unreadable(name?, scope))),
        Kind::PeerAuthentication => Object::Peer(Arc::new(PeerAuthentication::unreadable(name?, scope))),
        Kind::NetworkPolicy => match names::policy(&resource.name) {
            Ok(name) => Object::Network(Arc::new(NetworkPolicy::unreadable(name))),
            Err(_) => Object::NetworkEverywhere,
        },
        Kind::Tenant => Object::Kept(match names::tenant(&resource.name) {
            Ok(TenantId::Namespace(namespace)) => Some(vec![namespace]),
            Ok(TenantId::Tenant(_)) | Err(_) => facts::namespaces_at_least(&resource.body),
        }),
        Kind::Namespace | Kind::Address | Kind::ServiceEntry | Kind::Route => return None,
    })
}

/// What it is called, and all that it may be about. Of a name that is none, no part is believed.
fn whereabouts(name: &str, root: &RootNamespace) -> (Option<PolicyName>, Scope) {
    match names::policy(name) {
        Ok(known) if known.namespace == root.0 => (Some(known), Scope::Mesh),
        Ok(known) => {
            let scope = Scope::Namespace(known.namespace.clone());
            (Some(known), scope)
        }
        Err(_) => {
            let alike = names::alike(name).ok();
            (alike.map(|alike| PolicyName::new(root.0.clone(), alike)), Scope::Mesh)
        }
    }
}
