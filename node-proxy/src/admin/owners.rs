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
use crate::sys::digest::sha256;

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
    Ok(Server::bind_for(&directory.join(file_name(tenant)), tenant, uid)?)
}

/// A tenant's name may have 253 characters, and a socket's address has room for 107 bytes with its directory. A longer name is
/// cut and has a hash behind it, and is longer then than any that stays as it is: no two tenants have one file.
fn file_name(tenant: &str) -> String {
    if tenant.len() <= WHOLE {
        return format!("{tenant}.sock");
    }
    let begins: String = tenant.chars().take(CUT).collect();
    let hash = sha256(tenant.as_bytes());
    let hash: String = hash.iter().flatten().take(HASH).map(|byte| format!("{byte:02x}")).collect();
    format!("{begins}-{hash}.sock")
}

/// Bytes of a name that stays whole, characters of one that does not, and bytes of its hash, of which each is two digits.
const WHOLE: usize = 48;
const CUT: usize = 32;
const HASH: usize = 8;

/// Everybody may enter it; nobody but the daemon's own user may put anything there.
fn prepare(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_socket_has_its_name_and_a_long_one_is_cut_without_being_anothers() {
        assert_eq!(file_name("shop"), "shop.sock");
        let whole = "w".repeat(WHOLE);
        assert_eq!(file_name(&whole), format!("{whole}.sock"));
        let (one, other) = (format!("{}1", "w".repeat(252)), format!("{}2", "w".repeat(252)));
        let (first, second) = (file_name(&one), file_name(&other));
        assert_ne!(first, second);
        // As an owner may work it out: printf %s NAME | sha256sum.
        assert_eq!(first, format!("{}-cbfe264cf9569f76.sock", "w".repeat(CUT)));
        // An address has 108 bytes, of which the last is none of the path's.
        let most = default_directory(&"i".repeat(32)).join(first);
        assert!(most.as_os_str().len() < 108, "{most:?}");
        assert!(second.len() > format!("{whole}.sock").len(), "{second} is nobody's whole name");
    }
}
