//! What an app says of its health, made anew: HTTP's status, or gRPC's serving status.
//!
//! Nothing else of its answer may go on: who asks comes from the node's address, and so do others than the kubelet.

use std::{convert::Infallible, future::Ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, Limited, combinators::WithTrailers};
use hyper::body::Incoming;

use super::Answer;

/// gRPC's answer, with its status after it.
pub(super) type Checked = WithTrailers<Full<Bytes>, Ready<Option<Result<HeaderMap, Infallible>>>>;

/// Of gRPC's answer: the serving status is two bytes in a frame of five.
const ANSWER_BYTES: usize = 1024;
/// The statuses of gRPC that are needed here.
const OK: u32 = 0;
const UNKNOWN: u32 = 2;
const GRPC_STATUS: &str = "grpc-status";

/// The status alone. The kubelet takes a redirection that leads nowhere for a success, as it takes one to another machine.
pub(super) fn of_http(status: StatusCode) -> Answer {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

/// The serving status alone, or the status with which the question failed.
pub(super) async fn of_grpc(said: Response<Incoming>) -> Result<Answer, Box<dyn std::error::Error>> {
    let (parts, body) = said.into_parts();
    if parts.status != StatusCode::OK {
        return Ok(of_http(parts.status));
    }
    let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?;
    let told =
        body.trailers().and_then(|trailers| trailers.get(GRPC_STATUS)).or(parts.headers.get(GRPC_STATUS));
    let status = told.and_then(|told| told.to_str().ok()?.parse().ok()).unwrap_or(UNKNOWN);
    Ok(match (status, serving(&body.to_bytes())) {
        (OK, Some(serving)) => checked(&[0, 0, 0, 0, 2, FIELD, serving], OK),
        (OK, None) => checked(&[], UNKNOWN),
        (failed, _) => checked(&[], failed),
    })
}

fn checked(message: &[u8], status: u32) -> Answer {
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from(status));
    let body =
        Full::new(Bytes::copy_from_slice(message)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Either::Right(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// `HealthCheckResponse { status }`, in gRPC's framing; a default is not written.
fn serving(framed: &[u8]) -> Option<u8> {
    match framed {
        [0, 0, 0, 0, 0] => Some(0),
        [0, 0, 0, 0, 2, FIELD, status] if *status < 0x80 => Some(*status),
        _ => None,
    }
}

/// Field 1, a number, as protobuf has it.
const FIELD: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serving_status_is_read_and_nothing_else() {
        for (framed, expected) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 2, 8, 0x81], None),
            (&[0, 0, 0, 0, 4, 8, 1, 0x12, 0], None),
            (&[], None),
        ] {
            assert_eq!(serving(framed), expected, "{framed:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_of_grpc_has_its_status_behind_it() {
        for (message, status) in [(&[0, 0, 0, 0, 2, FIELD, 1][..], OK), (&[], 5)] {
            let answer = checked(message, status);
            assert_eq!(answer.headers().len(), 1, "{:?}", answer.headers());
            let body = answer.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()[GRPC_STATUS], status.to_string());
            assert_eq!(body.to_bytes(), message);
        }
    }
}
