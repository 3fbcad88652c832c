//! Claims on the rules in a pod's network namespace: who captures there, and who needs what is left.
//!
//! A pod that is enrolled anew comes while connections of its former enrolment still live: the last claim takes the rules away, and
//! only the latest is captured for. No claim may take from another what that one needs, or leave anything when it is the last, unless
//! the pod is to be left refused, or was found so by a start that is not in force yet.

use std::{
    collections::{HashMap, HashSet},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    commands::{Failure, Family, Tools},
    leftovers::{self, Leftovers, Note},
};
use crate::{Parting, RedirectError, WayBack, netns};

/// The namespaces that have rules, by inode. Locked while commands run: claims come and go one by one.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    claimed: HashMap<u64, Namespace>,
    /// Those that were left refused, by inode: by a process that has ended, or by a claim since.
    found: HashSet<u64>,
    /// Whether a start is in force: whoever captures has taken over what was found.
    settled: bool,
}

#[derive(Debug, Default)]
struct Namespace {
    claims: usize,
    so_far: u64,
    /// Those that have, or may have, rules.
    families: Vec<Family>,
    /// Whose listeners the rules name.
    captures: Option<u64>,
    /// Whether they are to stay when the last claim goes.
    stays: bool,
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
    /// None, where these namespaces were found with rules of a process that has ended.
    pub(super) fn beside(found: impl IntoIterator<Item = u64>) -> Self {
        Self(Mutex::new(All { found: found.into_iter().collect(), ..All::default() }))
    }

    /// From now on nothing stays because it was found, but what is spared and nobody has claimed; without a list, all of
    /// that. Returns what does not stay.
    pub(super) fn settle(&self, spared: Option<&HashSet<u64>>) -> HashSet<u64> {
        let mut all = self.lock();
        let All { claimed, found, settled } = &mut *all;
        *settled = true;
        found.retain(|inode| !claimed.contains_key(inode));
        let Some(spared) = spared else { return HashSet::new() };
        found.extract_if(|inode| !spared.contains(inode)).collect()
    }

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
        let namespace = all.claimed.entry(inode).or_default();
        namespace.claims += 1;
        namespace.so_far += 1;
        let number = namespace.so_far;
        drop(all);
        let (tools, claims) = (Arc::clone(tools), Arc::clone(self));
        Ok(Claim { tools, claims, pod: pod.to_owned(), netns, inode, number, note })
    }

    fn lock(&self) -> MutexGuard<'_, All> {
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
        let was_found = all.found.contains(&self.inode);
        let namespace = all.claimed.entry(self.inode).or_default();
        namespace.captures = Some(self.number);
        let new: Vec<Family> = rules.iter().map(|(family, _)| *family).collect();
        let stale: Vec<Family> =
            Family::BOTH.into_iter().filter(|family| was_found && !new.contains(family)).collect();
        let missing = new.into_iter().filter(|family| !namespace.families.contains(family));
        namespace.families.extend(missing.collect::<Vec<_>>());
        self.inside(|tools| {
            tools.clear(&stale);
            rules.iter().try_for_each(|(family, rules)| tools.set_up(*family, rules))
        })?
        .map_err(|failure| failure.explain(&self.pod))?;
        namespace.stays = false;
        if all.settled {
            all.found.remove(&self.inode);
        }
        Ok(())
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
        if let Some(namespace) = all.claimed.get_mut(&self.inode)
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

    /// Leaves the rules, and the note of them, for the next start. What the pod begins is let go where it is to be open.
    pub(super) fn leave(self, parting: Parting) {
        let mut all = self.claims.lock();
        let Some(namespace) = all.claimed.get_mut(&self.inode) else { return };
        namespace.stays = true;
        if parting == Parting::OutboundOpen {
            let families = &namespace.families;
            let opened = self
                .inside(|tools| families.iter().try_for_each(|family| tools.release_outbound(*family)))
                .and_then(|opened| opened.map_err(|failure| failure.explain(&self.pod)));
            if let Err(error) = opened {
                tracing::warn!(pod = self.pod, %error, "what the pod begins stays refused");
            }
        }
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
        let was_found = all.found.contains(&self.inode);
        let Some(namespace) = all.claimed.get_mut(&self.inode) else { return };
        namespace.claims -= 1;
        let stays = namespace.stays || was_found;
        if namespace.claims == 0 {
            let families = std::mem::take(&mut namespace.families);
            all.claimed.remove(&self.inode);
            if stays {
                all.found.insert(self.inode);
            } else {
                self.clear(&families);
            }
        } else if stays {
            // Refused is what it is to be.
        } else if let Err(error) = self.release(namespace) {
            tracing::warn!(pod = self.pod, %error, "a pod may still be steered to listeners that are gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_stays_for_as_long_as_it_is_spared() {
        let claims = Claims::beside([1, 2, 3]);
        let settle = |spared: &[u64]| claims.settle(Some(&spared.iter().copied().collect()));
        assert!(claims.settle(None).is_empty(), "nobody says who they are");
        assert_eq!(settle(&[1, 3, 7]), HashSet::from([2]));
        assert_eq!(settle(&[3]), HashSet::from([1]));
        assert_eq!(settle(&[]), HashSet::from([3]));
        assert!(settle(&[]).is_empty(), "each is let go once");
    }
}
