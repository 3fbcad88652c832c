//! Whether a pod is in the mesh, and who carries it: what its namespace says, what the pod says, and what it is.
//!
//! One decision for all who need it: who captures pods, who starts them, and who tells others how they are reached. Pure, so that
//! they cannot differ. No label may take a pod out whose tenant is kept to the mesh.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The label of namespaces and pods by which they are opted in, or out.
pub const MODE: &str = "canopy.mesh/mode";
/// The label of a namespace that says how its pods start while no daemon is there. A pod's own says nothing: who writes a pod is not who
/// decides that it may go without policies.
pub const ON_FAILURE: &str = "canopy.mesh/on-failure";
/// What the sidecar's container is called in every pod. In a cluster it is an init container that stays, as the webhook writes it.
pub const SIDECAR: &str = "canopy-sidecar";
/// Whether a pod's init container, by its name and its `restartPolicy`, is the sidecar: as the webhook writes it, it stays.
pub fn is_sidecar(name: Option<&str>, restart_policy: Option<&str>) -> bool {
    name == Some(SIDECAR) && restart_policy == Some("Always")
}

/// The annotation that names a pod's network namespace. In a cluster, the node writes it, and nobody's word for it is taken.
pub const NETNS: &str = "canopy.mesh/netns";
/// The annotation that says which handler a pod's RuntimeClass has. In a cluster, who reads RuntimeClasses writes it.
pub const RUNTIME_HANDLER: &str = "canopy.mesh/runtime-handler";

/// What a label [`MODE`] can say; where nothing is said, nobody carries the pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// `node`: the daemon of its node carries it.
    Node,
    /// `sidecar`: a proxy within it does, if it has one.
    Sidecar,
    /// `off`: nobody does.
    #[default]
    Off,
}

/// How pods start while no daemon is there: what a label [`ON_FAILURE`] can say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Not at all: they wait.
    #[default]
    Closed,
    /// Uncaptured, until a daemon is there.
    Open,
}

impl OnFailure {
    /// What a label says; `None` if it is neither.
    pub fn of(label: &str) -> Option<Self> {
        match label {
            "closed" => Some(Self::Closed),
            "open" => Some(Self::Open),
            _ => None,
        }
    }
}

/// Whether a tenant keeps its pods to the mesh (`spec.egress: mesh`), as far as labels go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// Labels decide.
    #[default]
    No,
    /// Its Tenant cannot be read, and may keep it: no label takes a pod out. What nobody has labelled stays out, so that a slip in a
    /// Tenant reaches no namespace that nobody ever meant to be in.
    Perhaps,
    /// Its Tenant says so: they are in, whatever labels say or do not say.
    Yes,
}

/// What is known of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The label of its namespace.
    pub namespace: Option<&'a str>,
    /// Its own label, which counts for more.
    pub pod: Option<&'a str>,
    /// Whether it has a sidecar's container ([`SIDECAR`]). Anybody's word, who writes pods: it counts only where a label asks for one.
    pub sidecar: bool,
    /// Its tenant's word, which counts for most.
    pub kept: Kept,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `status.phase`.
    pub phase: Option<&'a str>,
    /// What it runs on.
    pub runtime: Runtime<'a>,
}

/// What a pod runs on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runtime<'a> {
    /// `spec.runtimeClassName`.
    pub class: Option<&'a str>,
    /// `handler` of the RuntimeClass of that name, where it is known.
    pub handler: Option<&'a str>,
    /// Whether there is `spec.overhead`: what the sandbox itself costs.
    pub overhead: bool,
}

/// Who carries a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// The daemon of its node.
    Node,
    /// A proxy within it.
    Sidecar,
    /// Nobody: it is a workload outside the mesh, reached in plaintext where PeerAuthentication lets it.
    Out(Why<'a>),
}

/// Why nobody carries a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why<'a> {
    /// Nobody has asked for it.
    NotAsked,
    /// A label says `off`.
    TakenOut,
    /// It shares the node's network.
    HostNetwork,
    /// It has ended, and its address may be another's.
    Ended,
    /// It was asked for and cannot be: it has a network stack of its own, in this sandbox.
    Sandboxed(&'a str),
}

impl Mode {
    /// What a label says; `None` if it is no mode.
    pub fn of(label: &str) -> Option<Self> {
        match label {
            "node" => Some(Self::Node),
            "sidecar" => Some(Self::Sidecar),
            "off" => Some(Self::Off),
            _ => None,
        }
    }

    /// As a label says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Sidecar => "sidecar",
            Self::Off => "off",
        }
    }
}

/// Decides.
pub fn decide<'a>(asked: &Asked<'a>) -> Decision<'a> {
    if asked.host_network {
        return Decision::Out(Why::HostNetwork);
    }
    if matches!(asked.phase, Some("Succeeded" | "Failed")) {
        return Decision::Out(Why::Ended);
    }
    match labelled(asked) {
        None => Decision::Out(Why::NotAsked),
        Some(Mode::Off) => Decision::Out(Why::TakenOut),
        // Within the sandbox, so that its stack is no obstacle.
        Some(Mode::Sidecar) => Decision::Sidecar,
        Some(Mode::Node) => match sandbox(&asked.runtime) {
            Some(sandbox) => Decision::Out(Why::Sandboxed(sandbox)),
            None => Decision::Node,
        },
    }
}

/// Whether a pod is its node's only because it has no sidecar, though a label says that one carries it: it was made before the label, or
/// nobody injects any.
pub fn lacks_sidecar(asked: &Asked<'_>) -> bool {
    let (pod, namespace) = words(asked);
    asked.kept == Kept::No
        && pod.or(namespace) == Some(Mode::Sidecar)
        && !asked.sidecar
        && decide(asked) == Decision::Node
}

fn words(asked: &Asked<'_>) -> (Option<Mode>, Option<Mode>) {
    (asked.pod.and_then(Mode::of), asked.namespace.and_then(Mode::of))
}

/// What labels come to. A word that is none says nothing: of a pod, its namespace decides then.
fn labelled(asked: &Asked<'_>) -> Option<Mode> {
    let (pod, namespace) = words(asked);
    match asked.kept {
        // A label makes no proxy: who has none would go without policies, as nobody would be there to keep them.
        Kept::No => pod.or(namespace).map(|mode| match mode {
            Mode::Sidecar if !asked.sidecar => Mode::Node,
            mode => mode,
        }),
        // Nobody sees to what a proxy within the pod lets out, so that `sidecar` would be a way around, too.
        Kept::Perhaps => pod.filter(|mode| *mode == Mode::Node).or(namespace.map(|_| Mode::Node)),
        Kept::Yes => Some(Mode::Node),
    }
}

/// The sandbox with a network stack of its own that a pod runs in: its connections never meet this node's kernel, so no hook sees
/// them. Told by the handler where it is known, since a class may have any name.
pub fn sandbox<'a>(runtime: &Runtime<'a>) -> Option<&'a str> {
    let name = runtime.handler.or(runtime.class)?;
    if SANDBOXES.iter().any(|sandbox| is_of(name, sandbox)) {
        return Some(name);
    }
    let is_plain = PLAIN.iter().any(|plain| is_of(name, plain));
    // Of a container that shares the kernel nobody declares what its sandbox costs.
    (runtime.overhead && !is_plain).then_some(name)
}

/// Whether a handler is of this runtime: it, or a variant of it, as `kata-qemu`; or what containerd calls it, as
/// `io.containerd.kata.v2`.
fn is_of(name: &str, runtime: &str) -> bool {
    let is = |part: &str| {
        part.strip_prefix(runtime)
            .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
    };
    name.split('.').any(is)
}

/// Handlers that give a pod a kernel or a network stack of its own: gVisor, Kata Containers and what stands on it.
const SANDBOXES: [&str; 9] =
    ["runsc", "gvisor", "kata", "peerpods", "firecracker", "cloud-hypervisor", "qemu", "hyperv", "quark"];
/// Handlers that run containers on the node's kernel.
const PLAIN: [&str; 4] = ["runc", "crun", "youki", "nvidia"];

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => {
                f.write_str("neither its namespace nor itself is labelled canopy.mesh/mode: node")
            }
            Self::TakenOut => f.write_str("its label canopy.mesh/mode, or its namespace's, says off"),
            Self::HostNetwork => f.write_str("it shares the node's network"),
            Self::Ended => f.write_str("it has ended"),
            Self::Sandboxed(sandbox) => write!(
                f,
                "it runs in a sandbox ({sandbox}) with a network stack of its own, which this node's kernel does not see"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Option<&str> = Some("node");

    fn labels<'a>(namespace: Option<&'a str>, pod: Option<&'a str>) -> Asked<'a> {
        Asked { namespace, pod, sidecar: true, ..Asked::default() }
    }

    #[test]
    fn a_pods_label_counts_for_more_than_its_namespaces_and_a_word_that_is_none_for_nothing() {
        use Decision::{Node, Out, Sidecar};
        let (off, sidecar, slip) = (Some("off"), Some("sidecar"), Some("Node"));
        for (namespace, pod, expected) in [
            (None, None, Out(Why::NotAsked)),
            (NODE, None, Node),
            (sidecar, None, Sidecar),
            (off, None, Out(Why::TakenOut)),
            (slip, None, Out(Why::NotAsked)),
            (None, NODE, Node),
            (off, NODE, Node),
            (sidecar, NODE, Node),
            (NODE, off, Out(Why::TakenOut)),
            (None, off, Out(Why::TakenOut)),
            (NODE, sidecar, Sidecar),
            (NODE, slip, Node),
            (off, slip, Out(Why::TakenOut)),
            (None, slip, Out(Why::NotAsked)),
        ] {
            assert_eq!(decide(&labels(namespace, pod)), expected, "{namespace:?} {pod:?}");
        }
    }

    #[test]
    fn a_label_alone_takes_no_pod_from_its_node_and_a_container_alone_does_not_either() {
        use Decision::{Node, Out, Sidecar};
        let (off, sidecar, no) = (Some("off"), Some("sidecar"), false);
        for (namespace, pod, has_one, expected, lacks) in [
            (sidecar, None, true, Sidecar, no),
            (sidecar, None, false, Node, true),
            (None, sidecar, false, Node, true),
            (NODE, sidecar, false, Node, true),
            (sidecar, NODE, false, Node, no),
            (NODE, None, true, Node, no),
            (None, None, true, Out(Why::NotAsked), no),
            (sidecar, off, false, Out(Why::TakenOut), no),
        ] {
            let asked = Asked { sidecar: has_one, ..labels(namespace, pod) };
            assert_eq!(
                (decide(&asked), lacks_sidecar(&asked)),
                (expected, lacks),
                "{namespace:?} {pod:?} {has_one}"
            );
        }
        let runtime = Runtime { class: Some("kata"), ..Runtime::default() };
        let own_kernel = Asked { runtime, sidecar: false, ..labels(sidecar, None) };
        assert_eq!(decide(&own_kernel), Out(Why::Sandboxed("kata")), "neither is there to carry it");
        assert!(!lacks_sidecar(&own_kernel), "that is told of it already");
    }

    #[test]
    fn a_tenant_that_is_kept_to_the_mesh_is_taken_out_by_no_label_and_by_none_at_all_only_where_it_cannot_be_read()
     {
        use Decision::{Node, Out};
        let (off, sidecar, slip, out) = (Some("off"), Some("sidecar"), Some("Node"), Out(Why::NotAsked));
        for (namespace, pod, perhaps) in [
            (NODE, None, Node),
            (NODE, off, Node),
            (NODE, sidecar, Node),
            (off, None, Node),
            (sidecar, None, Node),
            (off, off, Node),
            (None, NODE, Node),
            (None, None, out),
            (None, off, out),
            (None, sidecar, out),
            (slip, slip, out),
        ] {
            let decided = |kept| decide(&Asked { kept, ..labels(namespace, pod) });
            assert_eq!(decided(Kept::Yes), Node, "{namespace:?} {pod:?}");
            assert_eq!(decided(Kept::Perhaps), perhaps, "{namespace:?} {pod:?}");
        }
        let host = Asked { kept: Kept::Yes, host_network: true, ..labels(NODE, None) };
        assert_eq!(decide(&host), Out(Why::HostNetwork), "there is nothing to capture");
        let runtime = Runtime { class: Some("kata"), ..Runtime::default() };
        let own_kernel = Asked { kept: Kept::Yes, runtime, ..labels(NODE, None) };
        assert_eq!(decide(&own_kernel), Out(Why::Sandboxed("kata")));
    }

    #[test]
    fn pods_of_the_nodes_network_and_pods_that_ended_are_never_in_whatever_labels_say() {
        for (host_network, phase, expected) in [
            (true, None, Decision::Out(Why::HostNetwork)),
            (true, Some("Succeeded"), Decision::Out(Why::HostNetwork)),
            (false, Some("Succeeded"), Decision::Out(Why::Ended)),
            (false, Some("Failed"), Decision::Out(Why::Ended)),
            (false, Some("Pending"), Decision::Node),
            (false, Some("Running"), Decision::Node),
            (false, Some("Unknown"), Decision::Node),
        ] {
            let asked = Asked { host_network, phase, ..labels(NODE, NODE) };
            assert_eq!(decide(&asked), expected, "{host_network} {phase:?}");
        }
    }

    #[test]
    fn sandboxes_are_refused_by_handler_where_it_is_known_else_by_class_and_overhead() {
        for (class, handler, overhead, expected) in [
            (None, None, false, None),
            (Some("gvisor"), None, false, Some("gvisor")),
            (Some("kata-qemu"), None, true, Some("kata-qemu")),
            (Some("kata"), Some("runc"), false, None),
            (Some("fast"), Some("runsc"), false, Some("runsc")),
            (Some("fast"), Some("kata_clh"), false, Some("kata_clh")),
            (Some("gpu"), Some("nvidia"), true, None),
            (Some("gpu"), Some("nvidia-legacy"), false, None),
            (Some("own"), Some("vmm"), true, Some("vmm")),
            (Some("own"), Some("vmm"), false, None),
            (Some("own"), None, true, Some("own")),
            (Some("katarina"), None, false, None),
            (Some("fast"), Some("io.containerd.runsc.v1"), false, Some("io.containerd.runsc.v1")),
            (Some("gpu"), Some("io.containerd.runc.v2"), true, None),
            (None, None, true, None),
        ] {
            let runtime = Runtime { class, handler, overhead };
            assert_eq!(sandbox(&runtime), expected, "{runtime:?}");
            let decision = decide(&Asked { runtime, ..labels(NODE, None) });
            let refused = expected.map(|sandbox| Decision::Out(Why::Sandboxed(sandbox)));
            assert_eq!(decision, refused.unwrap_or(Decision::Node), "{runtime:?}");
            // A sidecar is within it.
            assert_eq!(decide(&Asked { runtime, ..labels(Some("sidecar"), None) }), Decision::Sidecar);
        }
    }
}
