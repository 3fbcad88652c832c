//! The pins of one daemon: `BPFFS/canopy/vLAYOUT/INSTANCE/{maps,links,pods,fences}`. One process at a time holds an instance; a
//! dead one's pins stay, so that its pods are refused rather than let go unproxied, and the next one of the
//! same name takes them over. Dropping an instance removes every pin, unless a pod is to be left refused, and except those of
//! a dead process that it took over and has not yet said to be in force: a start that fails leaves the pods refused, as it found them.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use ebpf_redirect_abi::LAYOUT;

use super::{Options, mounts, object};
use crate::{
    RedirectError,
    lock::{self, Locked},
    sys::bpf,
};

/// A held instance.
#[derive(Debug)]
pub(crate) struct Instance {
    path: PathBuf,
    /// Whether a dead process left pins here.
    pub(crate) adopted: bool,
    /// Whether what was taken over serves again: from now on a drop is a clean stop.
    in_force: AtomicBool,
    /// Whether pods are left steered by what is pinned here.
    stays: AtomicBool,
    /// Locked while the process lives; the kernel unlocks it whatever ends us.
    _lock: Locked,
}

impl Instance {
    /// Takes the instance.
    pub(crate) fn hold(options: &Options) -> Result<Self, RedirectError> {
        check_name(&options.instance)?;
        mounts::bpffs(&options.bpffs)?;
        let path = options.bpffs.join(format!("canopy/v{LAYOUT}")).join(&options.instance);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => {
                RedirectError::Permission { what: "write the bpf file system" }
            }
            _ => RedirectError::syscall("set up the pins", path.display(), source),
        };
        let adopted = path.join(LINKS).exists();
        for part in [MAPS, LINKS, PODS, FENCES] {
            create(&path.join(part)).map_err(failed)?;
        }
        let folder = File::open(&path).map_err(failed)?;
        let Some(lock) = lock::take(folder).map_err(failed)? else {
            return Err(RedirectError::InstanceInUse { name: options.instance.clone() });
        };
        Ok(Self {
            path,
            adopted,
            in_force: AtomicBool::new(!adopted),
            stays: AtomicBool::default(),
            _lock: lock,
        })
    }

    /// Says that what a dead process left serves again, or has been let go.
    pub(crate) fn set_in_force(&self) {
        self.in_force.store(true, Relaxed);
    }

    /// Whether a drop is a clean stop.
    pub(crate) fn in_force(&self) -> bool {
        self.in_force.load(Relaxed)
    }

    /// Says that the pins are to outlive this.
    pub(crate) fn stay(&self) {
        self.stays.store(true, Relaxed);
    }

    /// The pin of a shared map.
    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.path.join(MAPS).join(name)
    }

    /// The pin of a hook on the cgroup root.
    pub(crate) fn link(&self, hook: &str) -> PathBuf {
        self.path.join(LINKS).join(hook)
    }

    /// The pin of a pod's lookup program.
    pub(crate) fn pod(&self, netns: u64) -> PathBuf {
        self.path.join(PODS).join(netns.to_string())
    }

    /// The network namespaces that have such a pin.
    pub(crate) fn pods(&self) -> Vec<u64> {
        names(&self.path.join(PODS)).iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// The pin of one side of a fenced link of a pod.
    pub(crate) fn fence(&self, netns: u64, link: u32, hook: &str) -> PathBuf {
        self.path.join(FENCES).join(format!("{netns}-{link}-{hook}"))
    }

    /// The fenced links of a pod and their pins; both sides of a link have one.
    pub(crate) fn fences(&self, netns: u64) -> Vec<(u32, PathBuf)> {
        let of = |name: &String| {
            let (pod, rest) = name.split_once('-')?;
            let (link, _) = rest.split_once('-')?;
            (pod.parse() == Ok(netns)).then_some((link.parse().ok()?, self.path.join(FENCES).join(name)))
        };
        names(&self.path.join(FENCES)).iter().filter_map(of).collect()
    }

    /// Takes down every fence that a dead process left, with its tables.
    pub(crate) fn unpin_fences(&self) {
        for name in names(&self.path.join(FENCES)) {
            unpin_link(&self.path.join(FENCES).join(name));
        }
        for name in object::FENCE_MAPS {
            discard(fs::remove_file(self.map(name)), name);
        }
    }

    /// Removes what cannot be taken over, and begins anew.
    pub(crate) fn reset(&mut self) {
        self.unpin_all();
        self.adopted = false;
        self.set_in_force();
    }

    fn clear(&self) {
        self.unpin_all();
        for part in [FENCES, PODS, LINKS, MAPS] {
            discard(fs::remove_dir(self.path.join(part)), part);
        }
        discard(fs::remove_dir(&self.path), "the instance");
        // Another instance may be in the parents; then they stay, which is no failure.
        let parents = self.path.ancestors().skip(1).take(2);
        parents.for_each(|parent| drop(fs::remove_dir(parent)));
    }

    fn unpin_all(&self) {
        for part in [FENCES, PODS, LINKS] {
            for name in names(&self.path.join(part)) {
                unpin_link(&self.path.join(part).join(name));
            }
        }
        for name in names(&self.path.join(MAPS)) {
            discard(fs::remove_file(self.path.join(MAPS).join(&name)), &name);
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.in_force() && !self.stays.load(Relaxed) {
            self.clear();
        }
    }
}

/// Pins a new link, or gives the program to the one that a dead process left there.
pub(crate) fn place_link(
    pin: &Path,
    program: std::os::fd::BorrowedFd<'_>,
    attach: impl FnOnce() -> Result<aya::programs::links::FdLink, aya::programs::ProgramError>,
) -> Result<(), LinkFailure> {
    if let Ok(link) = bpf::open_pin(pin) {
        if bpf::update_link(link.as_fd(), program).is_ok() {
            return Ok(());
        }
        // Its cgroup or network namespace is gone.
        unpin_link(pin);
    }
    let link = attach().map_err(LinkFailure::Attach)?;
    link.pin(pin).map(drop).map_err(LinkFailure::Pin)
}

/// Why a link could not be placed.
#[derive(Debug)]
pub(crate) enum LinkFailure {
    Attach(aya::programs::ProgramError),
    Pin(aya::pin::PinError),
}

/// Ends a pinned link now. Removing the pin alone would leave it attached for a moment longer.
pub(crate) fn unpin_link(pin: &Path) {
    if let Ok(link) = bpf::open_pin(pin) {
        // Fails where its network namespace is gone already.
        drop(bpf::detach_link(link.as_fd()));
    }
    discard(fs::remove_file(pin), &pin.display().to_string());
}

/// Whether a name can be one of the bpf file system, and of others.
pub(crate) fn check_name(name: &str) -> Result<(), RedirectError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(RedirectError::InstanceName { name: name.to_owned() });
    }
    Ok(())
}

/// Once more, because the last instance to leave removes the parents.
fn create(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path).or_else(|_| fs::create_dir_all(path))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn discard(result: io::Result<()>, what: &str) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(pin = what, %error, "a pin could not be removed");
    }
}

const MAPS: &str = "maps";
const LINKS: &str = "links";
const PODS: &str = "pods";
const FENCES: &str = "fences";

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn an_instance_name_is_one_directory() {
        assert!(check_name("node-1_b").is_ok());
        for bad in ["", "..", "a/b", "a.b", "A", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
