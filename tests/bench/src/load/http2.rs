//! HTTP/2 with prior knowledge, several streams at a time on a connection: GET, or a unary call of gRPC.
//!
//! Just as much of RFC 9113 as a client needs that trusts its server: requests in one fixed header block, answers
//! checked for `:status 200` in its indexed form, for their length and for END_STREAM. It never decodes other headers: of a call of
//! gRPC that failed it knows by the message that is missing.

use super::LoadError;

/// One connection's state.
#[derive(Debug)]
pub(crate) struct Http2 {
    block: Vec<u8>,
    /// What follows the head of a request; nothing does with GET.
    message: Option<Vec<u8>>,
    body: usize,
    next_stream: u32,
    streams: Vec<Stream>,
    pending: Vec<u8>,
    unacknowledged: u32,
}

#[derive(Debug)]
struct Stream {
    id: u32,
    intended: u64,
    received: u64,
}

impl Http2 {
    /// A new connection; its opening words go to `out`.
    pub(crate) fn new(path: &str, body: usize, out: &mut Vec<u8>) -> Self {
        Self::asking((header_block(path), None), body, out)
    }

    /// The same for calls of gRPC, whose message is as long as its answer's: so many bytes with their prefix.
    pub(crate) fn grpc(path: &str, body: usize, out: &mut Vec<u8>) -> Self {
        Self::asking((call_block(path), Some(message(body))), body, out)
    }

    fn asking((block, message): (Vec<u8>, Option<Vec<u8>>), body: usize, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let settings = [0, ENABLE_PUSH, 0, 0, 0, 0, 0, INITIAL_WINDOW_SIZE, 0, 0x10, 0, 0];
        frame(out, SETTINGS, 0, 0, &settings);
        frame(out, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        Self {
            block,
            message,
            body,
            next_stream: 1,
            streams: Vec::new(),
            pending: Vec::new(),
            unacknowledged: 0,
        }
    }

    pub(crate) fn request(&mut self, intended: u64, out: &mut Vec<u8>) {
        let id = self.next_stream;
        self.next_stream += 2;
        self.streams.push(Stream { id, intended, received: 0 });
        match &self.message {
            None => frame(out, HEADERS, END_STREAM | END_HEADERS, id, &self.block),
            Some(message) => {
                frame(out, HEADERS, END_HEADERS, id, &self.block);
                frame(out, DATA, END_STREAM, id, message);
            }
        }
    }

    pub(crate) fn received(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
        done: &mut Vec<u64>,
    ) -> Result<(), LoadError> {
        if self.pending.is_empty() {
            let used = self.frames(data, out, done)?;
            self.pending.extend_from_slice(&data[used..]);
        } else {
            let mut pending = std::mem::take(&mut self.pending);
            pending.extend_from_slice(data);
            let used = self.frames(&pending, out, done)?;
            pending.drain(..used);
            self.pending = pending;
        }
        Ok(())
    }

    /// Takes all complete frames; says how many bytes they were.
    fn frames(&mut self, data: &[u8], out: &mut Vec<u8>, done: &mut Vec<u64>) -> Result<usize, LoadError> {
        let mut used = 0;
        while let Some(head) = data[used..].first_chunk::<9>() {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some(payload) = data[used + 9..].get(..length) else { break };
            let id = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            self.frame(Frame { kind: head[3], flags: head[4], id, payload }, out, done)?;
            used += 9 + length;
        }
        Ok(used)
    }

    fn frame(&mut self, f: Frame<'_>, out: &mut Vec<u8>, done: &mut Vec<u64>) -> Result<(), LoadError> {
        match f.kind {
            HEADERS => {
                // What comes after a body is its trailers.
                if !self.streams.iter().any(|stream| stream.id == f.id && stream.received > 0) {
                    check_status(&f)?;
                }
                self.stream_frame(&f, 0, done)
            }
            DATA => {
                let length = f.payload.len() as u32;
                self.unacknowledged += length;
                if self.unacknowledged > WINDOW / 2 {
                    frame(out, WINDOW_UPDATE, 0, 0, &self.unacknowledged.to_be_bytes());
                    self.unacknowledged = 0;
                }
                self.stream_frame(&f, u64::from(length), done)
            }
            SETTINGS if f.flags & ACK == 0 => {
                frame(out, SETTINGS, ACK, 0, &[]);
                Ok(())
            }
            PING if f.flags & ACK == 0 => {
                frame(out, PING, ACK, 0, f.payload);
                Ok(())
            }
            RST_STREAM => Err(LoadError::Http2("the server reset a stream")),
            GOAWAY => Err(LoadError::Http2("the server sent GOAWAY")),
            CONTINUATION => Err(LoadError::Http2("a header block over several frames")),
            _ => Ok(()),
        }
    }

    fn stream_frame(&mut self, f: &Frame<'_>, bytes: u64, done: &mut Vec<u64>) -> Result<(), LoadError> {
        let index = self
            .streams
            .iter()
            .position(|s| s.id == f.id)
            .ok_or(LoadError::Http2("a frame of a stream that is not open"))?;
        let stream = &mut self.streams[index];
        stream.received += bytes;
        if f.flags & END_STREAM != 0 {
            if stream.received != self.body as u64 {
                return Err(LoadError::Body { want: self.body, got: stream.received });
            }
            done.push(self.streams.swap_remove(index).intended);
        }
        Ok(())
    }
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    id: u32,
    payload: &'a [u8],
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

const ENABLE_PUSH: u8 = 2;
const INITIAL_WINDOW_SIZE: u8 = 4;
/// What the connection's window is widened by at first, and again when half of it is used.
const WINDOW: u32 = 1 << 30;
/// `:status 200` in HPACK's static table.
const STATUS_200: u8 = 0x88;

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
}

/// GET, http, the path and the authority, as literals that no table keeps.
fn header_block(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(0x04, path), (0x01, "web.bench")] {
        block.extend_from_slice(&[name, value.len() as u8]);
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// POST, as gRPC over HTTP/2 has it: its content-type (31 in the static table), and that trailers are understood.
fn call_block(path: &str) -> Vec<u8> {
    let mut block = header_block(path);
    block[0] = 0x83;
    for (name, value) in [(&[0x0f, 0x10][..], "application/grpc"), (b"\x00\x02te", "trailers")] {
        block.extend_from_slice(name);
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// Uncompressed, with its length before it; of so many bytes in all.
pub(crate) fn message(bytes: usize) -> Vec<u8> {
    let length = bytes.saturating_sub(5);
    let mut message = vec![0];
    message.extend_from_slice(&(length as u32).to_be_bytes());
    message.resize(5 + length, b'x');
    message
}

/// A block may begin with updates of the table's size; then `:status` comes first.
fn check_status(f: &Frame<'_>) -> Result<(), LoadError> {
    let mut at = usize::from(f.flags & PADDED != 0) + if f.flags & PRIORITY != 0 { 5 } else { 0 };
    while f.payload.get(at).is_some_and(|b| b & 0xe0 == 0x20) {
        let long = f.payload[at] & 0x1f == 0x1f;
        at += 1;
        while long && f.payload.get(at).is_some_and(|b| b & 0x80 != 0) {
            at += 1;
        }
        at += usize::from(long);
    }
    match f.payload.get(at) {
        Some(&STATUS_200) => Ok(()),
        _ => Err(LoadError::Http2("an answer that does not begin with `:status 200`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(&mut bytes, SETTINGS, 0, 0, &[]);
        frame(&mut bytes, HEADERS, END_HEADERS, id, &[0x3f, 0xe1, 0x1f, STATUS_200]);
        frame(&mut bytes, DATA, END_STREAM, id, b"body");
        bytes
    }

    #[test]
    fn an_answer_is_complete_however_it_is_cut() {
        let bytes = answer(1);
        for cut in 1..bytes.len() {
            let (mut out, mut done) = (Vec::new(), Vec::new());
            let mut http = Http2::new("/", 4, &mut out);
            http.request(9, &mut out);
            http.received(&bytes[..cut], &mut out, &mut done).unwrap();
            http.received(&bytes[cut..], &mut out, &mut done).unwrap();
            assert_eq!(done, [9], "cut at {cut}");
        }
    }

    #[test]
    fn a_call_of_grpc_is_answered_by_its_message_and_its_trailers_and_failed_without_a_message() {
        let call = || {
            let (mut out, done) = (Vec::new(), Vec::new());
            let mut http = Http2::grpc("/bench.Echo/Get", 64, &mut out);
            out.clear();
            http.request(9, &mut out);
            let head = out.windows(16).any(|window| window == b"application/grpc");
            assert!(head && out.ends_with(&message(64)) && message(64).len() == 64);
            (http, out, done)
        };
        let (mut http, mut out, mut done) = call();
        let mut bytes = Vec::new();
        frame(&mut bytes, HEADERS, END_HEADERS, 1, &[STATUS_200]);
        frame(&mut bytes, DATA, 0, 1, &message(64));
        http.received(&bytes, &mut out, &mut done).unwrap();
        assert!(done.is_empty(), "the trailers are to come");
        bytes.clear();
        frame(&mut bytes, HEADERS, END_STREAM | END_HEADERS, 1, &[0x40, 1, b'a', 1, b'0']);
        http.received(&bytes, &mut out, &mut done).unwrap();
        assert_eq!(done, [9]);
        let (mut http, mut out, mut done) = call();
        bytes.clear();
        frame(&mut bytes, HEADERS, END_STREAM | END_HEADERS, 1, &[STATUS_200]);
        assert!(matches!(http.received(&bytes, &mut out, &mut done), Err(LoadError::Body { .. })));
    }

    #[test]
    fn a_status_other_than_200_and_a_short_body_are_failures() {
        let (mut out, mut done) = (Vec::new(), Vec::new());
        let mut http = Http2::new("/", 5, &mut out);
        http.request(1, &mut out);
        assert!(matches!(http.received(&answer(1), &mut out, &mut done), Err(LoadError::Body { .. })));
        let mut http = Http2::new("/", 5, &mut out);
        http.request(1, &mut out);
        let mut bytes = Vec::new();
        frame(&mut bytes, HEADERS, END_HEADERS, 1, &[0x8d]);
        assert!(matches!(http.received(&bytes, &mut out, &mut done), Err(LoadError::Http2(_))));
    }
}
