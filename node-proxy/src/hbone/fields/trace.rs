//! Which trace a connection is part of: `traceparent` (W3C Trace Context, level 1). Pure.
//!
//! It ties lines of logs together, of both ends of a tunnel too. It must never decide anything, and one that is broken counts as
//! none: nobody is refused for it.

use std::fmt;

use http::HeaderMap;

/// The field's name.
const NAME: &str = "traceparent";

/// The identifier of a trace; never all zeroes, which mean none. Bytes, since a number of this size would make what holds it
/// larger by its alignment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// A new one, from chance.
    pub fn new(chance: u128) -> Self {
        Self(chance.max(1).to_be_bytes())
    }

    /// That of a `traceparent`: of version 00, or of a later one, which begins alike.
    pub fn parse(text: &str) -> Option<Self> {
        let (this, later) = text.split_at_checked(LENGTH)?;
        let mut parts = this.split('-');
        let mut hex = |length| parts.next().filter(|part| part.len() == length && is_hex(part));
        let (version, trace, parent, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let ends = later.is_empty() || version != "00" && later.starts_with('-');
        let is_none = |part: &str| part.bytes().all(|byte| byte == b'0');
        if !ends || version == "ff" || is_none(trace) || is_none(parent) {
            return None;
        }
        u128::from_str_radix(trace, 16).ok().map(|id| Self(id.to_be_bytes()))
    }

    /// That of a head, if there is exactly one.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(NAME).iter();
        match (fields.next(), fields.next()) {
            (Some(field), None) => Self::parse(field.to_str().ok()?),
            _ => None,
        }
    }

    /// The `traceparent` of one connection of it, not sampled. `chance` names the connection.
    pub fn traceparent(self, chance: u64) -> String {
        format!("00-{self}-{:016x}-00", chance.max(1))
    }

    /// Appends its 32 digits.
    pub fn write(self, out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        for byte in self.0 {
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Lower case digits only: what is in upper case is to be ignored.
fn is_hex(part: &str) -> bool {
    part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes of a `traceparent` of version 00, and of that part of later ones that is the same.
const LENGTH: usize = 55;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_trace_is_read_and_what_is_none_is_ignored() {
        let same = |text: &str| text.replace("TRACE", TRACE);
        for text in [
            "00-TRACE-b7ad6b7169203331-00",
            "00-TRACE-b7ad6b7169203331-01",
            "00-TRACE-b7ad6b7169203331-ff",
            "cc-TRACE-b7ad6b7169203331-01",
            "01-TRACE-b7ad6b7169203331-01-what-comes-later",
        ] {
            let read = TraceId::parse(&same(text)).map(|trace| trace.to_string());
            assert_eq!(read.as_deref(), Some(TRACE), "{text}");
        }
        for text in [
            "",
            "TRACE",
            "00-0-0-00",
            "ff-TRACE-b7ad6b7169203331-00",
            "0G-TRACE-b7ad6b7169203331-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-00",
            "00-TRACE-0000000000000000-00",
            "00-TRACE-b7ad6b7169203331-0",
            "00-TRACE-b7ad6b7169203331-000",
            "00-TRACE-b7ad6b7169203331-00-more",
            "01-TRACE-b7ad6b7169203331-00more",
            "00-TRACE-b7ad6b7169203331-0X",
            "00-TRACE-B7AD6B7169203331-00",
            "00-TRACE-b7ad6b716920333-000",
            "00_TRACE_b7ad6b7169203331_00",
            " 00-TRACE-b7ad6b7169203331-00",
            "00-TRACE-b7ad6b7169203331-0é",
        ] {
            assert_eq!(TraceId::parse(&same(text)), None, "{text:?}");
        }
    }

    #[test]
    fn a_trace_is_written_as_it_is_read() {
        for chance in [0, 1, u128::MAX] {
            let trace = TraceId::new(chance);
            let written = trace.traceparent(0);
            assert_eq!((written.len(), TraceId::parse(&written)), (LENGTH, Some(trace)), "{written}");
            let mut digits = Vec::new();
            trace.write(&mut digits);
            assert_eq!(String::from_utf8(digits).unwrap(), trace.to_string());
        }
    }

    #[test]
    fn a_head_with_two_traces_has_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceId::of(&headers), None);
        let (one, other) = (TraceId::new(7), TraceId::new(8));
        headers.insert(NAME, one.traceparent(1).try_into().unwrap());
        assert_eq!(TraceId::of(&headers), Some(one));
        headers.append(NAME, other.traceparent(1).try_into().unwrap());
        assert_eq!(TraceId::of(&headers), None);
        headers.insert(NAME, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(TraceId::of(&headers), None);
    }
}
