//! What `canopy tree` says of one workload.

use serde_json::Value;
use testkit::Daemon;

/// What is said of the certificate of a workload (`NAMESPACE/NAME`); null where the daemon does not answer, or has no such tree.
#[must_use]
pub fn certificate_of(daemon: &Daemon, workload: &str) -> Value {
    let Ok(output) = daemon.canopy(&["tree", "--json"]) else { return Value::Null };
    let tree: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    find(&tree, workload).unwrap_or_default()
}

/// The certificate of this workload's tree, wherever in the description that is.
fn find(value: &Value, workload: &str) -> Option<Value> {
    let pod = |part: &str| value["pod"][part].as_str().unwrap_or_default().to_owned();
    if value["certificate"].is_object() && format!("{}/{}", pod("namespace"), pod("name")) == workload {
        return Some(value["certificate"].clone());
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| find(item, workload)),
        Value::Object(fields) => fields.values().find_map(|field| find(field, workload)),
        _ => None,
    }
}
