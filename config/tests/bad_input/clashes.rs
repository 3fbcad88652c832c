//! What belongs to one cannot be taken by another, of whichever tenant: addresses and network namespaces.

use config::{
    finding::{Finding, Reason, Severity},
    store::Outcome,
};

use super::apply;

const NAMESPACES: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ours}\n---\n\
    apiVersion: v1\nkind: Namespace\nmetadata: {name: theirs}\n---\n";
/// Lines of `NAMESPACES`, and of what `pod` and `service` write.
const LINES: u32 = 8;

fn pod(namespace: &str, address: &str, netns: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  namespace: {namespace}\n  annotations: {{canopy.mesh/netns: {netns}}}\n\
         spec: {{containers: [{{name: c}}]}}\nstatus: {{podIP: {address}}}\n---\n"
    )
}

fn service(namespace: &str, vip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: {namespace}}}\nspec:\n  clusterIP: {vip}\n  ports: [{{port: 80}}]\n---\n"
    )
}

fn one_rejection(outcome: &Outcome) -> &Finding {
    let [finding] = &outcome.findings[..] else { panic!("{:#?}", outcome.findings) };
    assert_eq!((finding.severity, finding.reason), (Severity::Rejected, Reason::Conflict), "{finding}");
    finding
}

#[test]
fn network_namespace_has_one_pod_however_it_is_spelt() {
    for (first, second) in
        [("/run/netns/x", "/var/run/netns/x"), ("/var/run/netns/x", "/run/netns/x"), ("/a/x", "/a/x")]
    {
        let pods = pod("ours", "10.0.0.1", first) + &pod("theirs", "10.0.0.2", second);
        let outcome = apply(&(NAMESPACES.to_owned() + &pods));
        let finding = one_rejection(&outcome);
        // The second pod's annotation: 9 lines of the first pod, then the sixth.
        assert_eq!((finding.position.line, finding.position.column), (LINES + 9 + 6, 36), "{finding}");
        assert!(finding.message.contains("Pod ours/p"), "{finding}");
        assert_eq!(outcome.mesh.workloads.len(), 1);
    }
    let pods = pod("ours", "10.0.0.1", "/run/netns/x") + &pod("theirs", "10.0.0.2", "/var/running/netns/x");
    assert!(apply(&(NAMESPACES.to_owned() + &pods)).findings.is_empty(), "another directory");
}

#[test]
fn service_takes_neither_a_pod_s_address_nor_another_tenant_s_cluster_ip() {
    // The pod stands after the Service that wants its address, and keeps it all the same.
    let text = service("theirs", "10.0.0.1") + &pod("ours", "10.0.0.1", "/run/netns/x");
    let outcome = apply(&(NAMESPACES.to_owned() + &text));
    let finding = one_rejection(&outcome);
    assert_eq!((finding.position.line, finding.position.column), (LINES + 5, 14), "{finding}");
    assert!(finding.message.contains("10.0.0.1 belongs to Pod ours/p already"), "{finding}");
    assert_eq!((outcome.mesh.workloads.len(), outcome.mesh.services.len()), (1, 0));

    let text = service("ours", "10.96.0.1") + &service("theirs", "10.96.0.1");
    let outcome = apply(&(NAMESPACES.to_owned() + &text));
    let finding = one_rejection(&outcome);
    assert_eq!((finding.position.line, finding.position.column), (LINES + 7 + 5, 14), "{finding}");
    assert!(finding.message.contains("belongs to Service ours/s already"), "{finding}");
    assert_eq!(outcome.mesh.services.keys().next().map(ToString::to_string).as_deref(), Some("ours/s"));
}
