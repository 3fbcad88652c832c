//! [`Redirect`] by nftables rules in the network namespace of this process: for a proxy within a pod that may not use the hooks.
//!
//! The rules are given to the kernel by netlink, as one transaction each time, so that no tool has to be in the pod's image. They are
//! all in one table of our own. Outbound and inbound connections are redirected to the listeners; the proxy's own carry a mark; a
//! policy route brings answers to a client's shown address back. It must never touch a table that is not its own, nor another
//! namespace than its own.

use std::{
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rustix::process::getegid;

use self::rules::{Ports, Rules};
use crate::{
    Counter, Delegation, Enrolled, Enrolment, Exclusions, ListenPlan, Listeners, Mechanism, Origin, Parting,
    Redirect, RedirectError, Side, Spared, WayBack,
    iptables::{Delegated, Hooks, port},
    netns::is_own,
};

mod batch;
mod expression;
mod route;
mod rules;

/// Steering by nftables.
#[derive(Debug)]
pub struct NftablesRedirect {
    /// The group whose sockets pass: the proxy's own, where it has one that is not everybody's.
    group: Option<u32>,
    enrolled: Arc<AtomicUsize>,
    path: Delegated,
}

impl NftablesRedirect {
    /// Makes sure that this process may write rules here. What a process before this one left stays until a pod is enrolled.
    pub fn open() -> Result<Self, RedirectError> {
        batch::probe().map_err(failed("nftables"))?;
        let group = Some(getegid().as_raw()).filter(|group| *group != 0);
        Ok(Self { group, enrolled: Arc::default(), path: Delegated::new(HOOKS) })
    }
}

impl Redirect for NftablesRedirect {
    fn mechanism(&self) -> Mechanism {
        Mechanism::Nftables
    }

    fn listen_plan(&self) -> ListenPlan {
        self.path.listen_plan()
    }

    fn enrol(&self, pod: &Enrolment<'_>) -> Result<Box<dyn Enrolled>, RedirectError> {
        if !is_own(pod.netns).map_err(failed(pod.pod))? {
            return Err(RedirectError::NotOwnNetns { pod: pod.pod.to_owned() });
        }
        self.enrolled.fetch_add(1, Relaxed);
        let mut guard = Guard {
            pod: pod.pod.to_owned(),
            exclusions: pod.exclusions.clone(),
            group: self.group,
            enrolled: Arc::clone(&self.enrolled),
            // Until its rules are there: what was left closed is not opened by a start that fails.
            end: End::Kept,
        };
        guard.apply(&pod.listeners)?;
        guard.end = End::Removed;
        Ok(Box::new(guard))
    }

    fn exempt(&self, socket: BorrowedFd<'_>, client: Option<SocketAddr>) -> Result<(), RedirectError> {
        self.path.exempt(socket, client)
    }

    fn origin(
        &self,
        accepted: BorrowedFd<'_>,
        side: Side,
        accept_addr: SocketAddr,
    ) -> Result<Origin, RedirectError> {
        self.path.origin(accepted, side, accept_addr)
    }

    fn release_unclaimed(&self, spared: Spared<'_>) -> Result<usize, RedirectError> {
        let Spared::These(namespaces) = spared else { return Ok(0) };
        let is_spared = namespaces.iter().any(|netns| is_own(*netns).unwrap_or(true));
        if is_spared || self.enrolled.load(Relaxed) > 0 {
            return Ok(0);
        }
        remove().map(usize::from).map_err(failed("a former start"))
    }

    fn counters(&self) -> Result<Vec<Counter>, RedirectError> {
        self.path.counters()
    }

    /// Marks are set alike.
    fn delegate(&self) -> Result<Delegation, RedirectError> {
        Ok(Delegation::iptables())
    }
}

/// Keeps the pod steered.
#[derive(Debug)]
struct Guard {
    pod: String,
    exclusions: Exclusions,
    group: Option<u32>,
    enrolled: Arc<AtomicUsize>,
    end: End,
}

/// What is left of the rules when a guard goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing.
    Removed,
    /// All of them: nobody listens, so connections are refused.
    Kept,
}

impl Guard {
    fn rules(&self, outbound: Option<Ports>, inbound: Option<Ports>) -> Rules<'_> {
        Rules { outbound, inbound, exclusions: &self.exclusions, group: self.group }
    }

    /// One transaction, which takes the place of what there was.
    fn apply(&self, listeners: &Listeners<'_>) -> Result<(), RedirectError> {
        let ports = |name, v4: Option<BorrowedFd<'_>>, v6: Option<BorrowedFd<'_>>| {
            let of = |fd: Option<BorrowedFd<'_>>| fd.map(|fd| port(&self.pod, name, fd)).transpose();
            Ok::<_, RedirectError>(Some(Ports { v4: of(v4)?, v6: of(v6)? }))
        };
        let outbound = ports("outbound", listeners.outbound_v4, listeners.outbound_v6)?;
        let inbound = ports("inbound", listeners.inbound_v4, listeners.inbound_v6)?;
        let is_v6 = listeners.inbound_v6.is_some();
        route::add(is_v6).map_err(failed(&self.pod))?;
        batch::replace(&self.rules(outbound, inbound).chains()).map_err(failed(&self.pod))
    }
}

impl Enrolled for Guard {
    /// What answers to callers whose address was shown need stays.
    fn release(self: Box<Self>) -> Option<Box<dyn WayBack>> {
        let mut guard = *self;
        if let Err(error) = batch::replace(&guard.rules(None, None).chains()) {
            tracing::warn!(pod = guard.pod, %error, "all rules are taken away at once: connections are cut");
            return None;
        }
        guard.end = End::Kept;
        Some(Box::new(Answers))
    }

    fn leave(mut self: Box<Self>, parting: Parting) {
        self.end = End::Kept;
        if parting == Parting::OutboundOpen {
            // Nobody listens there, so that it is refused.
            let nobody = Some(Ports { v4: Some(NOBODY), v6: Some(NOBODY) });
            if let Err(error) = batch::replace(&self.rules(None, nobody).chains()) {
                tracing::warn!(pod = self.pod, %error, "what the pod begins stays refused");
            }
        }
    }

    fn replace_listeners(&mut self, listeners: &Listeners<'_>) -> Result<(), RedirectError> {
        self.apply(listeners)
    }

    fn set_exclusions(
        &mut self,
        exclusions: &Exclusions,
        listeners: &Listeners<'_>,
    ) -> Result<(), RedirectError> {
        let before = std::mem::replace(&mut self.exclusions, exclusions.clone());
        self.apply(listeners).inspect_err(|_| self.exclusions = before)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.enrolled.fetch_sub(1, Relaxed);
        if self.end == End::Removed
            && let Err(error) = remove()
        {
            tracing::warn!(pod = self.pod, %error, "rules may be left in the pod's network namespace");
        }
    }
}

/// The rules for answers, after a release.
#[derive(Debug)]
struct Answers;

impl WayBack for Answers {}

impl Drop for Answers {
    fn drop(&mut self) {
        if let Err(error) = remove() {
            tracing::warn!(%error, "rules may be left in the pod's network namespace");
        }
    }
}

/// Takes the rules out of this process's network namespace, whoever made them; says whether there were any.
fn remove() -> io::Result<bool> {
    route::remove();
    batch::remove()
}

fn failed(pod: &str) -> impl Fn(io::Error) -> RedirectError + use<> {
    let pod = pod.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            RedirectError::Permission { what: "program nftables in the pod's network namespace" }
        }
        _ => RedirectError::syscall("nftables", &pod, error),
    }
}

/// As counters are called.
const HOOKS: Hooks =
    Hooks { output: "nftables_output", prerouting: "nftables_prerouting", accept: "nftables_accept" };

/// A port that nobody can listen at: that of discard, in a pod nobody's but who asks for it.
const NOBODY: u16 = 9;
