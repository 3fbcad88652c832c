//! What daemons keep on a machine beyond their own life, by their name: pins of every layout, and notes of iptables rules.
//!
//! The mechanism that a daemon opens takes over what one of its name that has ended left by the same mechanism and in the same
//! layout. All else cuts the pods off for good, unless it is found and cleared here. What a living daemon has must never be touched.

use std::path::{Path, PathBuf};

use ebpf_redirect_abi::LAYOUT;

use self::{name::Name, pins::Pins};
use crate::{
    Mechanism, RedirectError,
    iptables::{self, noted},
    kernel,
};

mod name;
mod pins;

/// Where daemons keep what outlives them.
#[derive(Debug, Clone)]
pub struct Places {
    /// The bpf file system.
    pub bpffs: PathBuf,
    /// Names that are taken, and notes of rules.
    pub run: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { bpffs: "/sys/fs/bpf".into(), run: "/run/canopy".into() }
    }
}

impl Places {
    /// The notes of one name's rules: [`iptables::Options::state`].
    #[must_use]
    pub fn notes(&self, instance: &str) -> PathBuf {
        self.run.join(format!("{instance}{NOTES}"))
    }

    fn lock(&self, instance: &str) -> PathBuf {
        self.run.join(format!("{instance}.lock"))
    }
}

/// A name that is held, by whatever mechanism its daemon steers, and what one of that name that has ended left.
#[derive(Debug)]
pub struct Remains {
    places: Places,
    instance: String,
    _name: Name,
}

impl Remains {
    /// Takes the name. To be called before the mechanism is opened, and held for as long as it steers.
    pub fn hold(places: Places, instance: &str) -> Result<Self, RedirectError> {
        kernel::check_name(instance)?;
        let name = Name::take(places.lock(instance), instance)?;
        // Also one that sees another /run than we do, or whose version does not know of the name's lock.
        if Pins::of(&places.bpffs, instance).any(|pins| pins.is_held()) {
            return Err(RedirectError::InstanceInUse { name: instance.to_owned() });
        }
        Ok(Self { places, instance: instance.to_owned(), _name: name })
    }

    /// Clears what a daemon that has ended left and `by`, which steers now, has not taken over. To be called once the first configuration
    /// is complete: until then the pods stay refused, as they were found, and so they do if the start fails.
    pub fn clear(&self, by: Mechanism) {
        let taken_over = |pins: &Pins| by == Mechanism::Kernel && pins.layout == LAYOUT;
        for pins in Pins::of(&self.places.bpffs, &self.instance).filter(|pins| !taken_over(pins)) {
            pins.clear();
        }
        // By iptables, they were taken over or let go; what is noted now is in use.
        if by != Mechanism::Iptables
            && let Err(error) = iptables::clear_noted(&self.places.notes(&self.instance))
        {
            tracing::warn!(%error, "rules that an earlier daemon left stay in its pods, which are cut off by them");
        }
    }
}

impl Remains {
    /// Lets every pod go that daemons of the name left, by whatever mechanism and in whatever layout; says what was there.
    pub fn release(&self) -> Result<Vec<Dead>, RedirectError> {
        let mut released = Vec::new();
        for pins in Pins::of(&self.places.bpffs, &self.instance) {
            let what = Dead { instance: self.instance.clone(), pods: pins.pods(), at: pins.path.clone() };
            pins.clear();
            if pins.path.exists() {
                let left = std::io::Error::from(std::io::ErrorKind::DirectoryNotEmpty);
                return Err(RedirectError::syscall("remove the pins", pins.path.display(), left));
            }
            released.push(what);
        }
        let notes = self.places.notes(&self.instance);
        let pods = noted(&notes);
        iptables::clear_noted(&notes)?;
        if pods > 0 {
            released.push(Dead { instance: self.instance.clone(), pods, at: notes });
        }
        Ok(released)
    }
}

/// A daemon that has ended and left its pods refused: it was killed, or was to close at its stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Its name.
    pub instance: String,
    /// How many pods it left.
    pub pods: usize,
    /// Where that is to be seen.
    pub at: PathBuf,
}

/// All of them on this machine, as far as this process may look.
#[must_use]
pub fn dead(places: &Places) -> Vec<Dead> {
    let pins = Pins::all(&places.bpffs).filter(|pins| !pins.is_held());
    let by_hooks = pins.map(|pins| Dead { pods: pins.pods(), instance: pins.instance, at: pins.path });
    let rules = names(&places.run).into_iter().filter_map(|name| {
        let instance = name.strip_suffix(NOTES)?.to_owned();
        let at = places.run.join(&name);
        (!name::is_held(&places.lock(&instance))).then(|| Dead { pods: noted(&at), instance, at })
    });
    let mut dead: Vec<Dead> = by_hooks.chain(rules).filter(|dead| dead.pods > 0).collect();
    dead.sort_by(|one, other| (&one.instance, &one.at).cmp(&(&other.instance, &other.at)));
    dead
}

/// What is in a folder; nothing, where it cannot be looked into.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

const NOTES: &str = ".iptables";
