//! What is measured: the scenarios with their cases and subjects.
//!
//! Names are part of the results' contract.

use crate::{
    lab::backends::{LARGE, Port, SMALL},
    load::Exchange,
    subject::{Kind, Steering},
};

pub(crate) mod memory;
mod pieces;
mod plan;
pub(crate) mod rounds;

pub(crate) use plan::Plan;

/// A scenario of load.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub name: &'static str,
    pub cases: Vec<Case>,
    pub subjects: Vec<Kind>,
    /// Measured twice in each round.
    pub against_itself: Kind,
}

/// A kind of load.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub name: &'static str,
    pub port: Port,
    pub exchange: Exchange,
    pub connections: usize,
}

impl Scenario {
    pub(crate) fn http() -> Self {
        let small = |name, connections| Case {
            name,
            port: Port::Http,
            exchange: Exchange::Http1 { path: format!("/{SMALL}"), body: SMALL },
            connections,
        };
        let large = Exchange::Http1 { path: format!("/{LARGE}"), body: LARGE };
        let cases = vec![
            small("c1-64b", 1),
            small("c32-64b", 32),
            small("c256-64b", 256),
            Case { name: "c32-16k", port: Port::Http, exchange: large, connections: 32 },
        ];
        Self::beside_envoy("http", cases)
    }

    pub(crate) fn http2() -> Self {
        let exchange = Exchange::Http2 { path: format!("/{SMALL}"), body: SMALL, streams: 10 };
        Self::beside_envoy(
            "http2",
            vec![Case { name: "c32x10-64b", port: Port::Http2, exchange, connections: 32 }],
        )
    }

    pub(crate) fn tcp() -> Self {
        Self::beside_envoy("tcp", tcp_cases())
    }

    pub(crate) fn capture() -> Self {
        let (ebpf, iptables) = (Kind::CanopyBy(Steering::Ebpf), Kind::CanopyBy(Steering::Iptables));
        Self {
            name: "capture",
            cases: tcp_cases(),
            subjects: vec![Kind::Direct, ebpf, iptables],
            against_itself: ebpf,
        }
    }

    fn beside_envoy(name: &'static str, cases: Vec<Case>) -> Self {
        let subjects = vec![Kind::Direct, Kind::Canopy, Kind::Envoy];
        Self { name, cases, subjects, against_itself: Kind::Canopy }
    }
}

/// Ping-pong on 32 connections, so that it is the proxy's work and not the waking of an idle CPU that is measured.
fn tcp_cases() -> Vec<Case> {
    let (echo, source) = (Port::Echo, Port::Source);
    vec![
        Case { name: "ping-pong", port: echo, exchange: Exchange::Echo { bytes: SMALL }, connections: 32 },
        Case { name: "bulk", port: source, exchange: Exchange::Bulk { bytes: BLOCK }, connections: 4 },
        Case { name: "connect", port: echo, exchange: Exchange::Connect { bytes: SMALL }, connections: 32 },
    ]
}

/// One exchange of `bulk`: rps times this is the throughput in bytes per second.
pub(crate) const BLOCK: usize = 1 << 20;
