//! What entries of a route table are filed and found under: hashes with a seed that nobody outside knows, so that no tenant can
//! choose names whose keys meet.
//!
//! A key must never decide anything: whoever finds an entry by it asks the entry's matcher.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::lengths::Lengths;

/// Under what an entry is filed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Of the path.
    pub(crate) place: u64,
    /// Of what else is asked for: the method, or a header or parameter of this name; [`Key::NO_SIGN`] of nothing.
    pub(crate) sign: u64,
    /// Of the value that is asked for.
    pub(crate) mark: u64,
}

impl Key {
    /// No sign of anything has this hash.
    pub(crate) const NO_SIGN: u64 = 0;

    /// The first of a path.
    pub(crate) fn first(place: u64) -> Self {
        Self { place, sign: Self::NO_SIGN, mark: 0 }
    }
}

/// What a path is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Exactly so.
    Exact,
    /// So, or below it.
    Prefix,
    /// Below it, and as a regular expression says.
    Regex,
}

/// What a condition is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// The method.
    Method,
    /// A header.
    Header,
    /// A parameter of the query.
    Query,
}

/// Makes keys. Those of one maker fit each other alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys<S = RandomState>(S);

impl<S: BuildHasher> Keys<S> {
    /// Of a path as it is.
    pub(super) fn exact(&self, path: &str) -> u64 {
        let mut hasher = self.hasher(Class::Exact as u8);
        hasher.write(path.as_bytes());
        hasher.finish()
    }

    /// Of everything that a path is below of, and of the path, where its length is one of `lengths`: from the shortest on.
    pub(super) fn places<'a>(
        &self,
        class: Class,
        path: &'a str,
        lengths: &'a Lengths,
    ) -> Places<'a, S::Hasher> {
        Places { path: path.as_bytes(), lengths, at: None, hasher: self.hasher(class as u8) }
    }

    /// Of the whole of a path, as [`Keys::places`] has it.
    pub(super) fn place(&self, class: Class, path: &str) -> u64 {
        let mut lengths = Lengths::default();
        lengths.add(path.len());
        self.places(class, path, &lengths).last().map_or(0, |(_, place)| place)
    }

    /// Of what a condition is on.
    pub(crate) fn sign(&self, sort: Sort, name: impl Iterator<Item = u8>) -> u64 {
        let mut hasher = self.hasher(sort as u8);
        write(&mut hasher, name);
        hasher.finish().max(Key::NO_SIGN + 1)
    }

    /// Of a value.
    pub(crate) fn mark(&self, value: impl Iterator<Item = u8>) -> u64 {
        let mut hasher = self.0.build_hasher();
        write(&mut hasher, value);
        hasher.finish()
    }

    fn hasher(&self, first: u8) -> S::Hasher {
        let mut hasher = self.0.build_hasher();
        hasher.write_u8(first);
        hasher
    }
}

/// The same bytes are the same hash however they come: in one piece, in lines of a header, or percent-encoded.
fn write(hasher: &mut impl Hasher, bytes: impl Iterator<Item = u8>) {
    let (mut block, mut count) = (0_u64, 0_u64);
    for byte in bytes {
        block = block << 8 | u64::from(byte);
        count += 1;
        if count.is_multiple_of(8) {
            hasher.write_u64(block);
        }
    }
    hasher.write_u64(block);
    hasher.write_u64(count);
}

/// Walks down a path, element by element. It never goes further than the longest of its lengths.
#[derive(Debug)]
pub(crate) struct Places<'a, H> {
    path: &'a [u8],
    lengths: &'a Lengths,
    /// How far it has come; none before the first step, which is to the root.
    at: Option<usize>,
    hasher: H,
}

impl<H: Hasher> Places<'_, H> {
    /// To the end of the next element; its length up to there.
    fn step(&mut self) -> Option<usize> {
        let reach = self.lengths.longest()?;
        let Some(at) = self.at else { return Some(0) };
        let within = &self.path[..self.path.len().min(reach.saturating_add(1))];
        let rest = within.get(at..).filter(|rest| !rest.is_empty())?;
        // A slash is the first byte of the element after it.
        let end = match rest.iter().skip(1).position(|byte| *byte == b'/') {
            Some(before) => at + 1 + before,
            None => self.path.len(),
        };
        self.hasher.write(self.path.get(at..end).filter(|_| end <= reach)?);
        Some(end)
    }
}

impl<H: Hasher> Iterator for Places<'_, H> {
    type Item = (usize, u64);

    fn next(&mut self) -> Option<(usize, u64)> {
        loop {
            let at = self.step()?;
            self.at = Some(at);
            if self.lengths.has(at) {
                return Some((at, self.hasher.finish()));
            }
        }
    }
}
