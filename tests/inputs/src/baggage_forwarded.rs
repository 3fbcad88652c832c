//! Any `baggage`, `forwarded` or `traceparent`: read without a panic, and nothing is read that was not written, nor more of it than
//! a name can have.

use node_proxy::hbone::fields::{Baggage, Forwarded, Said, TraceId, forwarded};

use crate::text;

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
    let text = text(bytes);
    let read = Baggage::parse(text);
    let Baggage { cluster, namespace, workload, service, version, region, zone } = &read;
    for value in [cluster, namespace, workload, service, version, region, zone].into_iter().flatten() {
        let is_name = value.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\,;=<>".contains(&byte));
        assert!(is_name && text.contains(&**value), "{text:?}: {value:?}");
        assert!((1..=253).contains(&value.len()), "{text:?}: {value:?}");
    }
    let read = Forwarded::parse(text);
    if let Some(client) = read.client {
        assert_eq!(Forwarded::parse(&forwarded(client, None)).client, Some(client), "{text:?}");
    }
    if let Some(host) = read.host {
        assert!(text.contains(host), "{text:?}: {host:?}");
    }
    if let Some(trace) = TraceId::parse(text) {
        assert!(text.len() >= 55 && text[3..35] == trace.to_string(), "{text:?}: {trace}");
        assert_eq!(TraceId::parse(&trace.traceparent(0)), Some(trace), "{text:?}");
    }
    // All of it in one head: no Service is named that the pod was not asked about.
    let mut head = http::Request::connect("10.0.0.7:80");
    for field in ["baggage", "forwarded", "traceparent"] {
        if let Ok(value) = http::HeaderValue::from_str(text) {
            head = head.header(field, value);
        }
    }
    let Ok(request) = head.body(()) else { return };
    let said = Said::of(&request.into_parts().0, |name, namespace| {
        let asked = format!("{name}.{namespace}.svc");
        assert!(text.to_ascii_lowercase().contains(&asked) && asked.len() <= 253, "{text:?}: {asked:?}");
        None
    });
    assert!(said.is_none_or(|said| !said.claimed.is_empty()), "{text:?}");
}
