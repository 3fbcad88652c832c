//! An HTTP/1.1 application that remembers what it was asked: hyper on a real socket in a pod, for what nginx
//! does not tell. Bodies are sent back as they come; `?ms=N` delays the answer.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use testkit::{KitError, Pod, block_on};
use tokio::{net::TcpListener, sync::oneshot};

/// The running application. Dropping it ends it, with its connections.
#[derive(Debug)]
pub struct Origin {
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), KitError>>>,
}

/// A request as the application got it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// Its fields.
    pub headers: HeaderMap,
    /// From where its connection came.
    pub peer: SocketAddr,
    /// Which connection it came on, from 1.
    pub connection: u64,
}

#[derive(Debug, Default)]
struct State {
    name: String,
    connections: AtomicU64,
    seen: Mutex<Vec<Seen>>,
}

impl Origin {
    /// Starts it at a port of all addresses of the pod; its answers say the pod's name in `x-pod`.
    ///
    /// # Errors
    /// The port cannot be bound.
    pub fn start(pod: &Pod, port: u16) -> Result<Self, KitError> {
        let failed = |source| KitError::Start { what: format!("an application at port {port}"), source };
        let listener = pod.run(|| std::net::TcpListener::bind(("::", port)))?.map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let state = Arc::new(State { name: pod.name().to_owned(), ..State::default() });
        let its = Arc::clone(&state);
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = pod.spawn(move || {
            block_on(async {
                tokio::select! {
                    () = accept(listener, &its) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { state, stop: Some(stop), thread: Some(thread) })
    }

    /// All requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its failures were its clients' to see.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, state: &Arc<State>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, peer)) = listener.accept().await {
        let connection = state.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let state = Arc::clone(state);
        let service = service_fn(move |request| {
            let state = Arc::clone(&state);
            async move { Ok::<_, Infallible>(answer(&state, request, (peer, connection)).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    state: &State,
    request: Request<Incoming>,
    (peer, connection): (SocketAddr, u64),
) -> Response<Incoming> {
    let (parts, body) = request.into_parts();
    let delay = parts.uri.query().and_then(|query| query.strip_prefix("ms=")?.parse().ok());
    let seen = Seen { method: parts.method, uri: parts.uri, headers: parts.headers, peer, connection };
    state.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    if let Some(ms) = delay {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    let mut response = Response::new(body);
    if let Ok(name) = state.name.parse() {
        response.headers_mut().insert("x-pod", name);
    }
    response
}
