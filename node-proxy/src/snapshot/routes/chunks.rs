//! The entries of a table in the order of their keys, in chunks that one version of the table shares with the next.
//!
//! A change copies the chunks that it falls into, and the list of chunks. What was made must never change.

use std::{cmp::Ordering, iter, sync::Arc};

use super::{Entry, keys::Key};

/// An entry in its place.
#[derive(Debug, Clone)]
pub(crate) struct Filed {
    /// Under what.
    pub(crate) key: Key,
    /// What of the entry `key` is made of, besides its path.
    pub(crate) by: By,
    /// The entry.
    pub(crate) entry: Entry,
}

/// Which of a matcher's conditions an entry is filed by. Each is met only by one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// None.
    Nothing,
    /// That on the method.
    Method,
    /// So many after the first of those on headers.
    Header(u16),
    /// So many after the first of those on the query.
    Query(u16),
}

impl Filed {
    /// By key, then by precedence.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| self.entry.precedence(&other.entry))
    }
}

/// Any number of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunks(Vec<Chunk>);

#[derive(Debug, Clone)]
struct Chunk {
    /// Of the first of them: what a search compares with, without looking into chunks that it does not need.
    key: Key,
    /// At least one.
    filed: Arc<[Filed]>,
}

impl Chunk {
    fn is_after(&self, filed: &Filed) -> bool {
        let here = || self.filed.first().map_or(Ordering::Less, |first| first.order(filed));
        self.key.cmp(&filed.key).then_with(here).is_gt()
    }
}

impl Chunks {
    /// All from a key on.
    pub(super) fn from(&self, key: Key) -> impl Iterator<Item = &Filed> {
        let (before, after) = self.0.split_at(self.0.partition_point(|chunk| chunk.key < key));
        let last = before.last().map_or(&[][..], |chunk| &chunk.filed);
        let rest = &last[last.partition_point(|filed| filed.key < key)..];
        rest.iter().chain(after.iter().flat_map(|chunk| chunk.filed.iter()))
    }

    /// Whether exactly this is there.
    pub(super) fn has(&self, filed: &Filed) -> bool {
        let before = &self.0[..self.0.partition_point(|chunk| !chunk.is_after(filed))];
        before.last().is_some_and(|chunk| chunk.filed.binary_search_by(|there| there.order(filed)).is_ok())
    }

    /// All.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Filed> {
        self.0.iter().flat_map(|chunk| chunk.filed.iter())
    }

    /// The same with another entry in the place of each that there is one for: of the same key and precedence.
    pub(super) fn renewed<'a>(&self, other: impl Fn(&Filed) -> Option<&'a Entry>) -> Self {
        let renew = |filed: &Filed| match other(filed) {
            Some(entry) => Filed { entry: entry.clone(), ..*filed },
            None => filed.clone(),
        };
        let of_chunk = |chunk: &Chunk| match chunk.filed.iter().any(|filed| other(filed).is_some()) {
            true => Chunk { filed: chunk.filed.iter().map(renew).collect(), ..*chunk },
            false => chunk.clone(),
        };
        Self(self.0.iter().map(of_chunk).collect())
    }

    /// The same without `gone` and with `new`; both are in order.
    pub(super) fn changed(&self, gone: &[Filed], new: Vec<Filed>) -> Self {
        let (mut gone, mut new) = (gone.iter().peekable(), new.into_iter().peekable());
        let mut chunks = Vec::with_capacity(self.0.len() + 1);
        for (position, chunk) in self.0.iter().enumerate() {
            let next = self.0.get(position + 1);
            let is_here = |filed: &Filed| next.is_none_or(|next| next.is_after(filed));
            let goes: Vec<&Filed> = iter::from_fn(|| gone.next_if(|filed| is_here(filed))).collect();
            let comes: Vec<Filed> = iter::from_fn(|| new.next_if(is_here)).collect();
            if goes.is_empty() && comes.is_empty() {
                chunks.push(chunk.clone());
            } else {
                push(&mut chunks, merge(&chunk.filed, &goes, comes));
            }
        }
        // Where there was no chunk at all.
        push(&mut chunks, new.collect());
        Self(chunks)
    }
}

fn merge(old: &[Filed], gone: &[&Filed], new: Vec<Filed>) -> Vec<Filed> {
    let stays = |filed: &&Filed| gone.binary_search_by(|gone| gone.order(filed)).is_err();
    let mut all = Vec::with_capacity(old.len() + new.len());
    all.extend(old.iter().filter(stays).cloned());
    all.extend(new);
    all.sort_by(Filed::order);
    all
}

/// Appends, so that chunks become neither large nor many.
fn push(chunks: &mut Vec<Chunk>, mut filed: Vec<Filed>) {
    if let Some(last) = chunks.pop_if(|last| last.filed.len() + filed.len() <= FULL && !filed.is_empty()) {
        filed.splice(..0, last.filed.iter().cloned());
    }
    let pieces = if filed.len() > FULL { filed.len().div_ceil(BULK) } else { 1 };
    for piece in filed.chunks(filed.len().div_ceil(pieces).max(1)) {
        if let Some(first) = piece.first() {
            chunks.push(Chunk { key: first.key, filed: piece.into() });
        }
    }
}

/// Entries of a chunk at most, some 4 KiB: of 10,000 entries, a new one copies one chunk and a list of 200.
const FULL: usize = 64;
/// Of a chunk where many are made at a time: room for what comes.
const BULK: usize = 48;

#[cfg(test)]
mod tests;
