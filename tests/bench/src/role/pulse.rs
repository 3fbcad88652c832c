//! `role:pulse SPEC`: asks at fixed times, on a connection that is kept for as long as it is kept, and says what was not answered and for
//! how long nothing was.
//!
//! What fails is a figure here and no error: this is for faults. It never waits for an answer longer than it is told.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    clock::{self, MILLISECOND, SECOND},
    error::BenchError,
};

/// Whom to ask, and for how long.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PulseSpec {
    pub cpu: usize,
    pub target: SocketAddr,
    pub path: String,
    pub per_second: u64,
    pub lasts_ms: u64,
    /// After so long without an answer a request has failed.
    pub limit_ms: u64,
}

/// What came of it.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Pulsed {
    pub asked: u64,
    /// Not answered in time, or not with 200.
    pub failed: u64,
    /// What the first failure was.
    pub first_failure: Option<String>,
    /// The longest time between two answers.
    pub longest_gap_ns: u64,
}

pub(super) fn pulse(arguments: &[OsString]) -> Result<(), BenchError> {
    let spec: PulseSpec = super::parse(arguments)?;
    super::pin(spec.cpu)?;
    let text = serde_json::to_string(&ask(&spec))?;
    writeln!(io::stdout(), "{text}").map_err(|e| BenchError::io("write what was answered", e))
}

fn ask(spec: &PulseSpec) -> Pulsed {
    let (mut pulsed, mut kept) = (Pulsed::default(), None);
    let begun = clock::now();
    let (end, interval) = (begun + spec.lasts_ms * MILLISECOND, SECOND / spec.per_second);
    let (mut due, mut answered) = (begun, begun);
    while due < end {
        thread::sleep(Duration::from_nanos(due.saturating_sub(clock::now())));
        pulsed.asked += 1;
        match once(spec, &mut kept) {
            Ok(()) => {
                let now = clock::now();
                pulsed.longest_gap_ns = pulsed.longest_gap_ns.max(now - answered);
                answered = now;
            }
            Err(error) => {
                kept = None;
                pulsed.failed += 1;
                pulsed.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
        // What came due while one was waited for is not asked: an application waits, too.
        due = (due + interval).max(clock::now());
    }
    pulsed.longest_gap_ns = pulsed.longest_gap_ns.max(clock::now() - answered);
    pulsed
}

/// One request, on the connection that is kept or a new one.
fn once(spec: &PulseSpec, kept: &mut Option<TcpStream>) -> io::Result<()> {
    let limit = Duration::from_millis(spec.limit_ms);
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect_timeout(&spec.target, limit)?;
            stream.set_read_timeout(Some(limit))?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    write!(stream, "GET {} HTTP/1.1\r\nHost: web.bench\r\n\r\n", spec.path)?;
    if read(&mut stream)? {
        *kept = Some(stream);
    }
    Ok(())
}

/// One answer of 200 to its end; says whether the connection stays.
fn read(stream: &mut impl Read) -> io::Result<bool> {
    let malformed = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4 << 10];
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..count]);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) =
            response.parse(&bytes).map_err(|e| malformed(e.to_string()))?
        else {
            continue;
        };
        let status = response.code.unwrap_or(0);
        if status != 200 {
            return Err(malformed(format!("status {status}")));
        }
        let value = |name: &str| {
            let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(header.value).ok()
        };
        let length: usize = value("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        if bytes.len() >= head + length {
            return Ok(!value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_a_server_leaves_out_is_counted_and_its_time_is_the_longest_gap() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        thread::spawn(move || {
            for number in 0.. {
                let mut stream = listener.accept().unwrap().0;
                let mut request = [0; 256];
                // The first connection serves five and ends; the next three are closed; the rest is served.
                let serves = match number {
                    0 => 5,
                    1..=3 => 0,
                    _ => usize::MAX,
                };
                for _ in 0..serves {
                    if !stream.read(&mut request).is_ok_and(|count| count > 0) {
                        break;
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                }
            }
        });
        let path = "/".to_owned();
        let spec = PulseSpec { cpu: 0, target, path, per_second: 50, lasts_ms: 600, limit_ms: 500 };
        let pulsed = ask(&spec);
        assert!((3..=4).contains(&pulsed.failed), "{pulsed:?}");
        assert!(pulsed.first_failure.is_some() && pulsed.asked >= 20, "{pulsed:?}");
        assert!((60..400).contains(&(pulsed.longest_gap_ns / MILLISECOND)), "{pulsed:?}");
    }
}
