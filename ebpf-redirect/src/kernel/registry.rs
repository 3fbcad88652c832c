//! Which pods are enrolled, by network namespace; and which were left by a dead process and wait to be claimed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::RedirectError;

/// Not on the path of a connection: taken when pods come and go, and by who watches decisions.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    pods: HashMap<u64, Arc<str>>,
    unclaimed: HashSet<u64>,
}

impl Registry {
    /// With the pods that a dead process left.
    pub(crate) fn new(unclaimed: impl IntoIterator<Item = u64>) -> Self {
        let unclaimed = unclaimed.into_iter().collect();
        Self { inner: Mutex::new(Inner { pods: HashMap::new(), unclaimed }) }
    }

    /// Enters a pod; says whether a dead process left it.
    pub(crate) fn enter(&self, netns: u64, pod: &str) -> Result<bool, RedirectError> {
        let mut inner = self.lock();
        if let Some(by) = inner.pods.get(&netns) {
            return Err(RedirectError::AlreadyEnrolled { pod: pod.to_owned(), by: by.to_string() });
        }
        inner.pods.insert(netns, pod.into());
        Ok(inner.unclaimed.remove(&netns))
    }

    /// Removes a pod whose steering stays, for whoever claims it next.
    pub(crate) fn give_back(&self, netns: u64) {
        let mut inner = self.lock();
        inner.pods.remove(&netns);
        inner.unclaimed.insert(netns);
    }

    /// Removes a pod.
    pub(crate) fn leave(&self, netns: u64) {
        self.lock().pods.remove(&netns);
    }

    /// The pod in a network namespace.
    pub(crate) fn pod(&self, netns: u64) -> Option<Arc<str>> {
        self.lock().pods.get(&netns).cloned()
    }

    /// How many nobody has claimed.
    pub(crate) fn unclaimed(&self) -> usize {
        self.lock().unclaimed.len()
    }

    /// Takes those that nobody has claimed and that are not spared; from now on nobody can claim them.
    pub(crate) fn take_unclaimed(&self, spared: &HashSet<u64>) -> Vec<u64> {
        self.lock().unclaimed.extract_if(|netns| !spared.contains(netns)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
