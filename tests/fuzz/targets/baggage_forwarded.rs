//! Any `baggage`, `forwarded` or `traceparent`: read without a panic, and nothing is read that was not written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use node_proxy::hbone::fields::{Baggage, Forwarded, forwarded, is_traceparent};

fuzz_target!(|text: &str| {
    let read = Baggage::parse(text);
    let members = [&read.cluster, &read.namespace, &read.workload, &read.service, &read.version];
    for value in members.into_iter().flatten() {
        assert!(
            !value.is_empty() && text.contains(value.as_str()) && !value.contains(','),
            "{text:?}: {value:?}"
        );
    }
    let read = Forwarded::parse(text);
    if let Some(client) = read.client {
        assert_eq!(Forwarded::parse(&forwarded(client, None)).client, Some(client), "{text:?}");
    }
    if let Some(host) = &read.host {
        assert!(text.contains(host.as_str()), "{text:?}: {host:?}");
    }
    assert!(!is_traceparent(text) || text.len() == 55, "{text:?}");
});
