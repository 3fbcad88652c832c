//! [`Redirect`] by iptables rules in the pod's network namespace, for kernels without the hooks and for comparison.
//!
//! The rules are those that Istio publishes for in-pod redirection: outbound and inbound connections are REDIRECTed,
//! the proxy's own carry a mark, and a policy route brings answers to a spoofed client address back. What it cannot do that
//! the hooks can: a pod with NET_ADMIN can forge the mark; the app sees its caller's address but not the port; connection
//! tracking is paid for by every connection. It must never touch a rule or chain that is not its own.

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::process::geteuid;
use socket2::SockRef;

pub(crate) use self::delegated::{Delegated, Hooks};
pub(crate) use self::rules::{ANSWER_MARK, MASK, PROXY_MARK};
use self::{
    claim::{Claim, Claims},
    commands::{Family, Tools},
    leftovers::{Leftover, Leftovers},
    rules::{Ports, Rules},
};
use crate::{
    Counter, Delegation, Enrolled, Enrolment, Exclusions, ListenPlan, Listeners, Mechanism, Origin, Parting,
    Redirect, RedirectError, Side, Spared, WayBack, netns, sys,
};

mod claim;
mod commands;
mod delegated;
mod leftovers;
mod rules;

/// Steering by iptables.
#[derive(Debug)]
pub struct IptablesRedirect {
    tools: Arc<Tools>,
    leftovers: Leftovers,
    claims: Arc<Claims>,
    path: Delegated,
}

/// What is needed to steer by iptables.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is noted which namespaces have rules, so that the next start can take them over. One directory per
    /// instance.
    pub state: PathBuf,
}

/// Whether the tools that [`IptablesRedirect`] runs are there; the error names the first that is not, and its package.
pub fn find_tools() -> Result<(), RedirectError> {
    Tools::find().map(drop)
}

impl IptablesRedirect {
    /// Finds the tools, and what a process that has ended left with the same state directory: its pods stay refused until
    /// they are enrolled, or [`release_unclaimed`](Redirect::release_unclaimed) is called.
    pub fn open(options: Options) -> Result<Self, RedirectError> {
        if !geteuid().is_root() {
            return Err(RedirectError::Permission { what: "change the rules of pods" });
        }
        let tools = Arc::new(Tools::find()?);
        let leftovers = Leftovers::open(options.state);
        let found = leftovers.find()?;
        let claims = Arc::new(Claims::beside(found.iter().map(|left| left.inode)));
        Ok(Self { tools, leftovers, claims, path: Delegated::new(Hooks::IPTABLES) })
    }
}

impl Redirect for IptablesRedirect {
    fn mechanism(&self) -> Mechanism {
        Mechanism::Iptables
    }

    fn listen_plan(&self) -> ListenPlan {
        self.path.listen_plan()
    }

    fn enrol(&self, pod: &Enrolment<'_>) -> Result<Box<dyn Enrolled>, RedirectError> {
        netns::refuse_own(pod.pod, pod.netns)?;
        let claim = self.claims.claim(&self.tools, &self.leftovers, (pod.pod, pod.netns))?;
        let guard = Guard { claim, exclusions: pod.exclusions.clone() };
        guard.apply(&pod.listeners)?;
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
        let spared = match spared {
            Spared::All => None,
            Spared::These(namespaces) => {
                let inode = |netns: &BorrowedFd<'_>| leftovers::inode("a pod that is not enrolled", *netns);
                Some(namespaces.iter().map(inode).collect::<Result<_, _>>()?)
            }
        };
        let left = self.leftovers.take_those(self.claims.settle(spared.as_ref()));
        clear_all(&self.tools, &left);
        Ok(left.len())
    }

    fn counters(&self) -> Result<Vec<Counter>, RedirectError> {
        self.path.counters()
    }

    fn delegate(&self) -> Result<Delegation, RedirectError> {
        Ok(Delegation::iptables())
    }
}

/// The rules of one pod.
#[derive(Debug)]
struct Guard {
    claim: Claim,
    exclusions: Exclusions,
}

impl Guard {
    fn apply(&self, listeners: &Listeners<'_>) -> Result<(), RedirectError> {
        let rules = |family| {
            let ports = ports(self.claim.pod(), family, listeners).transpose()?;
            let render = |ports| Rules { family, ports, exclusions: &self.exclusions }.render();
            Some(ports.map(|ports| (family, render(ports))))
        };
        let rules = Family::BOTH.into_iter().filter_map(rules).collect::<Result<Vec<_>, _>>()?;
        self.claim.capture(&rules)
    }
}

impl Enrolled for Guard {
    fn release(self: Box<Self>) -> Option<Box<dyn WayBack>> {
        self.claim.into_way_back()
    }

    fn leave(self: Box<Self>, parting: Parting) {
        self.claim.leave(parting);
    }

    fn set_exclusions(
        &mut self,
        exclusions: &Exclusions,
        listeners: &Listeners<'_>,
    ) -> Result<(), RedirectError> {
        let before = std::mem::replace(&mut self.exclusions, exclusions.clone());
        self.apply(listeners).inspect_err(|_| self.exclusions = before)
    }

    /// One `iptables-restore` per table, which is one transaction.
    fn replace_listeners(&mut self, listeners: &Listeners<'_>) -> Result<(), RedirectError> {
        self.apply(listeners)
    }
}

/// Takes away the rules that a dead daemon noted there; no tool is needed where there is no note.
pub(crate) fn clear_noted(state: &Path) -> Result<(), RedirectError> {
    let leftovers = Leftovers::open(state.to_owned());
    if leftovers.is_empty() {
        return Ok(());
    }
    clear_all(&Tools::find()?, &leftovers.take()?);
    Ok(())
}

/// How many namespaces are noted there that are still what they were.
pub(crate) fn noted(state: &Path) -> usize {
    Leftovers::open(state.to_owned()).standing()
}

fn clear_all(tools: &Tools, left: &[Leftover]) {
    for Leftover { pod, netns, .. } in left {
        tracing::info!(pod, "clearing the rules that an earlier run left");
        if let Err(error) = clear(tools, pod, netns.as_fd()) {
            tracing::warn!(pod, %error, "rules of an earlier run may be left");
        }
    }
}

/// Takes away what an earlier run left, whatever is left of it.
fn clear(tools: &Tools, pod: &str, netns: BorrowedFd<'_>) -> Result<(), RedirectError> {
    netns::inside(pod, netns, || {
        tools.clear(&Family::BOTH);
        Ok(())
    })
}

/// The ports of a family's listeners; `None` where the pod has none of it.
fn ports(pod: &str, family: Family, listeners: &Listeners<'_>) -> Result<Option<Ports>, RedirectError> {
    let pair = match family {
        Family::V4 => (listeners.outbound_v4, listeners.inbound_v4),
        Family::V6 => (listeners.outbound_v6, listeners.inbound_v6),
    };
    let (Some(outbound), Some(inbound)) = pair else { return Ok(None) };
    Ok(Some(Ports { outbound: port(pod, "outbound", outbound)?, inbound: port(pod, "inbound", inbound)? }))
}

pub(crate) fn port(pod: &str, listener: &'static str, fd: BorrowedFd<'_>) -> Result<u16, RedirectError> {
    let refused = |why| RedirectError::Listener { pod: pod.to_owned(), listener, why };
    if !sys::socket::listens(fd).map_err(|e| RedirectError::syscall("SO_ACCEPTCONN", pod, e))? {
        return Err(refused("does not listen: call listen() first"));
    }
    let address =
        SockRef::from(&fd).local_addr().map_err(|e| RedirectError::syscall("getsockname", pod, e))?;
    address.as_socket().map(|address| address.port()).ok_or_else(|| refused("is not a TCP socket"))
}
