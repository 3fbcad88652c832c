//! What is read of a cluster to judge it: each fact by itself, so that one that may not be read leaves the others.

use serde_json::{Value, json};

use crate::control::kubernetes::{AskError, Asking};

/// A fact, or why it is not known; none if there is no such object.
pub(super) type Fact<T> = Result<Option<T>, String>;

/// Of a cluster before anything is installed.
#[derive(Debug)]
pub(super) struct Before {
    /// `/version`.
    pub(super) version: Fact<Value>,
    pub(super) nodes: Fact<Vec<Value>>,
    /// Kinds that deploy/ makes and whoever asks may not.
    pub(super) forbidden: Fact<Vec<String>>,
    /// The definition of HTTPRoute.
    pub(super) routes: Fact<Value>,
    /// Names of all DaemonSets.
    pub(super) daemon_sets: Fact<Vec<String>>,
    /// Data of Cilium's ConfigMap.
    pub(super) cilium: Fact<Value>,
    /// Canopy's namespace.
    pub(super) namespace: Fact<Value>,
}

/// What deploy/ makes: group, resource, and whether in Canopy's namespace.
const MADE: [(&str, &str, bool); 13] = [
    ("", "namespaces", false),
    ("", "serviceaccounts", true),
    ("", "services", true),
    ("apps", "daemonsets", true),
    ("apps", "deployments", true),
    ("policy", "poddisruptionbudgets", true),
    ("rbac.authorization.k8s.io", "clusterroles", false),
    ("rbac.authorization.k8s.io", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io", "roles", true),
    ("rbac.authorization.k8s.io", "rolebindings", true),
    ("apiextensions.k8s.io", "customresourcedefinitions", false),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", false),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings", false),
];

fn fact<T>(answer: Result<T, AskError>) -> Fact<T> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(AskError::Absent) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) async fn read(asking: &Asking, namespace: &str) -> Before {
    let cilium = asking.get("/api/v1/namespaces/kube-system/configmaps/cilium-config").await;
    let sets = asking.list("/apis/apps/v1/daemonsets", None).await;
    let name = |set: &Value| set["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Before {
        version: fact(asking.get("/version").await),
        nodes: fact(asking.list("/api/v1/nodes", None).await),
        forbidden: fact(forbidden(asking, namespace).await),
        routes: fact(asking.get(&definition("httproutes.gateway.networking.k8s.io")).await),
        daemon_sets: fact(sets.map(|sets| sets.iter().map(name).collect())),
        cilium: fact(cilium.map(|mut map| map["data"].take())),
        namespace: fact(asking.get(&format!("/api/v1/namespaces/{namespace}")).await),
    }
}

fn definition(name: &str) -> String {
    format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
}

async fn forbidden(asking: &Asking, namespace: &str) -> Result<Vec<String>, AskError> {
    let mut all = Vec::new();
    for (group, resource, is_inside) in MADE {
        let mut attributes = json!({ "group": group, "resource": resource, "verb": "create" });
        if is_inside {
            attributes["namespace"] = namespace.into();
        }
        if !asking.may(&attributes).await? {
            all.push(resource.to_owned());
        }
    }
    Ok(all)
}

/// Of what is installed: its name, and the object.
pub(super) async fn roles(asking: &Asking, namespace: &str) -> Vec<(&'static str, Fact<Value>)> {
    let apps = format!("/apis/apps/v1/namespaces/{namespace}");
    vec![
        ("DaemonSet canopy-node", fact(asking.get(&format!("{apps}/daemonsets/canopy-node")).await)),
        ("DaemonSet canopy-cni", fact(asking.get(&format!("{apps}/daemonsets/canopy-cni")).await)),
        ("Deployment canopy-control", fact(asking.get(&format!("{apps}/deployments/canopy-control")).await)),
        ("definition of Tenant", fact(asking.get(&definition("tenants.canopy.mesh")).await)),
    ]
}

/// Running pods that labels opt in, or that a Tenant keeps to the mesh.
pub(super) async fn opted_in(asking: &Asking) -> Fact<Vec<Value>> {
    let namespaces = match asking.list("/api/v1/namespaces", None).await {
        Ok(namespaces) => namespaces,
        Err(error) => return Err(error.to_string()),
    };
    let tenants = match asking.list(TENANTS, None).await {
        Err(AskError::Absent) => Vec::new(),
        tenants => tenants.map_err(|error| error.to_string())?,
    };
    let pods = asking.list("/api/v1/pods", None).await.map_err(|error| error.to_string())?;
    Ok(Some(super::after::opted_in(&namespaces, &tenants, pods)))
}

/// Objects whose status says `Accepted=False`, of kinds that Canopy writes the status of.
pub(super) async fn refused(asking: &Asking) -> Fact<Vec<String>> {
    let mut all = Vec::new();
    for path in STATUSES {
        match asking.list(path, None).await {
            Ok(objects) => all.extend(objects.iter().filter_map(super::after::refusal)),
            Err(AskError::Absent) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(Some(all))
}

const TENANTS: &str = "/apis/canopy.mesh/v1alpha1/tenants";
const STATUSES: [&str; 3] = [
    TENANTS,
    "/apis/gateway.networking.k8s.io/v1/httproutes",
    "/apis/gateway.networking.k8s.io/v1/grpcroutes",
];
