//! The fence's user-space half: two programs, loaded once, on the host's end of every enrolled pod's links. A fence is
//! raised last, when the pod is steered, and taken down first; what a dead process left stays up, and is taken over.
//!
//! The host's end is found from inside the pod, whose kernel knows its links' other ends. It must never be guessed: a
//! fence on another's link would cut that one off.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::programs::Program;
use ebpf_redirect_abi::{Fence, FenceCounts, Hook, Reason, mode};

use super::{
    address::words,
    hooks,
    instance::{Instance, unpin_link},
    object::{Loader, Object, chain, load_error, minimum_kernel},
    registry::Registry,
    tables::FenceTables,
};
use crate::{
    Denial, Enrolment, FenceChoice, FenceState, FencedPackets, FencedPod, Listeners, RedirectError,
    sys::bpf::{self, Direction},
};

use ends::Ends;

mod denials;
mod earlier;
mod ends;

/// What is shared by all fences of an instance.
#[derive(Debug)]
pub(crate) struct Fences {
    choice: FenceChoice,
    /// Absent where the choice is off.
    works: Option<Result<Works, String>>,
    /// How each enrolled pod is fenced, by its namespace.
    pods: Mutex<HashMap<u64, FenceState>>,
}

#[derive(Debug)]
struct Works {
    send: OwnedFd,
    receive: OwnedFd,
    tables: FenceTables,
}

/// A pod's fence. It stands until [`Fences::take_down`].
#[derive(Debug, Default)]
pub(crate) struct PodFence {
    links: Vec<u32>,
    denials: denials::InForce,
}

/// Where a pod's fence will stand.
pub(crate) struct Site {
    ends: Ends,
}

impl Fences {
    /// Loads the programs, if they are wanted. Their lack ends the start only where they are required.
    pub(crate) fn open(
        choice: FenceChoice,
        loader: &mut Loader,
        instance: &Instance,
    ) -> Result<Self, RedirectError> {
        let works = match choice {
            FenceChoice::Off => {
                instance.unpin_fences();
                None
            }
            _ => match Works::load(loader, instance) {
                Ok(works) => Some(Ok(works)),
                Err(error) if choice == FenceChoice::Required => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "no pod can be fenced: raw sockets get around steering; see `canopy check`");
                    Some(Err(error.to_string()))
                }
            },
        };
        Ok(Self { choice, works, pods: Mutex::default() })
    }

    /// Looks for the place of a pod's fence; none if it runs without.
    pub(crate) fn survey(&self, netns: u64, pod: &Enrolment<'_>) -> Result<Option<Site>, RedirectError> {
        let why = match &self.works {
            None => {
                self.pods().insert(netns, FenceState::Off);
                return Ok(None);
            }
            Some(Err(why)) => why.clone(),
            Some(Ok(_)) => match ends::find(pod.pod, pod.netns) {
                Ok(ends) if !ends.host.is_empty() => {
                    if !ends.elsewhere.is_empty() {
                        tracing::warn!(pod = pod.pod, links = ?ends.elsewhere, "these links are not fenced: {ELSEWHERE}");
                    }
                    return Ok(Some(Site { ends }));
                }
                Ok(ends) => format!("{ELSEWHERE} ({:?})", ends.elsewhere),
                Err(error) => chain(&error),
            },
        };
        self.without(netns, pod.pod, why)
    }

    /// Puts up with a pod that cannot be fenced, if that is allowed.
    fn without<T>(&self, netns: u64, pod: &str, why: String) -> Result<Option<T>, RedirectError> {
        if self.choice == FenceChoice::Required {
            return Err(RedirectError::NoFence { pod: pod.to_owned(), why });
        }
        tracing::warn!(pod, why, "the pod is not fenced: raw sockets of it get around steering");
        self.pods().insert(netns, FenceState::Unavailable);
        Ok(None)
    }

    /// Whether what a pod must not send is dropped there.
    pub(crate) fn enforces(&self, site: Option<&Site>) -> bool {
        site.is_some() && self.choice != FenceChoice::Observe
    }

    /// Lets what these listeners accept through the fence. Before they get their first connection.
    pub(crate) fn open_doors(&self, pod: &str, listeners: &Listeners<'_>) -> Result<(), RedirectError> {
        let Some(Ok(works)) = &self.works else { return Ok(()) };
        for socket in [listeners.inbound_v4, listeners.inbound_v6].into_iter().flatten() {
            let marked = works.tables.doors.set(&socket.as_raw_fd(), &1);
            marked.map_err(|error| RedirectError::syscall("mark a listener", pod, error))?;
        }
        Ok(())
    }

    /// Raises a pod's fence, which is steered already. Connections it has stay.
    pub(crate) fn raise(
        &self,
        instance: &Instance,
        netns: u64,
        pod: &Enrolment<'_>,
        site: Site,
    ) -> Result<PodFence, RedirectError> {
        let Some(Ok(works)) = &self.works else { return Ok(PodFence::default()) };
        let own = |v4: bool| pod.addresses.iter().find(|ip| ip.is_ipv4() == v4).map(|ip| words(*ip));
        let row = Fence {
            netns,
            own_v4: own(true).unwrap_or_default(),
            own_v6: own(false).unwrap_or_default(),
            netns_id: site.ends.pod_netns,
            mode: self.mode(),
            ..Fence::default()
        };
        match works.raise(instance, pod, &site.ends.host, row) {
            Ok(()) => {
                let enforcing = self.choice != FenceChoice::Observe;
                let state = if enforcing { FenceState::Enforcing } else { FenceState::Observing };
                self.pods().insert(netns, state);
                Ok(PodFence { links: site.ends.host, denials: denials::InForce::default() })
            }
            Err(error) => {
                // Where it is required, the pod is not enrolled: then it goes, or stays, with the rest of its steering.
                if self.choice != FenceChoice::Required {
                    works.take_down(instance, netns);
                }
                self.without(netns, pod.pod, chain(&error)).map(Option::unwrap_or_default)
            }
        }
    }

    /// Puts other denials into the place of a pod's, in one step; says whether there is a fence to do so.
    pub(crate) fn set_denials(
        &self,
        netns: u64,
        fence: &mut PodFence,
        (denials, spared): (&[Denial], &[IpAddr]),
    ) -> Result<bool, RedirectError> {
        match &self.works {
            Some(Ok(works)) if !fence.links.is_empty() => {
                let rows = denials::Rows::of(denials, spared)?;
                fence.denials.replace(&works.tables, netns, &fence.links, rows).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Takes down the fence of a pod, be it ours or a dead process's.
    pub(crate) fn take_down(&self, instance: &Instance, netns: u64) {
        if let Some(Ok(works)) = &self.works {
            works.take_down(instance, netns);
        }
        self.forget(netns);
    }

    /// Forgets how a pod was fenced.
    pub(crate) fn forget(&self, netns: u64) {
        self.pods().remove(&netns);
    }

    /// How every enrolled pod is fenced.
    pub(crate) fn report(&self, registry: &Registry, cpus: usize) -> Result<Vec<FencedPod>, RedirectError> {
        let states: Vec<_> = self.pods().iter().map(|(netns, state)| (*netns, *state)).collect();
        let named =
            states.into_iter().filter_map(|(netns, state)| Some((netns, state, registry.pod(netns)?)));
        named
            .map(|(netns, state, pod)| {
                let packets = match &self.works {
                    Some(Ok(works)) => works.packets(netns, cpus)?,
                    _ => Vec::new(),
                };
                Ok(FencedPod { pod, state, packets })
            })
            .collect()
    }

    fn mode(&self) -> u32 {
        if self.choice == FenceChoice::Observe { mode::OBSERVE } else { mode::ENFORCE }
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<u64, FenceState>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Works {
    fn load(loader: &mut Loader, instance: &Instance) -> Result<Self, RedirectError> {
        let mut ebpf = loader.load(Object::Fence)?;
        let mut program = |hook| {
            hooks::load(&mut ebpf, hook)?;
            let Program::SchedClassifier(program) = hooks::program(&mut ebpf, hook)? else {
                return Err(RedirectError::Object {
                    object: hook.name(),
                    why: "is of another type".to_owned(),
                });
            };
            let fd = program.fd().map_err(|error| load_error(hook, &error))?;
            fd.as_fd().try_clone_to_owned().map_err(|error| RedirectError::syscall("dup", hook.name(), error))
        };
        let (send, receive) = (program(Hook::FenceSend)?, program(Hook::FenceReceive)?);
        probe(send.as_fd())?;
        Ok(Self { send, receive, tables: FenceTables::open(instance)? })
    }

    fn raise(
        &self,
        instance: &Instance,
        pod: &Enrolment<'_>,
        host: &[u32],
        row: Fence,
    ) -> Result<(), RedirectError> {
        let netns = row.netns;
        let stood = instance.fences(netns);
        self.tables.forget_links(netns, host)?;
        if stood.is_empty() {
            // What a process of this pod could open since it is steered is steered, so these are from before.
            earlier::note(&self.tables, netns, pod)?;
        }
        self.tables.count(netns)?;
        for index in host {
            let kept = self.tables.fences.get(index).ok().flatten().map_or(0, |before| before.denials);
            self.tables.set_link(*index, &Fence { denials: kept, ..row })?;
            let sides = [
                (Hook::FenceReceive, &self.receive, Direction::Egress),
                (Hook::FenceSend, &self.send, Direction::Ingress),
            ];
            for (hook, program, direction) in sides {
                place(instance, (netns, *index, hook), program.as_fd(), direction)?;
            }
        }
        for (index, pin) in stood.into_iter().filter(|(index, _)| !host.contains(index)) {
            tracing::debug!(pod = pod.pod, index, "the fence of a link that is gone is taken down");
            unpin_link(&pin);
        }
        Ok(())
    }

    fn take_down(&self, instance: &Instance, netns: u64) {
        instance.fences(netns).iter().for_each(|(_, pin)| unpin_link(pin));
        if let Err(error) = self.tables.forget(netns) {
            tracing::error!(netns, %error, "the rows of a pod's fence could not be removed");
        }
    }

    fn packets(&self, netns: u64, cpus: usize) -> Result<Vec<FencedPackets>, RedirectError> {
        let rows = match self.tables.counts.get_per_cpu(&netns, cpus) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Vec::new(),
            rows => rows.map_err(|error| RedirectError::syscall("read", "the fence's counters", error))?,
        };
        let sum = |of: fn(&FenceCounts) -> &[u64], reason: Reason| {
            rows.iter().map(|row| of(row)[reason as usize]).sum::<u64>()
        };
        let all = Reason::ALL.map(|reason| FencedPackets {
            reason: reason.name(),
            dropped: sum(|row| &row.dropped, reason),
            observed: sum(|row| &row.observed, reason),
        });
        Ok(all.into_iter().filter(|packets| packets.dropped + packets.observed > 0).collect())
    }
}

/// Attaches a program, or gives it to the link that a dead process left.
fn place(
    instance: &Instance,
    (netns, index, hook): (u64, u32, Hook),
    program: BorrowedFd<'_>,
    direction: Direction,
) -> Result<(), RedirectError> {
    let pin = instance.fence(netns, index, hook.name());
    if let Ok(link) = bpf::open_pin(&pin) {
        if bpf::update_link(link.as_fd(), program).is_ok() {
            return Ok(());
        }
        // Its interface is gone, and another has the number.
        unpin_link(&pin);
    }
    let attached = bpf::create_tcx_link(program, index, direction).map_err(|error| refused(hook, &error))?;
    bpf::pin(attached.as_fd(), &pin).map_err(|error| RedirectError::syscall("pin", pin.display(), error))
}

/// Whether the kernel has tcx: asked with an interface that there is not.
pub(crate) fn probe(program: BorrowedFd<'_>) -> Result<(), RedirectError> {
    match bpf::create_tcx_link(program, i32::MAX as u32, Direction::Ingress) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        Err(error) => Err(refused(Hook::FenceSend, &error)),
        Ok(_) => Ok(()),
    }
}

fn refused(hook: Hook, error: &io::Error) -> RedirectError {
    RedirectError::Hook {
        hook: hook.name(),
        minimum_kernel: minimum_kernel(hook),
        log: format!("attaching by tcx: {error}"),
    }
}

const ELSEWHERE: &str = "the other end of the pod's interface is not in the daemon's network namespace, or it has none (macvlan, SR-IOV)";
