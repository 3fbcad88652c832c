//! The metrics of discovery: whether the control plane is there, and what came of what it sent.
//!
//! A node without one has none of them.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// How a node stands with its control plane, as numbers.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// Whether there is a stream.
    pub connected: bool,
    /// Each type.
    pub types: Vec<Discovered>,
    /// Streams that ended since a message was too large, by which.
    pub oversized: [(&'static str, u64); 2],
}

/// One type of resources.
#[derive(Debug, Clone, Copy)]
pub struct Discovered {
    /// Its name.
    pub of: &'static str,
    /// Responses that were taken in whole.
    pub acked: u64,
    /// Responses of which something was refused.
    pub nacked: u64,
    /// Resources that are held.
    pub resources: u64,
}

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, discovery: &Discovery) -> fmt::Result {
    let help = "Whether the node is connected to its control plane";
    let metric = encoder.encode_descriptor("discovery_connected", help, None, MetricType::Gauge)?;
    ConstGauge::new(i64::from(discovery.connected)).encode(metric)?;
    let help = "Responses of the control plane, by type and by whether all of it was taken in";
    let mut family = encoder.encode_descriptor("discovery_responses", help, None, MetricType::Counter)?;
    for Discovered { of, acked, nacked, .. } in &discovery.types {
        for (result, count) in [("ack", *acked), ("nack", *nacked)] {
            let labels = [("type", *of), ("result", result)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    let help =
        "Streams with the control plane that ended as a message was too large: a request or a response";
    let mut family =
        encoder.encode_descriptor("discovery_oversized_messages", help, None, MetricType::Counter)?;
    for (what, count) in discovery.oversized {
        ConstCounter::new(count).encode(family.encode_family(&[("what", what)])?)?;
    }
    let help = "Resources that are held, by type";
    let mut family = encoder.encode_descriptor("discovery_resources", help, None, MetricType::Gauge)?;
    for Discovered { of, resources, .. } in &discovery.types {
        let count = i64::try_from(*resources).unwrap_or(i64::MAX);
        ConstGauge::new(count).encode(family.encode_family(&[("type", *of)])?)?;
    }
    Ok(())
}
