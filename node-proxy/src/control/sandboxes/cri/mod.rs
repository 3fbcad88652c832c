//! The pods that run, as the container runtime knows them (containerd, CRI-O): its RuntimeService over a Unix socket.
//!
//! Looks at once, then whenever the runtime tells of an event, where it does, and else every few seconds. Each sandbox is asked about
//! once. It only ever reads: whoever has that socket could do anything on the node. A runtime that is away leaves what is known.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    thread,
    time::Duration,
};

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{net::UnixStream, sync::Notify, task::JoinHandle, time::timeout};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use self::wire::{
    Event, EventsRequest, Filter, Item, List, ListRequest, READY, State, StatusAnswer, StatusRequest,
};
use super::{Places, Sandbox};
use crate::identity::authority::{
    grpc::{ready, reason},
    report,
    retry::Backoff,
};

mod info;
mod wire;

#[cfg(test)]
mod tests;

/// The socket of a container runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket(PathBuf);

/// The runtime cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// Nobody answers.
    #[error(
        "no container runtime answers on {}: is that its socket (containerd: /run/containerd/containerd.sock, CRI-O: /run/crio/crio.sock), \
         and may this user use it?",
        path.display()
    )]
    NoRuntime {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// It says no, or nothing.
    #[error("the container runtime on {} does not answer {what}: {why}", path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What it was asked.
        what: &'static str,
        /// What it said.
        why: String,
    },
}

/// Follows what the runtime runs, on a thread of its own, until the process ends.
pub fn follow(socket: Socket, places: Places) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("sandboxes".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        runtime.block_on(keep(&socket, &places, Pace::default()));
    })?;
    Ok(())
}

/// How often the runtime is looked at.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Where it tells of no event.
    poll: Duration,
    /// Between two looks at least, however many events there are.
    least: Duration,
    /// After a failure, at first.
    pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            // The kubelet itself looks every second.
            poll: Duration::from_secs(5),
            least: Duration::from_millis(200),
            pause: Duration::from_secs(1),
        }
    }
}

/// Never without a try to come, never without a pause between two.
async fn keep(socket: &Socket, places: &Places, pace: Pace) {
    let mut pause = Backoff::between(pace.pause, LONGEST_PAUSE);
    loop {
        let error = match Runtime::connect(socket).await {
            Ok(mut runtime) => runtime.watch(places, pace, || pause.reset()).await,
            Err(error) => error,
        };
        let problem = report(&error);
        tracing::warn!(problem, "the container runtime cannot be followed; trying again");
        tokio::time::sleep(pause.next(fastrand::f64())).await;
    }
}

/// Says when something has happened, for as long as the runtime tells: CRI-O and containerd before 1.7 may not. There is no waiting for
/// the begin of the answer, which a Go server sends with the first event alone.
async fn hear(channel: Channel, happened: Arc<Notify>) {
    let Ok(mut client) = ready(channel).await else { return };
    let method = PathAndQuery::from_static(wire::EVENTS);
    let codec = ProstCodec::<EventsRequest, Event>::default();
    let asked = client.server_streaming(Request::new(EventsRequest {}), method, codec);
    let Ok(events) = asked.await else { return };
    let mut events = events.into_inner();
    while let Ok(Some(_event)) = events.message().await {
        happened.notify_one();
    }
}

/// A task that ends with this.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection to it, and what it has said of each sandbox.
#[derive(Debug)]
struct Runtime {
    path: PathBuf,
    channel: Channel,
    /// By the sandbox's id: what is where does not change while it lives.
    known: BTreeMap<String, Arc<Sandbox>>,
}

impl Runtime {
    async fn connect(socket: &Socket) -> Result<Self, CriError> {
        let path = socket.0.clone();
        let at = path.clone();
        let connector = service_fn(move |_| {
            let at = at.clone();
            async move { UnixStream::connect(at).await.map(TokioIo::new) }
        });
        // Nobody looks at the name: a Unix socket has one server.
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(PATIENCE);
        match endpoint.connect_with_connector(connector).await {
            Ok(channel) => Ok(Self { path, channel, known: BTreeMap::new() }),
            Err(source) => Err(CriError::NoRuntime { path, source }),
        }
    }

    /// Looks again and again, until it cannot.
    async fn watch(&mut self, places: &Places, pace: Pace, mut looked: impl FnMut()) -> CriError {
        let happened = Arc::new(Notify::new());
        // Before the first look, so that nothing is missed between.
        let _events = Task(tokio::spawn(hear(self.channel.clone(), Arc::clone(&happened))));
        loop {
            match self.look().await {
                Ok(sandboxes) => places.found(sandboxes),
                Err(error) => return error,
            }
            looked();
            // However many events there are.
            tokio::time::sleep(pace.least).await;
            let _quiet = timeout(pace.poll, happened.notified()).await;
        }
    }

    /// All sandboxes that are ready, the oldest first.
    async fn look(&mut self) -> Result<Vec<Arc<Sandbox>>, CriError> {
        let filter = Some(Filter { state: Some(State { state: READY }) });
        let list: List = self.ask(wire::LIST, "which sandboxes there are", ListRequest { filter }).await?;
        let mut items: Vec<Item> = list.items.into_iter().filter(|item| item.state == READY).collect();
        items.sort_by_key(|item| item.created_at);
        items.truncate(super::MOST);
        let mut known = BTreeMap::new();
        let mut sandboxes = Vec::with_capacity(items.len());
        for item in items {
            let sandbox = match self.known.get(&item.id) {
                Some(sandbox) => Arc::clone(sandbox),
                None => match self.place(&item).await? {
                    Some(sandbox) => Arc::new(sandbox),
                    None => continue,
                },
            };
            known.insert(item.id, Arc::clone(&sandbox));
            sandboxes.push(sandbox);
        }
        self.known = known;
        Ok(sandboxes)
    }

    /// Where one is; `None` where that cannot be told, which is tried again at the next look.
    async fn place(&self, item: &Item) -> Result<Option<Sandbox>, CriError> {
        let question = StatusRequest { id: item.id.clone(), verbose: true };
        let answer: StatusAnswer = match self.ask_once(wire::STATUS, question).await {
            Ok(answer) => answer,
            // It has ended since.
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(self.answer("where a sandbox is", &status)),
        };
        match info::sandbox(item, &answer) {
            Ok(sandbox) => Ok(Some(sandbox)),
            Err(problem) => {
                tracing::debug!(sandbox = item.id, %problem, "a sandbox is not taken up");
                Ok(None)
            }
        }
    }

    async fn ask<Q, A>(&self, method: &'static str, what: &'static str, question: Q) -> Result<A, CriError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.ask_once(method, question).await.map_err(|status| self.answer(what, &status))
    }

    async fn ask_once<Q, A>(&self, method: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let ask = async {
            let mut client = ready(self.channel.clone()).await?.max_decoding_message_size(LARGEST_MESSAGE);
            let codec = ProstCodec::<Q, A>::default();
            let answer = client.unary(Request::new(question), PathAndQuery::from_static(method), codec);
            Ok(answer.await?.into_inner())
        };
        let late = |_| Err(Status::deadline_exceeded(format!("no answer within {PATIENCE:?}")));
        timeout(PATIENCE, ask).await.unwrap_or_else(late)
    }

    fn answer(&self, what: &'static str, status: &Status) -> CriError {
        CriError::Answer { path: self.path.clone(), what, why: reason(status) }
    }
}

impl Socket {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for Socket {
    type Err = String;

    /// `unix:///run/containerd/containerd.sock`, as the kubelet's `--container-runtime-endpoint` has it, or the path alone.
    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
        if Path::new(path).is_absolute() {
            return Ok(Self(path.into()));
        }
        Err("name the runtime's socket by its full path: unix:///run/containerd/containerd.sock".to_owned())
    }
}

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// As the kubelet takes them (`maxMsgSize` of its remote runtime).
const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;
/// Enough for gRPC and to parse JSON.
const STACK_BYTES: usize = 512 * 1024;
