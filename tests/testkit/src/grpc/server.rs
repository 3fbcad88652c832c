//! The server's side of the echo service.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::sync::oneshot;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    Reply, TRAILER, Words,
    generated::echo_server::{self, Echo},
};
use crate::{KitError, Pod, block_on};

/// An echo server on a thread of this process, its sockets in a pod. Dropping it ends it, with all its
/// connections.
#[derive(Debug)]
pub struct EchoServer {
    cancelled: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), KitError>>>,
}

impl EchoServer {
    /// Starts it in `pod`; it listens when this returns. Its name is the pod's.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn start(pod: &Pod, at: SocketAddr) -> Result<Self, KitError> {
        let what = || format!("the gRPC server of {} at {at}", pod.name());
        let listener =
            pod.run(|| TcpListener::bind(at))?.map_err(|source| KitError::Start { what: what(), source })?;
        let cancelled = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = oneshot::channel::<()>();
        let speaker =
            Speaker { name: pod.name().into(), peer: Arc::default(), cancelled: Arc::clone(&cancelled) };
        let thread = pod.spawn(move || block_on(run(listener, speaker, async { drop(stopped.await) })))?;
        let thread = std::thread::spawn(move || thread.join().unwrap_or(Ok(Ok(())))?);
        Ok(Self { cancelled, stop: Some(stop), thread: Some(thread) })
    }

    /// How many calls their callers have given up: a reset reached the server.
    #[must_use]
    pub fn cancelled(&self) -> u64 {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its failure, if any, was its clients' to see.
            let _ = thread.join();
        }
    }
}

/// Serves on the calling thread until the process ends; for a program that is a server.
///
/// # Errors
/// The address cannot be bound, or the server failed.
pub fn serve(at: SocketAddr, name: &str) -> Result<(), KitError> {
    let listener = TcpListener::bind(at)
        .map_err(|source| KitError::Start { what: format!("a gRPC server at {at}"), source })?;
    let speaker = Speaker { name: name.into(), peer: Arc::default(), cancelled: Arc::default() };
    block_on(run(listener, speaker, std::future::pending()))
}

async fn run(
    listener: TcpListener,
    speaker: Speaker,
    stopped: impl Future<Output = ()>,
) -> Result<(), KitError> {
    let failed = |source| KitError::Start { what: "a gRPC server".into(), source };
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    tokio::select! {
        ended = accept(listener, speaker) => ended.map_err(failed),
        () = stopped => Ok(()),
    }
}

/// Ends only by being dropped, or when the listener fails.
async fn accept(listener: tokio::net::TcpListener, speaker: Speaker) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let speaker = Speaker { peer: peer.to_string().into(), ..speaker.clone() };
        let service = TowerToHyperService::new(echo_server::EchoServer::new(speaker));
        let connection = http2::Builder::new(TokioExecutor::new());
        tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
    }
}

#[derive(Clone)]
struct Speaker {
    name: Arc<str>,
    peer: Arc<str>,
    cancelled: Arc<AtomicU64>,
}

type Replies = Pin<Box<dyn Stream<Item = Result<Reply, Status>> + Send>>;

#[tonic::async_trait]
impl Echo for Speaker {
    type ExpandStream = Replies;
    type ChatStream = Replies;

    async fn say(&self, request: Request<Words>) -> Result<Response<Reply>, Status> {
        let call = self.begin_call();
        let words = request.into_inner();
        wait(&words).await;
        let answer = self.ending(&words).map_or(Ok(()), Err);
        call.finished();
        answer.map(|()| Response::new(self.reply(words.text, 0)))
    }

    async fn expand(&self, request: Request<Words>) -> Result<Response<Replies>, Status> {
        let words = request.into_inner();
        let this = self.clone();
        let call = self.begin_call();
        let replies = stream::unfold((0, Some(call)), move |(index, call)| {
            let (this, words) = (this.clone(), words.clone());
            async move {
                let call = call?;
                if index < words.replies {
                    wait(&words).await;
                    return Some((Ok(this.reply(words.text, index)), (index + 1, Some(call))));
                }
                call.finished();
                this.ending(&words).map(|status| (Err(status), (index, None)))
            }
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn collect(&self, request: Request<Streaming<Words>>) -> Result<Response<Reply>, Status> {
        let call = self.begin_call();
        let (mut heard, mut texts) = (request.into_inner(), Vec::new());
        while let Some(words) = heard.message().await? {
            if let Some(status) = self.ending(&words) {
                call.finished();
                return Err(status);
            }
            texts.push(words.text);
        }
        call.finished();
        let count = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        Ok(Response::new(self.reply(texts.join(" "), count)))
    }

    async fn chat(&self, request: Request<Streaming<Words>>) -> Result<Response<Replies>, Status> {
        let this = self.clone();
        let call = self.begin_call();
        let heard = request.into_inner();
        let replies = stream::unfold((0, heard, Some(call)), move |(index, mut heard, call)| {
            let this = this.clone();
            async move {
                let call = call?;
                let Some(words) = heard.next().await else {
                    call.finished();
                    return None;
                };
                // An error here is the caller's reset: the call is counted as given up when it is dropped.
                let words = words.ok()?;
                wait(&words).await;
                if let Some(status) = this.ending(&words) {
                    call.finished();
                    return Some((Err(status), (index, heard, None)));
                }
                Some((Ok(this.reply(words.text, index)), (index + 1, heard, Some(call))))
            }
        });
        Ok(Response::new(Box::pin(replies)))
    }
}

impl Speaker {
    fn reply(&self, text: String, index: u32) -> Reply {
        Reply { text, server: self.name.to_string(), index, peer: self.peer.to_string() }
    }

    /// The failure that the words ask for, with its trailer.
    fn ending(&self, words: &Words) -> Option<Status> {
        let code = Code::from_i32(words.status);
        (code != Code::Ok).then(|| {
            let mut status = Status::new(code, format!("asked for by {:?}", words.text));
            if let Ok(name) = self.name.parse() {
                status.metadata_mut().insert(TRAILER, name);
            }
            status
        })
    }

    fn begin_call(&self) -> Call {
        Call { cancelled: Arc::clone(&self.cancelled), finished: false }
    }
}

/// A call under way; counted as cancelled when it is dropped before its end.
struct Call {
    cancelled: Arc<AtomicU64>,
    finished: bool,
}

impl Call {
    fn finished(mut self) {
        self.finished = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.finished {
            self.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn wait(words: &Words) {
    if words.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(words.delay_ms.into())).await;
    }
}
