//! The access log of a cell in a process of its own: packets of whole lines over a socket, which the writer thread reads.
//!
//! The cell's half never waits: lines that find no room are dropped, and the next packet says how many. The daemon's half believes
//! nothing: a line is written only if it is one JSON object that names the cell's own tenant, once. It must never read so much of one cell
//! that others' lines wait.

use std::{
    cell::Cell,
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use config::name::TenantId;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags,
        SocketType, recvmsg, sendmsg, socketpair,
    },
};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::sys::packets::refuse_descriptors;

/// Bytes of a packet, but for its count: a cell hands over what it has when it has 16 KiB.
const PACKET: usize = 32 * 1024;
/// A packet begins with the number of lines that were dropped before it.
const COUNT: usize = size_of::<u32>();
/// Lines that a packet may say were dropped: more than a cell's requests are in the time between two that were not. It is added to a
/// count of the whole node's.
const MOST_DROPPED: u32 = 65_536;
/// Packets of one cell in one turn of the writer.
const TURN: usize = 16;

/// Where a cell's process puts its lines.
#[derive(Debug)]
pub(super) struct ToDaemon {
    socket: OwnedFd,
    dropped: Cell<u32>,
}

/// Where the daemon has them from.
#[derive(Debug)]
pub(super) struct FromProcess {
    socket: OwnedFd,
    tenant: String,
    dropped: Arc<AtomicU64>,
    has_lied: bool,
    packet: Vec<u8>,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Something was written, or there may be more.
    Busy,
    /// There was nothing.
    Idle,
    /// The process is gone, and all it said was read.
    Over,
}

/// Both halves: the daemon's, and the socket for the process.
pub(super) fn pair(tenant: &TenantId, dropped: &Arc<AtomicU64>) -> io::Result<(FromProcess, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    refuse_descriptors(ours.as_fd());
    let ours = FromProcess {
        socket: ours,
        tenant: tenant.to_string(),
        dropped: Arc::clone(dropped),
        has_lied: false,
        packet: Vec::new(),
    };
    Ok((ours, theirs))
}

impl ToDaemon {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, dropped: Cell::new(0) }
    }

    /// Sends whole lines; what cannot be sent now is dropped.
    pub(super) fn send(&self, mut lines: &[u8]) {
        while !lines.is_empty() {
            let most = &lines[..lines.len().min(PACKET)];
            let end = most.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
            let Some(end) = end else {
                // One that no packet holds.
                self.lose(1);
                let next = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1);
                lines = &lines[next..];
                continue;
            };
            let (packet, rest) = lines.split_at(end);
            let count = self.dropped.get().to_le_bytes();
            let pieces = [IoSlice::new(&count), IoSlice::new(packet)];
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(&self.socket, &pieces, &mut SendAncillaryBuffer::default(), flags) {
                Ok(_) => self.dropped.set(0),
                Err(_) => self.lose(count_lines(packet)),
            }
            lines = rest;
        }
    }

    fn lose(&self, lines: usize) {
        self.dropped.set(self.dropped.get().saturating_add(u32::try_from(lines).unwrap_or(u32::MAX)));
    }
}

impl FromProcess {
    /// Takes what has come, but not too much; whole lines that may be written go to `write`.
    pub(super) fn turn(&mut self, mut write: impl FnMut(&[u8])) -> Turn {
        self.packet.resize(COUNT + PACKET, 0);
        let mut packet = std::mem::take(&mut self.packet);
        let mut turn = Turn::Idle;
        for _ in 0..TURN {
            match self.receive(&mut packet) {
                Ok(0) => {
                    turn = Turn::Over;
                    break;
                }
                Ok(length) => self.take(&packet[..length], &mut write),
                Err(Errno::INTR) => {}
                Err(_nothing_now) => break,
            }
            turn = Turn::Busy;
        }
        self.packet = packet;
        turn
    }

    /// Where what is lost is counted.
    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    fn receive(&self, packet: &mut [u8]) -> Result<usize, Errno> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut control = RecvAncillaryBuffer::default();
        let got = recvmsg(self.socket.as_fd(), &mut [IoSliceMut::new(packet)], &mut control, flags)?;
        // Of one that is too long the last line is not whole, and is refused as that.
        Ok(got.bytes.min(packet.len()))
    }

    fn take(&mut self, packet: &[u8], write: &mut impl FnMut(&[u8])) {
        let Some((count, lines)) = packet.split_first_chunk::<COUNT>() else { return self.refuse(1) };
        self.dropped.fetch_add(u32::from_le_bytes(*count).min(MOST_DROPPED).into(), Relaxed);
        let (mut refused, mut good) = (0, 0);
        let mut rest = lines;
        // As many at a time as may be written, since each write is a system call.
        while let Some(line) = rest[good..].split_inclusive(|byte| *byte == b'\n').next() {
            if line.ends_with(b"\n") && names_only(line, &self.tenant) {
                good += line.len();
                continue;
            }
            refused += 1;
            write_some(&rest[..good], write);
            rest = &rest[good + line.len()..];
            good = 0;
        }
        write_some(rest, write);
        if refused > 0 {
            self.refuse(refused);
        }
    }

    fn refuse(&mut self, lines: u64) {
        self.dropped.fetch_add(lines, Relaxed);
        if !std::mem::replace(&mut self.has_lied, true) {
            tracing::warn!(
                tenant = self.tenant,
                "a cell's process writes lines of the access log that are not its tenant's: they are dropped"
            );
        }
    }
}

fn write_some(lines: &[u8], write: &mut impl FnMut(&[u8])) {
    if !lines.is_empty() {
        write(lines);
    }
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Whether a line is an object that names this tenant, and nobody a second time: readers of JSON differ in which one they take.
fn names_only(line: &[u8], tenant: &str) -> bool {
    serde_json::from_slice::<Named<'_>>(line).is_ok_and(|named| named.0 == tenant)
}

/// The tenant of a line, whose other fields are looked at only for whether they are JSON.
struct Named<'a>(std::borrow::Cow<'a, str>);

impl<'de> Deserialize<'de> for Named<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Named<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a line of the access log")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Named<'de>, A::Error> {
        let mut tenant = None;
        while let Some(Text(name)) = fields.next_key()? {
            if name != "tenant" {
                fields.next_value::<IgnoredAny>()?;
            } else if tenant.replace(fields.next_value::<Text<'de>>()?.0).is_some() {
                return Err(A::Error::custom("two tenants"));
            }
        }
        tenant.map(Named).ok_or_else(|| A::Error::custom("no tenant"))
    }
}

/// Without a copy, where nothing in it is escaped.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"{\"ts\":\"now\",\"tenant\":\"shop\",\"bytes\":1}\n";

    fn ends() -> (FromProcess, ToDaemon) {
        let tenant = TenantId::Tenant("shop".try_into().unwrap());
        let (ours, theirs) = pair(&tenant, &Arc::default()).unwrap();
        (FromProcess { tenant: "shop".to_owned(), ..ours }, ToDaemon::new(theirs))
    }

    fn written(from: &mut FromProcess) -> (Vec<u8>, Turn) {
        let mut all = Vec::new();
        let turn = from.turn(|line| all.extend_from_slice(line));
        (all, turn)
    }

    #[test]
    fn lines_come_whole_and_in_order_and_the_end_is_noticed_after_them() {
        let (mut from, to) = ends();
        assert_eq!(written(&mut from), (Vec::new(), Turn::Idle));
        let lines = GOOD.repeat(1_000);
        to.send(&lines);
        drop(to);
        let (all, turn) = written(&mut from);
        assert_eq!((all == lines, turn), (true, Turn::Over));
        assert_eq!(from.dropped.load(Relaxed), 0);
    }

    #[test]
    fn a_line_of_another_tenant_is_not_written_however_it_is_put() {
        let forged: [&[u8]; 9] = [
            b"{\"tenant\":\"bank\"}\n",
            b"{\"tenant\":\"shop\",\"tenant\":\"bank\"}\n",
            b"{\"tenant\":\"bank\",\"tenant\":\"shop\"}\n",
            b"{\"tenant\":\"shop\",\"\\u0074enant\":\"bank\"}\n",
            b"{\"tenant\":\"shop\"} {\"tenant\":\"bank\"}\n",
            b"{\"ts\":1}\n",
            b"not JSON\n",
            b"{\"tenant\":\"shop\"",
            b"\n",
        ];
        for line in forged {
            let (mut from, to) = ends();
            rustix::net::send(&to.socket, &[&[0; COUNT], GOOD, line].concat(), SendFlags::empty()).unwrap();
            let text = String::from_utf8_lossy(line);
            assert_eq!(written(&mut from), (GOOD.to_vec(), Turn::Busy), "{text}");
            assert_eq!(from.dropped.load(Relaxed), 1, "{text}");
        }
        let (mut from, to) = ends();
        rustix::net::send(&to.socket, &[1, 2], SendFlags::empty()).unwrap();
        assert_eq!(written(&mut from).0, b"", "nor what is no packet");
    }

    #[test]
    fn a_daemon_that_does_not_read_costs_lines_which_are_counted_and_no_time() {
        let (mut from, to) = ends();
        let batch = GOOD.repeat(500);
        for _ in 0..100 {
            to.send(&batch);
        }
        let lost = to.dropped.get();
        assert!(lost > 0);
        let mut lines = 0;
        while written_count(&mut from, &mut lines) == Turn::Busy {}
        to.send(GOOD);
        written_count(&mut from, &mut lines);
        assert_eq!(lines + usize::try_from(lost).unwrap(), 100 * 500 + 1);
        assert_eq!(from.dropped.load(Relaxed), u64::from(lost));
    }

    fn written_count(from: &mut FromProcess, lines: &mut usize) -> Turn {
        from.turn(|some| *lines += count_lines(some))
    }

    #[test]
    fn a_packet_that_says_more_was_dropped_than_can_be_is_not_believed() {
        let (mut from, to) = ends();
        for _ in 0..2 {
            rustix::net::send(&to.socket, &[&[0xff; COUNT], GOOD].concat(), SendFlags::empty()).unwrap();
        }
        assert_eq!(written(&mut from).0, GOOD.repeat(2));
        assert_eq!(from.dropped.load(Relaxed), 2 * u64::from(MOST_DROPPED));
    }

    #[test]
    fn one_cell_has_its_turn_and_no_more() {
        let (mut from, to) = ends();
        for _ in 0..TURN + 1 {
            to.send(GOOD);
        }
        assert_eq!(written(&mut from).0.len(), TURN * GOOD.len());
        assert_eq!(written(&mut from).0.len(), GOOD.len());
    }

    #[test]
    fn a_line_that_no_packet_holds_is_lost_alone() {
        let (mut from, to) = ends();
        let long = [b"{\"tenant\":\"shop\",\"path\":\"", &vec![b'a'; PACKET][..], b"\"}\n"].concat();
        to.send(&[GOOD, &long[..], GOOD].concat());
        to.send(GOOD);
        assert_eq!(written(&mut from).0, GOOD.repeat(3));
        assert_eq!(from.dropped.load(Relaxed), 1);
    }
}
