//! What namespaces have that no Tenant lists: one Tenant says it, for each of them.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    finding::{Reason, Severity},
    model::{Budget, Egress, Isolation},
    report::{Report, TextOptions, render_text},
    store::{FileText, Options, Outcome, Store},
};

const NAMESPACES: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
apiVersion: v1
kind: Namespace
metadata: {name: b}
---
apiVersion: v1
kind: Namespace
metadata: {name: c}
---
apiVersion: canopy.mesh/v1alpha1
kind: Tenant
metadata: {name: own}
spec: {namespaces: [c]}
";

fn default(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\n\
         spec: {{globalDefault: true, {spec}}}\n"
    )
}

fn apply(store: &mut Store, text: &str) -> Outcome {
    store.apply(&BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text))]))
}

fn connections(outcome: &Outcome) -> Vec<(String, Option<u64>)> {
    let tenants = outcome.mesh.tenants.values();
    tenants.map(|tenant| (tenant.id.to_string(), tenant.budget.connections)).collect()
}

fn owned(expected: &[(&str, Option<u64>)]) -> Vec<(String, Option<u64>)> {
    expected.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
}

#[test]
fn each_namespace_that_no_tenant_lists_has_the_default_and_no_other_has() {
    let mut store = Store::new(Options::default());
    let text = NAMESPACES.to_owned() + &default("others", "isolation: process, budget: {connections: 7}");
    let outcome = apply(&mut store, &text);
    let said = Severity::Rejected;
    assert!(outcome.findings.iter().all(|finding| finding.severity != said), "{:#?}", outcome.findings);
    let expected = owned(&[("own", None), ("ns/a", Some(7)), ("ns/b", Some(7))]);
    assert_eq!(connections(&outcome), expected, "and the default is nobody's tenant");
    let of = |name: &str| outcome.mesh.tenants.values().find(|tenant| tenant.id.to_string() == name).unwrap();
    assert_eq!((of("ns/a").isolation, of("ns/a").egress), (Isolation::Process, Egress::Any));
    assert_eq!((of("own").isolation, of("own").budget), (Isolation::Thread, Budget::default()));
    let outcome = apply(&mut store, NAMESPACES);
    assert_eq!(connections(&outcome), owned(&[("own", None), ("ns/a", None), ("ns/b", None)]));
}

#[test]
fn there_is_one_default_and_the_second_is_rejected_by_name() {
    let mut store = Store::new(Options::default());
    let first = NAMESPACES.to_owned() + &default("first", "budget: {connections: 1}");
    apply(&mut store, &first);
    let outcome = apply(&mut store, &(first + &default("again", "budget: {connections: 2}")));
    let clash = outcome.findings.iter().find(|finding| finding.reason == Reason::Conflict).unwrap();
    assert_eq!((clash.severity, clash.field.as_str()), (Severity::Rejected, "spec.globalDefault"));
    assert!(clash.message.contains("Tenant first"), "{clash}");
    assert_eq!(connections(&outcome)[1], ("ns/a".to_owned(), Some(1)));
}

#[test]
fn a_default_that_breaks_keeps_its_last_good_version_and_names_all_that_is_wrong() {
    let mut store = Store::new(Options::default());
    apply(&mut store, &(NAMESPACES.to_owned() + &default("others", "budget: {connections: 7}")));
    let broken = NAMESPACES.to_owned()
        + &default("others", "budget: {connections: 0, requestsPerSecond: many, memory: {hard: 1}}");
    let outcome = apply(&mut store, &broken);
    assert_eq!(connections(&outcome)[1], ("ns/a".to_owned(), Some(7)));
    let rejected = outcome.findings.iter().filter(|finding| finding.severity == Severity::Rejected);
    let fields: Vec<_> = rejected.map(|finding| finding.field.as_str()).collect();
    assert!(fields.contains(&"spec.budget.requestsPerSecond"), "{fields:?}");
}

#[test]
fn more_cpu_than_any_node_has_is_refused_where_it_is_written() {
    let mut store = Store::new(Options::default());
    for (cpu, is_taken) in [("1000000", true), ("1000001", false), ("1e9", false)] {
        let text =
            NAMESPACES.to_owned() + &default("others", &format!("budget: {{cpu: {{cap: \"{cpu}\"}}}}"));
        let outcome = apply(&mut store, &text);
        let mut fields = outcome.findings.iter().map(|finding| finding.field.as_str());
        assert_eq!(
            fields.all(|field| field != "spec.budget.cpu.cap"),
            is_taken,
            "{cpu}: {:?}",
            outcome.findings
        );
    }
}

#[test]
fn a_report_says_of_every_number_what_it_does_and_where_machines_are_promised_away() {
    let text = NAMESPACES.to_owned() + &default("others", "budget: {connections: 7, cpu: {share: \"3\"}}");
    let mut store = Store::new(Options::default());
    let outcome = apply(&mut store, &text);
    let report = Report::new(&outcome).on(&outcome, "cpu=4".parse().unwrap(), Default::default());
    let text = render_text(&report, TextOptions::default());
    assert!(text.contains("budget of tenant ns/a, on each node:\n"), "{text}");
    assert!(text.contains("  connections 7: of more than 7 open at a time, the next is reset"), "{text}");
    assert!(text.contains("warning: tenants are promised 6000m of CPU together"), "{text}");
    assert!(!text.contains("budget of tenant own"), "{text}");
}
