//! What objects of the model are called as resources.

use super::Site;
use crate::name::{Namespace, PodName, RouteName, ServiceName, TenantId};

/// A pod: `CLUSTER//Pod/NAMESPACE/NAME`.
pub(super) fn uid(site: &Site, pod: &PodName) -> String {
    format!("{}{}", uids(site, &pod.namespace), pod.name)
}

/// What the names of all pods of a namespace begin with, and no others.
pub(super) fn uids(site: &Site, namespace: &Namespace) -> String {
    format!("{}//Pod/{namespace}/", site.cluster)
}

/// A Service's name in DNS.
pub(super) fn hostname(site: &Site, service: &ServiceName) -> String {
    format!("{}.{}.svc.{}", service.name, service.namespace, site.domain)
}

/// A Service: `NAMESPACE/HOSTNAME`.
pub(super) fn service(site: &Site, service: &ServiceName) -> String {
    format!("{}/{}", service.namespace, hostname(site, service))
}

/// A tenant: `tenant/NAME` of a Tenant, `ns/NAME` of a namespace by itself.
pub(super) fn tenant(tenant: &TenantId) -> String {
    match tenant {
        TenantId::Tenant(name) => format!("tenant/{name}"),
        TenantId::Namespace(namespace) => format!("ns/{namespace}"),
    }
}

/// A route: `KIND/NAMESPACE/NAME`.
pub(super) fn route(route: &RouteName) -> String {
    format!("{}/{route}", route.kind)
}
