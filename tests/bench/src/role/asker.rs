//! Who asks for routes one after the other, on a connection that is kept for as long as it is kept.
//!
//! Blocking, and bounded in time. It never takes an answer for one that is not whole.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::lab::backends::route;

/// One client.
pub(super) struct Asker {
    target: SocketAddr,
    stream: Option<TcpStream>,
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The number in the header [`MARK`], if there is one.
    pub(super) mark: Option<u64>,
    is_kept: bool,
}

/// The header that a route sets to the number of its last change.
pub(crate) const MARK: &str = "x-change";

impl Asker {
    pub(super) fn new(target: SocketAddr) -> Self {
        Self { target, stream: None }
    }

    /// Asks for the route of this number.
    pub(super) fn ask(&mut self, number: usize) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.target, LIMIT)?;
                stream.set_read_timeout(Some(LIMIT))?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(format!("GET {} HTTP/1.1\r\nHost: web.bench\r\n\r\n", route(number)).as_bytes())?;
        let answer = read(&mut stream)?;
        self.stream = answer.is_kept.then_some(stream);
        Ok(answer)
    }
}

/// One answer with a length, and nothing after it.
fn read(stream: &mut impl Read) -> io::Result<Answer> {
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
        let parsed = response.parse(&bytes).map_err(|e| malformed(e.to_string()))?;
        let httparse::Status::Complete(head) = parsed else { continue };
        let value = |name: &str| {
            let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(header.value).ok()
        };
        let length: usize = value("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        if bytes.len() >= head + length {
            let is_kept = !value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let mark = value(MARK).and_then(|value| value.parse().ok());
            return Ok(Answer { status: response.code.unwrap_or(0), mark, is_kept });
        }
    }
}

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_to_its_end_and_says_whether_the_connection_stays() {
        let kept = &mut &b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nX-Change: 00000107\r\n\r\nbody"[..];
        assert_eq!(read(kept).unwrap(), Answer { status: 200, mark: Some(107), is_kept: true });
        assert!(kept.is_empty());
        let closed = &mut &b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"[..];
        assert_eq!(read(closed).unwrap(), Answer { status: 404, mark: None, is_kept: false });
        let cut = &mut &b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbod"[..];
        assert_eq!(read(cut).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
