//! Who hears at once which pods are somewhere else: whoever learns it waits for nobody, so those who hear must not wait either.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
};

use crate::control::kubernetes::Hear;

/// All of them.
#[derive(Default)]
pub(super) struct Listeners(Mutex<Vec<Hear>>);

impl Listeners {
    pub(super) fn add(&self, hear: Hear) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(hear);
    }

    pub(super) fn tell(&self, uids: &BTreeSet<String>) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.iter().for_each(|hear| uids.iter().for_each(|uid| hear(uid)));
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}
