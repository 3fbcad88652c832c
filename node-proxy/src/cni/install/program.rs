//! The plugin's own file: whether it is this program, and how it becomes it.
//!
//! It is looked at every few seconds, and is large: its bytes are read only where what costs nothing to ask says that they may be others. It
//! must never be called the same by its length or its time alone.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use crate::sys::{
    replace::{Mode, replace_with},
    stamp::{self, Stamp},
};

/// What two files were when their bytes were last found to be the same.
#[derive(Debug, Default)]
pub(super) struct Compared {
    same: Option<[Stamp; 2]>,
    /// How often bytes were read.
    reads: u64,
}

impl Compared {
    /// Whether two files have one content, and the second may be run.
    pub(super) fn are_same(&mut self, one: &Path, other: &Path) -> io::Result<bool> {
        let Ok(there) = fs::metadata(other) else { return Ok(false) };
        if !there.is_file() || there.permissions().mode() & 0o111 == 0 {
            return Ok(false);
        }
        // Before the bytes: what is written while they are read has another time at the next look.
        let here = fs::metadata(one)?;
        let stamps = [&here, &there].map(stamp::of);
        if self.same == Some(stamps) {
            return Ok(true);
        }
        self.same = None;
        if here.len() != there.len() {
            return Ok(false);
        }
        self.reads += 1;
        let is_same = have_same_bytes(one, other)?;
        self.same = is_same.then_some(stamps);
        Ok(is_same)
    }
}

/// Puts a program in the place of whatever is there.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut program = fs::File::open(from)?;
    replace_with(to, Mode(0o755), |file| io::copy(&mut program, file).map(drop))
}

fn have_same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (fs::File::open(one)?, fs::File::open(other)?);
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let (count, other_count) = (fill(&mut one, &mut left)?, fill(&mut other, &mut right)?);
        if left[..count] != right[..other_count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

/// As many bytes as there are, or as fit.
fn fill(file: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::{fs::FileTimes, os::unix::fs::MetadataExt, time::SystemTime};

    use super::*;

    #[test]
    fn bytes_are_read_at_first_and_when_anything_of_a_file_has_changed_and_not_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let (program, plugin) = (directory.path().join("program"), directory.path().join("plugin"));
        fs::write(&program, "the program").unwrap();
        let mut compared = Compared::default();
        assert!(!compared.are_same(&program, &plugin).unwrap(), "it is not there");
        copy(&program, &plugin).unwrap();
        for _ in 0..3 {
            assert!(compared.are_same(&program, &plugin).unwrap());
        }
        assert_eq!(compared.reads, 1);
        // Another's, of that length and that time.
        let before = fs::metadata(&plugin).unwrap();
        let times = FileTimes::new().set_modified(before.modified().unwrap());
        fs::write(&plugin, "not program").unwrap();
        fs::File::options().write(true).open(&plugin).unwrap().set_times(times).unwrap();
        assert_eq!(fs::metadata(&plugin).unwrap().mtime_nsec(), before.mtime_nsec());
        assert!(!compared.are_same(&program, &plugin).unwrap());
        assert_eq!(compared.reads, 2);
        copy(&program, &plugin).unwrap();
        assert!(
            compared.are_same(&program, &plugin).unwrap() && compared.are_same(&program, &plugin).unwrap()
        );
        assert_eq!(compared.reads, 3);
        // The same once more, as an installer that does not look writes it.
        let later = FileTimes::new().set_modified(SystemTime::now());
        fs::File::options().write(true).open(&plugin).unwrap().set_times(later).unwrap();
        assert!(compared.are_same(&program, &plugin).unwrap());
        assert_eq!(compared.reads, 4);
        fs::write(&plugin, "longer than the program").unwrap();
        assert!(!compared.are_same(&program, &plugin).unwrap());
        assert_eq!(compared.reads, 4, "its length says so");
    }
}
