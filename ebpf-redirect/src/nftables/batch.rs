//! Transactions with nf_tables: all of the table's chains and rules take the place of what there was at once, or nothing does.
//!
//! In the network namespace of the calling thread. Nothing here knows what the rules mean.

use std::io::{self, Read as _, Write as _};

use super::{
    expression::{NESTED, text, word},
    rules::Chain,
};
use crate::netlink::{self, HEADER, PIECE, attribute};

/// Puts these chains in the place of the table's.
pub(super) fn replace(chains: &[Chain]) -> io::Result<()> {
    let mut batch = Batch::default();
    // A table that is there is taken away with all that is in it; to make it first lets that succeed where it is not.
    batch.message(NEW_TABLE, libc::NLM_F_CREATE, &table());
    batch.message(DELETE_TABLE, 0, &table());
    batch.message(NEW_TABLE, libc::NLM_F_CREATE, &table());
    for chain in chains {
        let hook = [word(1, chain.hook), attribute(2, &chain.priority.to_be_bytes())].concat();
        let parts = [
            text(1, TABLE),
            text(3, chain.name),
            attribute(NESTED | CHAIN_HOOK, &hook),
            text(CHAIN_TYPE, chain.kind),
        ];
        batch.message(NEW_CHAIN, libc::NLM_F_CREATE, &parts.concat());
        for rule in &chain.rules {
            let parts = [text(1, TABLE), text(2, chain.name), attribute(NESTED | RULE_EXPRESSIONS, &rule.0)];
            batch.message(NEW_RULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, &parts.concat());
        }
    }
    batch.send()
}

/// Takes the table away; says whether there was one.
pub(super) fn remove() -> io::Result<bool> {
    let mut batch = Batch::default();
    batch.message(DELETE_TABLE, 0, &table());
    match batch.send() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether this process may write rules, and the kernel takes them. Nothing is left of it.
pub(super) fn probe() -> io::Result<()> {
    let mut batch = Batch::default();
    let name = text(1, PROBE);
    batch.message(NEW_TABLE, libc::NLM_F_CREATE, &name);
    batch.message(DELETE_TABLE, 0, &name);
    batch.send()
}

fn table() -> Vec<u8> {
    text(1, TABLE)
}

#[derive(Debug, Default)]
struct Batch {
    messages: Vec<u8>,
    count: u32,
}

impl Batch {
    fn message(&mut self, kind: u16, flags: libc::c_int, body: &[u8]) {
        self.count += 1;
        let kind = SUBSYSTEM << 8 | kind;
        self.messages.extend(message(kind, flags | libc::NLM_F_ACK, (NFPROTO_INET, 0), self.count, body));
    }

    /// The kernel answers for each message; one refusal is a refusal of all.
    fn send(self) -> io::Result<()> {
        let mut socket = netlink::open(libc::NETLINK_NETFILTER)?;
        let of_nf_tables = (0, SUBSYSTEM);
        let mut all = message(BATCH_BEGIN, 0, of_nf_tables, 0, &[]);
        all.extend(self.messages);
        all.extend(message(BATCH_END, 0, of_nf_tables, self.count + 1, &[]));
        socket.write_all(&all)?;
        let (mut answered, mut piece) = (0, vec![0; PIECE]);
        while answered < self.count {
            let length = socket.read(&mut piece)?;
            answered += answers(piece.get(..length).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// How many messages a piece says were taken; an error if one was not.
fn answers(mut piece: &[u8]) -> io::Result<u32> {
    let mut count = 0;
    while let Some(header) = piece.get(..HEADER) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let code = piece.get(HEADER..HEADER + 4).ok_or(io::ErrorKind::InvalidData)?;
        if i32::from(kind) == libc::NLMSG_ERROR {
            match i32::from_ne_bytes([code[0], code[1], code[2], code[3]]) {
                0 => count += 1,
                code => return Err(io::Error::from_raw_os_error(-code)),
            }
        }
        piece = piece.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(count)
}

/// One message of nfnetlink: its header, family, and resource.
fn message(
    kind: u16,
    flags: libc::c_int,
    (family, resource): (u8, u16),
    sequence: u32,
    body: &[u8],
) -> Vec<u8> {
    let body = [&[family, 0][..], &resource.to_be_bytes(), body].concat();
    netlink::message(kind, flags, sequence, &body)
}

/// Our table, of both families.
const TABLE: &str = "canopy";
/// A table that is never there for longer than its own transaction.
const PROBE: &str = "canopy-probe";

// linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFPROTO_INET: u8 = 1;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const RULE_EXPRESSIONS: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: i32) -> Vec<u8> {
        let mut bytes = message(libc::NLMSG_ERROR as u16, 0, (0, 0), 1, &[0; 16]);
        bytes[HEADER..HEADER + 4].copy_from_slice(&code.to_ne_bytes());
        bytes
    }

    #[test]
    fn one_refusal_refuses_all_and_a_torn_answer_is_an_error() {
        let (taken, refused) = (answer(0), answer(-libc::EINVAL));
        assert_eq!(answers(&[taken.clone(), taken.clone()].concat()).unwrap(), 2);
        let error = answers(&[taken.clone(), refused].concat()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert!(answers(&taken[..HEADER + 2]).is_err());
    }
}
