//! The definition of Tenant (deploy/daemonset/base/tenants.yaml) and the lowering know the same fields and refuse the same values.

use std::{collections::BTreeSet, path::PathBuf};

use config::{
    finding::Severity,
    store::{FileText, Options, Store},
};
use serde_json::{Value, json};

use crate::{
    manifests::{self, documents, files, is, items, text},
    schema::faults,
};

/// The tables that the lowering checks objects against.
const TABLES: &str = include_str!("../../schema/canopy.txt");

fn definition() -> Value {
    manifests::object("CustomResourceDefinition", "tenants.canopy.mesh")
}

fn whole_schema() -> Value {
    definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn every_field_that_is_lowered_is_in_the_definition_and_the_other_way_round() {
    let mut lowered = BTreeSet::new();
    fields_of_table("TenantSpec", "spec", &mut lowered);
    let mut defined = BTreeSet::new();
    fields_of_schema(&whole_schema()["properties"]["spec"], "spec", &mut defined);
    assert_eq!(lowered, defined);
    assert!(lowered.contains("spec.budget.cpu.share: quantity") && lowered.contains("spec.owner.uid: int!"));
    let top: Vec<&str> = row("Tenant")
        .iter()
        .filter_map(|word| word.split(':').next())
        .filter(|name| *name != "status")
        .collect();
    assert_eq!(top, ["apiVersion", "kind", "metadata", "spec"], "a field beside spec: define it too");
}

#[test]
fn the_definition_has_what_operators_read_it_by() {
    let spec = &definition()["spec"];
    assert_eq!((&spec["scope"], &spec["group"]), (&json!("Cluster"), &json!("canopy.mesh")));
    let [version] = &spec["versions"].as_array().unwrap()[..] else { panic!("one version") };
    assert_eq!((&version["name"], &version["subresources"]), (&json!("v1alpha1"), &json!({"status": {}})));
    assert!(!spec["names"]["shortNames"].as_array().unwrap().is_empty());
    let columns: Vec<_> = items(&version["additionalPrinterColumns"]).map(|column| &column["name"]).collect();
    assert!(columns.contains(&&json!("Namespaces")) && columns.contains(&&json!("Accepted")), "{columns:?}");
}

/// Who refuses a Tenant on a cluster.
enum By {
    /// Nobody.
    Nobody,
    /// The schema.
    Schema,
    /// A rule of the definition (CEL), by its message.
    Rule(&'static str),
}

/// One specification each, and by whom a cluster refuses it.
const CASES: [(&str, By); 35] = [
    ("{namespaces: [a]}", By::Nobody),
    ("{namespaces: []}", By::Nobody),
    ("{globalDefault: true}", By::Nobody),
    ("{globalDefault: true, namespaces: [], egress: any}", By::Nobody),
    ("{globalDefault: false, namespaces: [a], owner: {uid: 0}}", By::Nobody),
    ("{namespaces: [a], isolation: process, egress: mesh, owner: {uid: 4294967294}}", By::Nobody),
    (
        "{namespaces: [a], budget: {cpu: {share: 1, cap: 1500m}, memory: {soft: 1Mi, hard: 1048576}}}",
        By::Nobody,
    ),
    (
        "{namespaces: [a], budget: {bytesPerSecond: {in: 1k, out: \"2e3\"}, descriptors: 16, compiledBytes: .5Gi}}",
        By::Nobody,
    ),
    (
        "{namespaces: [a], budget: {connections: 2, connectionsPerWorkload: 2, updatesPerSecond: 1}}",
        By::Nobody,
    ),
    ("{namespaces: [a, a]}", By::Schema),
    ("{namespaces: [A]}", By::Schema),
    ("{namespaces: [a.b]}", By::Schema),
    ("{namespaces: a}", By::Schema),
    ("{namespaces: [a], isolation: fibre}", By::Schema),
    ("{namespaces: [a], egress: none}", By::Schema),
    ("{namespaces: [a], owner: {uid: 4294967295}}", By::Schema),
    ("{namespaces: [a], owner: {uid: -1}}", By::Schema),
    ("{namespaces: [a], owner: {}}", By::Schema),
    ("{namespaces: [a], budget: {connection: 1}}", By::Schema),
    ("{namespaces: [a], budget: {connections: 0}}", By::Schema),
    ("{namespaces: [a], budget: {connections: \"5\"}}", By::Schema),
    ("{namespaces: [a], budget: {descriptors: 15}}", By::Schema),
    ("{namespaces: [a], budget: {memory: {soft: 64mb}}}", By::Schema),
    ("{namespaces: [a], budget: {cpu: {share: \"-1\"}}}", By::Schema),
    ("{}", By::Rule("namespaces must be there: list the tenant's namespaces")),
    (
        "{globalDefault: true, namespaces: [a]}",
        By::Rule("a globalDefault is for namespaces that no Tenant lists: remove these, or globalDefault"),
    ),
    (
        "{globalDefault: true, egress: mesh}",
        By::Rule(
            "egress: only a Tenant that lists a namespace says this of it: list those that it is for in another Tenant",
        ),
    ),
    (
        "{globalDefault: true, owner: {uid: 1}}",
        By::Rule(
            "only a Tenant that lists its namespaces has an owner: list those that it is for in another Tenant",
        ),
    ),
    (
        "{namespaces: [a], budget: {connections: 1, connectionsPerWorkload: 2}}",
        By::Rule("connectionsPerWorkload must not be above connections: lower it"),
    ),
    (
        "{namespaces: [a], budget: {cpu: {share: 600m, cap: 500m}}}",
        By::Rule("cpu.share must not be above cpu.cap: lower it"),
    ),
    (
        "{namespaces: [a], budget: {cpu: {share: 0}}}",
        By::Rule("0 is no CPU at all: write 10m or more, or remove it"),
    ),
    (
        "{namespaces: [a], budget: {cpu: {cap: 1000001}}}",
        By::Rule("is more than 1000000 cores, which no node has: write less, or remove it"),
    ),
    (
        "{namespaces: [a], budget: {memory: {soft: 2Mi, hard: 1Mi}}}",
        By::Rule("memory.soft must not be above memory.hard: lower it"),
    ),
    (
        "{namespaces: [a], budget: {memory: {hard: 1023Ki}}}",
        By::Rule(
            "is less than the cell of a tenant without a connection holds: write 1Mi or more, or remove it",
        ),
    ),
    (
        "{namespaces: [a], budget: {bytesPerSecond: {in: 999}}}",
        By::Rule("is too slow for a connection to be made use of: write 1k or more, or remove it"),
    ),
];

#[test]
fn what_a_cluster_refuses_is_what_the_lowering_refuses_in_the_same_words() {
    let schema = whole_schema();
    let rules = messages(&schema);
    let mut met = BTreeSet::new();
    for (spec, by) in &CASES {
        let tenant =
            format!("apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: t}}\nspec: {spec}\n");
        let rejected = rejections(&tenant);
        let found = faults(&documents(&tenant)[0], &schema);
        match by {
            By::Nobody => assert!(rejected.is_empty() && found.is_empty(), "{spec}: {rejected:?} {found:?}"),
            By::Schema => {
                assert!(!rejected.is_empty() && !found.is_empty(), "{spec}: {rejected:?} {found:?}")
            }
            By::Rule(message) => {
                assert!(
                    found.is_empty() && rules.contains(*message),
                    "{spec}: {found:?}, or no rule: {message}"
                );
                assert!(rejected.iter().any(|said| message.ends_with(said.as_str())), "{spec}: {rejected:?}");
                met.insert((*message).to_owned());
            }
        }
    }
    let untried: Vec<_> = rules.difference(&met).filter(|message| **message != TOO_LARGE).collect();
    assert!(untried.is_empty(), "rules without a case: {untried:?}");
}

/// Of what does not fit into 64 bits the lowering says that it is no quantity.
const TOO_LARGE: &str = "is more than there is anywhere: write less, or remove it";

#[test]
fn tenants_that_are_shown_satisfy_the_definition() {
    let schema = whole_schema();
    let mut shown = 0;
    let pages = [files("examples"), files("deploy/daemonset/overlays"), files("docs")].concat();
    for path in pages {
        let text = text(&path);
        let parts: Vec<String> = match path.rsplit('.').next() {
            Some("yaml") => vec![text],
            Some("md") => {
                let blocks = text.split("```yaml\n").skip(1);
                blocks.filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
            }
            _ => continue,
        };
        let tenants =
            parts.iter().filter(|part| part.contains("kind: Tenant")).flat_map(|part| documents(part));
        for tenant in tenants.filter(|object| object["kind"] == "Tenant") {
            shown += 1;
            let found = faults(&tenant, &schema);
            assert!(found.is_empty(), "{path}: {found:?}");
        }
    }
    assert!(shown >= 5, "{shown} were looked at");
}

#[test]
fn the_definition_is_the_only_one_of_the_base() {
    let kinds = manifests::base();
    let definitions = kinds.iter().filter(|(_, object)| object["kind"] == "CustomResourceDefinition");
    let names: Vec<_> = definitions.map(|(_, object)| object["spec"]["names"]["kind"].clone()).collect();
    let own: Vec<Value> = TABLES
        .lines()
        .filter(|line| line.contains(" kind:string! "))
        .filter_map(|line| line.split(' ').next().map(Value::from))
        .collect();
    assert_eq!(names, own, "each kind of canopy.txt has a definition");
    assert!(
        is(&kinds[1].1, "CustomResourceDefinition", "tenants.canopy.mesh"),
        "before what names its group"
    );
}

/// What the lowering says of a Tenant that it refuses.
fn rejections(tenant: &str) -> Vec<String> {
    let files = [(PathBuf::from("tenant.yaml"), FileText::from(tenant))].into();
    let outcome = Store::new(Options::default()).apply(&files);
    let rejected = outcome.findings.iter().filter(|finding| finding.severity == Severity::Rejected);
    rejected.map(|finding| finding.message.clone()).collect()
}

/// The messages of all rules of a schema.
fn messages(schema: &Value) -> BTreeSet<String> {
    match schema {
        Value::Object(words) => {
            let own = words.get("x-kubernetes-validations").map(items).into_iter().flatten();
            let own = own.filter_map(|rule| rule["message"].as_str().map(str::to_owned));
            own.chain(words.values().flat_map(messages)).collect()
        }
        Value::Array(list) => list.iter().flat_map(messages).collect(),
        _ => BTreeSet::new(),
    }
}

/// The words behind a type's name in the tables.
fn row(name: &str) -> Vec<&'static str> {
    let line = TABLES.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in canopy.txt")).split(' ').skip(1).collect()
}

fn fields_of_table(name: &str, path: &str, found: &mut BTreeSet<String>) {
    for (field, kind) in row(name).iter().filter_map(|word| word.split_once(':')) {
        let path = format!("{path}.{field}");
        match kind.chars().next() {
            Some('A'..='Z') => fields_of_table(kind, &path, found),
            _ => drop(found.insert(format!("{path}: {kind}"))),
        }
    }
}

/// As the tables write types.
fn fields_of_schema(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (field, inner) in schema["properties"].as_object().expect("a mapping has fields") {
        let path = format!("{path}.{field}");
        let quantity = inner["x-kubernetes-int-or-string"] == true;
        let kind = match inner["type"].as_str() {
            None if quantity => "quantity",
            Some("string") => "string",
            Some("boolean") => "bool",
            Some("integer") => "int",
            Some("array") if inner["items"]["type"] == "string" => "[string]",
            Some("object") => {
                fields_of_schema(inner, &path, found);
                continue;
            }
            other => panic!("{path}: {other:?}"),
        };
        let required = items(&schema["required"]).any(|name| name == field.as_str());
        found.insert(format!("{path}: {kind}{}", if required { "!" } else { "" }));
    }
}
