//! The directory in which networks are configured: which file the runtime takes, and how one is changed while others may change it, too.
//!
//! Runtimes take the first by its name of those that end in `.conf`, `.conflist` or `.json` (libcni, `ConfFiles`; containerd's
//! `max_conf_num` is 1). A single plugin's configuration is set aside under another ending while the list of it stands in its place.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    Change, InstallError,
    chain::{chain, is_alone, is_multus, is_single, unchain},
    failed,
};
use crate::sys::replace::{Mode, replace};

/// What a single plugin's configuration is called while its list stands in its place; no runtime reads it.
const SAVED: &str = "canopy-saved";
/// How often a file is read anew that somebody else has written meanwhile.
const TRIES: usize = 5;
/// A file that is larger is no network's configuration.
const LARGEST: u64 = 4 * 1024 * 1024;

/// The directory.
#[derive(Debug)]
pub(super) struct Networks<'a> {
    directory: &'a Path,
    named: Option<&'a str>,
}

impl<'a> Networks<'a> {
    pub(super) fn new(directory: &'a Path, named: Option<&'a str>) -> Self {
        Self { directory, named }
    }

    /// Chains a plugin into the network that the runtime takes.
    pub(super) fn chain(&self, entry: &Value) -> Result<Vec<Change>, InstallError> {
        let path = self.chosen()?;
        for _try in 0..TRIES {
            let text = read(&path)?;
            let problem = |problem| InstallError::Network { path: path.clone(), problem };
            let Some(chained) = chain(&text, entry).map_err(problem)? else { return Ok(Vec::new()) };
            if is_single(&text) {
                return self.set_aside(&path, &text, &chained);
            }
            if replace_unchanged(&path, &text, &chained)? {
                return Ok(vec![Change::Chained(path)]);
            }
        }
        Err(InstallError::Contended { path })
    }

    /// Takes this plugin out of every network.
    pub(super) fn unchain(&self) -> Result<Vec<Change>, InstallError> {
        let mut changes = Vec::new();
        for path in self.files()? {
            for turn in 0.. {
                let text = match read(&path) {
                    Err(InstallError::System { source, .. })
                        if source.kind() == io::ErrorKind::InvalidData =>
                    {
                        break;
                    }
                    text => text?,
                };
                // What is not understood, and what is no text, is not ours and none of our business here.
                let Ok(Some(unchained)) = unchain(&text) else { break };
                let is_done = match saved(&path) {
                    Some((saved, original, single)) if is_alone(&unchained, &single) => {
                        restore(&path, &saved, &original)?;
                        true
                    }
                    saved => {
                        let is_done = replace_unchanged(&path, &text, &unchained)?;
                        // Others have chained themselves into the list by now: it stays.
                        if let Some((saved, ..)) = saved.filter(|_| is_done) {
                            fs::remove_file(&saved).map_err(failed(&saved, "removed"))?;
                        }
                        is_done
                    }
                };
                if is_done {
                    changes.push(Change::Unchained(path.clone()));
                    break;
                }
                if turn == TRIES {
                    return Err(InstallError::Contended { path });
                }
            }
        }
        Ok(changes)
    }

    /// The file that the runtime takes, or that Multus has it take.
    fn chosen(&self) -> Result<PathBuf, InstallError> {
        if let Some(name) = self.named {
            let path = self.directory.join(name);
            return if path.is_file() { Ok(path) } else { Err(InstallError::NoSuchNetwork { path }) };
        }
        for path in self.files()? {
            if !is_multus(&read(&path)?) {
                return Ok(path);
            }
        }
        Err(InstallError::NoNetwork { directory: self.directory.to_owned() })
    }

    /// All networks' files, in the order of their names.
    fn files(&self) -> Result<Vec<PathBuf>, InstallError> {
        let listed = fs::read_dir(self.directory)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
        let mut files = match listed {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(self.directory, "listed")(error)),
        };
        let is_network =
            |path: &PathBuf| matches!(ending(path), "conf" | "conflist" | "json") && path.is_file();
        files.retain(is_network);
        files.sort();
        Ok(files)
    }

    /// A single plugin's configuration gives way to a list of it: the list first, which the runtime does not take before the other is gone.
    fn set_aside(&self, path: &Path, single: &str, list: &str) -> Result<Vec<Change>, InstallError> {
        let to = path.with_extension("conflist");
        if let Ok(there) = fs::read_to_string(&to)
            && !matches!(unchain(&there), Ok(Some(_)))
        {
            return Err(InstallError::Both { single: path.to_owned(), list: to });
        }
        replace(&to, list.as_bytes(), mode(path)).map_err(failed(&to, "written"))?;
        let saved = path.with_extension(format!("{}.{SAVED}", ending(path)));
        // Not what is there by now, if that is another: the next look chains into it.
        if read(path)? == single {
            fs::rename(path, &saved).map_err(failed(path, "set aside"))?;
        }
        Ok(vec![Change::Chained(to)])
    }
}

/// A single plugin's configuration takes its place again; then the list goes. Dying between leaves both, of which the next try removes the
/// list's part.
fn restore(list: &Path, saved: &Path, original: &Path) -> Result<(), InstallError> {
    // One that its own installer has written anew meanwhile is newer.
    if original.exists() {
        fs::remove_file(saved).map_err(failed(saved, "removed"))?;
    } else {
        fs::rename(saved, original).map_err(failed(saved, "put back"))?;
    }
    fs::remove_file(list).map_err(failed(list, "removed"))
}

/// The single plugin's configuration that a list stands in the place of: where it is set aside, where it was, and its text.
fn saved(list: &Path) -> Option<(PathBuf, PathBuf, String)> {
    ["conf", "json"].into_iter().find_map(|ending| {
        let saved = list.with_extension(format!("{ending}.{SAVED}"));
        let text = fs::read_to_string(&saved).ok()?;
        Some((saved, list.with_extension(ending), text))
    })
}

fn ending(path: &Path) -> &str {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

fn read(path: &Path) -> Result<String, InstallError> {
    let length = fs::metadata(path).map_err(failed(path, "read"))?.len();
    if length > LARGEST {
        return Err(failed(path, "read")(io::Error::other("it is larger than any network's configuration")));
    }
    fs::read_to_string(path).map_err(failed(path, "read"))
}

/// Replaces a file that still is what was read; `false` where it is not.
fn replace_unchanged(path: &Path, before: &str, after: &str) -> Result<bool, InstallError> {
    // A link stays one.
    let target = fs::canonicalize(path).map_err(failed(path, "read"))?;
    if read(&target)? != before {
        return Ok(false);
    }
    replace(&target, after.as_bytes(), mode(&target)).map_err(failed(path, "written"))?;
    Ok(true)
}

/// Whoever may read the one may read what takes its place.
fn mode(path: &Path) -> Mode {
    fs::metadata(path).map_or(Mode(0o600), |metadata| Mode(metadata.permissions().mode() & 0o777))
}
