//! A file that is replaced whole or not at all: written beside, then renamed over it.
//!
//! Whoever reads it meanwhile reads the old or the new; who dies half-way leaves a hidden file that the next one overwrites.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Who may do what with a file, as `chmod` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

/// Gives a file this content and this mode.
///
/// # Errors
/// What the system says; the file is as it was then.
pub fn replace(path: &Path, content: &[u8], mode: Mode) -> io::Result<()> {
    replace_with(path, mode, |file| file.write_all(content))
}

/// The same, of whatever `write` writes.
///
/// # Errors
/// What `write` or the system says; the file is as it was then.
pub fn replace_with(
    path: &Path,
    mode: Mode,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let beside = beside(path).ok_or(io::ErrorKind::InvalidInput)?;
    let written = (|| {
        // Never over a file that another user has prepared, nor through a link.
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        write(&mut file)?;
        file.set_permissions(Permissions::from_mode(mode.0))?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        // It may not have been made.
        let _ = fs::remove_file(&beside);
        return written;
    }
    // Not before the name is on the disk, too, is it safe from a power cut. Where a file system has no such thing, it is done.
    if let Some(directory) = path.parent() {
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
    }
    Ok(())
}

/// Hidden, and with an ending that no reader of a directory looks for.
fn beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    Some(path.with_file_name(format!(".{name}.canopy-new")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_or_stays_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        replace(&path, b"one", Mode(0o600)).unwrap();
        replace(&path, b"two", Mode(0o640)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let failed = replace_with(&path, Mode(0o600), |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_a_dead_one_left_beside_is_in_nobodys_way_and_no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, victim) = (directory.path().join("x.json"), directory.path().join("victim"));
        fs::write(&victim, "kept").unwrap();
        std::os::unix::fs::symlink(&victim, beside(&path).unwrap()).unwrap();
        replace(&path, b"one", Mode(0o600)).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(&victim).unwrap()),
            (b"one".to_vec(), b"kept".to_vec())
        );
    }
}
