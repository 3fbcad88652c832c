//! What a daemon holds open: the instance, its maps, the loader for pods to come. Shared by the redirect and the
//! guards of its pods; the last to leave takes everything down.

use std::{
    fs::File,
    os::fd::AsFd as _,
    sync::{Mutex, PoisonError},
};

use aya::Ebpf;
use socket2::{Domain, Socket, Type};

use super::{
    Options, hooks,
    instance::Instance,
    mounts,
    object::{Loader, Object},
    registry::Registry,
    tables::Tables,
    trace::Watch,
};
use crate::{RedirectError, sys};

/// Everything that is shared.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) tables: Tables,
    pub(crate) registry: Registry,
    pub(crate) watch: Watch,
    /// A namespace in which no pod may be: this process's own.
    pub(crate) forbidden: Option<u64>,
    loader: Mutex<Loader>,
    // The last field: its drop removes the pins when all else is gone.
    pub(crate) instance: Instance,
}

impl State {
    /// Sets everything up.
    pub(crate) fn open(options: Options) -> Result<Self, RedirectError> {
        super::built()?;
        let own = own_netns()?;
        let cgroup = options.cgroup.clone().map_or_else(mounts::cgroup2, Ok)?;
        let cgroup = File::open(&cgroup)
            .map_err(|error| RedirectError::syscall("open the cgroup root", cgroup.display(), error))?;
        let mut instance = Instance::hold(&options)?;
        let mut left = instance.pods();
        let (loader, mut ebpf) = match load(&instance, &cgroup) {
            Err(error) if instance.adopted => {
                tracing::warn!(%error, "what a process that has ended left cannot be taken over: it is cleared");
                instance.reset();
                left.clear();
                load(&instance, &cgroup)?
            }
            loaded => loaded?,
        };
        let tables = Tables::open(&instance)?;
        let watch = Watch::new(&mut ebpf, &tables)?;
        instance.ready();
        if instance.adopted {
            tracing::info!(pods = left.len(), "took over the hooks of a process that has ended");
        }
        Ok(Self {
            tables,
            registry: Registry::new(left),
            watch,
            forbidden: (!options.own_netns).then_some(own),
            loader: Mutex::new(loader),
            instance,
        })
    }

    /// A lookup program for a pod.
    pub(crate) fn load_lookup(&self) -> Result<Ebpf, RedirectError> {
        self.loader.lock().unwrap_or_else(PoisonError::into_inner).load(Object::Lookup)
    }
}

fn load(instance: &Instance, cgroup: &File) -> Result<(Loader, Ebpf), RedirectError> {
    let mut loader = Loader::new(Some(instance));
    let mut ebpf = loader.load(Object::Hooks)?;
    hooks::attach(&mut ebpf, instance, cgroup)?;
    Ok((loader, ebpf))
}

fn own_netns() -> Result<u64, RedirectError> {
    Socket::new(Domain::UNIX, Type::DGRAM, None)
        .and_then(|socket| sys::socket::netns_cookie(socket.as_fd()))
        .map_err(|error| RedirectError::syscall("SO_NETNS_COOKIE (needs Linux 5.14)", "this process", error))
}
