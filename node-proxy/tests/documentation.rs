//! What docs/operations.md says is what the code has: reasons, metrics and verbs, in both directions.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use config::name::{Name, TenantId};
use ebpf_redirect::{Counter, FenceState, FencedPackets, FencedPod};
use node_proxy::{
    telemetry::{
        Reason,
        events::LeftOut,
        gate::{Passage, Waits},
        metrics::{Configuration, Discovered, Discovery, Metrics, Readings},
    },
    tenancy::{Balance, Ledger, Row},
};

const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// First cells, in backquotes, of the table below a heading.
fn first_cells(heading: &str) -> BTreeSet<&'static str> {
    let section = OPERATIONS
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .expect("a section of that heading");
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

#[test]
fn every_reason_is_documented_with_its_label() {
    let labels: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(first_cells("Reasons"), labels);
}

#[test]
fn every_documented_status_is_the_one_answered() {
    let section = OPERATIONS.split("\n## ").find(|section| section.starts_with("Reasons")).unwrap();
    for reason in Reason::ALL {
        let row = section.lines().find(|line| line.starts_with(&format!("| `{reason}` |"))).unwrap();
        let status = row.split('|').nth(2).unwrap().trim();
        assert!(status == "–" || status == reason.status().as_str(), "{row}");
    }
}

#[test]
fn every_verb_is_documented() {
    let help = Command::new(env!("CARGO_BIN_EXE_canopy")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let verbs: BTreeSet<_> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        // What is wrapped is indented further.
        .filter_map(|line| {
            line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split_whitespace().next()
        })
        .filter(|verb| *verb != "help")
        .collect();
    let documented = first_cells("Verbs");
    let documented: BTreeSet<_> =
        documented.iter().filter_map(|cell| cell.strip_prefix("canopy ")?.split(' ').next()).collect();
    assert_eq!(verbs, documented);
}

/// Readings of which every metric has a sample.
#[derive(Debug)]
struct Everything(Arc<Ledger>);

impl Readings for Everything {
    fn ledgers(&self) -> Vec<(TenantId, Arc<Ledger>)> {
        vec![(TenantId::Tenant(Name::try_from("shop").expect("a name")), Arc::clone(&self.0))]
    }
    fn hooks(&self) -> Vec<Counter> {
        vec![Counter { hook: "connect4", event: "steered", count: 1 }]
    }
    fn fences(&self) -> Vec<FencedPod> {
        let packets = vec![FencedPackets { reason: "raw", dropped: 1, observed: 0 }];
        vec![FencedPod { pod: "shop/cart".into(), state: FenceState::Enforcing, packets }]
    }
    fn access_log_dropped(&self) -> u64 {
        1
    }
    fn rows(&self) -> Vec<Arc<Row>> {
        Vec::new()
    }
    fn balance(&self) -> Balance {
        Balance::default()
    }
    fn configuration(&self) -> Configuration {
        let rejected_objects = [("InvalidValue", 1)].into();
        Configuration { rejected_objects, age: Some(Duration::ZERO), ..Configuration::default() }
    }
    fn discovery(&self) -> Option<Discovery> {
        let types = vec![Discovered { of: "Address", acked: 1, nacked: 1, resources: 1 }];
        Some(Discovery { connected: true, types, oversized: [("request", 0), ("response", 0)] })
    }
    fn events(&self) -> Option<Arc<LeftOut>> {
        Some(Arc::default())
    }
    fn gate(&self) -> Option<Waits> {
        let waits = Waits::default();
        waits.answered(Passage::enrolled, Duration::ZERO);
        Some(waits)
    }
    fn is_ready(&self) -> bool {
        true
    }
}

/// `name | type | labels` of every metric on a page.
fn rendered(page: &str) -> BTreeSet<String> {
    let types: Vec<(&str, &str)> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let end = line.find(['{', ' '])?;
            let (name, rest) = line.split_at(end);
            // Of a histogram its buckets speak; how many and how much is beside them.
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            let family = name.trim_end_matches("_total").trim_end_matches("_info");
            let kind = types.iter().find(|(of, _)| *of == family)?.1;
            let labels = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
            // No value here has a comma in it.
            let labels: Vec<&str> = labels
                .split(',')
                .filter_map(|label| Some(label.split_once('=')?.0))
                .filter(|label| *label != "le")
                .collect();
            let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
            Some(format!("{name} | {kind} | {labels}"))
        })
        .collect()
}

#[test]
fn every_metric_is_documented_with_its_type_and_its_labels() {
    let ledger = Arc::new(Ledger::default());
    ledger.refused(Reason::NoRoute);
    ledger.certificate_expiry.store(1, Relaxed);
    let page = Metrics::new(Arc::new(Everything(ledger))).render();
    let families = page.lines().filter(|line| line.starts_with("# TYPE ")).count();
    let shown = rendered(&page);
    assert_eq!(shown.len(), families, "a metric without a sample cannot be compared:\n{page}");
    let section = OPERATIONS.split("\n## ").find(|section| section.starts_with("Metrics")).unwrap();
    let documented: BTreeSet<String> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            format!("{} | {} | {}", cells[1], cells[2], cells[3])
        })
        .collect();
    assert_eq!(shown, documented);
}
