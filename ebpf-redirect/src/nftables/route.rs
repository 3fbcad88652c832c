//! The policy route of the pod: packets that answer to a client's shown address stay in the pod.
//!
//! In the network namespace of the calling thread.

use std::io;

use crate::{
    iptables::{ANSWER_MARK, MASK},
    netlink::{ask, attribute},
};

/// Adds what is not there yet.
pub(super) fn add(v6: bool) -> io::Result<()> {
    for family in families(v6) {
        tolerating(io::ErrorKind::AlreadyExists, ask(ROUTE, libc::RTM_NEWRULE, NEW, &rule(family)))?;
        tolerating(io::ErrorKind::AlreadyExists, ask(ROUTE, libc::RTM_NEWROUTE, NEW, &route(family)))?;
    }
    Ok(())
}

/// Takes both away. What is not there is no failure.
pub(super) fn remove() {
    for family in families(true) {
        let _ = ask(ROUTE, libc::RTM_DELRULE, libc::NLM_F_ACK, &rule(family));
        let _ = ask(ROUTE, libc::RTM_DELROUTE, libc::NLM_F_ACK, &route(family));
    }
}

fn families(v6: bool) -> impl Iterator<Item = u8> {
    let v6 = v6.then_some(libc::AF_INET6 as u8);
    std::iter::once(libc::AF_INET as u8).chain(v6)
}

fn tolerating(kind: io::ErrorKind, asked: io::Result<Vec<Vec<u8>>>) -> io::Result<()> {
    match asked {
        Err(error) if error.kind() == kind => Ok(()),
        other => other.map(drop),
    }
}

/// `fib_rule_hdr`, and what is matched.
fn rule(family: u8) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0, TABLE, 0, 0, TO_TABLE, 0, 0, 0, 0];
    let number = |kind, value: u32| attribute(kind, &value.to_ne_bytes());
    body.extend(number(FRA_PRIORITY, PREFERENCE));
    body.extend(number(FRA_FWMARK, ANSWER_MARK));
    body.extend(number(FRA_FWMASK, MASK));
    body
}

/// `rtmsg`: everything is local, by loopback.
fn route(family: u8) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 0, TABLE, libc::RTPROT_STATIC, libc::RT_SCOPE_HOST, libc::RTN_LOCAL];
    body.extend([0; 4]);
    body.extend(attribute(libc::RTA_OIF, &LOOPBACK.to_ne_bytes()));
    body
}

const ROUTE: libc::c_int = libc::NETLINK_ROUTE;
const NEW: libc::c_int = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
/// As those of steering by iptables, which a pod never has besides.
const PREFERENCE: u32 = 32764;
const TABLE: u8 = 100;
const LOOPBACK: u32 = 1;
// linux/fib_rules.h.
const TO_TABLE: u8 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_FWMASK: u16 = 16;
