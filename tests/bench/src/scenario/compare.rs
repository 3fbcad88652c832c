//! The scenarios `compare-…`: node proxies beside sidecars, Canopy's and Envoy's, from node to node.
//!
//! All proxies have mutual TLS, one HTTPRoute and one rule that lets in the client's identity; nobody has more. This file says who is
//! compared and what latency and throughput are taken of; the scenarios that are not plain load are in the folder.

use serde_json::{Value, json};

use super::{BLOCK, Case, Group, Manner, Plan, Scenario, rounds};
use crate::{
    Run,
    error::BenchError,
    lab::backends::{MIDDLE, Port, SMALL},
    load::Exchange,
    outcome::{Outcome, Sample, Samples, added},
    subject::{Capture, Kind, Mesh, Sharing},
};

pub(crate) mod blast;
pub(crate) mod hops;
pub(crate) mod noisy;
pub(crate) mod resources;

impl Scenario {
    /// Open loop at fixed rates, as Istio's published method has it (its 4 connections, and 64), bodies of 1 KiB. At these rates CPUs
    /// idle most of the time: they are kept from halting for all subjects, since here waking one takes longer than a proxy's work.
    pub(crate) fn compare_latency() -> Self {
        let get = || Exchange::Http1 { path: format!("/{MIDDLE}"), body: MIDDLE };
        let case = |(name, connections, rate)| Case {
            rate: Some(rate),
            ..Case::new(name, Port::Http, get(), connections).in_manner(Manner::Awake)
        };
        let cases = LATENCY.map(case).to_vec();
        Self { name: "compare-latency", groups: vec![group("across", Sharing::Shared, cases)] }
    }

    /// As much as each can; and new connections, each of which proves both identities where there is a proxy.
    pub(crate) fn compare_throughput() -> Self {
        let streams = Exchange::Http2 { path: format!("/{SMALL}"), body: SMALL, streams: 10 };
        let cases = vec![
            Case::small("http1-c32", 32),
            Case::new("http2-c32x10", Port::Http2, streams, 32),
            Case::new("grpc-c32x10", Port::Http2, Exchange::Grpc { body: SMALL, streams: 10 }, 32),
            Case::new("tcp-ping-pong", Port::Echo, Exchange::Echo { bytes: SMALL }, 32),
            Case::new("tcp-bulk", Port::Source, Exchange::Bulk { bytes: BLOCK }, 4),
        ];
        let fresh = Case::new("connect", Port::Echo, Exchange::Connect { bytes: SMALL }, 32);
        let groups = vec![
            group("across", Sharing::Shared, cases),
            group("fresh", Sharing::Own, vec![fresh.in_manner(Manner::Fresh)]),
        ];
        Self { name: "compare-throughput", groups }
    }
}

impl Scenario {
    /// What it costs how connections come to a proxy: by eBPF (the node's, and a sidecar's that may), by nftables, and, with
    /// Envoy, not at all: its listener is dialled.
    pub(crate) fn compare_capture() -> Self {
        let cases = vec![
            Case::small("http1-c32", 32),
            Case::new("tcp-ping-pong", Port::Echo, Exchange::Echo { bytes: SMALL }, 32),
            Case::new("connect", Port::Echo, Exchange::Connect { bytes: SMALL }, 32),
        ];
        let of = |mesh| Kind::Compared(mesh, Sharing::Shared);
        let sidecars = [Capture::Ebpf, Capture::Nftables].map(Kind::SidecarBy);
        let mut subjects = vec![Kind::DirectAcross, of(Mesh::CanopyNode)];
        subjects.extend(sidecars);
        subjects.push(of(Mesh::EnvoySidecar));
        let group = Group { name: "across", cases, subjects, against_itself: Kind::DirectAcross };
        Self { name: "compare-capture", groups: vec![group] }
    }
}

/// `direct` is measured twice, too: what a proxy adds is above it.
fn group(name: &'static str, sharing: Sharing, cases: Vec<Case>) -> Group {
    Group { name, cases, subjects: kinds(sharing).to_vec(), against_itself: Kind::DirectAcross }
}

/// All that are compared, and whom all is above.
fn kinds(sharing: Sharing) -> [Kind; 5] {
    let [a, b, c, d] = Mesh::ALL.map(|mesh| Kind::Compared(mesh, sharing));
    [Kind::DirectAcross, a, b, c, d]
}

/// Rows and ratios of all that was measured, and, where it is asked for, what is above `direct`.
fn summary(mut outcome: Outcome, samples: Vec<Sample>, with_added: bool) -> Outcome {
    let all = Samples(samples);
    let mut cases: Vec<&str> = Vec::new();
    for sample in &all.0 {
        if !cases.contains(&sample.case.as_str()) {
            cases.push(&sample.case);
        }
    }
    let names = kinds(Sharing::Shared).map(Kind::name);
    for case in cases {
        let was_run = |name: &&str| all.0.iter().any(|s| s.case == case && s.subject == *name);
        let subjects: Vec<&str> = names.into_iter().filter(was_run).collect();
        if with_added {
            outcome.differences.extend(added::differences(&all, case, &subjects));
        }
        for of in &subjects {
            outcome.rows.push(all.row(case, of));
            for to in subjects.iter().filter(|_| of.starts_with("canopy")) {
                outcome.ratios.extend(all.ratios(case, of, to));
                if with_added {
                    outcome.ratios.extend(added::ratios(&all, case, of, to));
                }
            }
        }
    }
    Outcome { samples: all.0, ..outcome }
}

/// Runs one of these; all it started has ended when it returns.
pub(crate) fn load(mut scenario: Scenario, plan: Plan, run: &Run) -> Result<Outcome, BenchError> {
    run.restrict(&mut scenario);
    let measured = rounds::run(&scenario, plan, run)?;
    let mut outcome = run.outcome(&scenario, plan, measured);
    outcome.provenance.settings = settings();
    if scenario.groups.iter().flat_map(|group| &group.cases).any(|case| case.rate.is_some()) {
        add_added(&scenario, &mut outcome);
    }
    Ok(outcome)
}

/// What is above `direct` takes the place of the difference of closed loops, which there are none of.
fn add_added(scenario: &Scenario, outcome: &mut Outcome) {
    let samples = Samples(std::mem::take(&mut outcome.samples));
    outcome.differences.clear();
    for (group, case) in scenario.groups.iter().flat_map(|g| g.cases.iter().map(move |case| (g, case.name))) {
        let subjects: Vec<&str> = group.subjects.iter().map(|kind| kind.name()).collect();
        outcome.differences.extend(added::differences(&samples, case, &subjects));
        let compared = group.subjects.iter().filter(|kind| kind.is_canopy());
        for (of, to) in compared.flat_map(|kind| subjects.iter().map(move |to| (kind.name(), *to))) {
            outcome.ratios.extend(added::ratios(&samples, case, of, to));
        }
    }
    outcome.samples = samples.0;
}

/// What a reader has to know of each subject to repeat it, or to object.
pub(crate) fn settings() -> Value {
    let tls = "TLS 1.3, ECDSA P-256 certificates of one authority, key exchange X25519MLKEM768, no session resumed; suites as seen: wire";
    let envoy = json!({
        "workers": 1, "admin": "Unix socket", "capture": "none: clients dial its listener",
        "between": "HTTP/2 for HTTP, TLS alone for TCP", "keep_alive": "connections are kept",
        "authorization": "RBAC filter of the server's Envoy, by the client's SPIFFE ID",
    });
    let canopy = |capture: &str| {
        json!({
            "workers": "one cell (a thread) for each tenant", "capture": capture,
            "between": "HBONE: HTTP/2 CONNECT, one tunnel for each pair of pods", "keep_alive": "tunnels are kept",
            "authorization": "PeerAuthentication STRICT and an AuthorizationPolicy of the client's principal",
        })
    };
    json!({
        "tls": tls,
        "logs": "error (Envoy), info (Canopy)",
        "direct": { "tls": "none" },
        "canopy-node": canopy("eBPF"),
        "canopy-sidecar": canopy("nftables"),
        "canopy-sidecar-ebpf": canopy("eBPF, hooks of its own at the root control group"),
        "canopy-sidecar-nftables": canopy("nftables"),
        "envoy-node": envoy,
        "envoy-sidecar": envoy,
    })
}

/// Names, connections, exchanges per second. What has no rate in its name has Istio's.
const LATENCY: [(&str, usize, f64); 6] = [
    ("c4-1k-500", 4, 500.0),
    ("c4-1k", 4, 1_000.0),
    ("c4-1k-1500", 4, 1_500.0),
    ("c64-1k-500", 64, 500.0),
    ("c64-1k", 64, 1_000.0),
    ("c64-1k-1500", 64, 1_500.0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{bars, verdict, verdict::Judgement};

    #[test]
    fn cases_and_subjects_have_the_names_that_were_promised() {
        let latency = ["c4-1k-500", "c4-1k", "c4-1k-1500", "c64-1k-500", "c64-1k", "c64-1k-1500"];
        let across = ["http1-c32", "http2-c32x10", "grpc-c32x10", "tcp-ping-pong", "tcp-bulk", "connect"];
        let subjects = ["direct", "canopy-node", "canopy-sidecar", "envoy-node", "envoy-sidecar"];
        for (scenario, cases) in
            [(Scenario::compare_latency(), latency), (Scenario::compare_throughput(), across)]
        {
            let all = scenario.groups.iter().flat_map(|group| &group.cases);
            assert_eq!(all.map(|case| case.name).collect::<Vec<_>>(), cases);
            for group in &scenario.groups {
                assert_eq!(group.subjects.iter().map(|kind| kind.name()).collect::<Vec<_>>(), subjects);
            }
        }
        let rates =
            Scenario::compare_latency().groups[0].cases.iter().map(|case| case.rate).collect::<Vec<_>>();
        assert_eq!(rates, [500.0, 1_000.0, 1_500.0, 500.0, 1_000.0, 1_500.0].map(Some));
    }

    #[test]
    fn every_bar_of_a_comparison_is_of_a_case_and_of_subjects_that_there_are() {
        for scenario in [Scenario::compare_latency(), Scenario::compare_throughput()] {
            let own: Vec<_> = bars::RATIOS.iter().filter(|bar| bar.scenario == scenario.name).collect();
            assert!(!own.is_empty());
            for bar in own {
                let group = scenario.groups.iter().find(|g| g.cases.iter().any(|c| c.name == bar.case));
                let subjects: Vec<&str> = group.unwrap().subjects.iter().map(|kind| kind.name()).collect();
                assert!(subjects.contains(&bar.of) && subjects.contains(&bar.to), "{bar:?}");
            }
        }
    }

    /// Three rounds in which Canopy adds so much and Envoy 400 µs; direct's second run is so far from its first.
    fn measured(adds: f64, drift: f64) -> Outcome {
        let mut samples = Vec::new();
        for round in 0..3 {
            let mut take = |subject: &str, again, p50_us| {
                samples.push(Sample {
                    case: "c4-1k".into(),
                    subject: subject.into(),
                    round,
                    again,
                    p50_us,
                    rate_per_second: 1_000.0,
                    ..Sample::default()
                });
            };
            take("direct", false, 100.0);
            take("direct", true, 100.0 + drift);
            take("canopy-node", false, 100.0 + adds);
            take("canopy-node", true, 101.0 + adds);
            take("envoy-sidecar", false, 500.0);
        }
        let scenario = Scenario::compare_latency();
        let all = Samples(samples);
        let rows =
            ["direct", "canopy-node", "envoy-sidecar"].map(|subject| all.row("c4-1k", subject)).to_vec();
        let name = scenario.name.to_owned();
        let mut outcome = Outcome { scenario: name, rounds: 3, rows, samples: all.0, ..Outcome::default() };
        add_added(&scenario, &mut outcome);
        outcome
    }

    fn judgement(outcome: &Outcome) -> Judgement {
        let verdicts = verdict::all(outcome);
        verdicts.iter().find(|v| v.to == "envoy-sidecar" && v.metric == "added_p50_us").unwrap().verdict
    }

    #[test]
    fn what_is_added_is_judged_unless_direct_differs_from_itself_by_a_fifth_of_it() {
        assert_eq!(judgement(&measured(100.0, 5.0)), Judgement::Passed);
        assert_eq!(judgement(&measured(300.0, 5.0)), Judgement::Missed);
        assert_eq!(judgement(&measured(100.0, 21.0)), Judgement::Inconclusive);
        assert_eq!(judgement(&measured(100.0, -21.0)), Judgement::Inconclusive);
        assert_eq!(judgement(&measured(300.0, 21.0)), Judgement::Missed);
    }
}
