//! Locks that say whether a process lives: the kernel unlocks them whatever ends it.
//!
//! Who only looks holds one for a moment, so who takes one tries for a little longer than that.

use std::{fs::File, io, thread, time::Duration};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// Takes the lock for as long as the file is open; `false` where another process has it.
pub(crate) fn take(file: &File) -> io::Result<bool> {
    for _ in 0..ATTEMPTS {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => thread::sleep(PAUSE),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
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
        let (owner, second, looker) = (open(), open(), open());
        assert!(!is_taken(&looker) && take(&owner).unwrap());
        assert!(is_taken(&looker) && !take(&second).unwrap());
        drop(owner);
        assert!(!is_taken(&looker) && take(&second).unwrap());
        std::fs::remove_file(path).unwrap();
    }
}
