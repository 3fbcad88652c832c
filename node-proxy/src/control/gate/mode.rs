//! What a namespace says of its pods, and its tenant of the namespace, as it is kept for the time without a daemon.
//!
//! Pure, and the same for the daemon, for its cache on disk and for the plugin. Whose a pod is is decided by [`opt_in`] alone: they must
//! never disagree about it.

use config::opt_in::{self, Asked, Decision, Kept, MODE, Mode, ON_FAILURE, OnFailure};
use serde::{Deserialize, Serialize};

/// What a namespace says of its pods, and what is said of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Who captures those that say nothing themselves, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// How they start while no daemon is there.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Whether its tenant keeps them to the mesh.
    #[serde(default)]
    pub kept: Kept,
}

/// What comes of them for one of its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfPod {
    /// Who captures it.
    pub mode: Mode,
    /// How it starts while no daemon is there.
    pub on_failure: OnFailure,
}

impl Terms {
    /// Of a namespace with these labels, and whose tenant is so.
    pub fn of<'a>(label: impl Fn(&str) -> Option<&'a str>, kept: Kept) -> Self {
        let on_failure = label(ON_FAILURE).and_then(OnFailure::of).unwrap_or_default();
        Self { mode: label(MODE).and_then(Mode::of), on_failure, kept }
    }

    /// Who carries one of its pods, by that pod's own label and by whether it has a sidecar's container. What it runs on is not known here.
    pub fn decide(self, pod: Option<&str>, sidecar: bool) -> Decision<'static> {
        let namespace = self.mode.map(Mode::as_str);
        // A label's word, as one that lives long enough.
        let pod = pod.and_then(Mode::of).map(Mode::as_str);
        opt_in::decide(&Asked { namespace, pod, sidecar, kept: self.kept, ..Asked::default() })
    }

    /// What comes of them for one of its pods, by that pod's own label and by whether it has a sidecar's container.
    pub fn for_pod(self, pod: Option<&str>, sidecar: bool) -> OfPod {
        let mode = match self.decide(pod, sidecar) {
            Decision::Node => Mode::Node,
            Decision::Sidecar => Mode::Sidecar,
            Decision::Out(_) => Mode::Off,
        };
        OfPod { mode, on_failure: self.on_failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_own_label_goes_before_its_namespaces_but_out_of_a_mesh_that_keeps_it() {
        for (namespace, pod, kept, expected) in [
            (None, None, Kept::No, Mode::Off),
            (Some("node"), None, Kept::No, Mode::Node),
            (Some("sidecar"), None, Kept::No, Mode::Sidecar),
            (Some("Node"), None, Kept::No, Mode::Off),
            (Some("node"), Some("off"), Kept::No, Mode::Off),
            (Some("node"), Some("off"), Kept::Perhaps, Mode::Node),
            (Some("node"), Some("sidecar"), Kept::No, Mode::Sidecar),
            (Some("node"), Some("of"), Kept::No, Mode::Node),
            (None, Some("node"), Kept::No, Mode::Node),
            (Some("off"), Some("node"), Kept::No, Mode::Node),
            (Some("off"), None, Kept::Yes, Mode::Node),
            (None, None, Kept::Perhaps, Mode::Off),
            (None, None, Kept::Yes, Mode::Node),
        ] {
            let terms = Terms::of(|name| (name == MODE).then_some(namespace).flatten(), kept);
            assert_eq!(terms.for_pod(pod, true).mode, expected, "{namespace:?} {pod:?} {kept:?}");
            let without = if expected == Mode::Sidecar { Mode::Node } else { expected };
            assert_eq!(terms.for_pod(pod, false).mode, without, "{namespace:?} {pod:?} {kept:?}");
        }
    }

    #[test]
    fn only_the_word_open_opens() {
        for (label, expected) in [
            (None, OnFailure::Closed),
            (Some("closed"), OnFailure::Closed),
            (Some("Open"), OnFailure::Closed),
            (Some("open"), OnFailure::Open),
        ] {
            let terms = Terms::of(|name| (name == ON_FAILURE).then_some(label).flatten(), Kept::No);
            assert_eq!(terms.on_failure, expected);
        }
    }
}
