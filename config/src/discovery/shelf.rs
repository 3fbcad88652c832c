//! The shelf: a mesh as named resources, each with a version of its content, from which nodes are served.
//!
//! Holds the model's own objects and no bodies: a resource is encoded when it is asked for. A body must never hold what is not its
//! reader's to know.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use prost::Message;

use self::{
    differing::{Difference, differing},
    pods::{Pods, Shown},
    rack::Rack,
    selection::{Selection, Stale},
};
use super::{
    Kind, Resource,
    hash::Version,
    names,
    raise::{self, service::pods},
};
use crate::{
    model::{
        AuthorizationPolicy, HttpRoute, Mesh, NamespaceFacts, NetworkPolicy, PeerAuthentication, Service,
        ServiceEntry, Tenant,
    },
    name::{ClusterDomain, NodeName, PolicyName},
};

mod differing;
mod pods;
mod rack;
mod selection;

/// Where the mesh is, as far as names of resources tell.
#[derive(Debug, Clone)]
pub struct Site {
    /// What the names of Services end in.
    pub domain: ClusterDomain,
    /// What the names of workloads begin with.
    pub cluster: String,
}

/// Who reads.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    /// The node it is. What the kubelet asks a pod, and what its capture leaves alone, is told to the pod's own node and no other.
    pub node: Option<NodeName>,
}

/// A mesh as resources.
#[derive(Debug)]
pub struct Shelf {
    site: Site,
    mesh: Arc<Mesh>,
    tenants: Rack<Tenant>,
    namespaces: Rack<NamespaceFacts>,
    pods: Pods,
    services: Rack<Service>,
    /// Workloads and Services by address.
    aliases: BTreeSet<(IpAddr, Arc<str>)>,
    authorization: Rack<AuthorizationPolicy>,
    /// Which policies workloads have to name.
    selection: Selection,
    peer_authentication: Rack<PeerAuthentication>,
    network_policies: Rack<NetworkPolicy>,
    service_entries: Rack<ServiceEntry>,
    routes: Rack<HttpRoute>,
}

/// Resources that differ, each once, in the order of their types.
type Changed = BTreeSet<(Kind, Arc<str>)>;

impl Shelf {
    /// An empty one.
    pub fn new(site: Site) -> Self {
        Self {
            site,
            mesh: Arc::default(),
            tenants: Rack::default(),
            namespaces: Rack::default(),
            pods: Pods::default(),
            services: Rack::default(),
            aliases: BTreeSet::new(),
            authorization: Rack::default(),
            selection: Selection::default(),
            peer_authentication: Rack::default(),
            network_policies: Rack::default(),
            service_entries: Rack::default(),
            routes: Rack::default(),
        }
    }

    /// Takes over a mesh, and names the resources that are new, gone, or say something else than before to any reader: in the order
    /// of [`Kind`], each once. What is the same object as before is not looked into.
    pub fn stock(&mut self, mesh: &Arc<Mesh>) -> Vec<(Kind, Arc<str>)> {
        let before = std::mem::replace(&mut self.mesh, Arc::clone(mesh));
        let mut changed = Changed::new();
        self.stock_own(&before, &mut changed);
        let touched = self.stock_services(&before, &mut changed);
        let stale = self.stock_policies(&before, touched, &mut changed);
        self.stock_workloads(&before);
        // Those that are new name the right ones already.
        if !before.workloads.is_empty() {
            self.renew_policies(&stale);
        }
        changed.extend(self.pods.settle(&self.site).into_iter().map(|name| (Kind::Address, name)));
        changed.into_iter().collect()
    }

    /// The names of all resources of a type.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &Arc<str>> {
        let names: Box<dyn Iterator<Item = &Arc<str>>> = match kind {
            Kind::Tenant => Box::new(self.tenants.names()),
            Kind::Namespace => Box::new(self.namespaces.names()),
            Kind::Address => Box::new(self.pods.names().chain(self.services.names())),
            Kind::Authorization => Box::new(self.authorization.names()),
            Kind::PeerAuthentication => Box::new(self.peer_authentication.names()),
            Kind::NetworkPolicy => Box::new(self.network_policies.names()),
            Kind::ServiceEntry => Box::new(self.service_entries.names()),
            Kind::Route => Box::new(self.routes.names()),
        };
        names
    }

    /// The resources of [`Kind::Address`] that a node has to be given that asks for this: by name, or by address, as `/10.0.0.1`. A
    /// Service brings along the pods behind it. None: nothing here is called so.
    pub fn find(&self, asked: &str) -> Vec<Arc<str>> {
        let named = self.pods.name(asked).or_else(|| self.services.name(asked)).cloned();
        let address = || asked.strip_prefix('/')?.parse::<IpAddr>().ok();
        let found: Vec<Arc<str>> = match named {
            Some(name) => vec![name],
            None => address().map(|address| self.at(address).cloned().collect()).unwrap_or_default(),
        };
        let behind = found.iter().filter_map(|name| self.services.get(name)).flat_map(|service| {
            let uids = pods(service).into_keys().map(|pod| names::uid(&self.site, pod));
            uids.filter_map(|uid| self.pods.name(&uid).cloned()).collect::<Vec<_>>()
        });
        let behind: BTreeSet<Arc<str>> = behind.filter(|uid| !found.contains(uid)).collect();
        found.iter().cloned().chain(behind).collect()
    }

    /// A resource as a reader may see it; `None` if there is none of this name.
    pub fn get(&self, kind: Kind, name: &str, reader: &Reader) -> Option<Resource> {
        let (version, body) = match kind {
            Kind::Address => self.address(name, reader)?,
            Kind::Authorization => self.authorization.of(name, |policy| self.policy(policy))?,
            Kind::Tenant => self.tenants.own(name)?,
            Kind::Namespace => self.namespaces.own(name)?,
            Kind::PeerAuthentication => self.peer_authentication.own(name)?,
            Kind::NetworkPolicy => self.network_policies.own(name)?,
            Kind::ServiceEntry => self.service_entries.own(name)?,
            Kind::Route => self.routes.own(name)?,
        };
        let aliases = if kind == Kind::Address { self.aliases_of(name) } else { Vec::new() };
        Some(Resource { name: name.to_owned(), aliases, version: version.to_string(), body })
    }

    /// The version of [`Shelf::get`], without making its body.
    pub fn version(&self, kind: Kind, name: &str, reader: &Reader) -> Option<String> {
        let version = match kind {
            Kind::Address => {
                self.pods.version(name, |pod| shown(pod, reader)).or_else(|| self.services.version(name))
            }
            Kind::Authorization => self.authorization.version(name),
            Kind::Tenant => self.tenants.version(name),
            Kind::Namespace => self.namespaces.version(name),
            Kind::PeerAuthentication => self.peer_authentication.version(name),
            Kind::NetworkPolicy => self.network_policies.version(name),
            Kind::ServiceEntry => self.service_entries.version(name),
            Kind::Route => self.routes.version(name),
        };
        version.map(|version| version.to_string())
    }

    /// What the model has no other word for than its own.
    fn stock_own(&mut self, before: &Mesh, changed: &mut Changed) {
        let now = &self.mesh;
        let mut take =
            |kind, names: Vec<Arc<str>>| changed.extend(names.into_iter().map(|name| (kind, name)));
        take(Kind::Tenant, self.tenants.stock(&before.tenants, &now.tenants, names::tenant));
        let namespaces = self.namespaces.stock(&before.namespaces, &now.namespaces, ToString::to_string);
        take(Kind::Namespace, namespaces);
        let peers = (&before.peer_authentication, &now.peer_authentication);
        take(Kind::PeerAuthentication, self.peer_authentication.stock(peers.0, peers.1, ToString::to_string));
        let policies = (&before.network_policies, &now.network_policies);
        take(Kind::NetworkPolicy, self.network_policies.stock(policies.0, policies.1, ToString::to_string));
        let entries = (&before.service_entries, &now.service_entries);
        take(Kind::ServiceEntry, self.service_entries.stock(entries.0, entries.1, ToString::to_string));
        take(Kind::Route, self.routes.stock(&before.routes, &now.routes, names::route));
    }

    /// Names the policies for which it is no longer the same who is behind a Service.
    fn stock_services(&mut self, before: &Mesh, changed: &mut Changed) -> BTreeSet<PolicyName> {
        let mut touched = BTreeSet::new();
        let mesh = Arc::clone(&self.mesh);
        for Difference { key, before, after } in differing(&before.services, &mesh.services) {
            let version = after.map(|service| (service, Version::of(&self.service(service))));
            let (name, differs) = self.services.put(&names::service(&self.site.domain, key), version);
            if differs {
                changed.insert((Kind::Address, Arc::clone(&name)));
            }
            let vips = |service: Option<&Arc<Service>>| service.map_or_else(Vec::new, |it| it.vips.clone());
            self.rename(&name, vips(before), vips(after));
            let (old, new) = (before.map(|it| pods(it)), after.map(|it| pods(it)));
            let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
            for (pod, ports) in &new {
                if old.get(pod) != Some(ports) {
                    self.pods.put_behind(&names::uid(&self.site, pod), &name, Some(ports));
                }
            }
            for pod in old.keys().filter(|pod| !new.contains_key(*pod)) {
                self.pods.put_behind(&names::uid(&self.site, pod), &name, None);
            }
            if before.map(|it| &it.members) != after.map(|it| &it.members) {
                touched.extend(self.selection.naming(key).cloned());
            }
        }
        touched
    }

    /// Says whose names of policies may be stale by that.
    fn stock_policies(
        &mut self,
        before: &Mesh,
        mut touched: BTreeSet<PolicyName>,
        changed: &mut Changed,
    ) -> Vec<Stale> {
        let mesh = Arc::clone(&self.mesh);
        let mut stale = Vec::new();
        for Difference { key, before, after } in differing(&before.authorization, &mesh.authorization) {
            touched.remove(key);
            stale.push(self.put_policy(key, before, after, changed));
        }
        for key in touched {
            let policy = mesh.authorization.get(&key);
            stale.push(self.put_policy(&key, policy, policy, changed));
        }
        stale
    }

    fn put_policy(
        &mut self,
        key: &PolicyName,
        before: Option<&Arc<AuthorizationPolicy>>,
        after: Option<&Arc<AuthorizationPolicy>>,
        changed: &mut Changed,
    ) -> Stale {
        let version = after.map(|policy| (policy, Version::of(&self.policy(policy))));
        let (name, differs) = self.authorization.put(&key.to_string(), version);
        if differs {
            changed.insert((Kind::Authorization, Arc::clone(&name)));
        }
        self.selection.put(key, &name, before.map(AsRef::as_ref), after.map(AsRef::as_ref))
    }

    fn stock_workloads(&mut self, before: &Mesh) {
        let mesh = Arc::clone(&self.mesh);
        for Difference { key, before, after } in differing(&before.workloads, &mesh.workloads) {
            let policies = after.map(|workload| self.selection.of(workload, &mesh)).unwrap_or_default();
            let name = self.pods.put(&names::uid(&self.site, key), after.cloned(), policies);
            let addresses = |pod: Option<&Arc<_>>| pod.map_or_else(Vec::new, |it| addresses(it));
            self.rename(&name, addresses(before), addresses(after));
        }
    }

    fn renew_policies(&mut self, stale: &[Stale]) {
        let mesh = Arc::clone(&self.mesh);
        for Stale { key, name, among } in stale {
            let policy = mesh.authorization.get(key);
            let is_about = |workload: &_| {
                policy.is_some_and(|it| raise::authorization::is_about(it, workload, &mesh.services))
            };
            for namespace in among {
                let begin = namespace.as_ref().map(|namespace| names::uids(&self.site, namespace));
                self.pods.put_policy(begin.as_deref(), name, is_about);
            }
        }
    }

    fn rename(&mut self, name: &Arc<str>, before: Vec<IpAddr>, after: Vec<IpAddr>) {
        for address in before {
            self.aliases.remove(&(address, Arc::clone(name)));
        }
        self.aliases.extend(after.into_iter().map(|address| (address, Arc::clone(name))));
    }

    fn at(&self, address: IpAddr) -> impl Iterator<Item = &Arc<str>> {
        let all = self.aliases.range((address, Arc::from(""))..);
        all.take_while(move |(at, _)| *at == address).map(|(_, name)| name)
    }

    /// Other names by which a resource of [`Kind::Address`] is found.
    pub fn aliases_of(&self, name: &str) -> Vec<String> {
        let pod = self.pods.get(name).map(|pod| addresses(pod));
        let addresses = pod.or_else(|| self.services.get(name).map(|service| service.vips.clone()));
        addresses.unwrap_or_default().into_iter().map(|address| format!("/{address}")).collect()
    }

    fn address(&self, name: &str, reader: &Reader) -> Option<(Version, Vec<u8>)> {
        let pod = self.pods.of(&self.site, name, |pod| shown(pod, reader));
        pod.or_else(|| self.services.of(name, |service| self.service(service)))
    }

    fn service(&self, service: &Service) -> Vec<u8> {
        raise::service::raise(&self.site, service).encode_to_vec()
    }

    fn policy(&self, policy: &AuthorizationPolicy) -> Vec<u8> {
        raise::authorization::raise(policy, &self.mesh.services).encode_to_vec()
    }
}

fn addresses(pod: &crate::model::Workload) -> Vec<IpAddr> {
    pod.addresses.clone()
}

fn shown(pod: &crate::model::Workload, reader: &Reader) -> Shown {
    if pod.node.is_some() && pod.node == reader.node { Shown::ToItsNode } else { Shown::ToOthers }
}
