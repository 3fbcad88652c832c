//! Protocol detection: a pure function over the first bytes of a connection.
//!
//! It must never need more than [`ENOUGH`] bytes, and never call something HTTP that an HTTP parser would not
//! take as its beginning.

use super::Protocol;

/// Bytes after which an answer is always there: the length of HTTP/2's client preface (RFC 9113, 3.4) or of
/// the longest request method that is looked for, whichever is more.
pub const ENOUGH: usize = 24;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This it is.
    Is(Protocol),
    /// More bytes are needed.
    Undecided,
}

/// Judges the first bytes of a connection.
pub fn detect(bytes: &[u8]) -> Verdict {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    if bytes.starts_with(PREFACE) {
        Verdict::Is(Protocol::Http2)
    } else if PREFACE.starts_with(bytes) {
        Verdict::Undecided
    } else {
        Verdict::Is(Protocol::Tcp)
    }
}
