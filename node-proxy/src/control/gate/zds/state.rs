//! What the agent has said of pods, over all its connections: a pure state machine, but for the descriptors that it holds.
//!
//! It must never let go of a pod that the agent has not yet had the time to name, nor keep one that it has said to be gone.

use std::{collections::BTreeMap, os::fd::AsRawFd, path::PathBuf};

use config::name::{Name, Namespace, PodName};

use super::wire::{Add, Payload};
use crate::sys::netns::Netns;

/// Pods that are held at most: a node has some hundred.
const MOST: usize = 4096;

/// The pods of which the agent has told.
#[derive(Debug, Default)]
pub(super) struct State {
    held: BTreeMap<String, Held>,
    /// It has named all that there are, since it connected.
    is_whole: bool,
}

/// A pod, and the descriptor that keeps its namespace.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) pod: PodName,
    netns: Netns,
    /// Since the agent connected.
    is_named: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A pod is to be enrolled. Of one that was somewhere else, that is to be let go first.
    Enrol {
        /// Its UID.
        uid: String,
        /// What it was known by.
        before: Option<String>,
    },
    /// These are gone, by what they were known by.
    LetGo(Vec<String>),
    /// Nothing.
    Nothing,
}

/// What the agent must not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("the request has no payload that is known")]
    NoPayload,
    #[error("a workload is added with exactly one descriptor, that of its network namespace")]
    NoNamespace,
    #[error("a descriptor came with what needs none")]
    Descriptor,
    #[error("a workload is added with its name and its namespace")]
    NoName,
    #[error("workloads are kept before the snapshot was sent, and not after")]
    LateKeep,
    #[error("the snapshot was sent already")]
    SecondSnapshot,
    #[error("more workloads than a node can have")]
    TooMany,
}

impl State {
    /// The agent has connected anew, and names everything anew.
    pub(super) fn connected(&mut self) {
        self.is_whole = false;
        self.held.values_mut().for_each(|held| held.is_named = false);
    }

    /// Whether it has named all that there are.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Takes up what it says.
    pub(super) fn take(&mut self, payload: Option<Payload>, netns: Vec<Netns>) -> Result<Step, Violation> {
        let payload = payload.ok_or(Violation::NoPayload)?;
        if !matches!(payload, Payload::Add(_)) && !netns.is_empty() {
            return Err(Violation::Descriptor);
        }
        match payload {
            Payload::Add(add) => self.add(add, netns),
            Payload::Keep(_) if self.is_whole => Err(Violation::LateKeep),
            Payload::Keep(keep) => {
                if let Some(held) = self.held.get_mut(&keep.uid) {
                    held.is_named = true;
                }
                Ok(Step::Nothing)
            }
            Payload::Del(del) => {
                Ok(self.held.remove(&del.uid).map_or(Step::Nothing, |held| Step::LetGo(vec![held.id()])))
            }
            Payload::SnapshotSent(_) if self.is_whole => Err(Violation::SecondSnapshot),
            Payload::SnapshotSent(_) => {
                self.is_whole = true;
                let gone: Vec<_> =
                    self.held.extract_if(.., |_, held| !held.is_named).map(|(_, held)| held.id()).collect();
                Ok(if gone.is_empty() { Step::Nothing } else { Step::LetGo(gone) })
            }
        }
    }

    fn add(&mut self, add: Add, netns: Vec<Netns>) -> Result<Step, Violation> {
        let netns = <[Netns; 1]>::try_from(netns).ok().map(|[netns]| netns);
        let netns = netns.filter(Netns::is_namespace).ok_or(Violation::NoNamespace)?;
        let info = add.info.unwrap_or_default();
        let names = Namespace::try_from(info.namespace).ok().zip(Name::try_from(info.name).ok());
        let (Some((namespace, name)), false) = (names, add.uid.is_empty()) else {
            return Err(Violation::NoName);
        };
        let pod = PodName::new(namespace, name);
        if let Some(held) = self.held.get_mut(&add.uid)
            && held.netns.is(&netns)
            && held.pod == pod
        {
            // Said twice is said once.
            held.is_named = true;
            return Ok(Step::Enrol { uid: add.uid, before: None });
        }
        if self.held.len() >= MOST && !self.held.contains_key(&add.uid) {
            return Err(Violation::TooMany);
        }
        let before =
            self.held.insert(add.uid.clone(), Held { pod, netns, is_named: true }).map(|held| held.id());
        Ok(Step::Enrol { uid: add.uid, before })
    }

    /// What is held of a pod.
    pub(super) fn of(&self, uid: &str) -> Option<&Held> {
        self.held.get(uid)
    }
}

impl Held {
    /// What names its namespace while it is held.
    pub(super) fn path(&self) -> PathBuf {
        use std::os::fd::AsFd;
        format!("/proc/self/fd/{}", self.netns.as_fd().as_raw_fd()).into()
    }

    /// Its namespace.
    pub(super) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// In place of a sandbox's name, which the agent does not say.
    pub(super) fn id(&self) -> String {
        format!("zds:{}:{:?}", self.pod, self.netns.id())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{
        super::wire::{Del, Info, Keep, SnapshotSent},
        *,
    };

    fn own() -> Vec<Netns> {
        vec![Netns::open(Path::new("/proc/self/ns/net")).unwrap()]
    }

    fn add(uid: &str) -> Option<Payload> {
        let info = Info { name: "cart".to_owned(), namespace: "shop".to_owned() };
        Some(Payload::Add(Add { uid: uid.to_owned(), info: Some(info) }))
    }

    fn keep(uid: &str) -> Option<Payload> {
        Some(Payload::Keep(Keep { uid: uid.to_owned() }))
    }

    fn del(uid: &str) -> Option<Payload> {
        Some(Payload::Del(Del { uid: uid.to_owned() }))
    }

    const WHOLE: Option<Payload> = Some(Payload::SnapshotSent(SnapshotSent {}));

    #[test]
    fn pods_come_and_go_as_the_agent_says_and_over_its_restart_those_go_that_it_does_not_name() {
        let mut state = State::default();
        state.connected();
        for uid in ["a", "b", "c"] {
            let expected = Step::Enrol { uid: uid.to_owned(), before: None };
            assert_eq!(state.take(add(uid), own()), Ok(expected));
        }
        assert_eq!(state.take(WHOLE, Vec::new()), Ok(Step::Nothing));
        let id = state.of("a").unwrap().id();
        assert_eq!(state.take(del("a"), Vec::new()), Ok(Step::LetGo(vec![id])));
        assert_eq!(state.take(del("a"), Vec::new()), Ok(Step::Nothing));
        state.connected();
        assert_eq!(state.take(keep("b"), Vec::new()), Ok(Step::Nothing));
        assert_eq!(state.take(keep("nobody"), Vec::new()), Ok(Step::Nothing));
        let id = state.of("c").unwrap().id();
        assert_eq!(state.take(WHOLE, Vec::new()), Ok(Step::LetGo(vec![id])));
        assert!(state.of("b").is_some());
    }

    #[test]
    fn a_pod_that_is_added_twice_is_one_and_one_that_is_elsewhere_now_is_moved() {
        let mut state = State::default();
        state.take(add("a"), own()).unwrap();
        let (path, id) = (state.of("a").unwrap().path(), state.of("a").unwrap().id());
        assert_eq!(state.take(add("a"), own()), Ok(Step::Enrol { uid: "a".to_owned(), before: None }));
        assert_eq!(state.of("a").unwrap().path(), path, "the descriptor that others may have opened is kept");
        assert!(Netns::open(&path).unwrap().is_namespace());
        let Some(Payload::Add(mut other)) = add("a") else { unreachable!() };
        other.info.as_mut().unwrap().name = "till".to_owned();
        let moved = state.take(Some(Payload::Add(other)), own());
        assert_eq!(moved, Ok(Step::Enrol { uid: "a".to_owned(), before: Some(id) }));
    }

    #[test]
    fn what_the_agent_must_not_say_is_named() {
        let mut state = State::default();
        let file = Netns::open(Path::new("/proc/self/stat")).unwrap();
        let nameless = Some(Payload::Add(Add { uid: "a".to_owned(), info: None }));
        let two = [own(), own()].into_iter().flatten().collect();
        for (payload, netns, expected) in [
            (None, Vec::new(), Violation::NoPayload),
            (add("a"), Vec::new(), Violation::NoNamespace),
            (add("a"), two, Violation::NoNamespace),
            (add("a"), vec![file], Violation::NoNamespace),
            (nameless, own(), Violation::NoName),
            (add(""), own(), Violation::NoName),
            (del("a"), own(), Violation::Descriptor),
        ] {
            assert_eq!(state.take(payload, netns), Err(expected));
        }
        state.take(WHOLE, Vec::new()).unwrap();
        assert_eq!(state.take(keep("a"), Vec::new()), Err(Violation::LateKeep));
        assert_eq!(state.take(WHOLE, Vec::new()), Err(Violation::SecondSnapshot));
    }
}
