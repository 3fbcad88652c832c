//! A pod's listeners in the map that its lookup program reads.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use ebpf_redirect_abi::slot;

use crate::{Listeners, RedirectError, sys, sys::bpf::Table};

/// The map of one pod. The kernel holds no reference to the sockets: one that its owner closes leaves the map.
#[derive(Debug)]
pub(crate) struct ListenerSlots(Table<u32, u64>);

impl ListenerSlots {
    pub(crate) fn new(table: Table<u32, u64>) -> Self {
        Self(table)
    }

    /// Puts listeners into their slots, each in one step; all are checked before the first is placed.
    pub(crate) fn place(
        &self,
        pod: &str,
        netns: u64,
        listeners: &Listeners<'_>,
    ) -> Result<(), RedirectError> {
        let slots = slots(listeners);
        for (_, name, socket) in slots {
            socket.map_or(Ok(()), |socket| check(pod, name, netns, socket))?;
        }
        for (slot, name, socket) in slots {
            let placed = match socket {
                Some(socket) => self.0.set(&slot, &(socket.as_raw_fd() as u64)),
                None => self.0.remove(&slot),
            };
            placed.map_err(|error| {
                RedirectError::syscall("place a listener", format!("{pod} ({name})"), error)
            })?;
        }
        Ok(())
    }
}

impl ListenerSlots {
    /// Empties all slots: what comes from now on is refused.
    pub(crate) fn clear(&self) -> std::io::Result<()> {
        (0..slot::COUNT).try_for_each(|slot| self.0.remove(&slot))
    }
}

type Slot<'a> = (u32, &'static str, Option<BorrowedFd<'a>>);

fn slots<'a>(listeners: &Listeners<'a>) -> [Slot<'a>; slot::COUNT as usize] {
    [
        (slot::OUTBOUND_V4, "outbound IPv4", listeners.outbound_v4),
        (slot::OUTBOUND_V6, "outbound IPv6", listeners.outbound_v6),
        (slot::INBOUND_V4, "inbound IPv4", listeners.inbound_v4),
        (slot::INBOUND_V6, "inbound IPv6", listeners.inbound_v6),
    ]
}

fn check(pod: &str, listener: &'static str, netns: u64, socket: BorrowedFd<'_>) -> Result<(), RedirectError> {
    let failed = |error| RedirectError::syscall("check a listener", format!("{pod} ({listener})"), error);
    let wrong = |why| Err(RedirectError::Listener { pod: pod.to_owned(), listener, why });
    if !sys::socket::listens(socket).map_err(failed)? {
        return wrong("does not listen: call listen before enrolling");
    }
    if sys::socket::netns_cookie(socket).map_err(failed)? != netns {
        return wrong("is in another network namespace than the pod: create it inside the pod's");
    }
    Ok(())
}
