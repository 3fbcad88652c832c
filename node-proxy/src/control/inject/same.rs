//! Whether what stands in a pod already is what it would be made with: then it stays, and all else of that name is replaced.
//!
//! Pure. It must never take for the webhook's own what somebody else has written beside it: a command, a variable, a mount.

use serde_json::{Map, Value};

/// Whether one is the other, but for what the API server has filled in since.
pub(super) fn is_same(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            let all = wanted.iter().all(|(key, wanted)| is_field(there, key, wanted));
            all && there.keys().all(|key| wanted.contains_key(key) || FILLED_IN.contains(&key.as_str()))
        }
        (Value::Array(there), Value::Array(wanted)) => are_same(there.iter(), wanted),
        _ => there == wanted,
    }
}

fn is_field(there: &Map<String, Value>, key: &str, wanted: &Value) -> bool {
    let Some(there) = there.get(key) else { return false };
    match (key, there, wanted) {
        // A namespace's LimitRange gives what was not asked for.
        ("resources", _, _) => {
            let mut kinds = wanted.as_object().into_iter().flatten();
            kinds.all(|(kind, wanted)| {
                let mut amounts = wanted.as_object().into_iter().flatten();
                amounts.all(|(name, amount)| there[kind][name] == *amount)
            })
        }
        ("volumeMounts", Value::Array(there), Value::Array(wanted)) => {
            are_same(there.iter().filter(|mount| mount["mountPath"] != ACCOUNT), wanted)
        }
        _ => is_same(there, wanted),
    }
}

fn are_same<'a>(mut there: impl Iterator<Item = &'a Value>, wanted: &[Value]) -> bool {
    wanted.iter().all(|wanted| there.next().is_some_and(|there| is_same(there, wanted)))
        && there.next().is_none()
}

/// What the API server fills in (defaults of core/v1), of containers, probes, ports, variables and volumes.
const FILLED_IN: [&str; 10] = [
    "apiVersion",
    "defaultMode",
    "failureThreshold",
    "imagePullPolicy",
    "protocol",
    "scheme",
    "successThreshold",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "timeoutSeconds",
];
/// Where it mounts the account's token into every container.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_server_fills_in_makes_no_difference_and_what_anybody_else_adds_does() {
        let wanted = json!({
            "name": "a", "args": ["sidecar"], "env": [{ "name": "A", "value": "1" }],
            "ports": [{ "containerPort": 1 }], "resources": { "requests": { "cpu": "10m" } },
            "volumeMounts": [{ "name": "run", "mountPath": "/run" }],
        });
        let with = |change: &dyn Fn(&mut Value)| {
            let mut there = wanted.clone();
            change(&mut there);
            is_same(&there, &wanted)
        };
        let account = json!({ "name": "token", "mountPath": ACCOUNT });
        assert!(with(&|_| {}));
        assert!(with(&|one| one["terminationMessagePath"] = "/dev/termination-log".into()));
        assert!(with(&|one| one["ports"][0]["protocol"] = "TCP".into()));
        assert!(with(&|one| one["resources"]["limits"] = json!({ "cpu": "1" })));
        assert!(with(&|one| one["volumeMounts"].as_array_mut().unwrap().push(account.clone())));
        let own = json!({ "name": "mine", "mountPath": "/usr/bin" });
        assert!(!with(&|one| one["volumeMounts"].as_array_mut().unwrap().push(own.clone())));
        assert!(!with(&|one| one["command"] = json!(["sh"])));
        assert!(!with(&|one| one["args"] = json!(["sidecar", "--capture", "ebpf"])));
        assert!(!with(&|one| one["env"] = json!([{ "name": "A", "value": "2" }])));
        assert!(!with(&|one| one["env"].as_array_mut().unwrap().push(json!({ "name": "B" }))));
        assert!(!with(&|one| one["resources"] = json!({ "requests": { "cpu": "9" } })));
        assert!(!with(&|one| drop(one.as_object_mut().unwrap().remove("args"))));
        assert!(!with(&|one| one["lifecycle"] = json!({})));
    }
}
