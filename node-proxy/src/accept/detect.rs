//! Protocol detection: a pure function over the first bytes of a connection.
//!
//! It must never need more than [`ENOUGH`] bytes, and never call something HTTP that an HTTP parser would not
//! take as its beginning.

use super::Protocol;

/// Bytes after which an answer is always there: the length of HTTP/2's client preface (RFC 9113, 3.4), which leaves room for
/// the longest registered request method (`UPDATEREDIRECTREF`) and the beginning of a target.
pub const ENOUGH: usize = PREFACE.len();

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This it is.
    Is(Protocol),
    /// More bytes are needed.
    Undecided,
}

/// Judges the first bytes of a connection. More bytes never change a verdict once there is one.
pub fn detect(bytes: &[u8]) -> Verdict {
    let bytes = bytes.get(..ENOUGH).unwrap_or(bytes);
    if bytes == PREFACE {
        return Verdict::Is(Protocol::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return Verdict::Undecided;
    }
    match request_line(bytes) {
        Line::Http => Verdict::Is(Protocol::Http1),
        Line::Other => Verdict::Is(Protocol::Tcp),
        Line::Begun | Line::Plausible if bytes.len() < ENOUGH => Verdict::Undecided,
        Line::Plausible => Verdict::Is(Protocol::Http1),
        Line::Begun => Verdict::Is(Protocol::Tcp),
    }
}

/// What a connection is taken for whose client stopped sending before there was a verdict.
pub fn settle(bytes: &[u8]) -> Protocol {
    match detect(bytes) {
        Verdict::Is(protocol) => protocol,
        Verdict::Undecided if request_line(bytes) == Line::Plausible => Protocol::Http1,
        Verdict::Undecided => Protocol::Tcp,
    }
}

/// What a line may still become.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// A request line up to its version.
    Http,
    /// No request line.
    Other,
    /// The beginning of a request line, which other protocols' lines begin with too.
    Begun,
    /// The beginning of a request line with a usual method and a target: taken for one unless the rest says otherwise.
    Plausible,
}

/// Judges a request line (RFC 9112, 3): method SP request-target SP HTTP-version.
fn request_line(bytes: &[u8]) -> Line {
    let end = bytes.iter().position(|byte| !is_token(*byte)).unwrap_or(bytes.len());
    let (method, rest) = bytes.split_at(end);
    let target = match rest {
        [] => return Line::Begun,
        [b' ', target @ ..] if !method.is_empty() => target,
        _ => return Line::Other,
    };
    let end = target.iter().position(|byte| !is_target(*byte)).unwrap_or(target.len());
    let (target, rest) = target.split_at(end);
    match (form(method, target), rest) {
        (Form::Wrong, _) => Line::Other,
        (Form::Whole, []) if is_usual(method) => Line::Plausible,
        (Form::Whole | Form::Partial, []) => Line::Begun,
        (Form::Whole, [b' ', version @ ..]) => match_version(method, version),
        (Form::Whole | Form::Partial, _) => Line::Other,
    }
}

fn match_version(method: &[u8], version: &[u8]) -> Line {
    const HTTP_1: &[u8] = b"HTTP/1.";
    if version.starts_with(HTTP_1) {
        Line::Http
    } else if !HTTP_1.starts_with(version) {
        Line::Other
    } else if is_usual(method) {
        Line::Plausible
    } else {
        Line::Begun
    }
}

/// How far a request target (RFC 9112, 3.2) has come.
enum Form {
    Wrong,
    Partial,
    Whole,
}

fn form(method: &[u8], target: &[u8]) -> Form {
    match target {
        [] => Form::Partial,
        [b'/', ..] | [b'*'] => Form::Whole,
        _ if method == b"CONNECT" => authority_form(target),
        _ => absolute_form(target),
    }
}

fn authority_form(target: &[u8]) -> Form {
    let is_host =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'[' | b']' | b':');
    if target.iter().all(is_host) { Form::Whole } else { Form::Wrong }
}

fn absolute_form(target: &[u8]) -> Form {
    let compare = |scheme: &[u8]| {
        let common = target.len().min(scheme.len());
        if !target[..common].eq_ignore_ascii_case(&scheme[..common]) {
            Form::Wrong
        } else if target.len() > scheme.len() {
            Form::Whole
        } else {
            Form::Partial
        }
    };
    match compare(b"http://") {
        Form::Wrong => compare(b"https://"),
        form => form,
    }
}

/// `tchar` (RFC 9110, 5.6.2), of which methods are made.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)
}

/// Whether a method is written as all registered ones are. Others (`get /key` of memcached) have to show a version.
fn is_usual(method: &[u8]) -> bool {
    method.len() >= 3 && method.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HTTP1: Verdict = Verdict::Is(Protocol::Http1);
    const TCP: Verdict = Verdict::Is(Protocol::Tcp);

    #[test]
    fn first_bytes_are_told_apart() {
        let table: &[(&[u8], Verdict)] = &[
            (b"", Verdict::Undecided),
            (b"G", Verdict::Undecided),
            (b"GET /", Verdict::Undecided),
            (b"GET / HTTP/1.1\r\n", HTTP1),
            (b"GET / HTTP/1.", HTTP1),
            (b"GET /a/path/that/goes/on/and/on", HTTP1),
            (b"get / HTTP/1.1\r\n", HTTP1),
            (b"get /a/key/of/memcached/x\r\n", TCP),
            (b"GET /key\r\n", TCP),
            (b"GET / RTSP/1.0\r\n", TCP),
            (b"GET / HTTP/2.0\r\n", TCP),
            (b"OPTIONS * HTTP/1.1\r\n", HTTP1),
            (b"CONNECT example.com:443 HTTP/1.1\r\n", HTTP1),
            (b"CONNECT a:1 HTTP/1.1\r\n", HTTP1),
            (b"GET http://cart.shop/ HTTP/1.1\r\n", HTTP1),
            (b"GET HTTPS://cart.shop/ HTTP/1.1\r\n", HTTP1),
            (b"PROPFIND-LIKE /x HTTP/1.0\r\n", HTTP1),
            (b"EHLO mail.example.com\r\n", TCP),
            (b"EHLO http", Verdict::Undecided),
            (b"EHLO httpd.example.com\r\n", TCP),
            (b"USER bob\r\n", TCP),
            (b"*1\r\n$4\r\nPING\r\n", TCP),
            (b"SSH-2.0-OpenSSH_9.2\r\n", TCP),
            (b"\x16\x03\x01\x02\x00\x01", TCP),
            (b"\x00", TCP),
            (b" GET / HTTP/1.1", TCP),
            (b"GET  / HTTP/1.1", TCP),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Verdict::Undecided),
            (PREFACE, Verdict::Is(Protocol::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Verdict::Is(Protocol::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", TCP),
            (b"PRI * HTTP/1.1\r\n", HTTP1),
        ];
        for (bytes, verdict) in table {
            assert_eq!(detect(bytes), *verdict, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_client_that_pauses_inside_a_request_line_is_taken_for_http() {
        for (bytes, protocol) in [
            (&b"GET /slow"[..], Protocol::Http1),
            (b"GET / HT", Protocol::Http1),
            (b"GET", Protocol::Tcp),
            (b"PRI * HTTP/2.0\r\n", Protocol::Tcp),
            (b"", Protocol::Tcp),
            (b"get /x", Protocol::Tcp),
        ] {
            assert_eq!(settle(bytes), protocol, "{}", bytes.escape_ascii());
        }
    }

    /// Bytes that look like the beginning of something, more often than chance would make them.
    fn beginnings() -> impl Strategy<Value = Vec<u8>> {
        let words = prop::sample::select(vec![
            &b"GET"[..],
            b"CONNECT",
            b"PRI",
            b"get",
            b"EHLO",
            b" ",
            b"/",
            b"/a/path/of/many/elements",
            b"*",
            b"http://",
            b"https:",
            b"a:1",
            b"HTTP/1.1",
            b"HTTP/1.",
            b"HTTP/2.0",
            b"\r\n",
            b"\r\n\r\nSM\r\n\r\n",
            b"\x16\x03",
            b"\0",
            b"\xff",
            b"x",
        ]);
        let noise = prop::collection::vec(any::<u8>(), 0..4);
        let parts =
            prop::collection::vec(prop_oneof![4 => words.prop_map(<[u8]>::to_vec), 1 => noise], 0..10);
        let starts = vec![
            "",
            "",
            "GET ",
            "GET /",
            "get /",
            "OPTIONS *",
            "CONNECT a",
            "GET http://a",
            "PRI * HTTP/2.0\r\n",
        ];
        (prop::sample::select(starts), parts)
            .prop_map(|(start, parts)| [start.as_bytes(), &parts.concat()].concat())
    }

    proptest! {
        #[test]
        fn verdict_never_changes_with_more_bytes(bytes in beginnings()) {
            let mut before = Verdict::Undecided;
            for length in 0..=bytes.len() {
                let now = detect(&bytes[..length]);
                prop_assert!(before == Verdict::Undecided || now == before, "{length}: {before:?} then {now:?}");
                prop_assert!(length < ENOUGH || now != Verdict::Undecided, "{length}: undecided");
                before = now;
            }
        }

        #[test]
        fn what_is_called_http_is_taken_by_an_http_parser_as_a_beginning(bytes in beginnings()) {
            let decisive = (0..=bytes.len()).find(|length| detect(&bytes[..*length]) != Verdict::Undecided);
            let Some(length) = decisive else { return Ok(()) };
            if detect(&bytes[..length]) == HTTP1 {
                let mut headers = [httparse::EMPTY_HEADER; 4];
                let parsed = httparse::Request::new(&mut headers).parse(&bytes[..length]);
                prop_assert!(parsed.is_ok(), "{}: {parsed:?}", bytes[..length].escape_ascii());
            }
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (detect(&bytes), settle(&bytes));
        }
    }
}
