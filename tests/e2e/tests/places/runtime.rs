//! As much of a container runtime as a node asks: which sandboxes there are, and where.

use std::{
    convert::Infallible,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use testkit::block_on;

/// A sandbox that is ready.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    pub(crate) uid: &'static str,
    pub(crate) netns: String,
    pub(crate) address: String,
    /// As containerd calls what runs it.
    pub(crate) kind: &'static str,
}

/// The runtime, at a socket.
#[derive(Debug, Default, Clone)]
pub(crate) struct Runtime(Arc<Mutex<Vec<Sandbox>>>);

// Of runtime.v1 (kubernetes/cri-api, api.proto): the fields that are asked for.
#[derive(Clone, PartialEq, prost::Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Item>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Item {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<Metadata>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(string, tag = "1")]
    id: String,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(map = "string, string", tag = "2")]
    info: std::collections::HashMap<String, String>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(message, optional, tag = "5")]
    network: Option<Ip>,
}
#[derive(Clone, PartialEq, prost::Message)]
struct Ip {
    #[prost(string, tag = "1")]
    ip: String,
}

impl Runtime {
    pub(crate) fn start(socket: &Path) -> std::io::Result<Self> {
        let runtime = Self::default();
        let listener = std::os::unix::net::UnixListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        let served = runtime.clone();
        // It ends with the test's process.
        thread::spawn(move || block_on(serve(listener, served)));
        Ok(runtime)
    }

    pub(crate) fn runs(&self, sandboxes: &[Sandbox]) {
        *self.0.lock().expect("no test panics with it") = sandboxes.to_vec();
    }

    fn list(&self) -> List {
        let sandboxes = self.0.lock().expect("no test panics with it");
        let item = |sandbox: &Sandbox| Item {
            id: sandbox.uid.to_owned(),
            metadata: Some(Metadata {
                name: sandbox.name.to_owned(),
                uid: sandbox.uid.to_owned(),
                namespace: sandbox.namespace.to_owned(),
            }),
        };
        List { items: sandboxes.iter().map(item).collect() }
    }

    fn status(&self, id: &str) -> Option<Answer> {
        let sandboxes = self.0.lock().expect("no test panics with it");
        let sandbox = sandboxes.iter().find(|sandbox| sandbox.uid == id)?;
        let network = serde_json::json!({ "type": "network", "path": sandbox.netns });
        let info = serde_json::json!({
            "runtimeType": sandbox.kind, "runtimeSpec": { "linux": { "namespaces": [network] } },
        });
        let status = Status { network: Some(Ip { ip: sandbox.address.clone() }) };
        Some(Answer { status: Some(status), info: [("info".to_owned(), info.to_string())].into() })
    }
}

async fn serve(listener: std::os::unix::net::UnixListener, runtime: Runtime) {
    let listener = tokio::net::UnixListener::from_std(listener).expect("a listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let runtime = runtime.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(runtime.clone(), request));
            // Who asks may go.
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    runtime: Runtime,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let asked = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let said = match method.as_str() {
        "ListPodSandbox" => Some(runtime.list().encode_to_vec()),
        "PodSandboxStatus" => {
            let asked = Asked::decode(asked.get(5..).unwrap_or_default()).unwrap_or_default();
            runtime.status(&asked.id).map(|answer| answer.encode_to_vec())
        }
        _ => None,
    };
    let answer = Response::builder().header("content-type", "application/grpc");
    Ok(match said {
        None => {
            let answer = answer.header("grpc-status", "12");
            answer.body(Full::new(Bytes::new()).boxed()).expect("an answer")
        }
        Some(message) => {
            let mut frame = BytesMut::new();
            frame.put_u8(0);
            frame.put_u32(u32::try_from(message.len()).expect("a short message"));
            frame.put_slice(&message);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let frames = [Ok(Frame::data(frame.freeze())), Ok(Frame::trailers(trailers))];
            let body = StreamBody::new(futures_util::stream::iter(frames));
            answer.body(BodyExt::boxed(body)).expect("an answer")
        }
    })
}
