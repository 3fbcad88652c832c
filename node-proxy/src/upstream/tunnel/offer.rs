//! The CONNECT that opens a stream: where it goes, and for whom.
//!
//! It must never say more of the caller than the protocol asks for.

use http::{HeaderValue, Method, Request, Uri, header, uri::Authority};

use super::Callee;
use crate::{cell::Cell, hbone::fields, policy::Permit, snapshot::Destination};

/// A CONNECT to a callee, for the caller that `permit` names, as it is known now.
pub(super) fn request(cell: &Cell, permit: &Permit, callee: Callee<'_>) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    if let Ok(authority) = Authority::try_from(callee.target.to_string()) {
        *request.uri_mut() = Parts::of(authority);
    }
    let host = match &permit.destination {
        Destination::Service { entry, .. } => {
            Some(format!("{}.{}.svc.{}", entry.service.name, entry.service.namespace, cell.site.domain))
        }
        Destination::Workload { .. } | Destination::Outside => None,
    };
    let headers = request.headers_mut();
    let mut put = |name: header::HeaderName, value: String| {
        // What is not a header's value is left out: it informs logs only.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    let baggage = fields::baggage(&cell.site, cell.snapshot().now(&permit.tree.workload));
    put(header::HeaderName::from_static("baggage"), baggage);
    put(header::FORWARDED, fields::forwarded(permit.origin.client, host.as_deref()));
    // Each tunnel that is tried is a step of its own in the caller's trace.
    let traceparent = callee.trace.traceparent(fastrand::u64(..));
    put(header::HeaderName::from_static("traceparent"), traceparent);
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
