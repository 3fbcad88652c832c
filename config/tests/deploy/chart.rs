//! The Helm chart is the kustomize base: rendered with its own values it is the same objects, and its values do what they say.
//!
//! Rendered here, without Helm: the templates keep to what scripts/chart writes (values, `toJson`, and `if` on a line of its own).

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::manifests::{base, documents, files, is, items, text};

const CHART: &str = "deploy/helm/canopy";
/// What is the installer's in a chart: Helm makes the namespace.
const NOT_IN_THE_CHART: [&str; 1] = ["namespace.yaml"];

fn values() -> Value {
    documents(&text(&format!("{CHART}/values.yaml"))).remove(0)
}

/// The objects of the chart, rendered with these values.
fn rendered(values: &Value, namespace: &str) -> Vec<Value> {
    let templates = files(&format!("{CHART}/templates"));
    let templates = templates.iter().filter(|path| path.ends_with(".yaml"));
    let mut objects: Vec<_> =
        templates.flat_map(|path| documents(&render(&text(path), values, namespace))).collect();
    objects.extend(documents(&text(&format!("{CHART}/crds/tenants.yaml"))));
    objects
}

#[test]
fn the_chart_with_its_own_values_is_the_base() {
    let chart = rendered(&values(), "canopy-system");
    let base: Vec<_> =
        base().into_iter().filter(|(file, _)| !NOT_IN_THE_CHART.contains(&file.as_str())).collect();
    for (file, wanted) in &base {
        let name = wanted["metadata"]["name"].as_str().unwrap();
        let found: Vec<_> =
            chart.iter().filter(|object| is(object, wanted["kind"].as_str().unwrap(), name)).collect();
        assert_eq!(found, [wanted], "{file} was changed: run scripts/chart");
    }
    assert_eq!(chart.len(), base.len(), "the chart has what the base has not");
}

#[test]
fn every_value_does_something_and_every_template_asks_for_values_that_there_are() {
    let values = values();
    let mut asked = String::new();
    for path in files(&format!("{CHART}/templates")) {
        asked.push_str(&text(&path));
    }
    let mut paths = Vec::new();
    leaves(&values, "", &mut paths);
    assert!(paths.len() > 10, "{paths:?}");
    for path in &paths {
        // What is given on as a whole is asked for by its parent.
        let (parent, _) = path.rsplit_once('.').unwrap_or((path, ""));
        let whole = path.split(".resources").next().map(|owner| format!("toJson .Values{owner}.resources "));
        let known =
            asked.contains(&format!(".Values{path} ")) || whole.is_some_and(|whole| asked.contains(&whole));
        assert!(known, "nothing asks for {path} (of {parent})");
    }
    for rest in asked.split(".Values").skip(1) {
        let path = rest.split(' ').next().unwrap();
        assert!(!at(&values, path).is_null(), "a template asks for .Values{path}, which values.yaml has not");
    }
}

#[test]
fn values_choose_the_image_the_authority_and_whether_there_is_a_plugin() {
    let mut chosen = values();
    chosen["image"] = json!({"repository": "mirror/canopy", "tag": "0.2.0", "pullPolicy": "Never"});
    chosen["ca"] = json!({"source": "spire:/run/spire/private/admin.sock", "root": "/x", "istioRootConfigMap": "",
                          "spireDirectory": "/run/spire/private"});
    chosen["node"]["runtimeDirectory"] = json!("/run/crio");
    chosen["node"]["runtimeSocket"] = json!("crio.sock");
    chosen["cni"]["enabled"] = json!(false);
    chosen["admission"]["enabled"] = json!(false);
    let chart = rendered(&chosen, "mesh");
    assert!(!chart.iter().any(|object| object["metadata"]["name"] == "canopy-cni"));
    assert!(!chart.iter().any(|object| object["kind"] == "ValidatingAdmissionPolicy"));
    let node = chart.iter().find(|object| is(object, "DaemonSet", "canopy-node")).unwrap();
    assert_eq!(node["metadata"]["namespace"], "mesh");
    let pod = &node["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(
        (&container["image"], &container["imagePullPolicy"]),
        (&json!("mirror/canopy:0.2.0"), &json!("Never"))
    );
    let authority = items(&container["env"]).find(|variable| variable["name"] == "CANOPY_CA").unwrap();
    assert_eq!(authority["value"], "spire:/run/spire/private/admin.sock");
    assert!(items(&pod["volumes"]).any(|volume| volume["hostPath"]["path"] == "/run/spire/private"));
    assert!(items(&container["volumeMounts"]).any(|mount| mount["name"] == "spire"));
    let runtime = items(&container["env"]).find(|variable| variable["name"] == "CANOPY_CONTAINER_RUNTIME");
    assert_eq!(runtime.unwrap()["value"], "unix:///run/container-runtime/crio.sock");
    assert!(items(&pod["volumes"]).any(|volume| volume["hostPath"]["path"] == "/run/crio"));
    assert!(!items(&pod["volumes"]).any(|volume| volume["name"] == "istio-root"));
}

/// As Helm would, for the little of it that the templates use.
fn render(template: &str, values: &Value, namespace: &str) -> String {
    let mut out = String::new();
    let mut open: Vec<bool> = Vec::new();
    for line in template.lines() {
        if let Some(path) = line.strip_prefix("{{- if .Values").and_then(|rest| rest.strip_suffix(" }}")) {
            let value = at(values, path);
            open.push(!(value.is_null() || value == false || value == ""));
        } else if line == "{{- end }}" {
            open.pop().expect("an if before an end");
        } else if open.iter().all(|open| *open) {
            writeln!(out, "{}", filled(line, values, namespace)).expect("a String takes all");
        }
    }
    assert!(open.is_empty(), "an if without an end");
    out
}

fn filled(line: &str, values: &Value, namespace: &str) -> String {
    let mut parts = line.split("{{ ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (expression, rest) = part.split_once(" }}").unwrap_or_else(|| panic!("no end: {line}"));
        let value = |path| at(values, path);
        match (expression.strip_prefix("toJson .Values"), expression.strip_prefix(".Values")) {
            (Some(path), _) => out.push_str(&value(path).to_string()),
            (_, Some(path)) => {
                out.push_str(value(path).as_str().map_or(value(path).to_string(), str::to_owned).as_str())
            }
            _ if expression == ".Release.Namespace" => out.push_str(namespace),
            _ => panic!("more than this test can render: {expression}"),
        }
        out.push_str(rest);
    }
    out
}

/// The value at `.a.b`; null where there is none.
fn at<'a>(values: &'a Value, path: &str) -> &'a Value {
    path.split('.').skip(1).fold(values, |value, key| &value[key])
}

fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value.as_object() {
        Some(fields) => {
            fields.iter().for_each(|(name, inner)| leaves(inner, &format!("{path}.{name}"), found))
        }
        None => found.push(path.to_owned()),
    }
}
