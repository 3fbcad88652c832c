//! HTTP/2 with hyper's client and server at the ends: streams, trailers, resets, and translation both ways.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use config::model::AppProtocol;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http2::SendRequest, service::service_fn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

use super::support::{At, Bench, Endpoint1, local};
use crate::{
    accept::Protocol,
    cell::Limits,
    sys::hyper_io::HyperIo,
    telemetry::Reason,
    upstream::rt::{LocalExecutor, TokioTimer},
};

pub(super) type AnyBody = UnsyncBoxBody<Bytes, h2::Error>;

/// Frames as a test sends them.
struct Fed(mpsc::UnboundedReceiver<Result<Frame<Bytes>, h2::Error>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = h2::Error;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        self.0.poll_recv(context)
    }
}

fn fed() -> (mpsc::UnboundedSender<Result<Frame<Bytes>, h2::Error>>, AnyBody) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Fed(receiver).boxed_unsync())
}

fn full(text: &'static str) -> AnyBody {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never: Infallible| match never {}).boxed_unsync()
}

pub(super) fn empty() -> AnyBody {
    Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// An HTTP/2 server: echoes bodies with a trailer; `/reset` resets, `/trailers-only` answers gRPC's way.
pub(super) async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let connection = hyper::server::conn::http2::Builder::new(LocalExecutor)
                .timer(TokioTimer)
                .serve_connection(HyperIo(stream), service_fn(echo));
            tokio::task::spawn_local(connection);
        }
    });
    address
}

async fn echo(request: Request<Incoming>) -> Result<Response<AnyBody>, h2::Error> {
    match request.uri().path() {
        "/reset" => return Err(h2::Reason::ENHANCE_YOUR_CALM.into()),
        "/trailers-only" => {
            let response = Response::builder().header("content-type", "application/grpc");
            return Ok(response.header("grpc-status", "5").body(empty()).unwrap());
        }
        _ => {}
    }
    let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let (sender, body) = fed();
    tokio::task::spawn_local(async move {
        let mut incoming = request.into_body();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|_| h2::Error::from(h2::Reason::CANCEL));
            if sender.send(frame).is_err() {
                return;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let _ = sender.send(Ok(Frame::trailers(trailers)));
    });
    let response =
        Response::builder().header("content-type", "application/grpc").header("x-authority", authority);
    Ok(response.body(body).unwrap())
}

pub(super) async fn client(bench: &Bench) -> SendRequest<AnyBody> {
    let stream = bench.connect(Protocol::Http2).await;
    let (send, connection) = hyper::client::conn::http2::Builder::new(LocalExecutor)
        .timer(TokioTimer)
        .handshake(HyperIo(stream))
        .await
        .unwrap();
    tokio::task::spawn_local(connection);
    send
}

pub(super) fn request(path: &str, body: AnyBody) -> Request<AnyBody> {
    let uri = format!("http://cart.shop{path}");
    Request::post(uri).header("content-type", "application/grpc").body(body).unwrap()
}

fn http2(address: SocketAddr) -> At {
    At { address, protocol: AppProtocol::Undeclared }
}

#[tokio::test]
async fn a_stream_of_messages_flows_both_ways_before_either_end_has_finished() {
    local(async {
        let bench = Bench::new(&[http2(server().await)]);
        let (sender, body) = fed();
        sender.send(Ok(Frame::data(Bytes::from_static(b"one")))).unwrap();
        let response = client(&bench).await.send_request(request("/", body)).await.unwrap();
        assert_eq!(response.headers()["x-authority"], "cart.shop");
        let mut body = response.into_body();
        for word in ["one", "two", "three"] {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), word);
            let next = if word == "one" { "two" } else { "three" };
            if word != "three" {
                sender.send(Ok(Frame::data(Bytes::from_static(next.as_bytes())))).unwrap();
            }
        }
        drop(sender);
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_cut_with_its_connection_does_not_look_complete() {
    local(async {
        let bench = Bench::new(&[http2(server().await)]);
        let (sender, body) = fed();
        sender.send(Ok(Frame::data(Bytes::from_static(b"half")))).unwrap();
        let response = client(&bench).await.send_request(request("/", body)).await.unwrap();
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        bench.cell.live.close_all(Reason::Draining);
        assert!(body.frame().await.unwrap().is_err());
    })
    .await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_has_its_line_in_the_log() {
    local(async {
        let limits = Limits { head_bytes: 8192, ..Limits::default() };
        let (bench, log) = Bench::logging(&[http2(server().await)], limits);
        let mut request = Request::get("http://cart.shop/").body(empty()).unwrap();
        request.headers_mut().insert("x-a", "a".repeat(10_000).parse().unwrap());
        let response = client(&bench).await.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        drop(response);
        let lines = log.lines(&bench);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert_eq!(lines[0]["reason"], "head_too_large");
    })
    .await;
}

#[tokio::test]
async fn many_streams_share_one_upstream_connection() {
    local(async {
        let bench = Bench::new(&[http2(server().await)]);
        let send = client(&bench).await;
        let calls = (0..50).map(|_| {
            let mut send = send.clone();
            async move {
                let response = send.send_request(request("/", full("hi"))).await.unwrap();
                response.into_body().collect().await.unwrap().to_bytes()
            }
        });
        for body in futures_util::future::join_all(calls).await {
            assert_eq!(body, "hi");
        }
        assert_eq!(bench.cell.pool.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_trailers_only_response_stays_one() {
    local(async {
        let bench = Bench::new(&[http2(server().await)]);
        let call = request("/trailers-only", full("x"));
        let response = client(&bench).await.send_request(call).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "5");
        assert!(response.body().is_end_stream());
    })
    .await;
}

#[tokio::test]
async fn a_reset_keeps_its_code_on_the_way_down() {
    local(async {
        let bench = Bench::new(&[http2(server().await)]);
        let error = client(&bench).await.send_request(request("/reset", full("x"))).await.unwrap_err();
        assert_eq!(reason(&error), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn a_client_s_reset_reaches_the_endpoint() {
    local(async {
        let (told, mut seen) = mpsc::unbounded_channel();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request: Request<Incoming>| {
                let told = told.clone();
                async move {
                    let mut body = request.into_body();
                    while let Some(frame) = body.frame().await {
                        let broken = frame.is_err();
                        told.send(frame.map(drop).map_err(|error| reason(&error))).unwrap();
                        if broken {
                            break;
                        }
                    }
                    Ok::<_, Infallible>(Response::new(empty()))
                }
            });
            let builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
            let _ = builder.serve_connection(HyperIo(stream), service).await;
        });
        let bench = Bench::new(&[http2(address)]);
        let (sender, body) = fed();
        sender.send(Ok(Frame::data(Bytes::from_static(b"one")))).unwrap();
        let mut send = client(&bench).await;
        let call =
            tokio::task::spawn_local(async move { send.send_request(request("/", body)).await.map(drop) });
        assert_eq!(seen.recv().await, Some(Ok(())));
        call.abort();
        let ended = tokio::time::timeout(Duration::from_secs(30), seen.recv()).await.unwrap();
        assert!(matches!(ended, Some(Err(Some(_)))), "{ended:?}");
    })
    .await;
}

#[tokio::test]
async fn refusals_of_grpc_requests_are_grpc_statuses() {
    local(async {
        let bench = Bench::new(&[]);
        let mut send = client(&bench).await;
        let response = send.send_request(request("/", full("x"))).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["canopy-refused"], "no_endpoint");
        let mut plain = request("/", full("x"));
        plain.headers_mut().remove("content-type");
        let response = send.send_request(plain).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    })
    .await;
}

#[tokio::test]
async fn an_http1_port_gets_http1_from_an_http2_client() {
    local(async {
        let endpoint =
            Endpoint1::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
        let at = At { address: endpoint.address, protocol: AppProtocol::Http1 };
        let bench = Bench::new(&[at]);
        let mut call = request("/a?b=c", full("abc"));
        call.headers_mut().remove("content-type");
        call.headers_mut().append("cookie", "a=1".parse().unwrap());
        call.headers_mut().append("cookie", "b=2".parse().unwrap());
        let response = client(&bench).await.send_request(call).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("connection"));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
        let heard = endpoint.heard();
        assert!(heard.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{heard}");
        assert!(heard.contains("host: cart.shop\r\n") && heard.contains("cookie: a=1; b=2\r\n"), "{heard}");
        assert!(heard.ends_with("abc") || heard.ends_with("0\r\n\r\n"), "{heard}");
    })
    .await;
}

#[tokio::test]
async fn an_http2_port_gets_http2_from_an_http1_client() {
    local(async {
        let at = At { address: server().await, protocol: AppProtocol::Http2 };
        let bench = Bench::new(&[at]);
        let request = "POST / HTTP/1.1\r\nhost: cart.shop\r\nte: trailers\r\nconnection: te, keep-alive\r\n\
                       content-length: 2\r\n\r\nhi";
        let answer = bench.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("x-authority: cart.shop\r\n"), "{answer}");
        assert!(answer.contains("\r\n2\r\nhi\r\n0\r\ngrpc-status: 0\r\n\r\n"), "{answer}");
    })
    .await;
}

/// How an HTTP/2 request to this endpoint, of which nothing is declared, is refused.
async fn refusal(endpoint: &Endpoint1) -> String {
    let bench = Bench::new(&[endpoint.at()]);
    let mut call = request("/", full("abc"));
    call.headers_mut().remove("content-type");
    let response = client(&bench).await.send_request(call).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    response.headers()["canopy-refused"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_endpoint_that_does_not_speak_http2_is_told_from_one_that_broke_off() {
    local(async {
        let answers_http1 = Endpoint1::scripted(|mut stream, _| async move {
            let _preface = stream.read(&mut [0; 24]).await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await.unwrap();
        });
        assert_eq!(refusal(&answers_http1.await).await, "upstream_protocol");
        let hangs_up = Endpoint1::scripted(|mut stream, _| async move {
            let _preface = stream.read(&mut [0; 24]).await.unwrap();
        });
        assert_eq!(refusal(&hangs_up.await).await, "upstream_protocol");
        let breaks_off = Endpoint1::scripted(|mut stream, _| async move {
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            let (mut heard, acknowledged) = (Vec::new(), [0, 0, 0, 4, 1, 0, 0, 0, 0]);
            while !heard.windows(9).any(|frame| frame == acknowledged) {
                stream.read_buf(&mut heard).await.unwrap();
            }
        });
        assert_eq!(refusal(&breaks_off.await).await, "upstream_reset");
    })
    .await;
}

#[tokio::test]
async fn draining_lets_streams_finish() {
    local(async {
        let bench = Bench::new(&[http2(server().await)]);
        let (sender, body) = fed();
        let mut send = client(&bench).await;
        sender.send(Ok(Frame::data(Bytes::from_static(b"one")))).unwrap();
        let response = send.send_request(request("/", body)).await.unwrap();
        bench.cell.drain();
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(sender);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "one");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(send.send_request(request("/", full("x"))).await.is_err(), "no new stream after GOAWAY");
    })
    .await;
}

fn reason(error: &hyper::Error) -> Option<h2::Reason> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason();
        }
        cause = error.source();
    }
    None
}
