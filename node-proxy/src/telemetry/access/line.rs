//! One line of the access log as JSON, written by hand into a buffer that is kept.
//!
//! By hand because this runs once per request: it allocates nothing and formats nothing twice. Whatever bytes a peer sent,
//! the line is valid JSON.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use config::{identity::Identity, name::RouteKind};

use super::Record;
use crate::hbone::fields::Baggage;

/// Writes the lines of one tenant.
#[derive(Debug)]
pub(super) struct Line {
    /// `,"tenant":"…"`, escaped once.
    tenant: Vec<u8>,
    /// `{"ts":"2026-01-02T03:04:05.`, for the second it was made in.
    second: (u64, Vec<u8>),
}

impl Line {
    pub(super) fn new(tenant: &str) -> Self {
        let mut prefix = b",\"tenant\":".to_vec();
        quoted(&mut prefix, tenant);
        Self { tenant: prefix, second: (u64::MAX, Vec::new()) }
    }

    /// Appends one line, with its line end.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, now: SystemTime, record: &Record<'_>) {
        self.time(out, now);
        out.extend_from_slice(&self.tenant);
        word(out, ",\"direction\":", record.direction);
        word(out, ",\"protocol\":", record.protocol);
        pair(
            out,
            ",\"workload\":",
            Some((record.workload.namespace.as_str(), record.workload.name.as_str())),
        );
        Self::address(out, ",\"src.addr\":", record.source);
        Self::ends(out, record);
        Self::request(out, record);
        Self::outcome(out, record);
        out.extend_from_slice(b"}\n");
    }

    fn time(&mut self, out: &mut Vec<u8>, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.second.0 != since.as_secs() {
            let mut prefix = Vec::with_capacity(32);
            prefix.extend_from_slice(b"{\"ts\":\"");
            date(&mut prefix, since.as_secs());
            self.second = (since.as_secs(), prefix);
        }
        out.extend_from_slice(&self.second.1);
        digits(out, since.subsec_micros(), 6);
        out.extend_from_slice(b"Z\"");
    }

    fn ends(out: &mut Vec<u8>, record: &Record<'_>) {
        pair(
            out,
            ",\"src.workload\":",
            record.source_workload.map(|pod| (pod.namespace.as_str(), pod.name.as_str())),
        );
        principal(out, ",\"src.principal\":", record.source_principal);
        if let Some(claimed) = record.claimed {
            Self::claimed(out, claimed);
        }
        Self::address(out, ",\"dst.addr\":", record.destination);
        pair(
            out,
            ",\"dst.service\":",
            record.service.map(|service| (service.namespace.as_str(), service.name.as_str())),
        );
        pair(
            out,
            ",\"dst.workload\":",
            record.destination_workload.map(|pod| (pod.namespace.as_str(), pod.name.as_str())),
        );
        principal(out, ",\"dst.principal\":", record.destination_principal);
        pair(out, ",\"route\":", record.route.map(|route| (route.namespace.as_str(), route.name.as_str())));
        if let Some(route) = record.route.filter(|route| route.kind != RouteKind::Http) {
            word(out, ",\"route_kind\":", route.kind.as_str());
        }
        text(out, ",\"rule\":", record.rule);
        if let Some(endpoint) = record.endpoint {
            Self::address(out, ",\"endpoint\":", endpoint);
        }
        if let Some(delivery) = record.delivery {
            word(out, ",\"delivery\":", delivery);
        }
        if let Some(why) = record.delivery_why {
            word(out, ",\"delivery_why\":", why);
        }
        if let Some(trace) = record.trace {
            out.extend_from_slice(b",\"trace_id\":\"");
            trace.write(out);
            out.push(b'"');
        }
    }

    /// What is not proven has a name of its own for each thing, so that nobody takes it for what is.
    fn claimed(out: &mut Vec<u8>, claimed: &Baggage) {
        for (key, value) in [
            (",\"src.claimed.cluster\":", &claimed.cluster),
            (",\"src.claimed.namespace\":", &claimed.namespace),
            (",\"src.claimed.workload\":", &claimed.workload),
            (",\"src.claimed.service\":", &claimed.service),
            (",\"src.claimed.version\":", &claimed.version),
            (",\"src.claimed.region\":", &claimed.region),
            (",\"src.claimed.zone\":", &claimed.zone),
        ] {
            text(out, key, value.as_deref());
        }
    }

    fn request(out: &mut Vec<u8>, record: &Record<'_>) {
        text(out, ",\"method\":", record.method.map(http::Method::as_str));
        text(out, ",\"authority\":", record.authority);
        text(out, ",\"path\":", record.path);
        if let Some(status) = record.status {
            Self::integer(out, ",\"status\":", u64::from(status));
        }
    }

    fn outcome(out: &mut Vec<u8>, record: &Record<'_>) {
        Self::integer(out, ",\"bytes_received\":", record.bytes_received);
        Self::integer(out, ",\"bytes_sent\":", record.bytes_sent);
        Self::millis(out, ",\"duration_ms\":", Some(record.duration));
        Self::millis(out, ",\"connect_ms\":", record.connect);
        Self::millis(out, ",\"first_byte_ms\":", record.first_byte);
        if let Some(reason) = record.reason {
            word(out, ",\"reason\":", reason.as_str());
        }
        pair(
            out,
            ",\"policy\":",
            record.policy.map(|policy| (policy.namespace.as_str(), policy.name.as_str())),
        );
    }

    fn integer(out: &mut Vec<u8>, key: &str, value: u64) {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Milliseconds with three decimals.
    fn millis(out: &mut Vec<u8>, key: &str, value: Option<Duration>) {
        let Some(value) = value else { return };
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        Self::integer(out, key, micros / 1000);
        out.push(b'.');
        digits(out, (micros % 1000) as u32, 3);
    }

    fn address(out: &mut Vec<u8>, key: &str, address: SocketAddr) {
        out.extend_from_slice(key.as_bytes());
        out.push(b'"');
        match address {
            SocketAddr::V4(v4) => {
                for (index, octet) in v4.ip().octets().iter().enumerate() {
                    if index > 0 {
                        out.push(b'.');
                    }
                    out.extend_from_slice(itoa::Buffer::new().format(*octet).as_bytes());
                }
            }
            SocketAddr::V6(v6) => {
                use std::io::Write;
                // Writing to a Vec cannot fail.
                let _ = write!(out, "[{}]", v6.ip());
            }
        }
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(address.port()).as_bytes());
        out.push(b'"');
    }
}

/// `YYYY-MM-DDTHH:MM:SS.` of seconds since the epoch, by the proleptic Gregorian calendar.
fn date(out: &mut Vec<u8>, seconds: u64) {
    let (days, rest) = (seconds / 86_400, (seconds % 86_400) as u32);
    // Days since 0000-03-01, in eras of 400 years of 146,097 days each: leap days fall at the end of a year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = (if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 }) as u32;
    let year = (era * 400 + year_of_era + u64::from(month <= 2)) as u32;
    for (value, width, after) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (rest / 3600, 2, b':'),
        (rest / 60 % 60, 2, b':'),
        (rest % 60, 2, b'.'),
    ] {
        digits(out, value, width);
        out.push(after);
    }
}

/// Seconds since the epoch as RFC 3339 writes them, in UTC.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let mut text = Vec::new();
    date(&mut text, seconds);
    text.pop();
    text.push(b'Z');
    String::from_utf8_lossy(&text).into_owned()
}

/// A number with leading zeros.
fn digits(out: &mut Vec<u8>, value: u32, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10_u32.pow(place) % 10) as u8);
    }
}

/// A constant of ours: needs no escapes.
fn word(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

/// `NAMESPACE/NAME`, both valid Kubernetes names: needs no escapes.
fn pair(out: &mut Vec<u8>, key: &str, value: Option<(&str, &str)>) {
    let Some((namespace, name)) = value else { return };
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    out.extend_from_slice(namespace.as_bytes());
    out.push(b'/');
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
}

/// A SPIFFE ID, of valid names: needs no escapes.
fn principal(out: &mut Vec<u8>, key: &str, identity: Option<&Identity>) {
    let Some(Identity { trust_domain, namespace, service_account }) = identity else { return };
    out.extend_from_slice(key.as_bytes());
    for part in [
        "\"spiffe://",
        trust_domain.as_str(),
        "/ns/",
        namespace.as_str(),
        "/sa/",
        service_account.as_str(),
        "\"",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Anything a peer or an owner wrote.
fn text(out: &mut Vec<u8>, key: &str, value: Option<&str>) {
    let Some(value) = value else { return };
    out.extend_from_slice(key.as_bytes());
    quoted(out, value);
}

fn quoted(out: &mut Vec<u8>, value: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            // DEL is legal in JSON but not welcome on a terminal.
            0..=0x1f | 0x7f => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
