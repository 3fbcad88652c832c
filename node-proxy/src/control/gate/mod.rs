//! The gate: no container of a captured pod starts before the pod is steered and fenced.
//!
//! The CNI plugin ([`crate::cni`]) tells of each pod that is about to start, over a Unix socket, and waits; it is answered when the forest
//! has enrolled the pod, or when it is certain that it will not be. What it tells is kept for whoever asks [where pods are](Places). It
//! decides about no connection, and must never say of a pod that it is enrolled before it is.

use std::{path::PathBuf, sync::Arc, time::Duration};

use config::name::{Name, Namespace, PodName};
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use self::{
    cache::Cache,
    protocol::{Answer, Ask, Attachment, Request, VERSION, Verdict, receive, send},
};
use super::sandboxes::{Handler, Places, Sandbox, spelt};
use crate::{
    sys::private::{Private, Taken},
    telemetry::gate::{Passage, Waits},
};

pub use self::standing::{Own, Registry, Standing};

pub mod cache;
pub mod mode;
pub mod protocol;
mod standing;
pub mod zds;

#[cfg(test)]
mod tests;

/// Where the gate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Its socket.
    pub socket: PathBuf,
    /// Where what namespaces say is kept for the time without a daemon, if anywhere.
    pub cache: Option<PathBuf>,
}

/// The gate cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// Another daemon's.
    #[error(
        "another daemon answers on {path}; give this one another --gate-socket, and one daemon of a node the pods"
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else.
    #[error("{path} is there and is not a socket; move it away or give another --gate-socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// What the system said.
    #[error("the gate's socket {path} cannot be made; give another with --gate-socket")]
    System {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The bound gate. Nobody is answered before it is [served](Self::serve): who comes earlier waits.
#[derive(Debug)]
pub struct Gate {
    door: Private,
    cache: Option<Cache>,
    waits: Waits,
}

/// Who is asked at the gate.
#[derive(Debug, Clone)]
struct Desk {
    places: Places,
    registry: Arc<dyn Registry>,
    waits: Waits,
}

impl Gate {
    /// Makes its socket. Within an event loop.
    pub fn open(options: &Options) -> Result<Self, GateError> {
        let path = options.socket.clone();
        let door = Private::bind(&path).map_err(|taken| match taken {
            Taken::InUse => GateError::InUse { path },
            Taken::NotASocket => GateError::NotASocket { path },
            Taken::System(source) => GateError::System { path, source },
        })?;
        Ok(Self { door, cache: options.cache.clone().map(Cache::new), waits: Waits::default() })
    }

    /// What it counts.
    pub fn waits(&self) -> Waits {
        self.waits.clone()
    }

    /// Answers until dropped; then its socket is gone, and the plugin does as while no daemon is there.
    pub async fn serve(self, places: Places, registry: Arc<dyn Registry>) {
        let Self { door, cache, waits } = self;
        let desk = Desk { places, registry: Arc::clone(&registry), waits };
        let keep = async {
            match cache {
                Some(cache) => follow(cache, &*registry).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = keep => {}
            () = answer_all(&door, &desk) => {}
        }
    }
}

/// Keeps the cache as what is in force says.
async fn follow(mut cache: Cache, registry: &dyn Registry) {
    let mut changes = registry.changes();
    loop {
        changes.mark_unchanged();
        cache.keep(&registry.mesh()).await;
        // A mesh changes in steps of many, and a disk need not see each.
        tokio::time::sleep(CACHE_PAUSE).await;
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn answer_all(door: &Private, desk: &Desk) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut answering = tokio::task::JoinSet::new();
    loop {
        // Those beyond wait in the socket's queue; the plugin has its own time-out.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        while answering.try_join_next().is_some() {}
        match door.accept().await {
            Ok(Some(stream)) => {
                let desk = desk.clone();
                answering.spawn(async move {
                    answer(stream, &desk).await;
                    drop(place);
                });
            }
            Ok(None) => {
                tracing::warn!(socket = %door.path().display(), "a stranger's connection to the gate was refused");
            }
            Err(error) => {
                tracing::warn!(%error, "the gate did not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, desk: &Desk) {
    let verdict = match timeout(REQUEST_PATIENCE, receive::<Request>(&mut stream)).await {
        Ok(Ok(request)) if request.version == VERSION => tokio::select! {
            verdict = decide(request.ask, desk) => verdict,
            // Whoever asked has given up: the runtime says itself what becomes of the sandbox.
            () = hangs_up(&mut stream) => return,
        },
        Ok(Ok(request)) => {
            let why = format!("this daemon speaks version {VERSION}, and not {}", request.version);
            Verdict::Misunderstood { why }
        }
        Ok(Err(error)) => Verdict::Misunderstood { why: error.to_string() },
        Err(_late) => return,
    };
    // Who does not take it has gone.
    let _ = timeout(REQUEST_PATIENCE, send(&mut stream, &Answer::new(verdict))).await;
}

/// Returns when the other end is gone; it has nothing more to say.
async fn hangs_up(stream: &mut UnixStream) {
    let mut rest = [0; 64];
    while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
}

async fn decide(ask: Ask, desk: &Desk) -> Verdict {
    let Desk { places, registry, waits } = desk;
    let here = |attachment: Attachment| Attachment { netns: spelt(&attachment.netns), ..attachment };
    match ask {
        Ask::Add(attachment) => {
            let attachment = here(attachment);
            let until = Instant::now() + Duration::from_millis(attachment.patience_ms).min(LONGEST_PATIENCE);
            let sandbox = match sandbox(&attachment) {
                Ok(sandbox) => sandbox,
                Err(why) => return Verdict::Misunderstood { why },
            };
            let pod = sandbox.pod.clone();
            if let Err(full) = places.told(sandbox) {
                return Verdict::Refused { why: full.to_string() };
            }
            let begun = Instant::now();
            let verdict = wait(&pod, &attachment, &**registry, until).await;
            let outcome = match &verdict {
                Verdict::Enrolled => Passage::enrolled,
                Verdict::Outside { .. } => Passage::outside,
                _ => Passage::refused,
            };
            waits.answered(outcome, begun.elapsed());
            if let Verdict::Refused { why } | Verdict::Unknown { why } = &verdict {
                registry.refused(&pod, &attachment.uid, why);
            }
            verdict
        }
        Ask::Check(attachment) => {
            let attachment = here(attachment);
            match sandbox(&attachment) {
                Ok(sandbox) => wait(&sandbox.pod, &attachment, &**registry, Instant::now()).await,
                Err(why) => Verdict::Misunderstood { why },
            }
        }
        Ask::Del { container } => {
            places.left(&container);
            Verdict::Done
        }
        Ask::Gc { valid } => {
            places.only(&valid);
            Verdict::Done
        }
    }
}

/// Until it is certain how a pod stands, or until there is no more time.
async fn wait(pod: &PodName, attachment: &Attachment, registry: &dyn Registry, until: Instant) -> Verdict {
    let mut changes = registry.changes();
    let begun = Instant::now();
    loop {
        changes.mark_unchanged();
        let standing = registry.standing(pod, &attachment.uid, &attachment.netns);
        match &standing {
            Standing::Enrolled => {
                tracing::debug!(%pod, after = ?begun.elapsed(), "a pod passes the gate");
                return Verdict::Enrolled;
            }
            Standing::Outside(why) => return Verdict::Outside { why: why.clone() },
            Standing::Unknown | Standing::Waiting(_) => {}
        }
        if !matches!(timeout_at(until, changes.changed()).await, Ok(Ok(()))) {
            let verdict = given_up(pod, &standing);
            tracing::warn!(%pod, ?verdict, "a pod does not pass the gate; the kubelet tries again");
            return verdict;
        }
    }
}

fn given_up(pod: &PodName, standing: &Standing) -> Verdict {
    match standing {
        Standing::Waiting(Some(problem)) => {
            Verdict::Refused { why: format!("{pod} is not enrolled: {problem}") }
        }
        Standing::Waiting(None) => {
            let why = format!(
                "{pod} is not enrolled yet: the daemon is still taking it up (`canopy status`, `canopy tree`)"
            );
            Verdict::Refused { why }
        }
        Standing::Unknown | Standing::Outside(_) | Standing::Enrolled => {
            let why = format!(
                "nobody has told the daemon of {pod} with this UID: is its source of configuration behind, or away, or the pod rejected \
                 (`canopy status`)?"
            );
            Verdict::Unknown { why }
        }
    }
}

/// What the plugin said, as names and paths that are such.
fn sandbox(attachment: &Attachment) -> Result<Sandbox, String> {
    let Attachment { namespace, name, uid, container, netns, addresses, .. } = attachment;
    let namespace = Namespace::try_from(namespace.as_str()).map_err(|error| format!("namespace: {error}"))?;
    let name = Name::try_from(name.as_str()).map_err(|error| format!("name: {error}"))?;
    if uid.is_empty() || container.is_empty() || !netns.is_absolute() {
        return Err("a pod has a UID, a sandbox and the full path of a network namespace".to_owned());
    }
    Ok(Sandbox {
        uid: uid.clone(),
        pod: PodName::new(namespace, name),
        container: container.clone(),
        netns: Some(netns.clone()),
        addresses: addresses.clone(),
        are_given: true,
        handler: Handler::default(),
    })
}

/// Pods that may wait at once: five times those that a node may have by default.
const AT_ONCE: usize = 512;
/// How long a request may take to come, and an answer to be taken.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
/// How long a pod waits at most, whatever the plugin says: the kubelet gives a sandbox two minutes (`runtimeRequestTimeout`).
const LONGEST_PATIENCE: Duration = Duration::from_secs(100);
/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks whether the cache is to be written anew.
const CACHE_PAUSE: Duration = Duration::from_millis(500);
