//! An enrolled pod: the guard that keeps it steered. Outbound steering starts last and stops first, so that
//! there is no moment in which a connection is rewritten and nobody is there to take it. Around it is the fence alone,
//! which must never stand where a pod is not steered.

use std::{
    collections::HashSet,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use ebpf_redirect_abi::{Pod, TW_REUSE_UNKNOWN};

use super::{
    address::words,
    exceptions,
    fence::PodFence,
    gates,
    instance::unpin_link,
    listeners::ListenerSlots,
    lookup::Lookup,
    networks::{Rows, sweep},
    rates,
    state::State,
};
use crate::{
    Denial, Enrolled, Enrolment, Exclusions, Gate, Listeners, Parting, RedirectError, Spared, WayBack, netns,
};

/// Keeps a pod steered.
#[derive(Debug)]
pub(crate) struct EnrolledPod {
    slots: ListenerSlots,
    fence: PodFence,
    row: Row,
    addresses: Vec<IpAddr>,
    /// Held as long as the hooks look at them; so after the row.
    gates: Option<(Gate, Gate)>,
}

impl EnrolledPod {
    /// Starts steering. Whatever fails, nothing of the pod is left but what a dead process had left, and other pods do
    /// not notice.
    pub(crate) fn new(state: &Arc<State>, pod: &Enrolment<'_>) -> Result<Self, RedirectError> {
        if !state.own_netns {
            netns::refuse_own(pod.pod, pod.netns)?;
        }
        let cookie = netns::cookie(pod.pod, pod.netns)?;
        let lookup = Lookup::load(state, cookie)?;
        state.fences.open_doors(pod.pod, &pod.listeners)?;
        lookup.slots.place(pod.pod, cookie, &pod.listeners)?;
        let mut row = Row::enter(state, cookie, pod)?;
        let site = state.fences.survey(cookie, pod)?;
        let rows = Rows::of(cookie, pod.addresses, pod.exclusions);
        if row.claimed {
            row.leave_alone(pod.addresses, &rows)?;
        } else {
            rows.write(cookie, &state.tables)?;
        }
        row.reuse_time_wait();
        let slots = lookup.attach(state, cookie, pod.netns)?;
        row.steer(pod.addresses, state.fences.enforces(site.as_ref()))?;
        let fence = match site {
            Some(site) => state.fences.raise(&state.instance, cookie, pod, site)?,
            None => PodFence::default(),
        };
        row.parting = None;
        Ok(Self { slots, fence, row, addresses: pod.addresses.to_vec(), gates: None })
    }
}

impl Enrolled for EnrolledPod {
    /// Sockets that are connected need nothing of it: steering chose their ends, and translates no packet.
    fn release(self: Box<Self>) -> Option<Box<dyn WayBack>> {
        drop(self);
        None
    }

    /// Whatever cannot be taken back of the outbound side stays refused, as all would.
    fn leave(self: Box<Self>, parting: Parting) {
        let Self { slots, mut row, .. } = *self;
        if let Err(error) = slots.clear() {
            tracing::warn!(pod = row.pod, %error, "what comes while the daemon ends may be reset instead of refused");
        }
        row.parting = Some(parting);
    }

    fn replace_listeners(&mut self, listeners: &Listeners<'_>) -> Result<(), RedirectError> {
        self.row.state.fences.open_doors(&self.row.pod, listeners)?;
        self.slots.place(&self.row.pod, self.row.cookie, listeners)
    }

    fn set_exclusions(&mut self, exclusions: &Exclusions, _: &Listeners<'_>) -> Result<(), RedirectError> {
        let rows = Rows::of(self.row.cookie, &self.addresses, exclusions);
        self.row.leave_alone(&self.addresses, &rows)
    }

    fn set_denials(&mut self, denials: &[Denial], spared: &[IpAddr]) -> Result<bool, RedirectError> {
        self.row.state.fences.set_denials(self.row.cookie, &mut self.fence, (denials, spared))
    }

    fn set_connect_rate(&mut self, tenant: u32, per_second: Option<u64>) -> Result<bool, RedirectError> {
        self.row.state.rates.set(self.row.cookie, tenant, per_second)?;
        Ok(true)
    }

    fn set_gates(&mut self, gates: Option<(Gate, Gate)>) -> Result<(), RedirectError> {
        self.row.state.gateways.set(self.row.cookie, gates.as_ref())?;
        self.gates = gates;
        Ok(())
    }

    fn connects_refused(&self) -> Result<u64, RedirectError> {
        self.row.state.rates.refused(self.row.cookie)
    }
}

/// Stops steering what nobody has claimed, but for those to spare.
pub(crate) fn release_unclaimed(state: &State, spared: Spared<'_>) -> Result<usize, RedirectError> {
    state.instance.set_in_force();
    let Spared::These(namespaces) = spared else { return Ok(0) };
    if state.registry.unclaimed() == 0 {
        return Ok(0);
    }
    let mut spared = HashSet::new();
    for netns in namespaces {
        match netns::cookie("a pod that is not enrolled", *netns) {
            Ok(cookie) => drop(spared.insert(cookie)),
            // Whatever it is, nobody is in it.
            Err(RedirectError::NotANetns { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let left = state.registry.take_unclaimed(&spared);
    left.iter().for_each(|cookie| remove(state, *cookie));
    Ok(left.len())
}

/// What the kernel knows of a pod; dropping it removes that, unless it is to stay, or was found there and is not in force yet.
#[derive(Debug)]
struct Row {
    state: Arc<State>,
    cookie: u64,
    pod: String,
    /// Kept to undo what was set inside; a namespace that is held does not end, but only its processes make it a
    /// pod's, and the guard's owner lets go when the pod does.
    netns: Option<OwnedFd>,
    /// Whether a dead process left it.
    claimed: bool,
    /// How it is left, where it is to outlive this: as it was found, until the pod is steered again.
    parting: Option<Parting>,
    tw_reuse_before: u32,
}

impl Row {
    fn enter(state: &Arc<State>, cookie: u64, pod: &Enrolment<'_>) -> Result<Self, RedirectError> {
        let claimed = state.registry.enter(cookie, pod.pod)?;
        let before = state.tables.pods.get(&cookie).ok().flatten().map(|pod| pod.tw_reuse_before);
        Ok(Self {
            state: Arc::clone(state),
            cookie,
            pod: pod.pod.to_owned(),
            netns: pod.netns.try_clone_to_owned().ok(),
            claimed,
            parting: claimed.then_some(Parting::Closed),
            tw_reuse_before: before.unwrap_or(TW_REUSE_UNKNOWN),
        })
    }

    /// Not having it costs speed only.
    fn reuse_time_wait(&mut self) {
        let Some(namespace) = &self.netns else { return };
        match netns::reuse_time_wait(&self.pod, namespace.as_fd(), 1) {
            Ok(before) if self.tw_reuse_before == TW_REUSE_UNKNOWN => self.tw_reuse_before = before,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(pod = self.pod, reason = error.reason(), "tcp_tw_reuse could not be set");
            }
        }
    }

    /// Leaves alone what these rows say in the place of what others had said, and ends what only those let by.
    fn leave_alone(&self, addresses: &[IpAddr], rows: &Rows) -> Result<(), RedirectError> {
        let tables = &self.state.tables;
        let former = Rows::read(self.cookie, tables)?;
        rows.write(self.cookie, tables)?;
        sweep(self.cookie, rows, tables)?;
        let Some(netns) = &self.netns else { return Ok(()) };
        match exceptions::end((&self.pod, netns.as_fd()), addresses, &former, rows) {
            Ok(0) => {}
            Ok(ended) => {
                tracing::info!(pod = self.pod, ended, "connections that an exclusion had let by are ended")
            }
            Err(error) => {
                tracing::warn!(pod = self.pod, %error, "connections that an exclusion had let by may go on");
            }
        }
        Ok(())
    }

    fn steer(&self, addresses: &[IpAddr], fenced: bool) -> Result<(), RedirectError> {
        let own_v4 = addresses.iter().find(|ip| ip.is_ipv4()).map(|ip| words(*ip));
        let own_v6 = addresses.iter().find(|ip| ip.is_ipv6()).map(|ip| words(*ip));
        let pod = Pod {
            own_v4: own_v4.unwrap_or_default(),
            own_v6: own_v6.unwrap_or_default(),
            tw_reuse_before: self.tw_reuse_before,
            fenced: u32::from(fenced),
            ..Pod::default()
        };
        self.state.tables.pods.set(&self.cookie, &pod).map_err(|error| match error.raw_os_error() {
            Some(libc::E2BIG) => RedirectError::TableFull { table: "pods", limit: 4096 },
            _ => RedirectError::syscall("write", "the table of pods", error),
        })
    }
}

impl Row {
    fn restore_time_wait(&self) {
        if let Some(namespace) = &self.netns
            && self.tw_reuse_before != TW_REUSE_UNKNOWN
        {
            // Fails where the namespace's /proc cannot be written, as then setting it did.
            drop(netns::reuse_time_wait(&self.pod, namespace.as_fd(), self.tw_reuse_before));
        }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        // Nobody moves them any more.
        gates::forget(&self.state, self.cookie);
        // A start that does not succeed leaves the pod refused, as it was found.
        let as_found = (self.claimed && !self.state.instance.in_force()).then_some(Parting::Closed);
        match as_found.or(self.parting) {
            Some(Parting::Closed) => {
                self.state.fences.forget(self.cookie);
                self.state.registry.give_back(self.cookie);
            }
            Some(Parting::OutboundOpen) => {
                remove_outbound(&self.state, self.cookie);
                self.restore_time_wait();
                self.state.registry.give_back(self.cookie);
            }
            None => {
                remove(&self.state, self.cookie);
                self.restore_time_wait();
                self.state.registry.leave(self.cookie);
            }
        }
    }
}

/// Ends what holds a pod's own connections: its fence, then their steering. The lookup program stays, and with it what it
/// goes by: that nobody's connection to the pod comes to its app.
fn remove_outbound(state: &State, cookie: u64) {
    state.fences.take_down(&state.instance, cookie);
    rates::forget(state, cookie);
    if let Err(error) = state.tables.pods.remove(&cookie) {
        tracing::error!(netns = cookie, %error, "a pod could not be removed from the table of pods");
    }
}

/// Ends the steering of one namespace: its fence, outbound, inbound, then what it left alone.
fn remove(state: &State, cookie: u64) {
    remove_outbound(state, cookie);
    unpin_link(&state.instance.pod(cookie));
    if let Err(error) = sweep(cookie, &Rows::default(), &state.tables) {
        tracing::error!(netns = cookie, %error, "a pod's exclusions could not be removed");
    }
}
