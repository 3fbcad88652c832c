//! What the plugin does: asks whom it has to ask, in the time that there is, and does as [`decide`] says.
//!
//! It must never hold up the end of a pod, nor the start of one that is nobody's.

use std::{io, path::Path, time::Duration};

use config::opt_in::{MODE, Mode};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

use super::{
    Done,
    answer::{Code, Failure},
    api::{Api, Labels},
    call::{Call, Command, Pod},
    decide::{Decision, Facts, Gate, decide},
    network::{Network, Own},
};
use crate::control::gate::{
    cache::Namespaces,
    mode::{OfPod, Terms},
    protocol::{Answer, Ask, Attachment, Request, Verdict, receive, send},
};

/// Does it.
pub(super) async fn run(call: &Call, network: &Network) -> Result<Done, Failure> {
    let since = |version: &str| match network.speaks(version) {
        true => Ok(()),
        false => {
            let details = format!("this operation is since CNI {version}; correct cniVersion");
            Err(Failure::new(Code::Version, "this version of CNI has no such operation", details))
        }
    };
    match call.command {
        Command::Add => {
            let text = network.result()?;
            let note = attach(call, network, Until::Enrolled).await?;
            Ok(Done { text, note })
        }
        Command::Check => {
            since("0.4.0")?;
            attach(call, network, Until::Asked).await.map(|note| Done { note, ..Done::default() })
        }
        Command::Del => {
            let gone = Ask::Del { container: call.container.clone() };
            Ok(Done { note: tell(&network.own, gone).await, ..Done::default() })
        }
        Command::Gc => {
            since("1.1.0")?;
            let valid = Ask::Gc { valid: network.valid.clone() };
            Ok(Done { note: tell(&network.own, valid).await, ..Done::default() })
        }
        // Not "is a daemon there?": where a plugin says no, the runtime says that the node has no network, the node is not ready, and pods of
        // everybody suffer. Those that are nobody's can be served at any time.
        Command::Status => since("1.1.0").map(|()| Done::default()),
        Command::Version => Ok(Done::default()),
    }
}

/// How long to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Until the pod is enrolled, or there is no more time.
    Enrolled,
    /// Until everybody was asked once.
    Asked,
}

/// Asks about a pod, again and again; what is to be remarked, where it may start.
async fn attach(call: &Call, network: &Network, until: Until) -> Result<Option<String>, Failure> {
    // What is no pod of Kubernetes' has no namespace that could be labelled.
    let Some(pod) = &call.pod else { return Ok(None) };
    let is_exempt = network.own.is_exempt(&pod.namespace);
    let mut asker = Asker { call, pod, network, known: None, uid: pod.uid.clone(), asked: 0 };
    let end = Instant::now() + network.own.patience();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut facts = Facts {
            is_exempt,
            gate: Gate::Unasked,
            terms: Err("it was not asked".to_owned()),
            is_late: until == Until::Asked,
        };
        if !is_exempt {
            let patience = if until == Until::Asked { Duration::ZERO } else { left.saturating_sub(PAUSE) };
            facts.gate = asker.gate(until, patience).await;
            if matches!(facts.gate, Gate::Away(_) | Gate::Unknown(_)) {
                facts.terms = asker.terms().await;
            }
            facts.is_late |= end.saturating_duration_since(Instant::now()) <= PAUSE;
        }
        match decide(&facts) {
            Decision::Start => return Ok(None),
            Decision::StartOpen(why) => {
                let note = format!(
                    "{}/{} starts uncaptured, as its namespace has it (canopy.mesh/on-failure: open): {why}",
                    pod.namespace, pod.name
                );
                return Ok(Some(note));
            }
            Decision::Wait => sleep(PAUSE).await,
            Decision::Fail(failure) => return Err(failure),
        }
    }
}

/// Who asks about a pod, and what it has heard for good.
struct Asker<'a> {
    call: &'a Call,
    pod: &'a Pod,
    network: &'a Network,
    known: Option<OfPod>,
    uid: Option<String>,
    asked: u32,
}

impl Asker<'_> {
    /// Asks the daemon.
    async fn gate(&mut self, until: Until, patience: Duration) -> Gate {
        if self.uid.is_none() {
            // What it says of the pod besides is read at need.
            let _ = self.terms().await;
        }
        let Some(uid) = self.uid.clone() else {
            let why = "the runtime does not say the pod's UID (K8S_POD_UID), and the API server cannot be asked for it";
            return Gate::Away(why.to_owned());
        };
        // At first shortly: a daemon that has not heard of the pod, since the API server does not tell it anything, must not hold up
        // pods that are nobody's.
        let patience = if self.asked == 0 { patience.min(FIRST) } else { patience };
        self.asked += 1;
        let attachment = Attachment {
            namespace: self.pod.namespace.clone(),
            name: self.pod.name.clone(),
            uid,
            container: self.call.container.clone(),
            netns: self.call.netns.clone().unwrap_or_default(),
            addresses: self.network.addresses(),
            patience_ms: patience.as_millis().try_into().unwrap_or(u64::MAX),
        };
        let ask = if until == Until::Asked { Ask::Check(attachment) } else { Ask::Add(attachment) };
        let socket = &self.network.own.gate;
        match timeout(patience + ANSWER, converse(socket, ask)).await {
            Ok(Ok(Verdict::Enrolled | Verdict::Done)) => Gate::Enrolled,
            Ok(Ok(Verdict::Outside { .. })) => Gate::Outside,
            Ok(Ok(Verdict::Refused { why })) => Gate::Refused(why),
            Ok(Ok(Verdict::Unknown { why })) => Gate::Unknown(why),
            Ok(Ok(Verdict::Misunderstood { why })) => Gate::Away(format!(
                "the daemon at {} does not understand this plugin: {why}",
                socket.display()
            )),
            Ok(Err(error)) => Gate::Away(away(socket, &error)),
            Err(_late) => Gate::Away(format!("the daemon at {} does not answer", socket.display())),
        }
    }

    /// Asks whose the pod is: the API server, else what the daemon left on disk.
    async fn terms(&mut self) -> Result<OfPod, String> {
        if let Some(terms) = self.known {
            return Ok(terms);
        }
        let own = &self.network.own;
        let cached =
            own.cache.as_deref().ok_or("no cache is named (\"cache\")".to_owned()).and_then(|path| {
                let read = Namespaces::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
                let terms = read.terms(&self.pod.namespace);
                terms.ok_or_else(|| {
                    format!("{} does not have namespace {}", path.display(), self.pod.namespace)
                })
            });
        match self.api().await {
            Ok((labels, own, uid, sidecar)) => {
                let kept = cached.map(|terms| terms.kept).unwrap_or_default();
                let terms = Terms::of(|name| labels.get(name).map(String::as_str), kept);
                let terms = terms.for_pod(own.get(MODE).map(String::as_str), sidecar);
                (self.known, self.uid) = (Some(terms), Some(uid));
                Ok(terms)
            }
            Err(api) => match cached {
                // Nobody says what is within it: as if it had no proxy of its own.
                Ok(terms) => Ok(terms.for_pod(None, false)),
                Err(cache) => Err(format!("{api}; {cache}")),
            },
        }
    }

    /// The labels of the namespace and of the pod, its UID, and whether it has the sidecar that a label gives it.
    async fn api(&self) -> Result<(Labels, Labels, String, bool), String> {
        let path = self.network.own.kubeconfig.as_deref();
        let path = path.ok_or("no API server is named (\"kubeconfig\")".to_owned())?;
        let mut api = Api::connect(path).await.map_err(|error| error.to_string())?;
        let namespace = api.namespace(&self.pod.namespace).await.map_err(|error| error.to_string())?;
        let pod = api.pod(&self.pod.namespace, &self.pod.name).await.map_err(|error| error.to_string())?;
        match &self.uid {
            Some(uid) if *uid != pod.sandbox() => {
                Err(format!("the API server has another pod of that name (UID {})", pod.uid))
            }
            _ => {
                let uid = pod.sandbox().to_owned();
                let is_asked_for = [&namespace.labels, &pod.labels]
                    .iter()
                    .any(|labels| labels.get(MODE).map(String::as_str) == Some(Mode::Sidecar.as_str()));
                let sidecar = is_asked_for
                    && api
                        .has_sidecar(&self.pod.namespace, &self.pod.name)
                        .await
                        .map_err(|error| error.to_string())?;
                Ok((namespace.labels, pod.labels, uid, sidecar))
            }
        }
    }
}

/// Tells the daemon something that it need not hear: a daemon that is not there has nothing to forget.
async fn tell(own: &Own, ask: Ask) -> Option<String> {
    match timeout(ANSWER, converse(&own.gate, ask)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(away(&own.gate, &error)),
        Err(_late) => Some(format!("the daemon at {} does not answer", own.gate.display())),
    }
}

async fn converse(socket: &Path, ask: Ask) -> io::Result<Verdict> {
    let mut stream = UnixStream::connect(socket).await?;
    send(&mut stream, &Request::new(ask)).await?;
    // Not closed for writing before: that would say that nobody waits.
    Ok(receive::<Answer>(&mut stream).await?.verdict)
}

fn away(socket: &Path, error: &io::Error) -> String {
    let what = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "no daemon answers",
        io::ErrorKind::PermissionDenied => "this user may not use the gate",
        io::ErrorKind::UnexpectedEof => "the daemon has ended before it answered",
        _ => "the daemon cannot be asked",
    };
    format!("{what} at {} ({error})", socket.display())
}

/// Between two askings, and what is left of the time for the last answer.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the daemon is waited for at first.
const FIRST: Duration = Duration::from_secs(2);
/// How much longer than it was told to wait it may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
