//! A mesh that a control plane says and a node puts together again is the same mesh: whole, and after each change of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use config::{
    discovery::{Assembly, Kind, Reader, Shelf, Site},
    model::Mesh,
    name::ClusterDomain,
    part,
    store::{FileText, Options, Store},
};

/// The sound objects of the corpus, one of each kind and a tenant of several beside them.
fn objects() -> BTreeMap<PathBuf, FileText> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/cases");
    let folders = fs::read_dir(cases).expect("the corpus is there");
    let mut files = BTreeMap::new();
    for folder in folders {
        let folder = folder.expect("the corpus can be read").path();
        let Ok(text) = fs::read(folder.join("good.yaml")) else { continue };
        let name = folder.file_name().expect("it has a name").to_owned();
        let text = String::from_utf8(text).expect("the corpus is text").replace("@{head}", "");
        files.insert(PathBuf::from(name).with_extension("yaml"), FileText::from(&*text));
    }
    files
}

fn examples(directory: &str) -> BTreeMap<PathBuf, FileText> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(directory);
    let entries = fs::read_dir(directory).expect("the examples are there");
    let paths = entries.map(|entry| entry.expect("the examples can be read").path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.map(|path| (path.clone(), FileText::from(fs::read(path).expect("they can be read")))).collect()
}

fn domain() -> ClusterDomain {
    "cluster.local".try_into().expect("a domain")
}

/// As others than a pod's own node see it: without its namespace, and without what its kubelet asks.
fn told(mesh: &Mesh) -> Mesh {
    let workload = |(pod, workload): (&_, &Arc<_>)| {
        let mut seen = (*part::as_others_see(workload)).clone();
        seen.netns = None;
        (Clone::clone(pod), Arc::new(seen))
    };
    Mesh { version: 0, workloads: mesh.workloads.iter().map(workload).collect(), ..mesh.clone() }
}

/// Adds the files one by one, takes them away again, and compares after each.
fn follow(files: &BTreeMap<PathBuf, FileText>) -> usize {
    let mut store = Store::new(Options::default());
    let mut shelf = Shelf::new(Site { domain: domain(), cluster: "Kubernetes".to_owned() });
    let mut assembly = Assembly::new(Options::default(), domain());
    let mut there = BTreeMap::new();
    let mut largest = 0;
    let adds = files.keys().map(|path| (path, true));
    for (path, adds) in adds.chain(files.keys().map(|path| (path, false))).collect::<Vec<_>>() {
        if adds {
            there.insert(path.clone(), files[path].clone());
        } else {
            there.remove(path);
        }
        let outcome = store.apply(&there);
        let changed = shelf.stock(&outcome.mesh);
        for kind in Kind::ALL {
            let of_kind = changed.iter().filter(|(of, _)| *of == kind).map(|(_, name)| &**name);
            let (mut set, mut removed) = (Vec::new(), Vec::new());
            for name in of_kind {
                match shelf.get(kind, name, &Reader::default()) {
                    Some(resource) => set.push(resource),
                    None => removed.push(name.to_owned()),
                }
            }
            assert_eq!(assembly.take(kind, set, &removed), [], "{}: {kind:?}", path.display());
        }
        let made = assembly.make();
        assert_eq!(told(&made.mesh), told(&outcome.mesh), "{} {adds}", path.display());
        largest = largest.max(changed.len());
    }
    largest
}

#[test]
fn a_node_puts_together_what_a_control_plane_says_after_each_change() {
    let objects = objects();
    assert!(objects.len() >= 10, "{:?}", objects.keys());
    assert!(follow(&objects) > 0);
    for directory in ["two-tenants", "policies"] {
        assert!(follow(&examples(directory)) > 1, "{directory}");
    }
    let files = BALANCED
        .iter()
        .zip(0..)
        .map(|(text, name)| (PathBuf::from(format!("{name}.yaml")), FileText::from(*text)));
    assert!(follow(&files.collect()) > 0);
}

/// Services that say to which endpoints connections go, and endpoints that say for whom they are.
const BALANCED: [&str; 4] = [
    "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: shop, labels: {app: a, topology.kubernetes.io/zone: z}}, \
     spec: {nodeName: one, containers: [{name: c}]}, status: {podIP: 10.1.0.1}}",
    "{apiVersion: v1, kind: Service, metadata: {name: near, namespace: shop}, spec: {clusterIP: 10.96.1.1, selector: {app: a}, \
     trafficDistribution: PreferSameNode, sessionAffinity: ClientIP, ports: [{port: 80}]}}",
    "{apiVersion: v1, kind: Service, metadata: {name: own, namespace: shop}, spec: {clusterIP: 10.96.1.2, \
     internalTrafficPolicy: Local, ports: [{port: 80}]}}",
    "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [{port: 80}], \
     metadata: {name: own-1, namespace: shop, labels: {kubernetes.io/service-name: own}}, endpoints: [\
     {addresses: [10.1.0.1], nodeName: one, conditions: {ready: false, serving: true, terminating: true}}, \
     {addresses: [203.0.113.7], nodeName: two, hints: {forNodes: [{name: two}], forZones: [{name: y}]}}]}",
];
