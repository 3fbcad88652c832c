//! The pins of one name in one layout, which may be another than ours: nothing but the place of the folder and the lock on it is
//! taken for granted, and that what is pinned under `pods` is one per pod.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::names;
use crate::{kernel::unpin_link, lock};

/// A folder of pins.
#[derive(Debug)]
pub(super) struct Pins {
    pub(super) layout: u32,
    pub(super) instance: String,
    pub(super) path: PathBuf,
}

impl Pins {
    /// Those of one name, in every layout.
    pub(super) fn of(bpffs: &Path, instance: &str) -> impl Iterator<Item = Self> {
        Self::all(bpffs).filter(move |pins| pins.instance == instance)
    }

    /// Those of every name.
    pub(super) fn all(bpffs: &Path) -> impl Iterator<Item = Self> {
        let root = bpffs.join("canopy");
        let layouts = names(&root).into_iter().filter_map(move |name| {
            let layout: u32 = name.strip_prefix('v')?.parse().ok()?;
            Some((layout, root.join(name)))
        });
        layouts.flat_map(|(layout, folder)| {
            let instances = names(&folder);
            let pins = move |instance: String| Self { layout, path: folder.join(&instance), instance };
            instances.into_iter().map(pins)
        })
    }

    /// Whether the daemon lives.
    pub(super) fn is_held(&self) -> bool {
        // One that has just gone is not dead: it has left nothing.
        File::open(&self.path).map_or(self.path.exists(), |folder| lock::is_taken(&folder))
    }

    /// How many pods are steered by them.
    pub(super) fn pods(&self) -> usize {
        names(&self.path.join("pods")).len()
    }

    /// Takes everything down, unless the daemon lives.
    pub(super) fn clear(&self) {
        let Ok(folder) = File::open(&self.path) else { return };
        let Ok(Some(_locked)) = lock::take(folder) else { return };
        let (instance, layout, pods) = (&self.instance, self.layout, self.pods());
        remove(&self.path);
        // Other layouts and names may be in the parents; then they stay, which is no failure.
        self.path.ancestors().skip(1).take(2).for_each(|parent| drop(fs::remove_dir(parent)));
        tracing::info!(instance, layout, pods, "cleared the hooks that an earlier daemon left");
    }
}

/// Removes a folder with what is in it, however it is laid out. Links end at once, maps and programs when nobody uses them.
fn remove(folder: &Path) {
    let mut names = names(folder);
    // Fences, then links, maps, and pods last: nothing is rewritten to where no lookup program waits for it.
    names.sort();
    for name in names {
        let path = folder.join(name);
        if path.is_dir() { remove(&path) } else { unpin_link(&path) }
    }
    if let Err(error) = fs::remove_dir(folder) {
        tracing::warn!(folder = %folder.display(), %error, "pins that an earlier daemon left could not all be removed");
    }
}
