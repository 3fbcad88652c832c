//! The CONNECT that opens a stream: where it goes, and for whom.
//!
//! It must never say more of the caller than the protocol asks for.

use std::net::SocketAddr;

use http::{HeaderValue, Method, Request, Uri, header, uri::Authority};

use crate::{
    hbone::fields,
    policy::Permit,
    snapshot::{Destination, Snapshot},
};

/// A CONNECT to `target`, for the caller that `permit` names, as it is known now.
pub(super) fn request(snapshot: &Snapshot, permit: &Permit, target: SocketAddr) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    if let Ok(authority) = Authority::try_from(target.to_string()) {
        *request.uri_mut() = Parts::of(authority);
    }
    let host = match &permit.destination {
        Destination::Service { entry, .. } => {
            Some(format!("{}.{}.svc", entry.service.name, entry.service.namespace))
        }
        Destination::Workload { .. } | Destination::Outside => None,
    };
    let headers = request.headers_mut();
    let mut put = |name: header::HeaderName, value: String| {
        // What is not a header's value (a label may hold anything) is left out: it informs logs only.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    put(header::HeaderName::from_static("baggage"), fields::baggage(snapshot.now(&permit.tree.workload)));
    put(header::FORWARDED, fields::forwarded(permit.origin.client, host.as_deref()));
    put(
        header::HeaderName::from_static("traceparent"),
        fields::traceparent(fastrand::u128(..), fastrand::u64(..)),
    );
    request
}

/// An authority alone makes the URI of a CONNECT.
struct Parts;

impl Parts {
    fn of(authority: Authority) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.authority = Some(authority);
        // An authority alone is always a URI.
        Uri::from_parts(parts).unwrap_or_default()
    }
}
