//! What is measured: the scenarios with their cases and subjects.
//!
//! Names are part of the results' contract.

use crate::{
    lab::backends::{LARGE, Port, SMALL},
    load::Exchange,
    subject::{Kind, Steering},
};

pub(crate) mod churn;
pub(crate) mod cluster;
pub(crate) mod compare;
pub(crate) mod denials;
mod idle;
pub(crate) mod memory;
mod mtls;
pub(crate) mod noisy;
mod pieces;
mod plan;
pub(crate) mod rounds;
pub(crate) mod routes;
pub(crate) mod scale;
pub(crate) mod tenants;
pub(crate) mod tiers;
pub(crate) mod tunnels;
pub(crate) mod wire;

pub(crate) use plan::Plan;

/// A scenario of load.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub name: &'static str,
    /// Measured one after the other; nothing is compared across them.
    pub groups: Vec<Group>,
}

/// Cases that the same subjects are measured in, in turns.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub name: &'static str,
    pub cases: Vec<Case>,
    pub subjects: Vec<Kind>,
    /// Measured twice in each round, as every Canopy subject is.
    pub against_itself: Kind,
}

impl Group {
    /// Every subject that ratios are of is measured twice in each round, so that what they are worth can be seen.
    pub(crate) fn is_measured_twice(&self, kind: Kind) -> bool {
        kind.is_canopy() || kind == self.against_itself
    }

    /// Measurements of a case in a round.
    fn turns(&self) -> usize {
        self.subjects.len() + self.subjects.iter().filter(|kind| self.is_measured_twice(**kind)).count()
    }
}

/// A kind of load.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub name: &'static str,
    pub port: Port,
    pub exchange: Exchange,
    pub connections: usize,
    /// Exchanges per second at which latency alone is measured; `None`: throughput is, and then latency at half of the slowest's.
    pub rate: Option<f64>,
    /// What is special about it.
    pub manner: Manner,
}

/// How a case is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Plain,
    /// CPUs are kept from halting, so that the waking of a virtual CPU is not what is measured.
    Awake,
    /// Every exchange has to make a connection of its own between the proxies, and that is checked.
    Fresh,
}

impl Case {
    fn new(name: &'static str, port: Port, exchange: Exchange, connections: usize) -> Self {
        Self { name, port, exchange, connections, rate: None, manner: Manner::Plain }
    }

    fn small(name: &'static str, connections: usize) -> Self {
        let exchange = Exchange::Http1 { path: format!("/{SMALL}"), body: SMALL };
        Self::new(name, Port::Http, exchange, connections)
    }

    fn in_manner(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }
}

impl Scenario {
    pub(crate) fn http() -> Self {
        let large = Exchange::Http1 { path: format!("/{LARGE}"), body: LARGE };
        let cases = vec![
            Case::small("c1-64b", 1),
            Case::small("c32-64b", 32),
            Case::small("c256-64b", 256),
            Case::new("c32-16k", Port::Http, large, 32),
        ];
        Self::beside_envoy("http", cases)
    }

    pub(crate) fn http2() -> Self {
        let exchange = Exchange::Http2 { path: format!("/{SMALL}"), body: SMALL, streams: 10 };
        Self::beside_envoy("http2", vec![Case::new("c32x10-64b", Port::Http2, exchange, 32)])
    }

    pub(crate) fn tcp() -> Self {
        Self::beside_envoy("tcp", tcp_cases())
    }

    pub(crate) fn capture() -> Self {
        let (ebpf, iptables) = (Kind::CanopyBy(Steering::Ebpf), Kind::CanopyBy(Steering::Iptables));
        let subjects = vec![Kind::Direct, ebpf, iptables];
        let group = Group { name: "capture", cases: tcp_cases(), subjects, against_itself: ebpf };
        Self { name: "capture", groups: vec![group] }
    }

    /// What a hop costs that keeps HTTP/1.1, and one that carries it on as HTTP/2 or back: decision 0007 rests on it.
    pub(crate) fn forms() -> Self {
        let http1 = Exchange::Http1 { path: format!("/{SMALL}"), body: SMALL };
        let http2 = Exchange::Http2 { path: format!("/{SMALL}"), body: SMALL, streams: 1 };
        let cases = vec![
            Case::small("http1-to-http1", 32),
            Case::new("http1-to-http2", Port::Http2, http1, 32),
            Case::new("http2-to-http1", Port::Http, http2, 32),
        ];
        // nginx's ports speak one form each: nobody can dial them directly in the other.
        let subjects = vec![Kind::Canopy];
        Self {
            name: "forms",
            groups: vec![Group { name: "forms", cases, subjects, against_itself: Kind::Canopy }],
        }
    }

    /// What the budgets cost: the same build, the same tenant, with and without what holds its bounds.
    pub(crate) fn budgets() -> Self {
        let subjects = vec![Kind::CanopyUnbudgeted, Kind::CanopyBudgeted];
        let cases = vec![Case::small("c32-64b", 32)];
        let group = Group { name: "budgets", cases, subjects, against_itself: Kind::CanopyBudgeted };
        Self { name: "budgets", groups: vec![group] }
    }

    fn beside_envoy(name: &'static str, cases: Vec<Case>) -> Self {
        let subjects = vec![Kind::Direct, Kind::Canopy, Kind::Envoy];
        Self { name, groups: vec![Group { name, cases, subjects, against_itself: Kind::Canopy }] }
    }

    /// Measurements in a round.
    pub(crate) fn measurements(&self) -> usize {
        self.groups.iter().map(|group| group.cases.len() * group.turns()).sum()
    }
}

/// Ping-pong on 32 connections, so that it is the proxy's work and not the waking of an idle CPU that is measured.
fn tcp_cases() -> Vec<Case> {
    let (echo, source) = (Port::Echo, Port::Source);
    vec![
        Case::new("ping-pong", echo, Exchange::Echo { bytes: SMALL }, 32),
        Case::new("bulk", source, Exchange::Bulk { bytes: BLOCK }, 4),
        Case::new("connect", echo, Exchange::Connect { bytes: SMALL }, 32),
    ]
}

/// One exchange of `bulk`: rps times this is the throughput in bytes per second.
pub(crate) const BLOCK: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_that_a_ratio_is_of_is_measured_twice() {
        let all = [
            Scenario::http(),
            Scenario::capture(),
            Scenario::mtls(),
            Scenario::forms(),
            Scenario::budgets(),
            Scenario::tiers(),
        ];
        for group in all.iter().flat_map(|scenario| &scenario.groups) {
            for kind in &group.subjects {
                assert_eq!(
                    group.is_measured_twice(*kind),
                    kind.is_canopy(),
                    "{} of {}",
                    kind.name(),
                    group.name
                );
            }
        }
        let turns: Vec<usize> = Scenario::mtls().groups.iter().map(Group::turns).collect();
        assert_eq!(turns, [4, 4, 4, 4]);
        assert_eq!(Scenario::capture().measurements(), 3 * 5);
        let alone = Group {
            subjects: vec![Kind::Envoy],
            against_itself: Kind::Envoy,
            ..Scenario::tcp().groups.remove(0)
        };
        assert_eq!(alone.turns(), 2, "also where only another is measured");
    }
}
