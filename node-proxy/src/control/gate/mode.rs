//! Whether a pod is this daemon's to capture, by the labels of its namespace and its own; and how it starts while no daemon is there.
//!
//! Pure, and the same for the daemon, for its cache on disk and for the plugin: they must never disagree about a pod.

use config::opt_in::{MODE, Mode};
use serde::{Deserialize, Serialize};

/// The label of a namespace that says how its pods start while no daemon is there. A pod's own says nothing: who writes a pod is not who
/// decides that it may go without policies.
pub const ON_FAILURE: &str = "canopy.mesh/on-failure";

/// How pods start while no daemon is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Not at all: they wait.
    #[default]
    Closed,
    /// Uncaptured, until a daemon is there.
    Open,
}

/// What a namespace says of its pods, and what is said of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Who captures those that say nothing themselves.
    #[serde(default)]
    pub mode: Mode,
    /// How they start while no daemon is there.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Its tenant is kept to the mesh (`spec.egress: mesh`), from which no label takes them.
    #[serde(default)]
    pub kept: bool,
}

impl Terms {
    /// Of a namespace with these labels, whose tenant is kept to the mesh, or is not.
    pub fn of<'a>(label: impl Fn(&str) -> Option<&'a str>, kept: bool) -> Self {
        let on_failure = match label(ON_FAILURE) {
            Some("open") => OnFailure::Open,
            _ => OnFailure::Closed,
        };
        let mode = match label(MODE).and_then(Mode::of) {
            Some(Mode::Off) if kept => Mode::Node,
            mode => mode.unwrap_or_default(),
        };
        Self { mode, on_failure, kept }
    }

    /// Of one of its pods, by that pod's own label.
    pub fn with_pod(self, label: Option<&str>) -> Self {
        match label.and_then(Mode::of) {
            Some(Mode::Off) if self.kept => self,
            Some(mode) => Self { mode, ..self },
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_own_label_goes_before_its_namespaces_but_out_of_a_mesh_that_keeps_it() {
        for (namespace, pod, kept, expected) in [
            (None, None, false, Mode::Off),
            (Some("node"), None, false, Mode::Node),
            (Some("sidecar"), None, false, Mode::Sidecar),
            (Some("Node"), None, false, Mode::Off),
            (Some("node"), Some("off"), false, Mode::Off),
            (Some("node"), Some("off"), true, Mode::Node),
            (Some("node"), Some("sidecar"), false, Mode::Sidecar),
            (Some("node"), Some("of"), false, Mode::Node),
            (None, Some("node"), false, Mode::Node),
            (Some("off"), Some("node"), false, Mode::Node),
            (Some("off"), None, true, Mode::Node),
            (None, None, true, Mode::Off),
        ] {
            let terms = Terms::of(|name| (name == MODE).then_some(namespace).flatten(), kept);
            assert_eq!(terms.with_pod(pod).mode, expected, "{namespace:?} {pod:?} {kept}");
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
            let terms = Terms::of(|name| (name == ON_FAILURE).then_some(label).flatten(), false);
            assert_eq!(terms.on_failure, expected);
        }
    }
}
