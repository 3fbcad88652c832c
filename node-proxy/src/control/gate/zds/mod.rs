//! Another CNI agent's word in place of the plugin's own: Istio's `istio-cni` hands each pod's network namespace to the proxy of its node
//! over a Unix socket (ZDS), and lets the pod start when the proxy has answered.
//!
//! The agent listens and this side dials, again and again. Every word of the agent's is answered once, in order, and nothing is said unasked.
//! While the agent is away, what it has said stays.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use prost::Message;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::time::Instant;

use self::{
    state::{State, Step},
    wire::{Ack, Hello, Request, Response},
};
use super::{Registry, protocol::Attachment, protocol::Verdict, wait};
use crate::{
    control::sandboxes::{Handler, Places, Sandbox},
    identity::authority::{report, retry::Backoff},
    sys::{
        addresses,
        netns::Netns,
        packets::{Packet, Packets},
    },
};

mod state;
mod wire;

#[cfg(test)]
mod tests;

/// The conversation has ended.
#[derive(Debug, thiserror::Error)]
enum ZdsError {
    #[error("no CNI agent answers on {path}: does it run, and is that its socket?")]
    NoAgent {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the CNI agent ended the conversation")]
    Ended,
    #[error("the CNI agent breaks the protocol: {0}")]
    Violation(#[from] state::Violation),
    #[error("the CNI agent says what is not understood")]
    Decode(#[from] prost::DecodeError),
    #[error("the conversation with the CNI agent broke off")]
    Broken(#[from] io::Error),
}

/// Follows the agent until dropped.
pub async fn follow(socket: PathBuf, places: Places, registry: Arc<dyn Registry>) {
    let mut agent = Agent { places, registry, state: State::default() };
    let mut pause = Backoff::between(SHORTEST_PAUSE, LONGEST_PAUSE);
    let mut said = None;
    loop {
        let begun = Instant::now();
        let Err(error) = agent.converse(&socket).await else { continue };
        let problem = report(&error);
        if said.as_ref() != Some(&problem) {
            tracing::warn!(
                problem,
                "the CNI agent cannot be followed; what it said stays, and it is tried again"
            );
        }
        said = Some(problem);
        if begun.elapsed() > LONGEST_PAUSE {
            pause.reset();
        }
        tokio::time::sleep(pause.next(fastrand::f64())).await;
    }
}

/// This side of it.
#[derive(Debug)]
struct Agent {
    places: Places,
    registry: Arc<dyn Registry>,
    state: State,
}

impl Agent {
    /// One connection, to its end.
    async fn converse(&mut self, path: &Path) -> Result<(), ZdsError> {
        let packets = dial(path).map_err(|source| ZdsError::NoAgent { path: path.to_owned(), source })?;
        packets.send(&Hello { version: V1 }.encode_to_vec(), &[]).await?;
        self.state.connected();
        tracing::info!(socket = %path.display(), "a CNI agent tells which pods are to be captured");
        loop {
            let packet = packets.receive().await?.ok_or(ZdsError::Ended)?;
            let (error, broken) = match self.take(packet) {
                Ok(step) => {
                    let answer = self.go(step).await;
                    if self.state.is_whole() {
                        self.places.all_told();
                    }
                    (answer, None)
                }
                Err(error) => (error.to_string(), Some(error)),
            };
            let answer = Response { ack: Some(Ack { error: short(error) }) };
            packets.send(&answer.encode_to_vec(), &[]).await?;
            if let Some(error) = broken {
                return Err(error);
            }
        }
    }

    fn take(&mut self, packet: Packet) -> Result<Step, ZdsError> {
        let request = Request::decode(packet.bytes.as_slice())?;
        let netns = packet.descriptors.into_iter().map(Netns::from).collect();
        Ok(self.state.take(request.payload, netns)?)
    }

    /// Does it; says what is in the way, or nothing.
    async fn go(&mut self, step: Step) -> String {
        match step {
            Step::Nothing => String::new(),
            Step::LetGo(ids) => {
                ids.iter().for_each(|id| self.places.left(id));
                String::new()
            }
            Step::Enrol { uid, before } => {
                if let Some(before) = before {
                    self.places.left(&before);
                }
                self.enrol(&uid).await
            }
        }
    }

    /// Tells of a pod, and waits until it is enrolled, as long as the agent waits. What comes later of it comes all the same.
    async fn enrol(&self, uid: &str) -> String {
        let Some(held) = self.state.of(uid) else { return String::new() };
        let until = Instant::now() + PATIENCE;
        let sandbox = Sandbox {
            uid: uid.to_owned(),
            pod: held.pod.clone(),
            container: held.id(),
            netns: Some(held.path()),
            addresses: addresses_in(held.netns()).await,
            // A pod that runs already may have put them there.
            are_given: false,
            handler: Handler::default(),
        };
        let attachment = Attachment {
            namespace: held.pod.namespace.to_string(),
            name: held.pod.name.to_string(),
            uid: uid.to_owned(),
            container: sandbox.container.clone(),
            netns: held.path(),
            addresses: sandbox.addresses.clone(),
            patience_ms: 0,
        };
        if let Err(full) = self.places.told(sandbox) {
            return full.to_string();
        }
        match wait(&held.pod, &attachment, &*self.registry, until).await {
            Verdict::Enrolled | Verdict::Outside { .. } | Verdict::Done => String::new(),
            Verdict::Unknown { why } | Verdict::Refused { why } | Verdict::Misunderstood { why } => {
                self.registry.refused(&held.pod, uid, &why);
                why
            }
        }
    }
}

/// A pod's addresses, as its interfaces have them: the API server may not know them yet. None where they cannot be read.
async fn addresses_in(netns: &Netns) -> Vec<std::net::IpAddr> {
    let Ok(netns) = netns.try_clone() else { return Vec::new() };
    let read = move || netns.run(&Netns::current()?, addresses::local);
    let found = tokio::task::spawn_blocking(read).await;
    let found = found.unwrap_or_else(|_panicked| Err(io::ErrorKind::Other.into())).unwrap_or_default();
    let is_its_own = |address: &std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        std::net::IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    found.into_iter().filter(is_its_own).collect()
}

fn dial(path: &Path) -> io::Result<Packets> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Packets::new(socket)
}

/// The agent reads 1024 bytes.
fn short(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_ERROR));
    text
}

/// The version that is spoken.
const V1: i32 = 1;
/// The agent waits for five seconds.
const PATIENCE: Duration = Duration::from_millis(4500);
/// Bytes of an error, so that its message fits into what the agent reads.
const LONGEST_ERROR: usize = 900;
/// The first pause after a failure, and the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
