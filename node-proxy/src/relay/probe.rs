//! Kubelet probes where plaintext is refused: the connection ends here, and the app is asked what the pod declared.
//!
//! Nothing that the client sends ever reaches the app: requests are made anew from the declaration. Anything but the
//! declared question is refused with the reason for which the connection was denied; and of the app's answer only what it says of
//! its health goes back, as traffic to a NodePort has the kubelet's address, too.

use std::{cell::Cell as Slot, pin::Pin, rc::Rc, time::Duration};

use bytes::Bytes;
use config::model::ProbeCheck;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use tokio::time::timeout;

use crate::{
    accept::{Protocol, Rewind},
    cell::{Cell, Live},
    policy::probe::ProbePermit,
    stream::{
        Stream,
        farewell::{Served, Signs},
    },
    sys::hyper_io::HyperIo,
    tenancy::meter,
    upstream::{
        UpstreamError,
        connect::{Connected, Peer},
        course::Course,
        rt::{LocalExecutor, TokioTimer},
    },
};

mod health;
mod question;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The declared question was asked and answered, as well as the app could.
    Answered,
    /// It was something else.
    Refused,
}

/// How long a probe may take in all. The kubelet's own time-outs are seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of a gRPC question: it holds the name of a service.
const QUESTION_BYTES: usize = 1024;

type Answer = Response<Either<Full<Bytes>, health::Checked>>;

/// Serves one connection that may be a probe.
pub async fn serve(
    cell: &Rc<Cell>,
    probe: ProbePermit,
    client: Rewind<Stream>,
    protocol: Protocol,
    live: &Live,
) -> Asked {
    let asked = timeout(PATIENCE, async {
        match protocol {
            Protocol::Tcp | Protocol::Hbone => tcp(cell, &probe, client).await,
            Protocol::Http1 | Protocol::Http2 => {
                let asking = Rc::new(Asking::new(Rc::clone(cell), probe));
                http(&asking, client, protocol, live).await
            }
        }
    });
    asked.await.unwrap_or(Asked::Refused)
}

/// What the requests of one connection share.
#[derive(Debug)]
struct Asking {
    cell: Rc<Cell>,
    probe: ProbePermit,
    asked: Slot<Asked>,
    /// Held by each request until its answer has gone.
    under_way: Rc<()>,
}

impl Asking {
    fn new(cell: Rc<Cell>, probe: ProbePermit) -> Self {
        Self { cell, probe, asked: Slot::new(Asked::Refused), under_way: Rc::default() }
    }

    /// Nothing that is heard on such a connection keeps it, but a question.
    fn signs(&self) -> Signs {
        Signs { busy: Rc::strong_count(&self.under_way) > 1, heard: 0 }
    }
}

/// Whether the app takes connections; nothing is relayed.
async fn tcp(cell: &Cell, probe: &ProbePermit, client: Rewind<Stream>) -> Asked {
    let (said, client) = client.into_parts();
    if !said.is_empty() || !probe.checks.contains(&ProbeCheck::Tcp) {
        client.refuse(probe.denied.reason());
        return Asked::Refused;
    }
    if connect(cell, probe).await.is_err() {
        client.reset();
    }
    Asked::Answered
}

async fn http(asking: &Rc<Asking>, client: Rewind<Stream>, protocol: Protocol, live: &Live) -> Asked {
    let limits = &asking.cell.limits;
    let service = service_fn(|request| {
        let (asking, under_way) = (Rc::clone(asking), Rc::clone(&asking.under_way));
        async move {
            let answer = answer(&asking.cell, &asking.probe, request).await;
            if answer.is_ok() {
                asking.asked.set(Asked::Answered);
            }
            // A refusal is an answer, too.
            let answer = answer.unwrap_or_else(|refused| refused);
            let until_sent = move |frame| {
                let _held = &under_way;
                frame
            };
            Ok::<_, std::convert::Infallible>(answer.map(|body| body.map_frame(until_sent)))
        }
    });
    let (is_to_end, signs) = (|| live.is_finishing(), || asking.signs());
    let served = match protocol {
        Protocol::Http2 => {
            let connection = http2::Builder::new(LocalExecutor)
                .max_concurrent_streams(1)
                .serve_connection(HyperIo(client), service);
            let ask = |connection: Pin<&mut http2::Connection<_, _, _>>| connection.graceful_shutdown();
            Served { connection, ask, is_to_end, signs }.run(limits.patience()).await
        }
        Protocol::Http1 | Protocol::Tcp | Protocol::Hbone => {
            let connection = http1::Builder::new()
                .keep_alive(false)
                .timer(TokioTimer)
                .header_read_timeout(limits.head)
                .max_buf_size(limits.head_bytes.max(SMALLEST_BUFFER))
                .serve_connection(HyperIo(client), service);
            let ask = |connection: Pin<&mut http1::Connection<_, _>>| connection.graceful_shutdown();
            Served { connection, ask, is_to_end, signs }.run(limits.patience()).await
        }
    };
    if let Some(Err(error)) = served {
        tracing::debug!(%error, "what may have been a probe broke off");
    }
    asking.asked.get()
}

/// The least that hyper takes as the bound of its buffers.
const SMALLEST_BUFFER: usize = 8192;

/// The app's answer to the declared question, or a refusal.
async fn answer(cell: &Cell, probe: &ProbePermit, request: Request<Incoming>) -> Result<Answer, Answer> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, QUESTION_BYTES).collect().await.map(|body| body.to_bytes());
    let asked = body.ok().and_then(|body| {
        let is_it = |check: &&ProbeCheck| question::is(check, &parts, &body);
        probe.checks.iter().find(is_it)
    });
    let Some(check) = asked else { return Err(refusal(probe)) };
    let Some(question) = question::ask(check, probe.permit.origin.destination) else {
        return Err(refusal(probe));
    };
    match ask(cell, probe, check, question).await {
        Ok(answer) => Ok(answer),
        Err(error) => {
            tracing::debug!(%error, pod = %probe.permit.tree.workload.pod, "a probe was not answered");
            Ok(unanswered())
        }
    }
}

async fn ask(
    cell: &Cell,
    probe: &ProbePermit,
    check: &ProbeCheck,
    question: Request<Full<Bytes>>,
) -> Result<Answer, Box<dyn std::error::Error>> {
    let io = HyperIo(connect(cell, probe).await?.stream);
    if matches!(check, ProbeCheck::Grpc { .. }) {
        let (mut send, driver) = hyper::client::conn::http2::handshake(LocalExecutor, io).await?;
        meter::spawn(timeout(PATIENCE, driver));
        return health::of_grpc(send.send_request(question).await?).await;
    }
    let (mut send, driver) = hyper::client::conn::http1::handshake(io).await?;
    meter::spawn(timeout(PATIENCE, driver));
    Ok(health::of_http(send.send_request(question).await?.status()))
}

async fn connect(cell: &Cell, probe: &ProbePermit) -> Result<Connected, UpstreamError> {
    let permit = &probe.permit;
    let (pod, course) = (Some(&permit.tree.workload.pod), &Course::default());
    let peer = Peer { address: permit.origin.destination, pod, course };
    cell.connect.connect(cell, permit, peer).await
}

fn refusal(probe: &ProbePermit) -> Answer {
    let reason = probe.denied.reason();
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response.headers_mut().insert("canopy-refused", HeaderValue::from_static(reason.as_str()));
    response
}

fn unanswered() -> Answer {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let reason = crate::telemetry::Reason::ConnectFailed.as_str();
    response.headers_mut().insert("canopy-refused", HeaderValue::from_static(reason));
    response
}

/// The method of every HTTP probe.
const GET: Method = Method::GET;
