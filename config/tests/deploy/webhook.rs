//! The webhook that gives pods their sidecars asks about pods that are labelled for it, and about nobody else's.

use serde_json::Value;

use crate::manifests::{documents, items, strings, text};

const OVERLAY: &str = "deploy/daemonset/overlays/sidecar";

/// The first object of a file of the overlay.
fn object(file: &str) -> Value {
    documents(&text(&format!("{OVERLAY}/{file}"))).remove(0)
}

#[test]
fn it_is_asked_about_pods_that_say_so_or_whose_namespace_does_and_never_about_the_clusters_own() {
    let webhooks = object("webhook.yaml")["webhooks"].clone();
    let mut by_label = Vec::new();
    for webhook in items(&webhooks) {
        assert_eq!((&webhook["failurePolicy"], &webhook["sideEffects"]), (&"Fail".into(), &"None".into()));
        assert!(webhook["timeoutSeconds"].as_u64() <= Some(5), "who makes a pod waits for so long");
        let rule = &webhook["rules"][0];
        assert_eq!(
            (strings(&rule["resources"]), strings(&rule["operations"])),
            (vec!["pods".to_owned()], vec!["CREATE".to_owned()])
        );
        let named = |selector: &str| -> Vec<String> {
            items(&webhook[selector]["matchExpressions"])
                .map(|one| {
                    format!("{} {} {}", one["key"], one["operator"], strings(&one["values"]).join(" "))
                        .replace('"', "")
                })
                .collect()
        };
        let (namespaces, objects) = (named("namespaceSelector"), named("objectSelector"));
        let spared = "kubernetes.io/metadata.name NotIn kube-system kube-node-lease canopy-system";
        assert!(namespaces.iter().any(|one| one == spared), "{namespaces:?}");
        let asks = "canopy.mesh/mode In sidecar".to_owned();
        by_label.push((namespaces.contains(&asks), objects.contains(&asks), objects.join(", ")));
    }
    let by_namespace = "canopy.mesh/mode NotIn off node sidecar".to_owned();
    let by_pod = "canopy.mesh/mode In sidecar".to_owned();
    assert_eq!(by_label, [(true, false, by_namespace), (false, true, by_pod)]);
}

#[test]
fn it_is_asked_where_the_control_plane_answers() {
    let service = object("service.yaml");
    let ports: Vec<_> = items(&service["spec"]["ports"]).map(|port| port["port"].to_string()).collect();
    let webhooks = object("webhook.yaml")["webhooks"].clone();
    for webhook in items(&webhooks) {
        let asked = &webhook["clientConfig"]["service"];
        assert_eq!((&asked["name"], &asked["path"]), (&"canopy-control".into(), &"/inject".into()));
        assert!(ports.contains(&asked["port"].to_string()), "{asked}");
        assert!(text(&format!("{OVERLAY}/control.yaml")).contains(&format!("\"0.0.0.0:{}\"", asked["port"])));
    }
}

#[test]
fn the_control_plane_may_change_that_webhook_alone() {
    let rules = object("rbac.yaml")["rules"].clone();
    assert_eq!(items(&rules).count(), 1);
    assert_eq!(strings(&rules[0]["resources"]), ["mutatingwebhookconfigurations"]);
    assert_eq!(strings(&rules[0]["resourceNames"]), ["canopy-sidecar"]);
    assert_eq!(strings(&rules[0]["verbs"]), ["get", "patch"]);
}
