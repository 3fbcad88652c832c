//! The kinds of objects that are read of a cluster, and by which paths they are had.

use std::path::PathBuf;

/// A kind of an API server's objects.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name in manifests.
    pub kind: &'static str,
    /// Its name in paths.
    plural: &'static str,
    /// Its group; empty for the core group.
    group: &'static str,
    /// The versions that are read, the one to ask for first. All of them have all objects.
    pub versions: &'static [&'static str],
    pub(super) namespaced: bool,
    /// Whether people write it, and look for the line that a finding is about.
    pub(super) written: bool,
}

/// A kind, and which of its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The kind.
    pub resource: &'static Resource,
    /// Which of its objects, as the API server takes it; all without.
    pub field_selector: Option<String>,
}

/// Everything of a cluster that the configuration is made of.
pub fn cluster() -> Vec<Watched> {
    let all = RESOURCES.iter().chain([&RUNTIME_CLASS]);
    all.map(|resource| Watched { resource, field_selector: None }).collect()
}

/// The kind of this name, where it is read.
pub(super) fn resource(kind: &str) -> Option<&'static Resource> {
    RESOURCES.iter().chain([&RUNTIME_CLASS]).find(|resource| resource.kind == kind)
}

/// What a node needs to know which of its pods it carries, and no more.
pub fn pods_of(node: &str) -> Vec<Watched> {
    let of = |resource, field_selector| Watched { resource, field_selector };
    vec![
        of(&RESOURCES[POD], Some(format!("spec.nodeName={node}"))),
        of(&RESOURCES[NAMESPACE], None),
        of(&RESOURCES[TENANT], None),
        of(&RUNTIME_CLASS, None),
    ]
}

impl Resource {
    /// The path of all its objects in this version.
    pub(super) fn path(&self, version: &str) -> String {
        match self.group {
            "" => format!("/api/{version}/{}", self.plural),
            group => format!("/apis/{group}/{version}/{}", self.plural),
        }
    }

    /// The path of one of its objects, in the version that is asked for first.
    pub(super) fn object(&self, namespace: Option<&str>, name: &str) -> String {
        let version = self.versions[0];
        let root = match self.group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}/{name}", self.plural),
            None => format!("{root}/{}/{name}", self.plural),
        }
    }

    /// As objects of this version say it.
    pub(super) fn api_version(&self, version: &str) -> String {
        match self.group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }

    /// The file that stands for an object: its kind, namespace and name, as its owner calls it.
    pub(super) fn file(&self, namespace: Option<&str>, name: &str) -> PathBuf {
        let name = format!("{name}.json");
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => [self.kind, namespace, &name].iter().collect(),
            None => [self.kind, &name].iter().collect(),
        }
    }
}

const NAMESPACE: usize = 0;
const POD: usize = 2;
const TENANT: usize = 8;

/// Those that the store reads, as `config` names them.
static RESOURCES: [Resource; 13] = [
    of_cluster("Namespace", "namespaces", "", &["v1"]),
    made("ServiceAccount", "serviceaccounts", "", &["v1"]),
    made("Pod", "pods", "", &["v1"]),
    written("Service", "services", "", &["v1"]),
    made("EndpointSlice", "endpointslices", "discovery.k8s.io", &["v1"]),
    written("HTTPRoute", "httproutes", GATEWAY, &["v1"]),
    written("GRPCRoute", "grpcroutes", GATEWAY, &["v1"]),
    written("ReferenceGrant", "referencegrants", GATEWAY, &["v1", "v1beta1"]),
    of_cluster("Tenant", "tenants", "canopy.mesh", &["v1alpha1"]),
    written("AuthorizationPolicy", "authorizationpolicies", "security.istio.io", &["v1", "v1beta1"]),
    written("PeerAuthentication", "peerauthentications", "security.istio.io", &["v1", "v1beta1"]),
    written("NetworkPolicy", "networkpolicies", "networking.k8s.io", &["v1"]),
    written("ServiceEntry", "serviceentries", "networking.istio.io", &["v1", "v1beta1", "v1alpha3"]),
];

/// What says in which sandbox a pod is: nothing that the store reads.
static RUNTIME_CLASS: Resource = of_cluster("RuntimeClass", "runtimeclasses", "node.k8s.io", &["v1"]);

const GATEWAY: &str = "gateway.networking.k8s.io";

const fn made(
    kind: &'static str,
    plural: &'static str,
    group: &'static str,
    versions: &'static [&'static str],
) -> Resource {
    Resource { kind, plural, group, versions, namespaced: true, written: false }
}

const fn written(
    kind: &'static str,
    plural: &'static str,
    group: &'static str,
    versions: &'static [&'static str],
) -> Resource {
    Resource { kind, plural, group, versions, namespaced: true, written: true }
}

const fn of_cluster(
    kind: &'static str,
    plural: &'static str,
    group: &'static str,
    versions: &'static [&'static str],
) -> Resource {
    Resource { kind, plural, group, versions, namespaced: false, written: true }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_kind_that_is_read_is_had_from_the_cluster_and_what_it_runs_on_besides() {
        let mut had: Vec<_> = cluster().iter().map(|watched| watched.resource.kind).collect();
        assert_eq!(had.pop(), Some("RuntimeClass"));
        assert_eq!(had, config::kinds().collect::<Vec<_>>());
        for watched in cluster() {
            assert_eq!(resource(watched.resource.kind), Some(watched.resource));
        }
        assert_eq!(resource("Secret"), None);
    }

    #[test]
    fn a_node_asks_for_its_own_pods_alone_and_for_what_decides_about_them() {
        let watched = pods_of("node-1");
        let asked: Vec<_> =
            watched.iter().map(|it| (it.resource.kind, it.field_selector.as_deref())).collect();
        let pods = ("Pod", Some("spec.nodeName=node-1"));
        assert_eq!(asked, [pods, ("Namespace", None), ("Tenant", None), ("RuntimeClass", None)]);
    }

    #[test]
    fn what_is_read_is_what_the_documented_role_may_read() {
        let page = include_str!("../../../../docs/control-plane.md");
        let rules = page.lines().filter(|line| line.contains("verbs: [get, list, watch]"));
        let between = |line: &'static str, from: &str, to: char| {
            line.split_once(from).and_then(|(_, rest)| rest.split(to).next()).unwrap_or_default()
        };
        let mut allowed: Vec<(&str, &str)> = Vec::new();
        for rule in rules {
            let group = between(rule, "apiGroups: [", ']').trim_matches('"');
            let resources = between(rule, "resources: [", ']').split(", ");
            allowed.extend(resources.map(|resource| (group, resource)));
        }
        let mut read: Vec<_> =
            cluster().iter().map(|watched| (watched.resource.group, watched.resource.plural)).collect();
        read.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(read, allowed);
    }

    #[test]
    fn paths_are_the_api_servers_and_files_are_called_as_owners_call_their_objects() {
        let route = &RESOURCES[5];
        assert_eq!(route.path("v1"), "/apis/gateway.networking.k8s.io/v1/httproutes");
        assert_eq!(route.api_version("v1"), "gateway.networking.k8s.io/v1");
        assert_eq!(route.file(Some("shop"), "cart"), Path::new("HTTPRoute/shop/cart.json"));
        let namespace = &RESOURCES[NAMESPACE];
        assert_eq!(namespace.path("v1"), "/api/v1/namespaces");
        assert_eq!(namespace.api_version("v1"), "v1");
        assert_eq!(namespace.file(None, "shop"), Path::new("Namespace/shop.json"));
    }
}
