//! Which pods get a sidecar, what they are then, and that nobody gets two.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::*;

mod port;

fn terms() -> Terms {
    Terms {
        image: "canopy:1".to_owned(),
        control: "canopy-control.canopy-system.svc:15012".to_owned(),
        audience: "istio-ca".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        root_namespace: "istio-system".to_owned(),
    }
}

/// What of RFC 6902 the patch uses: `add`, to an object or to a list, and `remove`, from a list.
fn applied(pod: &Value, patch: &[Value]) -> Value {
    let mut pod = pod.clone();
    for step in patch {
        let path = step["path"].as_str().unwrap();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let parent = pod.pointer_mut(parent).unwrap_or_else(|| panic!("{path}: there is no such place"));
        let (key, value) = (key.replace("~1", "/"), step["value"].clone());
        match parent {
            Value::Array(list) if step["op"] == "remove" => drop(list.remove(key.parse().unwrap())),
            _ if step["op"] != "add" => panic!("{step}"),
            Value::Array(list) if key == "-" => list.push(value),
            Value::Array(list) => list.insert(key.parse().unwrap(), value),
            Value::Object(members) => drop(members.insert(key, value)),
            other => panic!("{path}: {other}"),
        }
    }
    pod
}

const PEM: &str = "-----BEGIN CERTIFICATE-----\n";

fn patched(pod: &Value) -> Result<Vec<Value>, Refusal> {
    patch(&pod.to_string(), &terms(), PEM)
}

fn injected(pod: &Value) -> Value {
    applied(pod, &patched(pod).unwrap())
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let named = pod["spec"][list].as_array().into_iter().flatten();
    named.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_sidecar_is_first_of_all_whatever_else_the_pod_has_and_what_was_there_stays() {
    let app = json!([{ "name": "app" }]);
    for (what, spec, first) in [
        ("an app alone", json!({ "containers": app }), vec!["canopy-sidecar"]),
        (
            "with init containers and volumes",
            json!({ "containers": app, "initContainers": [{ "name": "one" }, { "name": "two", "restartPolicy": "Always" }],
                "volumes": [{ "name": "data" }] }),
            vec!["canopy-sidecar", "one", "two"],
        ),
        ("of a Job", json!({ "containers": app, "restartPolicy": "Never" }), vec!["canopy-sidecar"]),
        (
            "with empty lists",
            json!({ "containers": app, "initContainers": [], "volumes": [] }),
            vec!["canopy-sidecar"],
        ),
        ("with null for lists", json!({ "containers": app, "initContainers": null }), vec!["canopy-sidecar"]),
    ] {
        let pod = json!({ "metadata": { "name": "p" }, "spec": spec });
        let after = injected(&pod);
        assert_eq!(names(&after, "initContainers"), first, "{what}");
        assert_eq!(names(&after, "containers"), ["app"], "{what}");
        let sidecar = &after["spec"]["initContainers"][0];
        assert_eq!(
            (&sidecar["restartPolicy"], &sidecar["args"]),
            (&"Always".into(), &json!(["sidecar"])),
            "{what}"
        );
        assert_eq!(
            sidecar["securityContext"]["capabilities"],
            json!({ "drop": ["ALL"], "add": ["NET_ADMIN"] })
        );
        assert_eq!(after["spec"].get("restartPolicy"), pod["spec"].get("restartPolicy"), "{what}");
        assert_eq!(after["metadata"]["annotations"][ROOTS], PEM, "{what}");
        for mount in sidecar["volumeMounts"].as_array().unwrap() {
            assert!(
                names(&after, "volumes").contains(&mount["name"].as_str().unwrap().to_owned()),
                "{what}: {mount}"
            );
        }
    }
}

#[test]
fn who_cannot_have_one_is_refused_and_told_why() {
    let pod =
        |spec: Value, annotations: Value| json!({ "metadata": { "annotations": annotations }, "spec": spec });
    let app = json!([{ "name": "app" }]);
    let amount = json!({ "sidecar.canopy.mesh/memory": "much" });
    let of_group = |name: &str| json!({ "name": name, "securityContext": { "runAsGroup": 15021 } });
    for (pod, said) in [
        (pod(json!({ "containers": app, "hostNetwork": true }), json!({})), "hostNetwork"),
        (pod(json!({ "containers": app, "os": { "name": "windows" } }), json!({})), "Windows"),
        (pod(json!({ "containers": [{ "name": "canopy-sidecar" }] }), json!({})), "another name"),
        (pod(json!({ "containers": app }), amount), "sidecar.canopy.mesh/memory"),
        (pod(json!({ "containers": app, "securityContext": { "runAsGroup": 15021 } }), json!({})), "15021"),
        (pod(json!({ "containers": app, "securityContext": { "fsGroup": 15021 } }), json!({})), "15021"),
        (
            pod(
                json!({ "containers": app, "securityContext": { "supplementalGroups": [1, 15021] } }),
                json!({}),
            ),
            "15021",
        ),
        (pod(json!({ "containers": [of_group("app")] }), json!({})), "15021"),
        (pod(json!({ "containers": app, "initContainers": [of_group("first")] }), json!({})), "15021"),
        (pod(json!({ "containers": app }), json!({ "canopy.mesh/netns": "x".repeat(50_000) })), "bytes"),
        (json!({ "spec": { "containers": "app" } }), "form"),
        (json!({ "metadata": {} }), "no pod"),
    ] {
        let refusal = patched(&pod).unwrap_err().to_string();
        assert!(refusal.contains(said), "{refusal}");
    }
}

#[test]
fn a_container_that_somebody_else_calls_so_is_replaced_and_the_sidecar_is_first_again_where_others_were_put_before_it()
 {
    let containers = json!([{ "name": "app" }]);
    let own = json!([{ "name": "first" }, { "name": "canopy-sidecar", "image": "mine", "restartPolicy": "Always" }]);
    let volumes = json!([{ "name": "data" }, { "name": "canopy-token", "emptyDir": {} }]);
    let pod = json!({ "metadata": {}, "spec": { "containers": containers, "initContainers": own, "volumes": volumes } });
    let after = injected(&pod);
    let clean = json!({ "metadata": {}, "spec": { "containers": containers, "initContainers": [{ "name": "first" }], "volumes": [{ "name": "data" }] } });
    assert_eq!(after["spec"], injected(&clean)["spec"]);
    // As another webhook and the API server leave it.
    let mut later = after.clone();
    later["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({ "name": "another" }));
    later["spec"]["initContainers"][1]["terminationMessagePath"] = "/dev/termination-log".into();
    let again = injected(&later);
    assert_eq!(names(&again, "initContainers"), ["canopy-sidecar", "another", "first"]);
    let mut worse = after;
    worse["spec"]["initContainers"][0]["command"] = json!(["sleep", "infinity"]);
    assert_eq!(injected(&worse)["spec"]["initContainers"][0].get("command"), None);
}

#[test]
fn resources_are_those_of_annotations_or_the_default() {
    let resources = |annotations: Value| {
        let pod = json!({ "metadata": { "annotations": annotations }, "spec": { "containers": [] } });
        injected(&pod)["spec"]["initContainers"][0]["resources"].clone()
    };
    assert_eq!(
        resources(json!({})),
        json!({ "requests": { "cpu": "10m", "memory": "32Mi" }, "limits": { "memory": "128Mi" } })
    );
    let said = json!({ "sidecar.canopy.mesh/cpu": "250m", "sidecar.canopy.mesh/cpu-limit": "2",
        "sidecar.canopy.mesh/memory": "64Mi", "sidecar.canopy.mesh/memory-limit": "1Gi" });
    assert_eq!(
        resources(said),
        json!({ "requests": { "cpu": "250m", "memory": "64Mi" }, "limits": { "cpu": "2", "memory": "1Gi" } })
    );
}

#[test]
fn what_the_pod_declares_is_told_and_no_secret_nor_who_it_says_to_be() {
    let pod = json!({
        "metadata": { "name": "thief", "labels": { "app": "$(POD_NAME)" }, "annotations": { "canopy.mesh/exclude-outbound-ports": "5432", "note": "mine" } },
        "spec": { "serviceAccountName": "admin", "containers": [{ "name": "app", "env": [{ "name": "PASSWORD", "value": "secret" }],
            "ports": [{ "containerPort": 80 }],
            "readinessProbe": { "httpGet": { "path": "/", "port": "http", "httpHeaders": [{ "name": "a", "value": "b" }] }, "periodSeconds": 7 },
            "livenessProbe": { "exec": { "command": ["login", "hidden"] } },
            "lifecycle": { "preStop": { "httpGet": { "path": "/hook", "port": 80 } } } }] },
    });
    let environment = injected(&pod)["spec"]["initContainers"][0]["env"].clone();
    let told =
        environment.as_array().unwrap().iter().find(|one| one["name"] == "CANOPY_POD_MANIFEST").unwrap();
    let text = told["value"].as_str().unwrap();
    assert!(text.contains("$$(POD_NAME)"), "the kubelet leaves it as it is: {text}");
    let told: Value = serde_json::from_str(&text.replace("$$", "$")).unwrap();
    assert_eq!(told["metadata"]["annotations"], json!({ "canopy.mesh/exclude-outbound-ports": "5432" }));
    assert_eq!(told["spec"]["containers"][0]["ports"][0]["containerPort"], 80);
    let asked =
        json!({ "httpGet": { "path": "/", "port": "http", "httpHeaders": [{ "name": "a", "value": "b" }] } });
    assert_eq!(
        told["spec"]["containers"][0]["readinessProbe"], asked,
        "the whole question, which it asks itself"
    );
    for secret in ["secret", "thief", "admin", "mine", "hidden", "hook", "exec", "livenessProbe"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

/// A review of a pod with these labels.
fn reviewed(labels: Value, more: Value, roots: Option<&str>) -> Value {
    let mut request = json!({
        "uid": "u-1", "kind": { "kind": "Pod" }, "operation": "CREATE",
        "object": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "app" }] } },
    });
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    let review =
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
    review::answer(review.to_string().as_bytes(), &terms(), roots).unwrap()["response"].clone()
}

#[test]
fn a_review_is_answered_with_a_patch_where_the_pod_asks_and_left_as_it_is_where_it_does_not() {
    let sidecar = json!({ "canopy.mesh/mode": "sidecar" });
    for (labels, more, patched) in [
        (sidecar.clone(), json!({}), true),
        (json!({}), json!({}), true),
        (json!({ "canopy.mesh/mode": "slip" }), json!({}), true),
        (json!({ "canopy.mesh/mode": "node" }), json!({}), false),
        (json!({ "canopy.mesh/mode": "off" }), json!({}), false),
        (sidecar.clone(), json!({ "operation": "UPDATE" }), false),
        (sidecar.clone(), json!({ "kind": { "kind": "Service" } }), false),
    ] {
        let response = reviewed(labels.clone(), more, Some(PEM));
        assert_eq!((&response["uid"], &response["allowed"]), (&"u-1".into(), &true.into()), "{labels}");
        assert_eq!(response["patch"].is_string(), patched, "{labels}: {response}");
    }
    let response = reviewed(sidecar.clone(), json!({}), Some(PEM));
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    assert!(serde_json::from_slice::<Value>(&patch).unwrap().is_array());
    assert_eq!(response["patchType"], "JSONPatch");
    let early = reviewed(sidecar, json!({}), None);
    assert_eq!((&early["allowed"], &early["status"]["code"]), (&false.into(), &503.into()));
    assert!(review::answer(b"{}", &terms(), Some(PEM)).is_err());
}

fn pods() -> impl Strategy<Value = Value> {
    let list = || proptest::option::of(proptest::collection::vec("[a-d]{1,3}", 0..4));
    let labels = proptest::option::of(proptest::collection::btree_map("[a-z/.]{1,12}", "[ -~]{0,8}", 0..4));
    (list(), list(), list(), labels).prop_map(|(containers, init, volumes, labels)| {
        let named = |names: Option<Vec<String>>| {
            names.map(|names| names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>())
        };
        let mut pod =
            json!({ "metadata": {}, "spec": { "containers": named(containers).unwrap_or_default() } });
        for (key, list) in [("initContainers", named(init)), ("volumes", named(volumes))] {
            if let Some(list) = list {
                pod["spec"][key] = list.into();
            }
        }
        if let Some(labels) = labels {
            pod["metadata"]["annotations"] = json!(labels);
        }
        pod
    })
}

proptest! {
    #[test]
    fn twice_is_as_once_and_nothing_of_the_pods_own_is_lost(pod in pods()) {
        let once = injected(&pod);
        prop_assert_eq!(patched(&once).unwrap(), Vec::<Value>::new());
        for list in ["containers", "initContainers", "volumes"] {
            let (before, after) = (names(&pod, list), names(&once, list));
            prop_assert!(before.iter().all(|name| after.contains(name)));
            prop_assert_eq!(after.iter().filter(|name| before.contains(name)).count(), before.len());
        }
    }
}
