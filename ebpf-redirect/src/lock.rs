//! Locks that say whether a process lives: the kernel unlocks them whatever ends it.
//!
//! Who only looks holds one for a moment, so who takes one tries for a little longer than that.

use std::{fs::File, io, thread, time::Duration};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// A lock that is taken, until this is dropped or its process ends. Closing its file would not be enough: a child that is
/// just being started has the file as well, until it is another program.
#[derive(Debug)]
pub(crate) struct Locked(File);

impl Locked {
    /// What is locked.
    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // It fails for a file that is none, and this is one.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Takes the lock; `None` where another process has it.
pub(crate) fn take(file: File) -> io::Result<Option<Locked>> {
    for _ in 0..ATTEMPTS {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(Locked(file))),
            Err(Errno::WOULDBLOCK) => thread::sleep(PAUSE),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

/// Whether a process has it.
pub(crate) fn is_taken(file: &File) -> bool {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            // Closing the file would do as well, but later.
            let _ = flock(file, FlockOperation::Unlock);
            false
        }
        // Whatever else is the matter, nothing shows that its owner is dead.
        Err(_) => true,
    }
}

const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_tells_whether_it_is_taken_and_does_not_take_it() {
        let path = std::env::temp_dir().join(format!("canopy-lock-{}", std::process::id()));
        let open = || File::create(&path).unwrap();
        let looker = open();
        assert!(!is_taken(&looker));
        let owner = take(open()).unwrap().unwrap();
        assert!(is_taken(&looker) && take(open()).unwrap().is_none());
        drop(owner);
        assert!(!is_taken(&looker) && take(open()).unwrap().is_some());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn who_gives_it_up_keeps_it_from_nobody_though_a_child_still_has_the_file() {
        let path = std::env::temp_dir().join(format!("canopy-lock-of-a-parent-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        // What a fork does: another descriptor of the same open file.
        let childs = file.try_clone().unwrap();
        drop(take(file).unwrap().unwrap());
        assert!(take(File::create(&path).unwrap()).unwrap().is_some());
        drop(childs);
        std::fs::remove_file(path).unwrap();
    }
}
