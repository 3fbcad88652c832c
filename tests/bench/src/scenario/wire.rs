//! Whether what crosses the wire between the nodes is really encrypted: one call of each kind with words that nothing
//! else says, and a capture beside it.
//!
//! Without a proxy the words must be seen, so that a capture that sees nothing proves nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use testkit::{Capture, Node, Segment};

use crate::{error::BenchError, lab::backends::Port, subject::Subject};

mod hello;

/// What a capture of one subject's calls has shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WireCheck {
    pub subject: String,
    /// TCP segments by their port at the server's pod.
    pub segments_by_port: BTreeMap<u16, usize>,
    /// Bytes that they carried.
    pub payload_bytes: usize,
    /// Segments that begin with the head of a TLS record.
    pub tls_records: usize,
    /// Whether the words of the calls could be read.
    pub payload_readable: bool,
    /// What servers' first words said of TLS, each once: version, suite, key exchange.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tls: BTreeSet<String>,
}

/// Makes the calls, and judges. `earlier` is what passed when the subject was started: a tunnel may stand since then.
pub(crate) fn check(subject: &Subject, here: &Node, earlier: &[Segment]) -> Result<WireCheck, BenchError> {
    let capture = Capture::start(here)?;
    let targets = [subject.target(Port::Http), subject.target(Port::Echo)];
    let called = subject.client.run(move || get(targets[0]).and_then(|()| echo(targets[1])))?;
    let segments = capture.finish()?;
    let name = subject.kind.name();
    called.map_err(|e| BenchError::io(format!("call through {name} for the capture"), e))?;
    let mut check = summary(name, subject.server_address(), &segments);
    check.tls.extend(earlier.iter().filter_map(|segment| hello::said(&segment.payload)));
    if check.payload_readable == subject.kind.has_proxy() || check.payload_bytes == 0 {
        return Err(BenchError::Wire { subject: name.into(), seen: serde_json::to_string(&check)? });
    }
    Ok(check)
}

pub(super) fn summary(subject: &str, server: IpAddr, segments: &[Segment]) -> WireCheck {
    let mut segments_by_port = BTreeMap::new();
    for segment in segments {
        let port = segment.port_of(server).unwrap_or_default();
        *segments_by_port.entry(port).or_default() += 1;
    }
    let is_tls = |payload: &[u8]| matches!(payload, [20..=23, 3, 1 | 3, ..]);
    WireCheck {
        subject: subject.into(),
        segments_by_port,
        payload_bytes: segments.iter().map(|segment| segment.payload.len()).sum(),
        tls_records: segments.iter().filter(|segment| is_tls(&segment.payload)).count(),
        payload_readable: segments.iter().any(|segment| holds(&segment.payload)),
        tls: segments.iter().filter_map(|segment| hello::said(&segment.payload)).collect(),
    }
}

/// Of all frames of a node's links, whatever is in them.
pub(super) fn of_frames(subject: &str, frames: &[Vec<u8>]) -> WireCheck {
    WireCheck {
        subject: subject.into(),
        segments_by_port: BTreeMap::new(),
        payload_bytes: frames.iter().map(Vec::len).sum(),
        tls_records: 0,
        payload_readable: frames.iter().any(|frame| holds(frame)),
        tls: BTreeSet::new(),
    }
}

fn holds(payload: &[u8]) -> bool {
    payload.windows(WORDS.len()).any(|window| window == WORDS.as_bytes())
}

/// One request with the words.
pub(super) fn get(target: SocketAddr) -> std::io::Result<()> {
    let mut stream = dial(target)?;
    write!(stream, "GET /64?{WORDS} HTTP/1.1\r\nHost: web.bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answered = answer.starts_with(b"HTTP/1.1 200");
    if answered { Ok(()) } else { Err(std::io::Error::other("it was not answered with 200")) }
}

fn echo(target: SocketAddr) -> std::io::Result<()> {
    let mut stream = dial(target)?;
    stream.write_all(WORDS.as_bytes())?;
    let mut back = [0; WORDS.len()];
    stream.read_exact(&mut back)?;
    if back == *WORDS.as_bytes() { Ok(()) } else { Err(std::io::Error::other("other bytes came back")) }
}

fn dial(target: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

pub(super) const WORDS: &str = "these-words-are-for-the-server-alone";
const LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(payload: &[u8]) -> Segment {
        let (source, destination) =
            (SocketAddr::from(([10, 0, 0, 1], 40_000)), SocketAddr::from(([10, 0, 0, 2], 15_008)));
        Segment { source, destination, opens: false, payload: payload.to_vec() }
    }

    #[test]
    fn words_are_found_anywhere_in_a_segment_and_records_at_its_beginning() {
        let server = IpAddr::from([10, 0, 0, 2]);
        let plain = summary("s", server, &[segment(format!("GET /64?{WORDS} HTTP/1.1").as_bytes())]);
        assert!(plain.payload_readable && plain.tls_records == 0, "{plain:?}");
        let secret = summary("s", server, &[segment(&[23, 3, 3, 0, 5, 1, 2, 3, 4, 5]), segment(&[])]);
        assert!(!secret.payload_readable && secret.tls_records == 1, "{secret:?}");
        assert_eq!(secret.segments_by_port, BTreeMap::from([(15_008, 2)]));
    }
}
