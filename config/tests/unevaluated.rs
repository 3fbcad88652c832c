//! Policies for the network of other kinds than NetworkPolicy: they are said not to be evaluated, and no way around the network is
//! taken to be allowed as long as there are any.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    finding::{Finding, Reason, Severity},
    store::{FileText, Options, Outcome, Store},
};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\n\
     spec: {containers: [{name: c}]}\nstatus: {podIP: 10.0.0.1}\n";
const CALICO: &str = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\nspec: {types: [Ingress]}\n";

fn apply(store: &mut Store, policies: &str) -> Outcome {
    let files = [("pod.yaml", POD), ("policies.yaml", policies)];
    store.apply(&BTreeMap::from(files.map(|(name, text)| (PathBuf::from(name), FileText::from(text)))))
}

/// What is said of the file of policies.
fn about_policies(outcome: &Outcome) -> Vec<&Finding> {
    outcome.findings.iter().filter(|finding| finding.to_string().contains("policies.yaml")).collect()
}

/// The namespaces about whose pods something is in force that nobody can read.
fn unread(outcome: &Outcome) -> Vec<&str> {
    let policies = outcome.mesh.network_policies.values().filter(|policy| policy.unreadable);
    policies.map(|policy| policy.name.namespace.as_str()).collect()
}

#[test]
fn what_limits_the_network_and_is_not_evaluated_is_told_and_stood_in_for() {
    for (kind, api_version) in [
        ("AdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1"),
        ("BaselineAdminNetworkPolicy", "policy.networking.k8s.io/v1alpha1"),
        ("ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha2"),
        ("NetworkPolicy", "projectcalico.org/v3"),
        ("GlobalNetworkPolicy", "crd.projectcalico.org/v1"),
        ("CiliumNetworkPolicy", "cilium.io/v2"),
        ("CiliumClusterwideNetworkPolicy", "cilium.io/v2"),
        ("CiliumNetworkPolicyList", "cilium.io/v2"),
        ("ClusterNetworkPolicy", "crd.antrea.io/v1beta1"),
    ] {
        let policy = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: g}}\nspec: {{}}\n");
        let outcome = apply(&mut Store::default(), &policy);
        let [told] = about_policies(&outcome)[..] else { panic!("{kind}: {:?}", outcome.findings) };
        assert_eq!((told.severity, told.reason), (Severity::Warning, Reason::NotEvaluated), "{kind}");
        assert!(told.message.contains("across the network"), "{told}");
        assert_eq!(unread(&outcome), ["shop"], "{kind}");
    }
}

#[test]
fn what_limits_nothing_is_ignored_as_before() {
    for (kind, api_version) in [("IPPool", "projectcalico.org/v3"), ("CiliumEndpoint", "cilium.io/v2")] {
        let object = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: g}}\nspec: {{}}\n");
        let outcome = apply(&mut Store::new(Options::default()), &object);
        let [told] = about_policies(&outcome)[..] else { panic!("{kind}: {:?}", outcome.findings) };
        assert_eq!(told.severity, Severity::Ignored, "{kind}");
        assert!(unread(&outcome).is_empty(), "{kind}");
    }
}

#[test]
fn it_stands_as_long_as_the_policy_is_there_or_may_be() {
    let mut store = Store::new(Options::default());
    assert!(unread(&apply(&mut store, "")).is_empty());
    assert_eq!(unread(&apply(&mut store, CALICO)), ["shop"]);
    assert_eq!(unread(&apply(&mut store, "kind: [")), ["shop"], "it may be in what cannot be read");
    assert!(unread(&apply(&mut store, "")).is_empty());
    assert!(unread(&apply(&mut store, "kind: [")).is_empty(), "of what never was, nothing is kept");
}
