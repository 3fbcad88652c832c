//! What Canopy's parts may do on a cluster: as much as they need, and each of it named with its reason in
//! docs/operations/security-model.md.

use std::{collections::BTreeSet, sync::LazyLock};

use serde_json::Value;

use crate::manifests::{self, base, documents, items, object, strings, text};

static SECURITY_MODEL: LazyLock<String> = LazyLock::new(|| text("docs/operations/security-model.md"));

/// Kinds that are not evaluated, whose objects the control plane has to see all the same (config/src/object/kind.rs).
const LIMITING: [&str; 7] = [
    "adminnetworkpolicies",
    "baselineadminnetworkpolicies",
    "clusternetworkpolicies",
    "globalnetworkpolicies",
    "networkpolicies",
    "ciliumnetworkpolicies",
    "ciliumclusterwidenetworkpolicies",
];

/// What decides beside them which pods are in the mesh, and is no kind of the store's.
const RUNTIME_CLASSES: &str = "runtimeclasses";

/// `VERB RESOURCE` of a role, for each verb and resource.
fn granted(role: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rule in items(&role["rules"]) {
        for resource in strings(&rule["resources"]) {
            found.extend(strings(&rule["verbs"]).iter().map(|verb| format!("{verb} {resource}")));
        }
    }
    found
}

fn of<const N: usize>(rights: [&str; N]) -> BTreeSet<String> {
    rights.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_control_plane_reads_the_kinds_that_are_lowered_and_those_that_limit_the_network_and_nothing_else() {
    let plural = |kind: &str| match kind.to_lowercase() {
        name if name.ends_with('y') => format!("{}ies", name.trim_end_matches('y')),
        name => format!("{name}s"),
    };
    let wanted: BTreeSet<String> = config::kinds()
        .map(plural)
        .chain(LIMITING.into_iter().chain([RUNTIME_CLASSES]).map(str::to_owned))
        .collect();
    let role = object("ClusterRole", "canopy-control");
    for verb in ["get", "list", "watch"] {
        let rights = granted(&role);
        let read = rights.iter().filter_map(|right| right.strip_prefix(&format!("{verb} ")));
        assert_eq!(read.map(str::to_owned).collect::<BTreeSet<_>>(), wanted, "{verb}");
    }
    for group in [
        "policy.networking.k8s.io",
        "projectcalico.org",
        "crd.projectcalico.org",
        "cilium.io",
        "crd.antrea.io",
    ] {
        let kinds = include_str!("../../src/object/kind.rs");
        assert!(kinds.contains(&format!("\"{group}\"")), "{group} is no group that limits");
        assert!(
            items(&role["rules"]).any(|rule| strings(&rule["apiGroups"]).iter().any(|one| one == group)),
            "{group}"
        );
    }
}

#[test]
fn the_control_plane_writes_statuses_and_events_and_asks_about_tokens() {
    let mut rights = granted(&object("ClusterRole", "canopy-control"));
    rights.retain(|right| !["get ", "list ", "watch "].iter().any(|verb| right.starts_with(verb)));
    let statuses = [
        "authorizationpolicies",
        "grpcroutes",
        "httproutes",
        "peerauthentications",
        "serviceentries",
        "tenants",
    ];
    let mut wanted = of(["create events", "patch events", "create tokenreviews"]);
    wanted.extend(statuses.map(|kind| format!("patch {kind}/status")));
    assert_eq!(rights, wanted);
}

#[test]
fn in_its_namespace_it_has_one_lease_makes_one_root_that_it_never_changes_and_says_what_to_trust() {
    let role = object("Role", "canopy-control");
    let mut named = BTreeSet::new();
    for rule in items(&role["rules"]) {
        let rights = granted(&serde_json::json!({ "rules": [rule] }));
        // No name can be said of what is not there yet.
        let names = strings(&rule["resourceNames"]);
        assert_eq!(names.is_empty(), rule["verbs"] == serde_json::json!(["create"]), "{rule}");
        named.extend(rights.iter().map(|right| format!("{right} {}", names.join(" ")).trim_end().to_owned()));
    }
    let lease = ["get", "patch", "update"].map(|verb| format!("{verb} leases canopy-control"));
    let mut wanted = of(["create configmaps", "create leases", "create secrets", "get secrets canopy-ca"]);
    wanted.extend(of(["get configmaps canopy-root", "update configmaps canopy-root"]));
    wanted.extend(lease);
    assert_eq!(named, wanted);
}

#[test]
fn a_node_reads_pods_and_what_decides_about_them_writes_events_and_the_plugin_looks_at_one_pod_and_its_namespace()
 {
    let rights = |name| granted(&object("ClusterRole", name));
    let read = ["pods", "namespaces", "tenants", RUNTIME_CLASSES];
    let verbs = ["get", "list", "watch"];
    let wanted = read.iter().flat_map(|kind| verbs.map(|verb| format!("{verb} {kind}")));
    let wanted = wanted.chain(["create events", "patch events"].map(str::to_owned));
    assert_eq!(rights("canopy-node"), wanted.collect());
    assert_eq!(rights("canopy-cni"), of(["get namespaces", "get pods"]));
}

#[test]
fn no_role_of_a_part_has_a_wildcard_and_each_is_bound_to_its_own_account_alone() {
    for (file, role) in base() {
        for rule in items(&role["rules"]) {
            assert!(!rule.to_string().contains("\"*\""), "{file}: {rule}");
        }
        if role["kind"] == "ClusterRoleBinding" || role["kind"] == "RoleBinding" {
            let subjects: Vec<_> = items(&role["subjects"]).map(|subject| &subject["name"]).collect();
            assert_eq!(subjects, [&role["metadata"]["name"]], "{file}");
            assert_eq!(role["roleRef"]["name"], role["metadata"]["name"], "{file}");
        }
    }
}

/// The pod of a Deployment or DaemonSet.
fn pod(kind: &str, name: &str) -> Value {
    object(kind, name)["spec"]["template"]["spec"].clone()
}

#[test]
fn no_container_is_privileged_sees_the_hosts_processes_or_may_write_its_own_image() {
    for (kind, name) in
        [("Deployment", "canopy-control"), ("DaemonSet", "canopy-node"), ("DaemonSet", "canopy-cni")]
    {
        let pod = pod(kind, name);
        assert!(pod["hostPID"] != true && pod["hostIPC"] != true, "{name}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for container in items(&pod["containers"]) {
            let context = &container["securityContext"];
            assert!(context["privileged"] != true, "{name}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(strings(&context["capabilities"]["drop"]), ["ALL"], "{name}");
            assert!(container["resources"]["requests"]["memory"].is_string(), "{name}");
        }
    }
    assert!(pod("Deployment", "canopy-control")["hostNetwork"].is_null());
}

#[test]
fn every_capability_host_path_and_right_is_explained_in_the_security_model() {
    let mut named = BTreeSet::new();
    for (kind, name) in
        [("Deployment", "canopy-control"), ("DaemonSet", "canopy-node"), ("DaemonSet", "canopy-cni")]
    {
        let pod = pod(kind, name);
        for container in items(&pod["containers"]) {
            named.extend(strings(&container["securityContext"]["capabilities"]["add"]));
        }
        let paths = items(&pod["volumes"]).filter_map(|volume| volume["hostPath"]["path"].as_str());
        named.extend(paths.map(str::to_owned));
    }
    for role in ["canopy-control", "canopy-node", "canopy-cni"] {
        let rules = object("ClusterRole", role);
        named.extend(items(&rules["rules"]).flat_map(|rule| strings(&rule["resources"])));
    }
    let own = object("Role", "canopy-control");
    named.extend(items(&own["rules"]).flat_map(|rule| strings(&rule["resources"])));
    assert!(named.contains("SYS_ADMIN") && named.contains("/sys/fs/bpf") && named.contains("tenants/status"));
    // The first column of each table: a word elsewhere on the page is no reason.
    let cells = SECURITY_MODEL.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let words = cells.flat_map(|cell| cell.split('`').filter(|part| !part.is_empty() && *part != ", "));
    let explained: BTreeSet<String> = words.map(str::to_owned).collect();
    assert_eq!(named, explained, "asked for, and explained in docs/operations/security-model.md");
}

#[test]
fn what_openshift_is_asked_to_allow_is_what_the_daemon_has() {
    let constraints = &documents(&text("deploy/daemonset/overlays/restricted/scc.yaml"))[0];
    let node = pod("DaemonSet", "canopy-node");
    let added = strings(&node["containers"][0]["securityContext"]["capabilities"]["add"]);
    assert_eq!(strings(&constraints["allowedCapabilities"]), added);
    let mut kinds = BTreeSet::new();
    for name in ["canopy-node", "canopy-cni"] {
        for volume in items(&pod("DaemonSet", name)["volumes"]) {
            kinds.extend(volume.as_object().unwrap().keys().filter(|key| *key != "name").cloned());
        }
    }
    assert_eq!(strings(&constraints["volumes"]).into_iter().collect::<BTreeSet<_>>(), kinds);
}

#[test]
fn admission_asks_who_may_change_metadata_wherever_a_pod_or_its_template_is_written() {
    let policies: Vec<_> =
        base().into_iter().filter(|(_, object)| object["kind"] == "ValidatingAdmissionPolicy").collect();
    let mut resources = BTreeSet::new();
    for (file, policy) in &policies {
        let name = policy["metadata"]["name"].as_str().unwrap();
        let binding = object("ValidatingAdmissionPolicyBinding", name);
        assert_eq!(binding["spec"]["policyName"], name, "{file}");
        assert_eq!(strings(&binding["spec"]["validationActions"]), ["Deny", "Audit"], "{file}");
        assert_eq!(policy["spec"]["failurePolicy"], "Fail", "{file}");
        let rule = policy["spec"]["validations"][0]["expression"].as_str().unwrap();
        assert!(
            rule.contains("authorizer.group('canopy.mesh').resource('metadata').check('change').allowed()"),
            "{file}"
        );
        for rule in items(&policy["spec"]["matchConstraints"]["resourceRules"]) {
            assert_eq!(strings(&rule["operations"]), ["CREATE", "UPDATE"], "{file}");
            resources.extend(strings(&rule["resources"]));
        }
    }
    for resource in [
        "namespaces",
        "pods",
        "pods/status",
        "pods/binding",
        "deployments",
        "replicasets",
        "statefulsets",
        "daemonsets",
        "jobs",
        "cronjobs",
        "replicationcontrollers",
        "podtemplates",
    ] {
        assert!(resources.contains(resource), "{resource} is written without being asked about");
    }
    let administrator = granted(&object("ClusterRole", "canopy-administrator"));
    assert!(administrator.contains("change metadata") && manifests::files("deploy").len() > 20);
}
