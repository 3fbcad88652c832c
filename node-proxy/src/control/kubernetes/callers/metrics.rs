//! Who was not told the mesh, as metrics. Labels are reasons, of which there are twelve.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

use super::{Callers, Refusal};

/// What is scraped of callers.
#[derive(Debug)]
pub struct Scrape(pub Arc<Callers>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Streams of nodes that were refused, since it was not proven whose they were";
        let mut refused =
            encoder.encode_descriptor("control_readers_refused", help, None, MetricType::Counter)?;
        for refusal in Refusal::ALL {
            let labels = [("reason", refusal.reason())];
            ConstCounter::new(self.0.readers.refused(refusal)).encode(refused.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
