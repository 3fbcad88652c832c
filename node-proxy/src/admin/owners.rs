//! A socket for each tenant's owner, on which that tenant alone is shown: its figures, its events.
//!
//! In a directory of their own, which everybody may enter, since who an owner is the kernel says of each connection. They come and
//! go with the tenants. What cannot be made is logged, and tried again; it must never keep the daemon from anything.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::task::AbortHandle;

use super::{Subject, server::Server};

/// How often it is looked who owns what.
const LOOK: Duration = Duration::from_secs(1);

/// Where the owners' sockets of an instance are when nothing else is said.
pub fn default_directory(instance: &str) -> PathBuf {
    Path::new("/run/canopy-owners").join(instance)
}

/// One tenant's socket, which ends with this.
#[derive(Debug)]
struct Door {
    uid: u32,
    /// `None` where it could not be made.
    serving: Option<AbortHandle>,
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// Serves every owner that `owners` names, until dropped.
pub async fn serve(
    directory: PathBuf,
    subject: Arc<dyn Subject>,
    owners: impl Fn() -> BTreeMap<String, u32> + Send,
) {
    let mut doors: BTreeMap<String, Door> = BTreeMap::new();
    loop {
        let wanted = owners();
        // First those that go: a tenant whose owner is another now has its socket made anew.
        doors.retain(|tenant, door| wanted.get(tenant) == Some(&door.uid));
        // What was ended leaves its file when it has its turn.
        tokio::task::yield_now().await;
        for (tenant, uid) in wanted {
            let known = doors.get(&tenant).map(|door| door.serving.is_some());
            if known == Some(true) {
                continue;
            }
            let serving = match open(&directory, &tenant, uid) {
                Ok(server) => Some(tokio::spawn(server.serve(Arc::clone(&subject))).abort_handle()),
                Err(error) if known.is_none() => {
                    let cause = error.source().map(ToString::to_string);
                    tracing::warn!(%error, cause, tenant, uid, "a tenant's owner has no socket; it is tried again");
                    None
                }
                Err(_told) => None,
            };
            doors.insert(tenant, Door { uid, serving });
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn open(
    directory: &Path,
    tenant: &str,
    uid: u32,
) -> Result<Server, Box<dyn std::error::Error + Send + Sync>> {
    prepare(directory)?;
    Ok(Server::bind_for(&directory.join(format!("{tenant}.sock")), tenant, uid)?)
}

/// Everybody may enter it; nobody but the daemon's own user may put anything there.
fn prepare(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
}
