//! The index of a table: every entry filed under its path and, where there is one, a condition that few others of that path
//! share.
//!
//! An entry is filed once: an exact path under itself, a prefix under its elements, a regular expression under the elements it
//! begins with. Whoever looks finds all that might match, and some that do not. It must never leave one out, and must
//! never grow by more than a few dozen bytes an entry.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use super::{
    Change, Entry, Matcher, PathMatcher, ValueMatcher, beginning,
    chunks::{By, Chunks, Filed},
    keys::{Class, Key, Keys, Places, Sort},
    lengths::Lengths,
};

/// Entries by key.
#[derive(Clone, Default)]
pub(crate) struct Index<S = RandomState> {
    keys: Keys<S>,
    filed: Chunks,
    /// Of the paths of each [`Class`].
    lengths: [Lengths; 3],
    /// Whether it is, or was, of gRPC calls: among those, a prefix does not count before all regular expressions.
    of_calls: bool,
}

impl<S: BuildHasher + Clone> Index<S> {
    /// The same with a change.
    pub(crate) fn changed(&self, change: Change) -> Self {
        let Change { gone, renewed, new } = change;
        let (mut lengths, mut filing) = (self.lengths.clone(), Filing::new(self));
        let (mut out, mut come) = (Vec::new(), Vec::with_capacity(new.len()));
        for entry in &gone {
            let home = self.home(&entry.matcher);
            if let Some(filed) = self.find(entry, home.place) {
                lengths[home.class as usize].remove(home.length);
                out.push(filed);
            }
        }
        let mut of_calls = self.of_calls;
        for entry in new {
            of_calls |= entry.matcher.rpc.is_some();
            let home = self.home(&entry.matcher);
            lengths[home.class as usize].add(home.length);
            come.push(filing.file(entry, home.place));
        }
        out.sort_by(Filed::order);
        come.sort_by(Filed::order);
        let filed = self.renewed(&renewed).changed(&out, come);
        Self { keys: self.keys.clone(), filed, lengths, of_calls }
    }

    /// Where exact conditions are that a path might meet.
    pub(crate) fn exact(&self, path: &str) -> Option<u64> {
        self.lengths[Class::Exact as usize].has(path.len()).then(|| self.keys.exact(path))
    }

    /// Where prefixes are that a path might have, with their lengths, from the shortest on.
    pub(crate) fn prefixes<'a>(&'a self, path: &'a str) -> Places<'a, S::Hasher> {
        self.keys.places(Class::Prefix, path, &self.lengths[Class::Prefix as usize])
    }

    /// Where regular expressions are that might match a path.
    pub(crate) fn regexes<'a>(&'a self, path: &'a str) -> Places<'a, S::Hasher> {
        self.keys.places(Class::Regex, path, &self.lengths[Class::Regex as usize])
    }

    /// Whether a prefix that matches counts before whatever regular expression does.
    pub(crate) fn has_prefixes_first(&self) -> bool {
        !self.of_calls
    }

    /// What is filed from a key on.
    pub(crate) fn from(&self, key: Key) -> impl Iterator<Item = &Filed> {
        self.filed.from(key)
    }

    /// Who makes keys for it.
    pub(crate) fn keys(&self) -> &Keys<S> {
        &self.keys
    }

    fn home(&self, matcher: &Matcher) -> Home {
        let below =
            |class, path: &str| Home { class, place: self.keys.place(class, path), length: path.len() };
        match &matcher.path {
            PathMatcher::Exact(path) => {
                Home { class: Class::Exact, place: self.keys.exact(path), length: path.len() }
            }
            PathMatcher::Prefix(prefix) => below(Class::Prefix, prefix),
            PathMatcher::Regex(regex) => below(Class::Regex, &beginning::elements(regex)),
        }
    }

    /// Entries are found by what is the same of both, which is all but the rule.
    fn renewed(&self, entries: &[Entry]) -> Chunks {
        if entries.is_empty() {
            return self.filed.clone();
        }
        let by_matcher = |entry: &Entry| Arc::as_ptr(&entry.matcher);
        let entries: HashMap<*const Matcher, &Entry> =
            entries.iter().map(|entry| (by_matcher(entry), entry)).collect();
        self.filed.renewed(|filed| entries.get(&by_matcher(&filed.entry)).copied())
    }

    fn find(&self, entry: &Entry, place: u64) -> Option<Filed> {
        let unconditioned = (Key::first(place), By::Nothing);
        let keys = self.conditions(&entry.matcher, place).chain([unconditioned]);
        let mut filed = keys.map(|(key, by)| Filed { key, by, entry: entry.clone() });
        filed.find(|filed| self.filed.has(filed))
    }

    /// Under what an entry may be filed, what tells most apart first.
    fn conditions(&self, matcher: &Matcher, place: u64) -> impl Iterator<Item = (Key, By)> {
        let numbered = || 0..=u16::MAX;
        let method = matcher.method.iter().map(|_| By::Method);
        let headers = numbered().take(matcher.headers.len()).map(By::Header);
        let query = numbered().take(matcher.query.len()).map(By::Query);
        headers.chain(query).chain(method).filter_map(move |by| {
            let condition = Condition::of(matcher, by)?;
            let sign = self.keys.sign(condition.sort, condition.name.bytes());
            let mark = self.keys.mark(condition.value?.bytes());
            Some((Key { place, sign, mark }, by))
        })
    }
}

impl<S> Index<S> {
    /// All entries, in order of precedence.
    pub(crate) fn entries(&self) -> Vec<&Entry> {
        let mut entries: Vec<_> = self.filed.iter().map(|filed| &filed.entry).collect();
        entries.sort_by(|one, other| one.precedence(other));
        entries
    }
}

/// How entries are filed is of no meaning.
impl<S> fmt::Debug for Index<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

/// Where a matcher belongs by its path.
struct Home {
    class: Class,
    place: u64,
    length: usize,
}

/// A condition besides that on the path.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Condition<'a> {
    sort: Sort,
    name: &'a str,
    /// The only one that meets it, if there is only one.
    value: Option<&'a str>,
}

impl<'a> Condition<'a> {
    fn of(matcher: &'a Matcher, by: By) -> Option<Self> {
        let exact = |value: &'a ValueMatcher| match value {
            ValueMatcher::Exact(value) => Some(value.as_str()),
            ValueMatcher::Regex(_) => None,
        };
        match by {
            By::Nothing => None,
            By::Method => {
                let value = Some(matcher.method.as_ref()?.as_str());
                Some(Self { sort: Sort::Method, name: "", value })
            }
            By::Header(number) => {
                let (name, value) = matcher.headers.get(usize::from(number))?;
                Some(Self { sort: Sort::Header, name: name.as_str(), value: exact(value) })
            }
            By::Query(number) => {
                let (name, value) = matcher.query.get(usize::from(number))?;
                Some(Self { sort: Sort::Query, name, value: exact(value) })
            }
        }
    }

    fn is_on_the_same(&self, other: &Self) -> bool {
        self.sort == other.sort && self.name == other.name
    }
}

/// Chooses what new entries are filed by.
struct Filing<'a, S> {
    index: &'a Index<S>,
    /// How many of the new ones have a key.
    new: HashMap<Key, usize>,
    /// What of the new ones has a sign, by place and sign.
    signs: HashMap<(u64, u64), (Arc<Matcher>, By)>,
}

impl<'a, S: BuildHasher + Clone> Filing<'a, S> {
    fn new(index: &'a Index<S>) -> Self {
        Self { index, new: HashMap::new(), signs: HashMap::new() }
    }

    /// By the condition that fewest others of its place share, so that few are asked who do not match.
    fn file(&mut self, entry: Entry, place: u64) -> Filed {
        let conditions = self.index.conditions(&entry.matcher, place);
        let usable = conditions.filter(|(key, by)| self.is_usable(*key, &entry.matcher, *by));
        let chosen = usable.min_by_key(|(key, _)| self.count(*key));
        let (key, by) = chosen.unwrap_or((Key::first(place), By::Nothing));
        *self.new.entry(key).or_default() += 1;
        self.signs.entry((place, key.sign)).or_insert_with(|| (Arc::clone(&entry.matcher), by));
        Filed { key, by, entry }
    }

    /// Whoever looks takes the first of a sign for all of it. So where two signs have one hash, only one of them is used.
    fn is_usable(&self, key: Key, matcher: &Matcher, by: By) -> bool {
        let group = Key { mark: 0, ..key };
        let here = |filed: &&Filed| (filed.key.place, filed.key.sign) == (key.place, key.sign);
        let other = match self.signs.get(&(key.place, key.sign)) {
            Some((matcher, by)) => Condition::of(matcher, *by),
            None => {
                let first = self.index.from(group).next().filter(here);
                first.and_then(|filed| Condition::of(&filed.entry.matcher, filed.by))
            }
        };
        let own = Condition::of(matcher, by);
        other.is_none_or(|other| own.is_some_and(|own| own.is_on_the_same(&other)))
    }

    fn count(&self, key: Key) -> usize {
        let old = self.index.from(key).take_while(|filed| filed.key == key).take(COUNTED);
        self.new.get(&key).copied().unwrap_or(0) + old.count()
    }
}

/// So many of one key are as bad as more.
const COUNTED: usize = 64;
