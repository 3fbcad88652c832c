//! The scenario `mtls`: what it costs that every byte between workloads is authenticated.
//!
//! From one node to another through the tunnel, beside a pair of Envoys with mutual TLS; and on one node, where no
//! byte has to be encrypted, beside the same hop without any identity.

use super::{BLOCK, Case, Group, Manner, Scenario};
use crate::{
    lab::backends::{Port, SMALL},
    load::Exchange,
    subject::{Kind, Receiver, Sharing},
};

impl Scenario {
    pub(crate) fn mtls() -> Self {
        Self {
            name: "mtls",
            groups: vec![
                across("across", Kind::CanopyPair(Sharing::Shared), across_cases()),
                across("fresh", Kind::CanopyPair(Sharing::Own), vec![handshake()]),
                on_one_node("direct", Receiver::SameTenant, ["same-node-direct", "same-node-direct-c1"]),
                on_one_node("handoff", Receiver::OtherTenant, ["same-node-handoff", "same-node-handoff-c1"]),
            ],
        }
    }
}

fn across(name: &'static str, canopy: Kind, cases: Vec<Case>) -> Group {
    let subjects = vec![Kind::DirectAcross, canopy, Kind::EnvoyPair];
    Group { name, cases, subjects, against_itself: canopy }
}

fn on_one_node(name: &'static str, receiver: Receiver, [many, one]: [&'static str; 2]) -> Group {
    let canopy = Kind::CanopyTo(receiver);
    let cases = vec![Case::small(many, 32), Case::small(one, 1).in_manner(Manner::Awake)];
    Group { name, cases, subjects: vec![Kind::CanopyHop, canopy], against_itself: canopy }
}

fn across_cases() -> Vec<Case> {
    vec![
        Case::small("http-c32", 32),
        Case::small("http-c1", 1).in_manner(Manner::Awake),
        Case::new("tcp-ping-pong", Port::Echo, Exchange::Echo { bytes: SMALL }, 32),
        Case::new("tcp-bulk", Port::Source, Exchange::Bulk { bytes: BLOCK }, 4),
    ]
}

fn handshake() -> Case {
    Case::new("handshake", Port::Echo, Exchange::Connect { bytes: SMALL }, 32).in_manner(Manner::Fresh)
}
