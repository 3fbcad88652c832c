//! Kubelet probes where plaintext is refused: the connection ends here, and the app is asked what the pod declared.
//!
//! Nothing that the client sends ever reaches the app: requests are made anew from the declaration. Anything but the
//! declared question is refused with the reason for which the connection was denied.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use config::model::ProbeCheck;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use tokio::time::timeout;

use crate::{
    accept::{Protocol, Rewind},
    cell::Cell,
    policy::probe::ProbePermit,
    stream::Stream,
    sys::hyper_io::HyperIo,
    upstream::{
        UpstreamError,
        connect::{Connected, Peer},
        course::Course,
        rt::{LocalExecutor, TokioTimer},
    },
};

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

type Answer = Response<Either<Full<Bytes>, Incoming>>;

/// Serves one connection that may be a probe.
pub async fn serve(cell: &Rc<Cell>, probe: ProbePermit, client: Rewind<Stream>, protocol: Protocol) -> Asked {
    let asked = timeout(PATIENCE, async {
        match protocol {
            Protocol::Tcp | Protocol::Hbone => tcp(cell, &probe, client).await,
            Protocol::Http1 | Protocol::Http2 => http(cell, probe, client, protocol).await,
        }
    });
    asked.await.unwrap_or(Asked::Refused)
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

async fn http(cell: &Rc<Cell>, probe: ProbePermit, client: Rewind<Stream>, protocol: Protocol) -> Asked {
    let asked = std::cell::Cell::new(Asked::Refused);
    let io = HyperIo(client);
    let answer = |request| async {
        let answer = answer(cell, &probe, request).await;
        if answer.is_ok() {
            asked.set(Asked::Answered);
        }
        // A refusal is an answer, too.
        Ok::<_, std::convert::Infallible>(answer.unwrap_or_else(|refused| refused))
    };
    let served = match protocol {
        Protocol::Http2 => {
            let probe = Rc::new(probe);
            let (cell, seen) = (Rc::clone(cell), Rc::new(std::cell::Cell::new(false)));
            let told = Rc::clone(&seen);
            let service = service_fn(move |request| {
                let (cell, probe, told) = (Rc::clone(&cell), Rc::clone(&probe), Rc::clone(&told));
                async move {
                    let answer = self::answer(&cell, &probe, request).await;
                    told.set(told.get() || answer.is_ok());
                    Ok::<_, std::convert::Infallible>(answer.unwrap_or_else(|refused| refused))
                }
            });
            let served = hyper::server::conn::http2::Builder::new(LocalExecutor)
                .max_concurrent_streams(1)
                .serve_connection(io, service)
                .await;
            if seen.get() {
                asked.set(Asked::Answered);
            }
            served
        }
        Protocol::Http1 | Protocol::Tcp | Protocol::Hbone => {
            hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .timer(TokioTimer)
                .header_read_timeout(cell.limits.head)
                .max_buf_size(cell.limits.head_bytes.max(SMALLEST_BUFFER))
                .serve_connection(io, service_fn(answer))
                .await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "what may have been a probe broke off");
    }
    asked.get()
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
        Ok(response) => Ok(response.map(Either::Right)),
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
) -> Result<Response<Incoming>, Box<dyn std::error::Error>> {
    let io = HyperIo(connect(cell, probe).await?.stream);
    if matches!(check, ProbeCheck::Grpc { .. }) {
        let (mut send, driver) = hyper::client::conn::http2::handshake(LocalExecutor, io).await?;
        tokio::task::spawn_local(timeout(PATIENCE, driver));
        return Ok(send.send_request(question).await?);
    }
    let (mut send, driver) = hyper::client::conn::http1::handshake(io).await?;
    tokio::task::spawn_local(timeout(PATIENCE, driver));
    let mut response = send.send_request(question).await?;
    response.headers_mut().remove(header::CONNECTION);
    Ok(response)
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
