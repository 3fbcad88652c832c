//! Who is there before anybody writes anything, and what of a mesh is whose.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use config::{
    model::{Action, Egress, Mesh, Scope},
    name::{Namespace, NodeName, TenantId},
    store::{FileText, Options, Outcome, Store},
};

const FILES: [(&str, &str); 2] =
    [("50-bank.yaml", include_str!("scene/bank.yaml")), ("50-shop.yaml", include_str!("scene/shop.yaml"))];
/// The neighbour's file, and its namespace, which is its Tenant's name, too.
pub(crate) const NEIGHBOURS_FILE: &str = FILES[0].0;
pub(crate) const NEIGHBOUR: &str = "bank";
const NODE: &str = "here";
const NODE_ADDRESS: &str = "192.0.2.2";

pub(crate) fn store() -> Store {
    let node_addresses = vec![NODE_ADDRESS.parse().expect("an address")];
    Store::new(Options { node: NodeName::try_from(NODE).ok(), node_addresses, ..Options::default() })
}

/// The scene's files and, under names that begin so, others.
pub(crate) fn files(prefix: &str, others: &[Vec<u8>]) -> BTreeMap<PathBuf, FileText> {
    let scene = FILES.map(|(name, text)| (PathBuf::from(name), FileText::from(text)));
    let named = |(number, bytes): (usize, &Vec<u8>)| {
        (PathBuf::from(format!("{prefix}-{number}.yaml")), FileText::from(bytes.clone()))
    };
    scene.into_iter().chain(others.iter().enumerate().map(named)).collect()
}

static ALONE: LazyLock<Outcome> = LazyLock::new(|| store().apply(&files("", &[])));

/// What a store makes of the scene.
pub(crate) fn alone() -> &'static Outcome {
    &ALONE
}

/// What a store makes of the scene and others that starts with them.
pub(crate) fn with(others: &[Vec<u8>]) -> Outcome {
    store().apply(&files("99-case", others))
}

/// A thing of a mesh: its namespace (a Tenant's is its name), its own name, and all that it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thing {
    pub namespace: String,
    pub name: String,
    pub says: String,
}

/// All there is in a mesh.
pub(crate) fn things(mesh: &Mesh) -> Vec<Thing> {
    let mut all = Vec::new();
    let mut add = |namespace: &str, name: &str, says: &dyn Debug| {
        let says = format!("{says:?}");
        all.push(Thing { namespace: namespace.to_owned(), name: name.to_owned(), says });
    };
    for (id, tenant) in &mesh.tenants {
        add(id.as_str(), id.as_str(), tenant);
    }
    for (namespace, tenant) in &mesh.membership {
        add(namespace.as_str(), namespace.as_str(), tenant);
    }
    for (namespace, facts) in &mesh.namespaces {
        add(namespace.as_str(), namespace.as_str(), facts);
    }
    macro_rules! add_all {
        ($($map:ident)*) => {$(
            for (name, value) in &mesh.$map {
                add(name.namespace.as_str(), name.name.as_str(), value);
            }
        )*};
    }
    add_all!(workloads services routes authorization peer_authentication network_policies service_entries);
    all
}

/// All that stands in for something that is not in force, as cases write it.
pub(crate) fn closed(mesh: &Mesh) -> BTreeSet<String> {
    let denying = mesh.authorization.values().filter(|policy| policy.action == Action::Unreadable);
    let mut found: BTreeSet<String> = denying.map(|policy| show(&policy.scope)).collect();
    let strict = mesh.peer_authentication.values().filter(|peers| peers.unreadable);
    found.extend(strict.map(|peers| format!("plaintext {}", show(&peers.scope))));
    let narrow = mesh.network_policies.values().filter(|policy| policy.unreadable);
    found.extend(narrow.map(|policy| format!("short cuts {}", policy.name.namespace)));
    found.extend(kept(mesh).map(|namespace| format!("kept {namespace}")));
    found
}

/// Namespaces without a Tenant that are kept to the mesh, since one may have said so.
fn kept(mesh: &Mesh) -> impl Iterator<Item = &Namespace> {
    let is_kept = |(id, tenant): &(&TenantId, &Arc<config::model::Tenant>)| {
        matches!(id, TenantId::Namespace(_)) && tenant.egress == Egress::Mesh
    };
    mesh.tenants.iter().filter(is_kept).flat_map(|(_, tenant)| &tenant.namespaces)
}

fn show(scope: &Scope) -> String {
    match scope {
        Scope::Mesh => "*".to_owned(),
        Scope::Namespace(namespace) => namespace.to_string(),
        Scope::Selected { namespace, labels } => {
            let of = namespace.as_ref().map_or("*", |namespace| namespace.as_str());
            let labels = labels.iter().map(|(key, value)| format!(" {key}={value}"));
            format!("{of}{}", labels.collect::<String>())
        }
        Scope::Services(services) => {
            let names: Vec<String> = services.iter().map(ToString::to_string).collect();
            format!("behind {}", names.join(" "))
        }
        Scope::Pods(pods) => {
            let names: Vec<String> = pods.iter().map(ToString::to_string).collect();
            format!("pods {}", names.join(" "))
        }
    }
}
