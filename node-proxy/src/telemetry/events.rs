//! Events of Kubernetes that were not written, as a metric: who looks at Events alone can see that there was more.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

/// Why one was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Too much of its namespace waited.
    Queue,
    /// Its object has had as many as one gets.
    Object,
    /// The API server did not take it.
    Unwritten,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Queue, Self::Object, Self::Unwritten];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Object => "object",
            Self::Unwritten => "unwritten",
        }
    }
}

/// How many were not.
#[derive(Debug, Default)]
pub struct LeftOut([AtomicU64; Why::ALL.len()]);

impl LeftOut {
    /// One more.
    pub fn add(&self, why: Why) {
        self.0[why as usize].fetch_add(1, Relaxed);
    }

    /// For this reason, since the start.
    pub fn count(&self, why: Why) -> u64 {
        self.0[why as usize].load(Relaxed)
    }
}

/// What is scraped of them, where there is nothing else of a page.
#[derive(Debug)]
pub struct Scrape(pub Arc<LeftOut>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encode(&mut encoder, &self.0)
    }
}

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, left_out: &LeftOut) -> fmt::Result {
    let help = "Events of Kubernetes that were not written";
    let mut family =
        encoder.encode_descriptor("kubernetes_events_left_out", help, None, MetricType::Counter)?;
    for why in Why::ALL {
        let labels = [("why", why.as_str())];
        ConstCounter::new(left_out.count(why)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn what_was_left_out_is_counted_by_why() {
        let left_out = Arc::<LeftOut>::default();
        left_out.add(Why::Queue);
        left_out.add(Why::Queue);
        left_out.add(Why::Unwritten);
        let mut registry = Registry::with_prefix("canopy");
        registry.register_collector(Box::new(Scrape(left_out)));
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        for (why, count) in [(Why::Queue, 2), (Why::Object, 0), (Why::Unwritten, 1)] {
            let line = format!("canopy_kubernetes_events_left_out_total{{why=\"{}\"}} {count}", why.as_str());
            assert!(page.lines().any(|one| one == line), "{line} in {page}");
        }
    }
}
