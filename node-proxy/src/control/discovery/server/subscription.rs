//! What one stream has of one type: what it asked for, what it was sent, and what is still to be sent.
//!
//! Pure, and of the stream's size: it holds names and versions, never a resource that is not about to be sent. A resource must
//! never be sent again in the version in which it was sent last, whatever became of it there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use config::discovery::{Kind, Reader, Shelf, messages::Any};

use super::{
    super::protocol::{LARGEST_DRAFT, Request, Resource},
    change::Change,
    version::Version,
};

/// Of one stream and one type.
#[derive(Debug)]
pub(super) struct Subscription {
    kind: Kind,
    /// Whether all of the type are wanted.
    wildcard: bool,
    /// Names as they were asked for, with those of the resources that they stand for now; with none where nothing is known of them.
    asked: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// The same the other way round.
    wanted_by: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// What the other end has, or will have when it has read what was sent; in no version where it is to be sent again.
    had: HashMap<Arc<str>, Option<Version>>,
    /// What is to be looked up, and sent if it is not had.
    pending: BTreeSet<Arc<str>>,
    /// What the next response will bring, and its bytes.
    draft: BTreeMap<Arc<str>, Resource>,
    draft_bytes: usize,
    /// Names that were asked for just now and that nothing is known of.
    unknown: BTreeSet<Arc<str>>,
    /// What is had and is not there any more.
    removals: BTreeSet<Arc<str>>,
    /// Whether an answer is owed, be it empty.
    owed: bool,
    /// The response that was not answered yet.
    in_flight: Option<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    sent: Vec<Arc<str>>,
}

/// What a response brings.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Contents {
    pub(super) resources: Vec<Resource>,
    pub(super) removed: Vec<String>,
}

/// Resources of which a NACK that names none is told.
const TOLD: usize = 8;
/// In a response of more resources than this, nobody looks for those that a NACK names.
const SEARCHED: usize = 10_000;

impl Subscription {
    /// What the first request of a type asks for. All of the type where it names nothing, or `*`; and where the type is of a kind of
    /// which nobody can ask for single ones.
    pub(super) fn begin(kind: Kind, request: &Request, shelf: &Shelf) -> Self {
        let mut new = Self {
            kind,
            wildcard: false,
            asked: HashMap::new(),
            wanted_by: HashMap::new(),
            had: HashMap::new(),
            pending: BTreeSet::new(),
            draft: BTreeMap::new(),
            draft_bytes: 0,
            unknown: BTreeSet::new(),
            removals: BTreeSet::new(),
            owed: true,
            in_flight: None,
        };
        for (name, version) in &request.initial_versions {
            let name: Arc<str> = Arc::from(&**name);
            new.had.insert(Arc::clone(&name), Version::of(version));
            // Looked up even if it is not wanted: then it is taken back.
            new.pending.insert(name);
        }
        let names_all =
            request.subscribe.is_empty() || request.subscribe.iter().any(|name| is_all(kind, name));
        if names_all && !request.unsubscribe.iter().any(|name| name == ALL) {
            new.want_all(shelf);
        }
        for name in request.subscribe.iter().filter(|name| !is_all(kind, name)) {
            new.ask(name, shelf);
        }
        new.unsubscribe(request.unsubscribe.iter().filter(|name| *name != ALL), shelf);
        new
    }

    /// Names that are wanted from now on, and names that are not any more.
    pub(super) fn alter(&mut self, request: &Request, shelf: &Shelf) {
        for name in &request.subscribe {
            if is_all(self.kind, name) {
                self.want_all(shelf);
                continue;
            }
            // Who asks expressly is answered, whatever it has: it may have forgotten, or know it by another name.
            for name in self.ask(name, shelf) {
                if let Some(version) = self.had.get_mut(&name) {
                    *version = None;
                }
            }
        }
        self.unsubscribe(request.unsubscribe.iter(), shelf);
    }

    /// Takes an answer: what the response had brought, if it was to the one in flight.
    pub(super) fn answered(&mut self, nonce: &str) -> Option<Vec<Arc<str>>> {
        self.in_flight.take_if(|response| response.nonce == nonce).map(|response| response.sent)
    }

    /// What of a response was not taken, as far as can be told: the resources that the message names; if it names none, those that the
    /// response begins with. It counts as had all the same: until it changes, it would be refused again.
    pub(super) fn not_taken(&self, sent: &[Arc<str>], message: &str) -> Vec<(Arc<str>, Option<Version>)> {
        let named = sent.iter().filter(|name| message.contains(&***name));
        let mut names: Vec<&Arc<str>> =
            if sent.len() > SEARCHED { Vec::new() } else { named.take(TOLD).collect() };
        if names.is_empty() {
            names = sent.iter().take(TOLD).collect();
        }
        let version = |name: &Arc<str>| self.had.get(name).copied().flatten();
        names.into_iter().map(|name| (Arc::clone(name), version(name))).collect()
    }

    /// Takes note of what has changed on the shelf.
    pub(super) fn note(&mut self, change: &Change, shelf: &Shelf) {
        let changed = change.of(self.kind);
        if self.wildcard {
            self.pending.extend(changed.iter().cloned());
            return;
        }
        if changed.is_empty() || self.asked.is_empty() {
            return;
        }
        // A Service that changes may have other pods, and an address may be another's.
        let mut again = HashSet::new();
        for name in changed {
            if let Some(asked) = self.wanted_by.get(name) {
                self.pending.insert(Arc::clone(name));
                again.extend(asked.iter().cloned());
            }
        }
        match change.called() {
            Some(called) => {
                again.extend(
                    called.iter().filter_map(|name| Some(Arc::clone(self.asked.get_key_value(&**name)?.0))),
                );
            }
            None => again.extend(
                self.asked.iter().filter(|(_, found)| found.is_empty()).map(|(asked, _)| asked.clone()),
            ),
        }
        for asked in again {
            let was_known = self.asked.get(&asked).is_some_and(|found| !found.is_empty());
            let is_known = !self.find(&asked, shelf).is_empty();
            if is_known {
                self.removals.remove(&asked);
            } else if was_known {
                self.removals.insert(asked);
            }
        }
    }

    /// Looks up at most `most` of what is pending, and counts what was encoded for it. Gives how many are left to look up.
    pub(super) fn look_up(
        &mut self,
        shelf: &Shelf,
        reader: &Reader,
        most: usize,
        encoded: &mut u64,
    ) -> usize {
        for _ in 0..most {
            if self.draft_bytes >= LARGEST_DRAFT {
                break;
            }
            let Some(name) = self.pending.pop_first() else { return 0 };
            let Some(version) = self.wants(&name).then(|| shelf.version(self.kind, &name, reader)).flatten()
            else {
                self.draft_bytes -= self.draft.remove(&name).map_or(0, |before| before.body_bytes());
                if self.had.remove(&name).is_some() {
                    self.removals.insert(name);
                }
                continue;
            };
            self.removals.remove(&name);
            let version = Version::of(&version);
            if version.is_some() && self.had.get(&name) == Some(&version) {
                continue;
            }
            *encoded += 1;
            if let Some(resource) = shelf.get(self.kind, &name, reader) {
                self.draft(name, version, resource);
            }
        }
        self.pending.len()
    }

    fn draft(&mut self, name: Arc<str>, version: Option<Version>, resource: config::discovery::Resource) {
        self.had.insert(Arc::clone(&name), version);
        let body = Any { type_url: self.kind.type_url().to_owned(), value: resource.body };
        let config::discovery::Resource { name: own, aliases, version, .. } = resource;
        let resource = Resource { version, resource: Some(body), name: own, aliases };
        self.draft_bytes += resource.body_bytes();
        // It may have changed since it was drafted.
        self.draft_bytes -= self.draft.insert(name, resource).map_or(0, |before| before.body_bytes());
    }

    /// Whether a response must wait for the answer to the one before.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether something has to be looked up.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether there may be something to say, now or when the response in flight is answered.
    pub(super) fn is_due(&self) -> bool {
        self.owed || self.is_pending() || self.brings() || !self.removals.is_empty()
    }

    /// Whether the draft is large enough to go before all is looked up: a message has its limit.
    pub(super) fn is_full(&self) -> bool {
        self.draft_bytes >= LARGEST_DRAFT
    }

    /// Whether, with the response that is in flight, all of the type has been sent that is not had.
    pub(super) fn has_said_all(&self) -> bool {
        self.wildcard && self.pending.is_empty() && self.draft.is_empty()
    }

    fn brings(&self) -> bool {
        !self.draft.is_empty() || !self.unknown.is_empty()
    }

    /// The next response but for removals, if there is anything to say; not while one is in flight.
    pub(super) fn take_draft(&mut self, nonce: &str) -> Option<Contents> {
        if !(self.owed || self.brings()) {
            return None;
        }
        self.owed = false;
        self.draft_bytes = 0;
        let draft = std::mem::take(&mut self.draft);
        let sent = draft.keys().cloned().collect();
        self.in_flight = Some(InFlight { nonce: nonce.to_owned(), sent });
        let unknown = std::mem::take(&mut self.unknown);
        Some(Contents {
            resources: draft.into_values().collect(),
            removed: unknown.iter().map(|name| String::from(&**name)).collect(),
        })
    }

    /// A response that takes back what is not there any more.
    pub(super) fn take_removals(&mut self, nonce: &str) -> Option<Contents> {
        if self.in_flight.is_some() || self.removals.is_empty() {
            return None;
        }
        self.in_flight = Some(InFlight { nonce: nonce.to_owned(), sent: Vec::new() });
        let removals = std::mem::take(&mut self.removals);
        let removed = removals.iter().map(|name| String::from(&**name)).collect();
        Some(Contents { resources: Vec::new(), removed })
    }

    /// Names that are asked for.
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.wanted_by.contains_key(name)
    }

    fn want_all(&mut self, shelf: &Shelf) {
        self.owed = true;
        if !std::mem::replace(&mut self.wildcard, true) {
            self.pending.extend(shelf.names(self.kind).cloned());
        }
    }

    /// Subscribes to a name, and gives what it stands for.
    fn ask(&mut self, name: &str, shelf: &Shelf) -> Vec<Arc<str>> {
        let found = self.find(&canonical(name), shelf);
        self.pending.extend(found.iter().cloned());
        if found.is_empty() {
            self.unknown.insert(Arc::from(name));
        }
        found
    }

    fn unsubscribe<'a>(&mut self, names: impl Iterator<Item = &'a String>, shelf: &Shelf) {
        for name in names {
            if name == ALL {
                self.want_no_longer_all(shelf);
            } else if let Some((asked, found)) = self.asked.remove_entry(&canonical(name)) {
                self.unknown.remove(&**name);
                found.iter().for_each(|name| self.let_go(name, &asked));
            }
        }
    }

    fn want_no_longer_all(&mut self, shelf: &Shelf) {
        if !std::mem::take(&mut self.wildcard) {
            return;
        }
        // What names stand for was of no interest meanwhile.
        for asked in self.asked.keys().cloned().collect::<Vec<_>>() {
            self.find(&asked, shelf);
        }
        self.pending.extend(self.had.keys().filter(|name| !self.wanted_by.contains_key(*name)).cloned());
    }

    /// Looks what a name stands for now. What it does not stand for any more is let go, what is new is pending.
    fn find(&mut self, asked: &Arc<str>, shelf: &Shelf) -> Vec<Arc<str>> {
        let now = shelf.find(asked);
        let before = self.asked.get(asked);
        if before.is_some_and(|before| *before == now) {
            return now;
        }
        let before = self.asked.insert(Arc::clone(asked), now.clone()).unwrap_or_default();
        if !now.is_empty() {
            self.unknown.remove(asked);
        }
        let (old, new): (HashSet<&Arc<str>>, HashSet<&Arc<str>>) =
            (before.iter().collect(), now.iter().collect());
        for name in new.difference(&old) {
            self.wanted_by.entry(Arc::clone(name)).or_default().push(Arc::clone(asked));
            self.pending.insert(Arc::clone(name));
        }
        for name in old.difference(&new) {
            self.let_go(name, asked);
        }
        now
    }

    /// A name does not stand for this resource any more.
    fn let_go(&mut self, name: &Arc<str>, asked: &Arc<str>) {
        let Some(wanted_by) = self.wanted_by.get_mut(name) else { return };
        wanted_by.retain(|other| other != asked);
        if wanted_by.is_empty() {
            self.wanted_by.remove(name);
            self.pending.insert(Arc::clone(name));
        }
    }
}

/// Whether this name asks for all of the type.
fn is_all(kind: Kind, name: &str) -> bool {
    name == ALL || !kind.is_on_demand()
}

/// An address as it is written here, however it was written.
fn canonical(name: &str) -> Arc<str> {
    let address = name.strip_prefix('/').and_then(|address| address.parse::<IpAddr>().ok());
    address.map_or_else(|| Arc::from(name), |address| Arc::from(format!("/{address}")))
}

/// All of a type.
const ALL: &str = "*";

#[cfg(test)]
mod tests;
