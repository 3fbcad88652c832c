//! What an authority has done, as metrics. Labels are reasons, of which there are twelve.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::{Authority, Refusal};

/// What is scraped of an authority.
#[derive(Debug)]
pub struct Scrape(pub Arc<Authority>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(authority) = self;
        let help = "Certificates that were signed for nodes and workloads";
        let signed =
            encoder.encode_descriptor("control_certificates_signed", help, None, MetricType::Counter)?;
        ConstCounter::new(authority.figures.signed()).encode(signed)?;
        let help = "Requests for a certificate that were refused";
        let mut refused =
            encoder.encode_descriptor("control_certificates_refused", help, None, MetricType::Counter)?;
        for refusal in Refusal::ALL {
            let labels = [("reason", refusal.reason())];
            ConstCounter::new(authority.figures.refused(refusal)).encode(refused.encode_family(&labels)?)?;
        }
        let help = "Roots that are trusted; 0 before there is one";
        let roots = encoder.encode_descriptor("control_roots", help, None, MetricType::Gauge)?;
        let keys = authority.keys.borrow();
        let count = keys.as_ref().map_or(0, |keys| keys.held.roots().certificates().len());
        ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX)).encode(roots)
    }
}
