//! The fence's metrics: how many pods are fenced how, and what each one's fence has met.
//!
//! A pod's name is a label here, because a drop is of use only to who knows whose it is; a pod that never sends what it must not has no
//! series, and one that leaves the node takes its series along.

use std::fmt;

use ebpf_redirect::{FenceState, FencedPod};
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Writes them.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, pods: &[FencedPod]) -> fmt::Result {
    let help = "Enrolled pods by how they are fenced";
    let mut family = encoder.encode_descriptor("fence_pods", help, None, MetricType::Gauge)?;
    for state in FenceState::ALL {
        let count = pods.iter().filter(|pod| pod.state == state).count();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        ConstGauge::new(count).encode(family.encode_family(&[("state", state.name())])?)?;
    }
    let help = "Packets that must not cross a pod's fence";
    let mut family = encoder.encode_descriptor("fence_packets", help, None, MetricType::Counter)?;
    for pod in pods {
        for packets in &pod.packets {
            for (verdict, count) in [("dropped", packets.dropped), ("observed", packets.observed)] {
                if count > 0 {
                    let labels = [("pod", &*pod.pod), ("reason", packets.reason), ("verdict", verdict)];
                    ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
                }
            }
        }
    }
    Ok(())
}
