//! What Canopy is told of an edit of the neighbour's: the resources that `canopy control` would say of the same manifests.
//!
//! Lowered once, before anything is measured. Of a route whose number changes, the number alone is written anew.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    discovery::{Kind, Reader, Resource, Shelf, Site, messages::Facts},
    name::{ClusterDomain, NodeName},
    store::{FileText, Options, Store},
};
use prost::Message;
use testkit::control_plane::Change;

use super::{BROKEN, Edit, MARKED, ROUTES, mark};
use crate::{
    error::BenchError,
    subject::{Backed, Judge, Manifests, NEAR, PodEntry, Side},
};

/// All resources, and what there is to say of each edit.
#[derive(Debug)]
pub(super) struct Objects {
    pods: Manifests,
    all: Vec<Change>,
    marked: Route,
    broken: Route,
    /// Without it and with it; of the policy, as it is and as it becomes.
    endpoint: [Vec<Change>; 2],
    route: [Vec<Change>; 2],
    policy: [Vec<Change>; 2],
}

/// A route as a resource.
#[derive(Debug)]
struct Route {
    name: String,
    json: String,
}

/// Which of two states parts of the neighbour's configuration are in.
#[derive(Debug, Clone, Copy)]
struct Shape {
    endpoint: bool,
    route: bool,
    other_policy: bool,
}

impl Objects {
    pub(super) fn of(backed: &Backed) -> Result<Self, BenchError> {
        let mut pods = Manifests::default();
        all_pods(&mut pods, backed);
        Self::lowered(pods, |shape| manifests(backed, shape).text())
    }

    fn lowered(pods: Manifests, text: impl Fn(Shape) -> String) -> Result<Self, BenchError> {
        let mut lowering = Lowering::new()?;
        let begun = Shape { endpoint: true, route: false, other_policy: false };
        let all = lowering.take(text(begun))?;
        let (marked, broken) = (lowering.route(MARKED)?, lowering.route(BROKEN)?);
        let mut there_and_back =
            |shape| Ok::<_, BenchError>([lowering.take(text(shape))?, lowering.take(text(begun))?]);
        let endpoint = there_and_back(Shape { endpoint: false, ..begun })?;
        let [with, without] = there_and_back(Shape { route: true, ..begun })?;
        let [other, first] = there_and_back(Shape { other_policy: true, ..begun })?;
        Ok(Self { pods, all, marked, broken, endpoint, route: [without, with], policy: [first, other] })
    }

    /// What the node has in its own directory: its pods.
    pub(super) fn pods(&self) -> &Manifests {
        &self.pods
    }

    pub(super) fn all(&self) -> Vec<Change> {
        self.all.clone()
    }

    pub(super) fn edit(&self, edit: Edit) -> Vec<Change> {
        match edit {
            Edit::Mark(number) => vec![self.marked.says(&self.marked.json.replace(&mark(0), &mark(number)))],
            Edit::Endpoint { there } => self.endpoint[usize::from(there)].clone(),
            Edit::Route { there } => self.route[usize::from(there)].clone(),
            Edit::Policy { other } => self.policy[usize::from(other)].clone(),
            Edit::Broken { other: false } => {
                vec![Change::set(Kind::Route.type_url(), &self.broken.name, &[0xff; 64])]
            }
            // A field that this version does not know.
            Edit::Broken { other: true } => {
                vec![self.broken.says(&self.broken.json.replacen('{', "{\"surprise\":true,", 1))]
            }
        }
    }
}

impl Route {
    fn says(&self, json: &str) -> Change {
        let body = Facts { json: json.to_owned() }.encode_to_vec();
        Change::set(Kind::Route.type_url(), &self.name, &body)
    }
}

/// Manifests in, resources out.
struct Lowering {
    store: Store,
    shelf: Shelf,
    reader: Reader,
}

impl Lowering {
    fn new() -> Result<Self, BenchError> {
        let node = NodeName::try_from(NEAR.to_owned()).map_err(|e| BenchError::Usage(e.to_string()))?;
        let site = Site { domain: ClusterDomain::default(), cluster: CLUSTER.into() };
        let reader = Reader { node: Some(node) };
        Ok(Self { store: Store::new(Options::default()), shelf: Shelf::new(site), reader })
    }

    /// The resources by which these manifests differ from those before.
    fn take(&mut self, text: String) -> Result<Vec<Change>, BenchError> {
        let files = BTreeMap::from([(PathBuf::from("mesh.yaml"), FileText::from(text.into_bytes()))]);
        let outcome = self.store.apply(&files);
        if let Some(finding) = outcome.findings.first() {
            return Err(BenchError::Usage(finding.to_string()));
        }
        let changed = self.shelf.stock(&outcome.mesh);
        Ok(changed.into_iter().map(|(kind, name)| self.change(kind, &name)).collect())
    }

    fn change(&self, kind: Kind, name: &str) -> Change {
        let Some(Resource { name, aliases, body, .. }) = self.shelf.get(kind, name, &self.reader) else {
            return Change::remove(kind.type_url(), name);
        };
        let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
        Change::set(kind.type_url(), &name, &body).called(&aliases)
    }

    fn route(&self, number: usize) -> Result<Route, BenchError> {
        let name = format!("HTTPRoute/{}/route-{number:05}", Side::Aggressor.name());
        let missing = || BenchError::Usage(format!("{name} is not among the resources"));
        let resource = self.shelf.get(Kind::Route, &name, &self.reader).ok_or_else(missing)?;
        let facts = Facts::decode(resource.body.as_slice()).map_err(|_| missing())?;
        Ok(Route { name, json: facts.json })
    }
}

/// All manifests of both tenants.
fn manifests(backed: &Backed, shape: Shape) -> Manifests {
    let mut manifests = Manifests::default();
    for side in Side::BOTH {
        manifests.tenant(side.name());
        manifests.service_at(&PodEntry::of(backed.server(side)), side.address());
    }
    all_pods(&mut manifests, backed);
    neighbour(&mut manifests, &PodEntry::of(backed.last_server()), shape);
    manifests
}

fn all_pods(manifests: &mut Manifests, backed: &Backed) {
    backed.pods().for_each(|pod| manifests.pod(&PodEntry::of(pod)));
}

/// What the neighbour has beside pods and a Service.
fn neighbour(manifests: &mut Manifests, second: &PodEntry, shape: Shape) {
    let namespace = Side::Aggressor.name();
    for number in 0..ROUTES + usize::from(shape.route) {
        match number {
            MARKED => manifests.marked_route(namespace, number, &mark(0)),
            _ => manifests.route(namespace, number),
        }
    }
    if shape.endpoint {
        manifests.further_endpoint(second);
    }
    // Of addresses that are for examples (RFC 5737): nobody is denied.
    let denied = [192, 0, 2, 1 + u8::from(shape.other_policy)].into();
    manifests.denial(second, denied, Judge::Fence);
}

/// What nodes call the cluster by themselves.
const CLUSTER: &str = "Kubernetes";

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn entry(name: &str, last: u8) -> PodEntry {
        PodEntry {
            namespace: "aggressor".to_owned(),
            name: name.to_owned(),
            address: Ipv4Addr::new(10, 77, 0, last),
            netns: format!("/run/netns/{name}").into(),
            node: NEAR,
            has_sidecar: false,
        }
    }

    fn objects() -> Objects {
        let text = |shape| {
            let mut manifests = Manifests::default();
            let (server, second) = (entry("server", 11), entry("server-2", 12));
            manifests.tenant("aggressor");
            manifests.pod(&server);
            manifests.pod(&second);
            manifests.service_at(&server, Side::Aggressor.address());
            neighbour(&mut manifests, &second, shape);
            manifests.text()
        };
        Objects::lowered(Manifests::default(), text).unwrap()
    }

    fn names(changes: &[Change]) -> Vec<String> {
        let kind = |change: &Change| change.type_url().rsplit('.').next().unwrap().to_owned();
        changes.iter().map(|change| format!("{} {}", kind(change), change.name())).collect()
    }

    #[test]
    fn an_edit_is_told_by_what_differs_and_nothing_else() {
        let objects = objects();
        let routes = names(&objects.all()).iter().filter(|name| name.starts_with("Route ")).count();
        assert_eq!(routes, ROUTES);
        let told = |edit| names(&objects.edit(edit));
        let route = |number: usize| [format!("Route HTTPRoute/aggressor/route-{number:05}")];
        assert_eq!(told(Edit::Mark(7)), route(MARKED));
        for there in [false, true] {
            assert_eq!(told(Edit::Route { there }), route(ROUTES));
            assert_eq!(told(Edit::Broken { other: there }), route(BROKEN));
            assert_eq!(told(Edit::Policy { other: there }), ["Authorization aggressor/denial"]);
            let endpoint = [
                "Address Kubernetes//Pod/aggressor/server-2",
                "Address aggressor/web.aggressor.svc.cluster.local",
            ];
            assert_eq!(told(Edit::Endpoint { there }), endpoint);
        }
        let gone = Change::remove(Kind::Route.type_url(), "HTTPRoute/aggressor/route-00100");
        assert_eq!(objects.edit(Edit::Route { there: false }), [gone]);
    }

    #[test]
    fn a_number_is_told_in_the_place_of_the_one_before_and_what_is_broken_cannot_be_read() {
        let objects = objects();
        let read = |json: &str| serde_json::from_str::<config::model::HttpRoute>(json);
        assert!(read(&objects.broken.json).is_ok());
        let marked = objects.marked.json.replace("00000000\"]", "00000107\"]");
        assert!(read(&marked).is_ok() && marked != objects.marked.json, "{marked}");
        assert_eq!(objects.edit(Edit::Mark(107)), [objects.marked.says(&marked)]);
        let surprise = objects.broken.json.replacen('{', "{\"surprise\":true,", 1);
        assert!(read(&surprise).unwrap_err().to_string().contains("surprise"));
        assert_eq!(objects.edit(Edit::Broken { other: true }), [objects.broken.says(&surprise)]);
    }
}
