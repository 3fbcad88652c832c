//! The part of steering that another process needs to carry connections: to mark its own sockets and to ask where what it
//! accepted was going.
//!
//! It crosses as a few bytes with a version and at most [`DESCRIPTORS`] descriptors. It gives no power over pods: whoever
//! has it can neither enrol, fence, re-steer nor release anybody.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use ebpf_redirect_abi::LAYOUT;

use crate::{Mechanism, Redirect, RedirectError, iptables, kernel::delegated::Delegated};

/// Descriptors that a delegation has at most.
pub const DESCRIPTORS: usize = 1;
/// Of what is delegated: both sides must mean the same by it.
pub const VERSION: u32 = LAYOUT;

/// What the daemon gives to a process that carries connections for it; made by [`Redirect::delegate`].
#[derive(Debug)]
pub struct Delegation(Way);

#[derive(Debug)]
enum Way {
    /// The map of notes on sockets.
    Kernel(OwnedFd),
    /// Socket options are all that is needed.
    Iptables,
}

impl Delegation {
    pub(crate) fn kernel(sockets: OwnedFd) -> Self {
        Self(Way::Kernel(sockets))
    }

    pub(crate) fn iptables() -> Self {
        Self(Way::Iptables)
    }

    /// Of which mechanism it is a part.
    pub fn mechanism(&self) -> Mechanism {
        match self.0 {
            Way::Kernel(_) => Mechanism::Kernel,
            Way::Iptables => Mechanism::Iptables,
        }
    }

    /// What is passed on as bytes: the version, and which mechanism.
    pub fn bytes(&self) -> Vec<u8> {
        let mechanism = match self.0 {
            Way::Kernel(_) => KERNEL,
            Way::Iptables => IPTABLES,
        };
        [&VERSION.to_le_bytes()[..], &[mechanism]].concat()
    }

    /// What is passed on as descriptors, in this order.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match &self.0 {
            Way::Kernel(sockets) => vec![sockets.as_fd()],
            Way::Iptables => Vec::new(),
        }
    }

    /// What was passed on.
    pub fn from_parts(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<Self, RedirectError> {
        let refused = |why| RedirectError::Delegation { why };
        let (version, mechanism) = bytes.split_at_checked(4).ok_or(refused("it is cut short"))?;
        if version != VERSION.to_le_bytes() {
            return Err(refused(
                "it is of another version of the hooks' layout: both have to be of one build",
            ));
        }
        let mut descriptors = descriptors.into_iter();
        let way = match (mechanism, descriptors.next(), descriptors.next()) {
            ([KERNEL], Some(sockets), None) => Way::Kernel(sockets),
            ([IPTABLES], None, None) => Way::Iptables,
            ([KERNEL | IPTABLES], ..) => return Err(refused("it has not the descriptors that belong to it")),
            _ => return Err(refused("it is of no mechanism that is known")),
        };
        Ok(Self(way))
    }

    /// A [`Redirect`] for the path of connections; everything else is refused with [`RedirectError::NotDelegated`].
    pub fn redirect(self) -> Result<Arc<dyn Redirect>, RedirectError> {
        match self.0 {
            Way::Kernel(sockets) => Ok(Arc::new(Delegated::new(sockets)?)),
            Way::Iptables => Ok(Arc::new(iptables::Delegated::new(iptables::Hooks::IPTABLES))),
        }
    }
}

/// What is the daemon's alone.
pub(crate) fn refused<T>(what: &'static str) -> Result<T, RedirectError> {
    Err(RedirectError::NotDelegated { what })
}

const KERNEL: u8 = 1;
const IPTABLES: u8 = 2;

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn why(bytes: &[u8], descriptors: Vec<OwnedFd>) -> String {
        Delegation::from_parts(bytes, descriptors).unwrap_err().to_string()
    }

    fn descriptor() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_delegation_of_socket_options_survives_the_way() {
        let sent = Delegation::iptables();
        assert!(sent.descriptors().is_empty());
        let got = Delegation::from_parts(&sent.bytes(), Vec::new()).unwrap();
        assert_eq!(got.mechanism(), Mechanism::Iptables);
        assert_eq!(got.redirect().unwrap().mechanism(), Mechanism::Iptables);
    }

    #[test]
    fn what_is_no_delegation_of_this_version_is_refused_and_says_why() {
        let good = Delegation::iptables().bytes();
        let mut newer = good.clone();
        newer[0] ^= 0x80;
        let unknown = [&good[..4], &[9]].concat();
        let kernel = Delegation::kernel(descriptor()).bytes();
        for (bytes, descriptors, said) in [
            (&[][..], vec![], "cut short"),
            (&good[..3], vec![], "cut short"),
            (&newer[..], vec![], "another version"),
            (&unknown[..], vec![], "no mechanism"),
            (&good[..4], vec![], "no mechanism"),
            (&kernel[..], vec![], "descriptors"),
            (&kernel[..], vec![descriptor(), descriptor()], "descriptors"),
            (&good[..], vec![descriptor()], "descriptors"),
        ] {
            let why = why(bytes, descriptors);
            assert!(why.contains(said), "{bytes:?}: {why}");
        }
    }

    #[test]
    fn a_descriptor_that_is_no_map_is_refused() {
        assert!(Delegation::kernel(descriptor()).redirect().is_err());
    }
}
