//! What a probe asks, on the wire: telling a declared question from anything else, and asking it anew.

use std::net::SocketAddr;

use bytes::Bytes;
use config::model::ProbeCheck;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header, request::Parts};
use http_body_util::Full;

use super::GET;

/// gRPC's health checking protocol (grpc/doc/health-checking.md).
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// Whether a request is the declared question, to the letter.
pub(super) fn is(check: &ProbeCheck, parts: &Parts, body: &Bytes) -> bool {
    let asked = parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
    match check {
        ProbeCheck::Http { path, .. } => {
            // A query of nothing but its mark is written in two ways.
            parts.method == GET && asked == Some(path) && body.is_empty()
        }
        ProbeCheck::Grpc { service } => {
            parts.method == Method::POST && asked == Some(HEALTH_CHECK) && *body == message(service)
        }
        ProbeCheck::Tcp => false,
    }
}

/// The question as it is sent to the app.
pub(super) fn ask(check: &ProbeCheck, to: SocketAddr) -> Option<Request<Full<Bytes>>> {
    match check {
        ProbeCheck::Http { path, headers, .. } => {
            let mut request = Request::new(Full::default());
            *request.uri_mut() = path.parse::<Uri>().ok()?;
            let fields = request.headers_mut();
            fields.insert(header::HOST, HeaderValue::from_str(&to.to_string()).ok()?);
            fields.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
            fields.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
            for (name, value) in headers {
                let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
                fields.insert(name, HeaderValue::from_str(value).ok()?);
            }
            // Last: what was declared must not keep the connection.
            fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
            Some(request)
        }
        ProbeCheck::Grpc { service } => {
            let mut request = Request::new(Full::new(message(service)));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = format!("http://{to}{HEALTH_CHECK}").parse::<Uri>().ok()?;
            let fields = request.headers_mut();
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            fields.insert(header::TE, HeaderValue::from_static("trailers"));
            fields.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
            Some(request)
        }
        ProbeCheck::Tcp => None,
    }
}

/// Apps that tell probes apart look for the kubelet's word.
const USER_AGENT: &str = "kube-probe/canopy";

/// `HealthCheckRequest { service }`, in gRPC's framing: not compressed, length, then field 1 as protobuf has it.
fn message(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(0x80 | (length & 0x7f) as u8);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(&message);
    Bytes::from(framed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(path: &str) -> ProbeCheck {
        ProbeCheck::Http {
            scheme: config::model::HttpScheme::Http,
            path: path.to_owned(),
            headers: vec![("X-A".to_owned(), "b".to_owned()), ("Host".to_owned(), "app".to_owned())],
        }
    }

    fn is_it(check: &ProbeCheck, method: &str, target: &str, body: &[u8]) -> bool {
        let (parts, ()) = Request::builder().method(method).uri(target).body(()).unwrap().into_parts();
        is(check, &parts, &Bytes::copy_from_slice(body))
    }

    #[test]
    fn only_the_declared_question_is_taken_for_it() {
        let healthz = http("/healthz?full=1");
        let grpc = ProbeCheck::Grpc { service: "cart".to_owned() };
        let cart = [0, 0, 0, 0, 6, 0x0a, 4, b'c', b'a', b'r', b't'];
        for (check, method, target, body, expected) in [
            (&healthz, "GET", "/healthz?full=1", &b""[..], true),
            (&healthz, "GET", "http://a/healthz?full=1", b"", true),
            (&healthz, "GET", "/healthz", b"", false),
            (&healthz, "GET", "/healthz?full=1&x", b"", false),
            (&healthz, "GET", "/healthz/../admin?full=1", b"", false),
            (&healthz, "GET", "//healthz?full=1", b"", false),
            (&healthz, "HEAD", "/healthz?full=1", b"", false),
            (&healthz, "POST", "/healthz?full=1", b"", false),
            (&healthz, "GET", "/healthz?full=1", b"x", false),
            (&grpc, "POST", HEALTH_CHECK, &cart, true),
            (&grpc, "POST", HEALTH_CHECK, &[0, 0, 0, 0, 0], false),
            (&grpc, "POST", "/grpc.health.v1.Health/Watch", &cart, false),
            (&grpc, "GET", HEALTH_CHECK, &cart, false),
            (&ProbeCheck::Grpc { service: String::new() }, "POST", HEALTH_CHECK, &[0, 0, 0, 0, 0], true),
            (&ProbeCheck::Tcp, "GET", "/", b"", false),
        ] {
            assert_eq!(is_it(check, method, target, body), expected, "{check:?}: {method} {target} {body:?}");
        }
    }

    #[test]
    fn the_question_is_made_of_the_declaration_alone() {
        let to = "10.0.0.1:8080".parse().unwrap();
        let request = ask(&http("/healthz?full=1"), to).unwrap();
        assert_eq!(request.uri(), "/healthz?full=1");
        let field = |name: &str| request.headers().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            (field("host"), field("x-a"), field("connection")),
            ("app".into(), "b".into(), "close".into())
        );
        assert!(ask(&ProbeCheck::Tcp, to).is_none());
        assert!(ask(&http("not a path"), to).is_none());
    }
}
