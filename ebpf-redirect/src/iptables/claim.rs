//! Claims on the rules in a pod's network namespace: who captures there, and who needs what is left.
//!
//! A pod that is enrolled anew comes while connections of its former enrolment still live: the last claim takes the rules away, and
//! only the latest is captured for. No claim may take from another what that one needs, or leave anything when it is the last.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    commands::{Failure, Family, Tools},
    leftovers::{self, Leftovers, Note},
};
use crate::{RedirectError, WayBack, netns};

/// The namespaces that have rules, by inode. Locked while commands run: claims come and go one by one.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<HashMap<u64, Namespace>>);

#[derive(Debug, Default)]
struct Namespace {
    claims: usize,
    so_far: u64,
    /// Those that have, or may have, rules.
    families: Vec<Family>,
    /// Whose listeners the rules name.
    captures: Option<u64>,
}

/// One claim. Dropping it takes away what nobody else needs.
#[derive(Debug)]
pub(super) struct Claim {
    tools: Arc<Tools>,
    claims: Arc<Claims>,
    pod: String,
    /// Held, so that its inode is no other's.
    netns: OwnedFd,
    inode: u64,
    number: u64,
    note: Note,
}

impl Claims {
    /// Claims a pod's namespace. There is a note of it from now on.
    pub(super) fn claim(
        self: &Arc<Self>,
        tools: &Arc<Tools>,
        notes: &Leftovers,
        (pod, netns): (&str, BorrowedFd<'_>),
    ) -> Result<Claim, RedirectError> {
        let failed = |call| move |error| RedirectError::syscall(call, pod, error);
        let inode = leftovers::inode(pod, netns)?;
        let netns = netns.try_clone_to_owned().map_err(failed("dup"))?;
        let mut all = self.lock();
        let note = notes.note(pod, netns.as_fd())?;
        let namespace = all.entry(inode).or_default();
        namespace.claims += 1;
        namespace.so_far += 1;
        let number = namespace.so_far;
        drop(all);
        let (tools, claims) = (Arc::clone(tools), Arc::clone(self));
        Ok(Claim { tools, claims, pod: pod.to_owned(), netns, inode, number, note })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Namespace>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    pub(super) fn pod(&self) -> &str {
        &self.pod
    }

    /// Captures by these rules, in the place of whoever did before.
    pub(super) fn capture(&self, rules: &[(Family, String)]) -> Result<(), RedirectError> {
        let mut all = self.claims.lock();
        let namespace = all.entry(self.inode).or_default();
        namespace.captures = Some(self.number);
        let new = rules.iter().map(|(family, _)| *family);
        namespace
            .families
            .extend(new.filter(|family| !namespace.families.contains(family)).collect::<Vec<_>>());
        self.inside(|tools| rules.iter().try_for_each(|(family, rules)| tools.set_up(*family, rules)))?
            .map_err(|failure| failure.explain(&self.pod))
    }

    /// Captures no more, unless somebody else does by now.
    fn release(&self, namespace: &mut Namespace) -> Result<(), RedirectError> {
        if namespace.captures != Some(self.number) {
            return Ok(());
        }
        namespace.captures = None;
        let families = &namespace.families;
        self.inside(|tools| families.iter().try_for_each(|family| tools.release(*family)))?
            .map_err(|failure| failure.explain(&self.pod))
    }

    /// Keeps nothing but the way back. Where that alone cannot be had, nothing is kept: nobody may be captured for no one.
    pub(super) fn into_way_back(self) -> Option<Box<dyn WayBack>> {
        let mut all = self.claims.lock();
        if let Some(namespace) = all.get_mut(&self.inode)
            && let Err(error) = self.release(namespace)
        {
            tracing::warn!(pod = self.pod, %error, "all of a pod's rules are taken away at once: its connections are cut");
            self.clear(&namespace.families);
            drop(all);
            return None;
        }
        drop(all);
        Some(Box::new(self))
    }

    fn clear(&self, families: &[Family]) {
        let cleared = self.inside(|tools| {
            tools.clear(families);
            Ok(())
        });
        match cleared {
            Ok(_) => self.note.forget(),
            Err(error) => tracing::warn!(pod = self.pod, %error, "rules may be left in the pod's namespace"),
        }
    }

    fn inside<T: Send>(
        &self,
        work: impl FnOnce(&Tools) -> Result<T, Failure> + Send,
    ) -> Result<Result<T, Failure>, RedirectError> {
        netns::inside(&self.pod, self.netns.as_fd(), || Ok(work(&self.tools)))
    }
}

impl WayBack for Claim {}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut all = self.claims.lock();
        let Some(namespace) = all.get_mut(&self.inode) else { return };
        namespace.claims -= 1;
        if namespace.claims == 0 {
            let families = std::mem::take(&mut namespace.families);
            all.remove(&self.inode);
            self.clear(&families);
        } else if let Err(error) = self.release(namespace) {
            tracing::warn!(pod = self.pod, %error, "a pod may still be steered to listeners that are gone");
        }
    }
}
