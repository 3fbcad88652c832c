//! The mesh as resources: what each says, to whom, which of them a change changes, and by which names they are found.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use config::{
    discovery::{
        Kind, Reader, Resource, Shelf, Site,
        messages::{self, address::Type},
    },
    model::Mesh,
    name::{ClusterDomain, NodeName},
    store::{FileText, Options, Store},
};
use prost::Message;

mod changes;
mod found;
mod raised;
mod random;
mod told;

/// A directory of which each file is one object, and the shelf that is stocked with it.
struct Source {
    store: Store,
    files: BTreeMap<PathBuf, FileText>,
    shelf: Shelf,
}

impl Source {
    fn new() -> Self {
        Self { store: Store::new(Options::default()), files: BTreeMap::new(), shelf: Shelf::new(site()) }
    }

    /// One that has these objects, each of its own file.
    fn of(objects: &[&str]) -> Self {
        let mut source = Self::new();
        let named: Vec<String> = (0..objects.len()).map(|index| format!("{index:03}")).collect();
        source.edit(named.iter().map(String::as_str).zip(objects.iter().copied()));
        source
    }

    /// Writes files, removes those of which nothing is given, and gives the resources that change by it.
    fn edit<'a>(&mut self, texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
        for (name, text) in texts {
            let path = PathBuf::from(format!("{name}.yaml"));
            if text.is_empty() {
                self.files.remove(&path);
            } else {
                self.files.insert(path, FileText::from(text));
            }
        }
        let mesh = self.mesh();
        let changed = self.shelf.stock(&mesh);
        changed.iter().map(|(kind, name)| format!("{kind:?} {name}")).collect()
    }

    fn mesh(&mut self) -> Arc<Mesh> {
        self.store.apply(&self.files).mesh
    }

    fn get(&self, kind: Kind, name: &str) -> Resource {
        let found = self.shelf.get(kind, name, &Reader::default());
        found.unwrap_or_else(|| panic!("{name} of {:?}", self.shelf.names(kind).collect::<Vec<_>>()))
    }

    fn workload(&self, name: &str) -> messages::Workload {
        match address(&self.get(Kind::Address, name)) {
            Type::Workload(workload) => workload,
            Type::Service(service) => panic!("{service:?}"),
        }
    }

    fn service(&self, name: &str) -> messages::Service {
        match address(&self.get(Kind::Address, name)) {
            Type::Service(service) => service,
            Type::Workload(workload) => panic!("{workload:?}"),
        }
    }

    fn policy(&self, name: &str) -> messages::Authorization {
        let resource = self.get(Kind::Authorization, name);
        messages::Authorization::decode(resource.body.as_slice()).expect("an Authorization")
    }
}

fn site() -> Site {
    Site { domain: ClusterDomain::default(), cluster: "c1".to_owned() }
}

fn reader(node: &str) -> Reader {
    Reader { node: Some(NodeName::try_from(node).expect("a node's name")) }
}

fn address(resource: &Resource) -> Type {
    let address = messages::Address::decode(resource.body.as_slice()).expect("an Address");
    address.r#type.expect("a workload or a Service")
}

/// The model's own object beside Istio's words, as JSON.
fn own(extensions: &[messages::Extension]) -> String {
    let [extension] = extensions else { panic!("{extensions:?}") };
    let config = extension.config.as_ref().expect("what it says");
    assert_eq!(
        (extension.name.as_str(), config.type_url.as_str()),
        (config::discovery::EXTENSION, config::discovery::FACTS)
    );
    messages::Facts::decode(config.value.as_slice()).expect("facts").json
}

/// Everything that is on a shelf, for a reader.
fn all(shelf: &Shelf, reader: &Reader) -> BTreeMap<(Kind, String), Resource> {
    let of = |kind| {
        let names = shelf.names(kind);
        names.map(move |name| {
            let resource = shelf.get(kind, name, reader).expect("what has a name");
            assert_eq!(Some(&resource.version), shelf.version(kind, name, reader).as_ref(), "{name}");
            ((kind, name.to_string()), resource)
        })
    };
    Kind::ALL.into_iter().flat_map(of).collect()
}

/// What is another for any of these readers.
fn differing(
    before: &[BTreeMap<(Kind, String), Resource>],
    after: &[BTreeMap<(Kind, String), Resource>],
) -> Vec<String> {
    let mut names = BTreeSet::new();
    for (before, after) in before.iter().zip(after) {
        let all = before.keys().chain(after.keys());
        names.extend(all.filter(|key| before.get(key) != after.get(key)));
    }
    names.into_iter().map(|(kind, name)| format!("{kind:?} {name}")).collect()
}

const NAMESPACE: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}";

/// A pod that the mesh serves.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}, annotations: {ambient.istio.io/redirection: enabled}}
spec: {nodeName: one, serviceAccountName: web, containers: [{name: c, ports: [{name: main, containerPort: 8080}]}]}
status: {podIP: 10.0.0.1}
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.1
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-raw, port: 90, targetPort: main}]
";

/// A policy of `shop`.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: {name}, namespace: shop}}, spec: {spec}}}"
    )
}
