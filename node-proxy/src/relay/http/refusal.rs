//! Answers of our own: each names its reason in the header `canopy-refused`, so that nobody takes it for the app's.
//!
//! gRPC clients read a status in trailers, not HTTP's: they get a trailers-only response. A refusal must never carry what came
//! from configuration or from the other side.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::download::Outgoing;
use crate::{
    telemetry::{Reason, reason::Fault},
    tenancy::Refused,
};

/// A request that is answered here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    /// Where it is not the reason's own.
    status: Option<StatusCode>,
    /// In how many seconds it may be tried again.
    retry_after: Option<u64>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        // The other end's cell says only which budget was used up.
        let is_of_a_budget = reason.fault() == Fault::Budget;
        Self { reason, status: None, retry_after: is_of_a_budget.then_some(1) }
    }
}

/// What a budget refuses may be tried again: when its bucket says, else in a second, as the field has no less.
impl From<Refused> for Refusal {
    fn from(Refused { reason, retry_after }: Refused) -> Self {
        let after = retry_after.unwrap_or_default();
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        Self { reason, status: None, retry_after: Some(seconds.max(1)) }
    }
}

impl Refusal {
    /// A reason with a status that fits the request better than the reason's own.
    pub(super) fn with(reason: Reason, status: StatusCode) -> Self {
        Self { reason, status: Some(status), retry_after: None }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| self.reason.status())
    }

    /// The response, as plain HTTP or as gRPC.
    pub(super) fn response(self, grpc: bool) -> Response<Outgoing> {
        let mut response = Response::new(Outgoing::empty());
        let reason = HeaderValue::from_static(self.reason.as_str());
        let headers = response.headers_mut();
        if grpc {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(GRPC_STATUS, HeaderValue::from_static(self.grpc_code()));
            headers.insert(GRPC_MESSAGE, reason.clone());
        } else {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        headers.insert(REFUSED, reason);
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            if grpc {
                headers.insert(GRPC_PUSHBACK, HeaderValue::from(seconds.saturating_mul(1000)));
            }
        }
        if !grpc {
            *response.status_mut() = self.status();
        }
        response
    }

    /// A whole HTTP/1.1 response that closes its connection, for where there is no request that hyper could answer.
    pub(super) fn closing(self) -> Vec<u8> {
        let (status, reason) = (self.status(), self.reason);
        let phrase = status.canonical_reason().unwrap_or("Refused");
        let code = status.as_str();
        let head = format!("HTTP/1.1 {code} {phrase}\r\nconnection: close\r\ncontent-length: 0\r\n");
        format!("{head}{REFUSED}: {reason}\r\n\r\n").into_bytes()
    }

    /// gRPC's own mapping of HTTP statuses (grpc/doc/http-grpc-status-mapping.md), but time-outs are told apart, and a rate that is
    /// used up is RESOURCE_EXHAUSTED: clients that try UNAVAILABLE again at once would only be refused again.
    fn grpc_code(self) -> &'static str {
        match (self.status().as_u16(), self.reason.fault()) {
            (504, _) => "4",
            (500, Fault::Configuration) => "14",
            (400, _) => "13",
            (401, _) => "16",
            (403, _) => "7",
            (404, _) => "12",
            (429, _) => "8",
            (408 | 502 | 503, _) => "14",
            (_, Fault::Canopy) => "13",
            _ => "2",
        }
    }
}

/// Names the reason of a refusal.
pub(super) const REFUSED: HeaderName = HeaderName::from_static("canopy-refused");

/// In milliseconds, for clients that try again by themselves (gRFC A6).
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
