//! The metrics of a control plane.
//!
//! Labels are types of resources, of which there are eight. Reading must never take a lock that serving takes.

use std::{fmt, sync::Arc};

use config::discovery::Kind;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};

use crate::{
    control::{
        Status,
        discovery::{
            client::label,
            server::{Figures, Held},
        },
        kubernetes::{self, Authority, AuthorityScrape, Callers, CallersScrape},
    },
    telemetry::{
        events::{LeftOut, Scrape as EventsScrape},
        server::Page,
    },
};

/// The page that Prometheus scrapes.
#[derive(Debug)]
pub struct ControlPage {
    registry: Registry,
    figures: Arc<Figures>,
    authority: Option<Arc<Authority>>,
}

/// What a control plane may have besides.
#[derive(Debug, Default)]
pub struct Parts {
    /// How it stands with the cluster, if one is followed.
    pub cluster: Option<Arc<kubernetes::Standing>>,
    /// Events that it does not write there.
    pub events: Option<Arc<LeftOut>>,
    /// Its authority, if it is one.
    pub authority: Option<Arc<Authority>>,
    /// Who is asked whose a token is, if who reads the mesh has to prove it.
    pub callers: Option<Arc<Callers>>,
}

#[derive(Debug)]
struct Scrape {
    figures: Arc<Figures>,
    status: Arc<Status>,
}

impl ControlPage {
    /// What these say, and those parts.
    pub fn new(figures: Arc<Figures>, status: Arc<Status>, parts: Parts) -> Self {
        let Parts { cluster, events, authority, callers } = parts;
        let mut registry = Registry::with_prefix("canopy");
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the control plane", version);
        registry.register_collector(Box::new(Scrape { figures: Arc::clone(&figures), status }));
        if let Some(cluster) = cluster {
            registry.register_collector(Box::new(kubernetes::Scrape(cluster)));
        }
        if let Some(left_out) = events {
            registry.register_collector(Box::new(EventsScrape(left_out)));
        }
        if let Some(authority) = &authority {
            registry.register_collector(Box::new(AuthorityScrape(Arc::clone(authority))));
        }
        if let Some(callers) = callers {
            registry.register_collector(Box::new(CallersScrape(callers)));
        }
        Self { registry, figures, authority }
    }
}

impl Page for ControlPage {
    fn metrics(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }

    fn is_ready(&self) -> bool {
        self.figures.version() > 0 && self.authority.as_ref().is_none_or(|authority| authority.is_ready())
    }
}

/// One figure of every type.
struct Figure {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    read: fn(&Held) -> u64,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use MetricType::{Counter, Gauge};
        let figure = |name, help, kind, read| Figure { name, help, unit: None, kind, read };
        let sent = figure("control_sent", "Bytes of responses sent", Counter, |held| held.bytes);
        for figure in [
            figure("control_resources", "Resources served", Gauge, |held| held.resources),
            figure("control_responses", "Responses sent", Counter, |held| held.responses),
            Figure { unit: Some(Unit::Bytes), ..sent },
            figure("control_nacks", "Responses that a node did not take", Counter, |held| held.nacks),
        ] {
            self.encode_figure(&mut encoder, &figure)?;
        }
        let help = "Times a resource was encoded for a stream";
        let encodings = encoder.encode_descriptor("control_encodings", help, None, Counter)?;
        ConstCounter::new(self.figures.encodings()).encode(encodings)?;
        let rejected = u64::try_from(self.status.rejected()).unwrap_or(u64::MAX);
        for (name, help, value) in [
            ("control_streams", "Streams of nodes that are open now", self.figures.streams()),
            ("configuration_version", "Version of the configuration in force", self.figures.version()),
            ("configuration_rejected_objects", "Objects that are rejected now", rejected),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, Gauge)?;
            gauge(value).encode(metric)?;
        }
        Ok(())
    }
}

impl Scrape {
    fn encode_figure(&self, encoder: &mut DescriptorEncoder<'_>, figure: &Figure) -> fmt::Result {
        let Figure { name, help, unit, kind, read } = figure;
        let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), *kind)?;
        for of in Kind::ALL {
            let value = read(&self.figures.of(of));
            let labels = [("type", label(of))];
            let series = family.encode_family(&labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value).encode(series)?,
                _ => gauge(value).encode(series)?,
            }
        }
        Ok(())
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}
