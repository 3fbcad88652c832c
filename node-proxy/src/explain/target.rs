//! Where a request is going: the address that a host name stands for, what is there, and whether the caller may leave the mesh for it.
//!
//! Only names of Services are known, as the cluster's DNS answers them, and the hosts of ServiceEntries for which the node has found
//! addresses. No name is ever looked up.

use std::net::{IpAddr, SocketAddr};

use config::{
    model::{Egress, Service},
    name::{ClusterDomain, Name as ObjectName, Namespace, ServiceName},
};

use super::{
    ExplainError, Telling, few,
    told::Name,
    verdict::{Fate, Refusal},
};
use crate::{hbone::authority::Authority, policy::egress, snapshot::Destination, telemetry::Reason};

impl Telling<'_> {
    /// The address that is connected to; `None` for a name that nobody of the mesh has, where the tenant may go anywhere.
    pub(super) fn target(&mut self) -> Result<Option<SocketAddr>, ExplainError> {
        let question = self.question;
        let (host, port) = match &question.to {
            Authority::Address(address) => return Ok(Some(*address)),
            Authority::Host { name, port } => (name.trim_end_matches('.'), *port),
        };
        if let Some((name, service)) = self.service(host) {
            return self.address_of(&name, service).map(|ip| Some(SocketAddr::new(ip, port)));
        }
        if let Some(ip) = self.found(host, port) {
            return Ok(Some(SocketAddr::new(ip, port)));
        }
        match self.snapshot.egress {
            Egress::Any => Ok(None),
            Egress::Mesh | Egress::Doubtful => Err(ExplainError::UnknownHost { host: host.to_owned() }),
        }
    }

    /// The Service that a name means to the caller, if there is one.
    fn service(&self, host: &str) -> Option<(ServiceName, &Service)> {
        let name = service_of(host, &self.caller.pod.namespace, self.world.domain)?;
        let service = self.world.mesh.services.get(&name)?;
        Some((name, service))
    }

    /// What DNS answers for a Service: its cluster address, in a family that the caller has; or where it has none, its pods'.
    fn address_of(&self, name: &ServiceName, service: &Service) -> Result<IpAddr, ExplainError> {
        let family = self.caller.addresses.first().is_none_or(IpAddr::is_ipv4);
        let alike = |addresses: &[IpAddr]| {
            addresses.iter().find(|address| address.is_ipv4() == family).or(addresses.first()).copied()
        };
        let endpoints = service.ports.iter().flat_map(|port| &port.endpoints);
        let pods: Vec<IpAddr> =
            endpoints.filter(|endpoint| endpoint.ready).map(|endpoint| endpoint.address.ip()).collect();
        let found = alike(&service.vips).or_else(|| alike(&pods));
        found.ok_or_else(|| ExplainError::NoAddress { service: name.clone() })
    }

    /// What the node has found for the host of a ServiceEntry.
    fn found(&self, host: &str, port: u16) -> Option<IpAddr> {
        let openings = self.snapshot.external.0.iter();
        let names = |entry: &config::model::ServiceEntry| {
            entry.ports.contains(&port) && entry.hosts.iter().any(|known| known.as_str() == host)
        };
        openings.filter(|opening| names(&opening.entry)).find_map(|opening| opening.found.first().copied())
    }

    /// A name outside the mesh, of a tenant that may go anywhere: whatever its address is, nobody decides about it.
    pub(super) fn outside_by_name(&mut self) -> Fate {
        let to = &self.question.to;
        let says =
            format!("{to} is no Service of the mesh: whatever address the pod's DNS gives, it is outside");
        self.stage(Name::Destination, says, None);
        self.stage(Name::Egress, self.free(), self.world.tenant(&self.caller.tenant));
        Fate::Carried { to: format!("{to}, outside the mesh, as it is (passthrough)") }
    }

    /// Tells what there is at an address.
    pub(super) fn destination(&mut self, to: SocketAddr, destination: &Destination) {
        let by_name = match &self.question.to {
            Authority::Host { name, .. } => format!("{} is {}; ", super::short(name), to.ip()),
            Authority::Address(_) => String::new(),
        };
        match destination {
            Destination::Service { entry, .. } => {
                let object = self.world.object("Service", &entry.service.namespace, &entry.service.name);
                let says = format!("{by_name}{to} is port {} of Service {}", entry.port, entry.service);
                self.stage(Name::Destination, says, Some(object));
            }
            Destination::Workload { entry, .. } => {
                let pod = &entry.workload.pod;
                let says =
                    format!("{by_name}{to} is the pod {pod} itself: no route applies, nothing is balanced");
                self.stage(Name::Destination, says, Some(self.world.pod(pod)));
            }
            Destination::Outside => {
                let says = format!("{by_name}{to} is nothing that the mesh knows: outside");
                self.stage(Name::Destination, says, None);
                self.near_miss(to);
            }
        }
    }

    /// An address of a Service, at a port that it does not have, is outside, too.
    fn near_miss(&mut self, to: SocketAddr) {
        let mesh = self.world.mesh;
        let has =
            |service: &&std::sync::Arc<Service>| service.vips.iter().any(|vip| vip.to_canonical() == to.ip());
        let Some(service) = mesh.services.values().find(has) else { return };
        let ports = few(service.ports.iter().map(|port| port.number));
        let object = self.world.object("Service", &service.name.namespace, &service.name.name);
        let says =
            format!("Service {} has this address, and no port {}; it has: {ports}", service.name, to.port());
        self.detail(says, Some(object));
    }

    /// Tells why the caller may go to an address outside.
    pub(super) fn let_out(&mut self, to: SocketAddr) {
        let caller = &self.caller.pod.namespace;
        match egress::way_out(self.snapshot, caller, to) {
            Ok(Some(entry)) => {
                let object = self.world.object("ServiceEntry", &entry.name.namespace, &entry.name.name);
                let says = format!("kept to the mesh, and ServiceEntry {} names {to}", entry.name);
                self.stage(Name::Egress, says, Some(object));
            }
            Ok(None) => self.stage(Name::Egress, self.free(), self.world.tenant(&self.caller.tenant)),
            // Whoever asks has been told already.
            Err(_) => {}
        }
    }

    fn free(&self) -> String {
        format!("tenant {} may go anywhere (spec.egress: any)", self.caller.tenant)
    }

    /// Tells why not.
    pub(super) fn kept_in(&mut self, to: SocketAddr) -> Refusal {
        let tenant = &self.caller.tenant;
        let by = self.world.tenant(tenant);
        let entries = self.snapshot.external.0.len();
        let says = format!(
            "tenant {tenant} is kept to the mesh (spec.egress: mesh), and none of {entries} ServiceEntries for it names {to}"
        );
        self.stage(Name::Egress, says, by.clone());
        for opening in self.snapshot.external.0.iter().take(super::FEW) {
            let entry = &opening.entry;
            let ports = few(&entry.ports);
            let hosts = if entry.hosts.is_empty() {
                String::new()
            } else {
                let found = few(&opening.found);
                format!(
                    "; hosts {}, found at: {}",
                    few(&entry.hosts),
                    if found.is_empty() { "nothing yet" } else { &found }
                )
            };
            let addresses = few(entry
                .addresses
                .iter()
                .map(ToString::to_string)
                .chain(entry.endpoints.iter().map(ToString::to_string)));
            let says = format!("ServiceEntry {} names: {addresses} at ports {ports}{hosts}", entry.name);
            let object = self.world.object("ServiceEntry", &entry.name.namespace, &entry.name.name);
            self.detail(says, Some(object));
        }
        Refusal {
            reason: Reason::EgressForbidden,
            says: format!("tenant {tenant} is kept to the mesh, and no ServiceEntry names {to}"),
            remedy: format!(
                "{tenant} (or who writes the root namespace) would have to name {} at port {} in a ServiceEntry, or {} say egress: any",
                to.ip(),
                to.port(),
                super::PLATFORM
            ),
            by,
        }
    }
}

/// The Service that a host means to callers of a namespace, whether there is one or not: `cart`, `cart.shop`, `cart.shop.svc`,
/// `cart.shop.svc.cluster.local`.
pub fn service_of(host: &str, of: &Namespace, domain: &ClusterDomain) -> Option<ServiceName> {
    let host = host.trim_end_matches('.');
    let suffix = format!(".svc.{domain}");
    let name = host.strip_suffix(suffix.as_str()).or_else(|| host.strip_suffix(".svc")).unwrap_or(host);
    let (name, namespace) = match name.split_once('.') {
        Some((name, namespace)) => (name, Namespace::try_from(namespace).ok()?),
        None => (name, of.clone()),
    };
    Some(ServiceName::new(namespace, ObjectName::try_from(name).ok()?))
}
