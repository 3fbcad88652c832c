//! What a daemon holds open: the instance, its maps, the loader for pods to come. Shared by the redirect and the
//! guards of its pods; the last to leave takes everything down.

use std::{
    fs::File,
    sync::{Mutex, PoisonError},
};

use aya::Ebpf;

use super::{
    Options,
    fence::Fences,
    gates::Gateways,
    hooks,
    instance::Instance,
    mounts,
    object::{Loader, Object},
    rates::Rates,
    registry::Registry,
    tables::Tables,
    trace::Watch,
};
use crate::RedirectError;

/// Everything that is shared.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) tables: Tables,
    pub(crate) registry: Registry,
    pub(crate) watch: Watch,
    pub(crate) fences: Fences,
    pub(crate) rates: Rates,
    pub(crate) gateways: Gateways,
    /// Whether a pod may be in this process's own namespace.
    pub(crate) own_netns: bool,
    loader: Mutex<Loader>,
    // The last field: its drop removes the pins when all else is gone.
    pub(crate) instance: Instance,
}

impl State {
    /// Sets everything up.
    pub(crate) fn open(options: Options) -> Result<Self, RedirectError> {
        super::built()?;
        let cgroup = options.cgroup.clone().map_or_else(mounts::cgroup2, Ok)?;
        let cgroup = File::open(&cgroup)
            .map_err(|error| RedirectError::syscall("open the cgroup root", cgroup.display(), error))?;
        let mut instance = Instance::hold(&options)?;
        let mut left = instance.pods();
        let (mut loader, mut ebpf) = match load(&instance, &cgroup) {
            Err(error) if instance.adopted => {
                tracing::warn!(%error, "what a process that has ended left cannot be taken over: it is cleared");
                instance.reset();
                left.clear();
                load(&instance, &cgroup)?
            }
            loaded => loaded?,
        };
        let tables = Tables::open(&instance)?;
        let rates = Rates::open(&instance)?;
        let gateways = Gateways::open(&instance)?;
        let watch = Watch::new(&mut ebpf, &tables)?;
        let fences = Fences::open(options.fence, &mut loader, &instance)?;
        if instance.adopted {
            tracing::info!(pods = left.len(), "took over the hooks of a process that has ended");
        }
        Ok(Self {
            tables,
            registry: Registry::new(left),
            watch,
            fences,
            rates,
            gateways,
            own_netns: options.own_netns,
            loader: Mutex::new(loader),
            instance,
        })
    }

    /// A lookup program for a pod.
    pub(crate) fn load_lookup(&self) -> Result<Ebpf, RedirectError> {
        self.loader.lock().unwrap_or_else(PoisonError::into_inner).load(Object::Lookup)
    }
}

impl Drop for State {
    /// What is refused while nobody serves it stays so.
    fn drop(&mut self) {
        if self.registry.unclaimed() > 0 {
            self.instance.stay();
        }
    }
}

fn load(instance: &Instance, cgroup: &File) -> Result<(Loader, Ebpf), RedirectError> {
    let mut loader = Loader::new(Some(instance));
    let mut ebpf = loader.load(Object::Hooks)?;
    hooks::attach(&mut ebpf, instance, cgroup)?;
    Ok((loader, ebpf))
}
