//! A Unix socket for root and this process's own user: its mode says so, and the kernel's word of each peer is asked besides.
//!
//! A socket that somebody answers on is never taken away from him.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

/// Why there is no socket.
#[derive(Debug)]
pub enum Taken {
    /// Another process answers on it.
    InUse,
    /// Something else is there.
    NotASocket,
    /// What the system said.
    System(io::Error),
}

/// A bound socket. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Private {
    listener: UnixListener,
    path: PathBuf,
}

impl Private {
    /// Makes the socket, taking the place of one that nobody answers on any more. Within an event loop.
    pub fn bind(path: &Path) -> Result<Self, Taken> {
        clear_stale(path)?;
        let listener = listen(path).map_err(Taken::System)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// The next who comes in; `None` for a stranger.
    pub async fn accept(&self) -> io::Result<Option<UnixStream>> {
        self.accept_if(is_trusted).await
    }

    /// The same, by another's word of who is none: by the peer's user, and this process's own.
    pub async fn accept_if(&self, may: impl Fn(u32, u32) -> bool) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.listener.accept().await?;
        let own = rustix::process::geteuid().as_raw();
        Ok(stream.peer_cred().is_ok_and(|peer| may(peer.uid(), own)).then_some(stream))
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.path);
    }
}

fn clear_stale(path: &Path) -> Result<(), Taken> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(Taken::NotASocket);
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Taken::InUse);
    }
    fs::remove_file(path).map_err(Taken::System)
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    }
    let listener = UnixListener::bind(path)?;
    // Until this line the umask decides, so credentials are checked at every connection as well.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Root and the process's own user.
pub fn is_trusted(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_processs_own_user_are_trusted() {
        assert!(is_trusted(0, 1000) && is_trusted(1000, 1000));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1001, 0));
    }

    #[tokio::test]
    async fn a_socket_takes_the_place_of_a_dead_one_alone_and_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/x.sock");
        let bound = Private::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Private::bind(&path), Err(Taken::InUse)));
        let (accepted, _peer) = tokio::join!(bound.accept(), UnixStream::connect(&path));
        assert!(accepted.unwrap().is_some(), "the process's own user");
        drop(bound);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(Private::bind(&path).is_ok(), "nobody answers there");
        fs::write(&path, "").unwrap();
        assert!(matches!(Private::bind(&path), Err(Taken::NotASocket)));
    }
}
