//! The network namespaces that one load generator makes its connections in.
//!
//! One process for all pods, so that what is measured is not the switching between their load generators. The thread is
//! back in its own namespace when a connection is made.

use std::{fs::File, net::SocketAddr, os::fd::AsFd, path::Path};

use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{LoadError, Place};

/// Namespaces and whom to dial in each, in turns.
#[derive(Debug)]
pub(crate) struct Places {
    home: File,
    others: Vec<(File, SocketAddr)>,
}

impl Places {
    /// Opens them; with none, everything is made at home.
    pub(crate) fn open(places: &[Place]) -> Result<Self, Errno> {
        let home = namespace("/proc/thread-self/ns/net".as_ref())?;
        let others = places.iter().map(|place| Ok((namespace(&place.netns)?, place.target)));
        Ok(Self { home, others: others.collect::<Result<_, Errno>>()? })
    }

    /// Does something in the namespace whose turn `number` is, with whom to dial there; `None` at home.
    pub(crate) fn within<T>(
        &self,
        number: usize,
        act: impl FnOnce(Option<SocketAddr>) -> Result<T, LoadError>,
    ) -> Result<T, LoadError> {
        let Some((place, target)) = self.others.get(number % self.others.len().max(1)) else {
            return act(None);
        };
        enter(place)?;
        let made = act(Some(*target));
        enter(&self.home)?;
        made
    }
}

fn namespace(path: &Path) -> Result<File, Errno> {
    File::open(path).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

fn enter(place: &File) -> Result<(), Errno> {
    move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))
}
