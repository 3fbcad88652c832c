//! Pods that cannot be, and what their annotations may not say.

use config::finding::Reason;

use super::{Case, apply, check};

const POD: &str = "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: c}]}\nstatus: {podIP: 10.0.0.1}\n";

const PODS: &[Case] = &[
    Case {
        name: "netns",
        manifest: "metadata:\n  name: p\n  annotations: {canopy.mesh/netns: demo}\n",
        at: (7, 36),
        field: "metadata.annotations[canopy.mesh/netns]",
        reason: Reason::InvalidValue,
        says: "absolute path",
    },
    Case {
        name: "name",
        manifest: "metadata: {name: Pod_1}\n",
        at: (5, 18),
        field: "metadata.name",
        reason: Reason::InvalidValue,
        says: "lower case",
    },
    Case {
        name: "exclusion",
        manifest: "metadata:\n  name: p\n  annotations: {canopy.mesh/exclude-outbound-ports: \"1,x\"}\n",
        at: (7, 53),
        field: "metadata.annotations[canopy.mesh/exclude-outbound-ports]",
        reason: Reason::InvalidValue,
        says: "\"x\" is not a port",
    },
    Case {
        name: "netns that climbs",
        manifest: "metadata:\n  name: p\n  annotations: {canopy.mesh/netns: /run/netns/../netns/x}\n",
        at: (7, 36),
        field: "metadata.annotations[canopy.mesh/netns]",
        reason: Reason::InvalidValue,
        says: "without",
    },
    Case {
        name: "netns with a dot",
        manifest: "metadata:\n  name: p\n  annotations: {canopy.mesh/netns: /run/./netns/x}\n",
        at: (7, 36),
        field: "metadata.annotations[canopy.mesh/netns]",
        reason: Reason::InvalidValue,
        says: "without",
    },
    Case {
        name: "netns with an empty part",
        manifest: "metadata:\n  name: p\n  annotations: {canopy.mesh/netns: /run//netns/x}\n",
        at: (7, 36),
        field: "metadata.annotations[canopy.mesh/netns]",
        reason: Reason::InvalidValue,
        says: "without",
    },
    Case {
        name: "netns with an empty end",
        manifest: "metadata:\n  name: p\n  annotations: {canopy.mesh/netns: /run/netns/x/}\n",
        at: (7, 36),
        field: "metadata.annotations[canopy.mesh/netns]",
        reason: Reason::InvalidValue,
        says: "without",
    },
    Case {
        name: "netns of whoever looks",
        manifest: "metadata:\n  name: p\n  annotations: {canopy.mesh/netns: /proc/self/ns/net}\n",
        at: (7, 36),
        field: "metadata.annotations[canopy.mesh/netns]",
        reason: Reason::InvalidValue,
        says: "/proc/PID/ns/net",
    },
    Case {
        name: "netns of the thread that looks",
        manifest: "metadata:\n  name: p\n  annotations: {canopy.mesh/netns: /proc/thread-self/ns/net}\n",
        at: (7, 36),
        field: "metadata.annotations[canopy.mesh/netns]",
        reason: Reason::InvalidValue,
        says: "/proc/PID/ns/net",
    },
];

const NO_SPEC: &[Case] = &[
    Case {
        name: "no spec",
        manifest: "metadata: {name: p}\nstatus: {podIP: 10.0.0.1}\n",
        at: (1, 1),
        field: "spec",
        reason: Reason::MissingField,
        says: "containers",
    },
    Case {
        name: "spec of nothing",
        manifest: "metadata: {name: p}\nspec:\nstatus: {podIP: 10.0.0.1}\n",
        at: (1, 1),
        field: "spec",
        reason: Reason::MissingField,
        says: "containers",
    },
];

#[test]
fn pods_are_refused_at_the_field() {
    check(POD, PODS);
    check("apiVersion: v1\nkind: Pod\n", NO_SPEC);
}

#[test]
fn each_list_of_exclusions_is_refused_above_its_limit_and_taken_at_it() {
    let ports = |count: usize| (1..=count).map(|port| port.to_string()).collect::<Vec<_>>().join(",");
    let networks =
        |count: usize| (1..=count).map(|part| format!("10.0.{part}.0/24")).collect::<Vec<_>>().join(",");
    let pod = |key: &str, list: &str| {
        format!("{POD}metadata:\n  name: p\n  annotations:\n    canopy.mesh/{key}: \"{list}\"\n")
    };
    for (key, column, at_limit, above) in [
        ("exclude-outbound-ports", 41, ports(64), ports(65)),
        ("exclude-inbound-ports", 40, ports(64), ports(65)),
        ("exclude-outbound-cidrs", 41, networks(64), networks(65)),
    ] {
        let outcome = apply(&pod(key, &at_limit));
        assert_eq!((outcome.findings.len(), outcome.accepted), (0, 1), "{key}: {:#?}", outcome.findings);

        let outcome = apply(&pod(key, &above));
        let [finding] = &outcome.findings[..] else { panic!("{key}: {:#?}", outcome.findings) };
        assert_eq!((finding.position.line, finding.position.column), (8, column), "{finding}");
        assert_eq!(finding.field, format!("metadata.annotations[canopy.mesh/{key}]"));
        assert!(finding.message.contains("65 entries, at most 64"), "{finding}");
        assert_eq!(outcome.accepted, 0, "{key}");
    }
    let outcome = apply(&pod("exclude-outbound-ports", &ports(65_535)));
    assert!(outcome.findings[0].message.contains("65535 entries"), "{}", outcome.findings[0]);
}
