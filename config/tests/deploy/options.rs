//! Options that manifests give to the daemon and to the control plane are ones that there are.

use std::sync::LazyLock;

use crate::manifests::{documents, files, items, object, text};

static OPERATIONS: LazyLock<String> = LazyLock::new(|| text("docs/operations.md"));
static CONTROL: LazyLock<String> = LazyLock::new(|| text("docs/control-plane.md"));

/// Flags of roles on Kubernetes, which docs/operations/kubernetes.md names.
static KUBERNETES: LazyLock<String> = LazyLock::new(|| text("docs/operations/kubernetes.md"));

#[test]
fn every_variable_that_a_manifest_sets_is_an_option_that_is_documented() {
    let mut seen = 0;
    for path in files("deploy").iter().filter(|path| path.ends_with(".yaml")) {
        let text = text(path);
        for rest in text.split("name: CANOPY_").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
            let variable = format!("`CANOPY_{name}`");
            let option = format!("| `--{}` |", name.to_lowercase().replace('_', "-"));
            let known = [&OPERATIONS, &CONTROL].iter().any(|page| page.contains(&variable))
                || OPERATIONS.contains(&option);
            assert!(
                known,
                "{path}: CANOPY_{name} is no option of docs/operations.md or docs/control-plane.md"
            );
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen} were looked at");
}

#[test]
fn arguments_are_verbs_and_flags_that_the_documentation_names() {
    for (kind, name, wanted) in [
        ("Deployment", "canopy-control", "control --kubernetes"),
        ("DaemonSet", "canopy-node", "run --kubernetes"),
        ("DaemonSet", "canopy-cni", "cni install --watch"),
    ] {
        let arguments = &object(kind, name)["spec"]["template"]["spec"]["containers"][0]["args"];
        let line: Vec<_> = items(arguments).filter_map(serde_json::Value::as_str).collect();
        assert_eq!(line.join(" "), wanted);
        assert!(
            KUBERNETES.contains(&format!("`canopy {wanted}`")),
            "docs/operations/kubernetes.md does not name {wanted}"
        );
    }
}

#[test]
fn both_ends_are_of_one_trust_domain_and_meet_at_one_port() {
    let container = |kind, name| object(kind, name)["spec"]["template"]["spec"]["containers"][0].clone();
    let (control, node) = (container("Deployment", "canopy-control"), container("DaemonSet", "canopy-node"));
    let value = |container: &serde_json::Value, name: &str| {
        let variable = items(&container["env"]).find(|variable| variable["name"] == name).cloned();
        variable.unwrap_or_else(|| panic!("{name} is not set"))["value"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(value(&control, "CANOPY_TRUST_DOMAIN"), value(&node, "CANOPY_TRUST_DOMAIN"));
    let port = value(&control, "CANOPY_CONTROL_LISTEN").rsplit(':').next().unwrap().to_owned();
    assert!(
        value(&node, "CANOPY_DISCOVERY").ends_with(&format!("//canopy-control.canopy-system.svc:{port}"))
    );
    assert!(value(&node, "CANOPY_CA").ends_with(&format!(":canopy-control.canopy-system.svc:{port}")));
    let account =
        object("DaemonSet", "canopy-node")["spec"]["template"]["spec"]["serviceAccountName"].clone();
    assert_eq!(
        value(&control, "CANOPY_AUTHORITY_ACCOUNTS"),
        format!("canopy-system/{}", account.as_str().unwrap())
    );
    let volumes = object("DaemonSet", "canopy-node")["spec"]["template"]["spec"]["volumes"].clone();
    let token = items(&volumes).find(|volume| volume["name"] == "token").cloned().unwrap();
    let audience = &token["projected"]["sources"][0]["serviceAccountToken"]["audience"];
    let default = format!(
        "| `--authority-audience` | `CANOPY_AUTHORITY_AUDIENCE` | `{}` |",
        audience.as_str().unwrap()
    );
    assert!(CONTROL.contains(&default), "the daemon's token is for whom the authority looks");
    let service = object("Service", "canopy-control");
    assert_eq!(service["spec"]["ports"][0]["port"].to_string(), port);
    let drain =
        object("DaemonSet", "canopy-node")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            .as_u64();
    assert!(drain > Some(30), "longer than --drain is by default, or the daemon is killed while it drains");
    assert!(!documents(&text("deploy/helm/canopy/values.yaml")).is_empty());
}
