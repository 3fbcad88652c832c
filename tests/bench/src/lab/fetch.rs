//! One HTTP GET of a subject's own figures, over a Unix socket or inside a network namespace.
//!
//! Bounded in time and size; never part of what is measured.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// The body at `path` of the server behind a Unix socket.
pub(crate) fn over_unix(socket: &Path, path: &str) -> io::Result<String> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    get(stream, path)
}

/// The body at `path` of a server in the calling thread's network namespace.
pub(crate) fn over_tcp(address: SocketAddr, path: &str) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    get(stream, path)
}

fn get(mut stream: impl Read + Write, path: &str) -> io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(MOST).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    if head.split_ascii_whitespace().nth(1) == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(io::Error::other(head.lines().next().unwrap_or("no answer").to_owned()))
    }
}

const LIMIT: Duration = Duration::from_secs(3);
const MOST: u64 = 16 << 20;
