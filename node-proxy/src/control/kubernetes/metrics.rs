//! How it stands with the API server, as metrics. Labels are kinds, of which there are fourteen.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::ledger::{Shown, Standing};

/// What is scraped of a cluster.
#[derive(Debug)]
pub struct Scrape(pub Arc<Standing>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use MetricType::{Counter, Gauge};
        let mut family = |(name, help): (&str, &str), kind, read: fn(&Shown) -> u64| -> fmt::Result {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for shown in self.0.shown() {
                let labels = [("kind", shown.kind)];
                let series = family.encode_family(&labels)?;
                match kind {
                    Counter => ConstCounter::new(read(&shown)).encode(series)?,
                    _ => ConstGauge::new(i64::try_from(read(&shown)).unwrap_or(i64::MAX)).encode(series)?,
                }
            }
            Ok(())
        };
        family(("kubernetes_objects", "Objects that the API server has"), Gauge, |shown| shown.objects)?;
        family(("kubernetes_relists", "Times that all objects were asked for again"), Counter, |shown| {
            shown.relists
        })?;
        family(("kubernetes_watch_errors", "Times that a list or a watch failed"), Counter, |shown| {
            shown.errors
        })?;
        let help = "Time since the API server said anything of a kind";
        let mut family =
            encoder.encode_descriptor("kubernetes_last_event_age", help, Some(&Unit::Seconds), Gauge)?;
        for shown in self.0.shown() {
            let labels = [("kind", shown.kind)];
            ConstGauge::new(shown.silent.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
