//! Changing the embedded authority's root, in three steps between which everything works: prepare, switch, finish.
//!
//! A root signs only after every daemon has trusted it, and is trusted until nothing it signed is in use. Every step is one
//! rename or link, so that a daemon that looks at any moment sees a whole state.

use std::{fs, path::Path};

use config::identity::TrustDomain;
use rustls::pki_types::UnixTime;

use super::{
    directory::{self, DirectoryError, ROOT, io_at},
    issuer::Issuer,
};

/// The root that will sign.
pub const NEXT: &str = "next.pem";
/// The root that has signed.
pub const PREVIOUS: &str = "previous.pem";

/// A step of the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make the next root; it is trusted from now on.
    Prepare,
    /// Let the next root sign; the previous one stays trusted.
    Switch,
    /// Trust the previous root no more.
    Finish,
}

/// Why a step cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The directory is of no use.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Another step is due.
    #[error("{0}")]
    Order(&'static str),
}

/// Takes one step.
pub fn step(
    directory: &Path,
    trust_domain: &TrustDomain,
    now: UnixTime,
    step: Step,
) -> Result<(), RotationError> {
    // Nothing is changed in a directory that could not be used as it is. A root that has expired may be changed.
    match directory::load(directory, trust_domain, now) {
        Ok(_) | Err(DirectoryError::Expired { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let (root, next, previous) = (directory.join(ROOT), directory.join(NEXT), directory.join(PREVIOUS));
    match step {
        Step::Prepare => {
            if previous.exists() {
                return Err(RotationError::Order("the last change is not over: finish it first"));
            }
            let issuer = Issuer::root(trust_domain, now).map_err(DirectoryError::Make)?;
            if !directory::publish(directory, NEXT, &directory::root_pem(&issuer))? {
                return Err(RotationError::Order("the next root is there already: switch to it"));
            }
        }
        Step::Switch => {
            if !next.exists() {
                return Err(RotationError::Order("there is no next root: prepare it first"));
            }
            if previous.exists() {
                return Err(RotationError::Order("the last change is not over: finish it first"));
            }
            // Trusted under its second name before it loses the first.
            fs::hard_link(&root, &previous).map_err(io_at(&previous))?;
            fs::rename(&next, &root).map_err(io_at(&root))?;
        }
        Step::Finish => {
            if !previous.exists() {
                return Err(RotationError::Order("there is no previous root: nothing is to be finished"));
            }
            fs::remove_file(&previous).map_err(io_at(&previous))?;
        }
    }
    Ok(())
}
