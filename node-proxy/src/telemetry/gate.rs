//! The metrics of the gate: how long pods waited there, and what became of them.
//!
//! A node without a gate has none of them. No pod is named: that is the log's.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};

/// What became of a pod at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the words of the label")]
pub enum Passage {
    /// It is carried, and starts.
    enrolled,
    /// It is nobody's, and starts.
    outside,
    /// It did not start in time; the kubelet tries again.
    refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: Passage,
}

/// What the gate has counted. Clones are the same.
#[derive(Debug, Clone)]
pub struct Waits {
    enrolled: Histogram,
    pods: Family<Outcome, Counter>,
}

impl Default for Waits {
    fn default() -> Self {
        Self { enrolled: Histogram::new(BOUNDS), pods: Family::default() }
    }
}

impl Waits {
    /// A pod has been answered, so long after it asked.
    pub fn answered(&self, outcome: Passage, after: Duration) {
        if outcome == Passage::enrolled {
            self.enrolled.observe(after.as_secs_f64());
        }
        self.pods.get_or_create(&Outcome { outcome }).inc();
    }
}

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, waits: &Waits) -> fmt::Result {
    let help = "How long pods waited at the gate until they were carried, in seconds";
    let metric = encoder.encode_descriptor("gate_wait_seconds", help, None, waits.enrolled.metric_type())?;
    waits.enrolled.encode(metric)?;
    let help = "Pods that were answered at the gate, by what became of them";
    let metric = encoder.encode_descriptor("gate_pods", help, None, waits.pods.metric_type())?;
    waits.pods.encode(metric)
}

/// In seconds: a pod is to wait no longer than a twentieth of one, and is refused after twenty at the most.
const BOUNDS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.5, 2.0, 20.0];
