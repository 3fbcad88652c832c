//! Faults that no safe code has: in builds for tests, a cell's process has them when it is to connect to an address that is
//! nobody's (RFC 5737), one for each port.
//!
//! Compiled without optimisation only: it must never be in a daemon that somebody runs.

use std::{hint::black_box, net::IpAddr, process};

use futures_util::future::LocalBoxFuture;

use crate::{
    cell::Cell,
    policy::Permit,
    upstream::{
        UpstreamError,
        connect::{Connect, Connected, Kernel, Peer},
    },
};

/// The kernel's way of connecting, but for that address.
#[derive(Debug)]
pub(super) struct Faulty;

/// Of TEST-NET-2.
const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 66));
const LOOP: u16 = 1;
const STACK: u16 = 2;
const MEMORY: u16 = 3;
const ABORT: u16 = 4;
/// Where nothing stops it, the machine is not to suffer.
const MOST: usize = 1 << 30;

impl Connect for Faulty {
    fn connect<'a>(
        &'a self,
        cell: &'a Cell,
        permit: &'a Permit,
        peer: Peer<'a>,
    ) -> LocalBoxFuture<'a, Result<Connected, UpstreamError>> {
        if peer.address.ip() == NOBODY {
            fault(peer.address.port());
        }
        Kernel.connect(cell, permit, peer)
    }
}

fn fault(port: u16) {
    match port {
        LOOP => loop {
            std::hint::spin_loop();
        },
        STACK => drop(black_box(deeper(0))),
        MEMORY => drop(black_box(hoard())),
        ABORT => process::abort(),
        _ => {}
    }
}

fn deeper(depth: usize) -> usize {
    let frame = black_box([depth; 256]);
    if depth == usize::MAX { 0 } else { deeper(depth + 1) + frame[depth % 256] }
}

fn hoard() -> Vec<Vec<u8>> {
    const PIECE: usize = 1 << 20;
    (0..MOST / PIECE).map(|_| black_box(vec![1; PIECE])).collect()
}
