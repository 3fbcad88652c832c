//! The entry of a table that decides about a request: the first in order of precedence that matches, without asking all.
//!
//! What is asked is what the index has under the request's path and what else the request says. What that costs grows with the
//! request, and with entries that cannot be told apart by a path's elements or an exact value; not with how many there
//! are. Nothing is allocated.

use std::hash::BuildHasher;

use http::{header, request::Parts};
use percent_encoding::percent_decode_str;

use super::matching;
use crate::snapshot::routes::{By, Entry, Filed, Index, Key, Matcher, PathMatcher, Sort};

/// An entry that matches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) entry: &'a Entry,
    /// Length of the path prefix that matched; 0 for other kinds.
    pub(super) prefix: usize,
}

/// The first entry that `matches` says yes to, if any. `matches` says of a matcher what [`matching::compare`] says.
pub(super) fn first<'a, S, M>(index: &'a Index<S>, request: &Parts, matches: M) -> Option<Found<'a>>
where
    S: BuildHasher + Clone,
    M: FnMut(&Matcher) -> Option<usize>,
{
    let mut search = Search { index, request, matches };
    search.exact().or_else(|| {
        let by_prefix = search.prefixes();
        match by_prefix {
            Some(_) if index.has_prefixes_first() => by_prefix,
            _ => first_of(by_prefix, search.regexes()),
        }
    })
}

struct Search<'a, 'r, S, M> {
    index: &'a Index<S>,
    request: &'r Parts,
    matches: M,
}

/// What entries of a place have in common. Another one may have got there by its hash.
#[derive(Clone, Copy)]
enum Class {
    Exact,
    /// Of this length.
    Prefix(usize),
    Regex,
}

impl Class {
    fn has(self, matcher: &Matcher) -> bool {
        match (self, &matcher.path) {
            (Self::Exact, PathMatcher::Exact(_)) | (Self::Regex, PathMatcher::Regex(_)) => true,
            (Self::Prefix(length), PathMatcher::Prefix(prefix)) => prefix.len() == length,
            _ => false,
        }
    }
}

impl<'a, S: BuildHasher + Clone, M: FnMut(&Matcher) -> Option<usize>> Search<'a, '_, S, M> {
    fn exact(&mut self) -> Option<Found<'a>> {
        let place = self.index.exact(self.request.uri.path())?;
        self.at(Class::Exact, place)
    }

    /// Longer ones first, as they count first.
    fn prefixes(&mut self) -> Option<Found<'a>> {
        let (path, mut nested, mut count) = (self.request.uri.path(), [(0, 0); NESTED], 0);
        for place in self.index.prefixes(path) {
            nested[count % NESTED] = place;
            count += 1;
        }
        let forgotten = count.saturating_sub(NESTED);
        for (length, place) in (forgotten..count).rev().map(|number| nested[number % NESTED]) {
            if let Some(found) = self.at(Class::Prefix(length), place) {
                return Some(found);
            }
        }
        let mut longest = None;
        for (length, place) in self.index.prefixes(path).take(forgotten) {
            longest = self.at(Class::Prefix(length), place).or(longest);
        }
        longest
    }

    /// Where one is filed says nothing of its precedence.
    fn regexes(&mut self) -> Option<Found<'a>> {
        let mut best = None;
        for (_, place) in self.index.regexes(self.request.uri.path()) {
            best = first_of(best, self.at(Class::Regex, place));
        }
        best
    }

    /// The first of one place.
    fn at(&mut self, class: Class, place: u64) -> Option<Found<'a>> {
        let here = |filed: &&Filed| filed.key.place == place;
        let mut run = self.index.from(Key::first(place)).take_while(here).peekable();
        let mut best = None;
        // Of those that ask for nothing else, the first that matches is the first of them.
        while let Some(filed) = run.next_if(|filed| filed.key.sign == Key::NO_SIGN && best.is_none()) {
            best = self.judge(class, filed);
        }
        let mut next = run.next();
        if next.is_some_and(|filed| filed.key.sign == Key::NO_SIGN) {
            next = self.after(place, Key::NO_SIGN);
        }
        for _ in 0..SIGNS {
            let Some(filed) = next else { return best };
            if let Some(mark) = self.mark(filed) {
                best = self.under(class, Key { mark, ..filed.key }, best);
            }
            next = self.after(place, filed.key.sign);
        }
        if next.is_some() { self.by_all_that_is_said(class, place, best) } else { best }
    }

    /// The first of a place that is filed by something of a greater hash.
    fn after(&self, place: u64, sign: u64) -> Option<&'a Filed> {
        let key = Key { place, sign: sign.checked_add(1)?, mark: 0 };
        self.index.from(key).next().filter(|filed| filed.key.place == place)
    }

    /// What the request says of what an entry is filed by.
    fn mark(&self, filed: &Filed) -> Option<u64> {
        let (keys, matcher, request) = (self.index.keys(), &filed.entry.matcher, self.request);
        match filed.by {
            By::Nothing => None,
            By::Method => Some(keys.mark(request.method.as_str().bytes())),
            By::Header(number) => {
                let (name, _) = matcher.headers.get(usize::from(number))?;
                Some(keys.mark(matching::header_value(name, request)?))
            }
            By::Query(number) => {
                let (name, _) = matcher.query.get(usize::from(number))?;
                let value = matching::parameter(name, request.uri.query()?)?;
                Some(keys.mark(percent_decode_str(value)))
            }
        }
    }

    /// The best of what there is and what is filed under a key.
    fn under(&mut self, class: Class, key: Key, mut best: Option<Found<'a>>) -> Option<Found<'a>> {
        for filed in self.index.from(key).take_while(|filed| filed.key == key) {
            if best.is_some_and(|best| best.entry.precedence(&filed.entry).is_lt()) {
                break;
            }
            if let Some(found) = self.judge(class, filed) {
                best = Some(found);
                break;
            }
        }
        best
    }

    /// The same of a place whose entries are filed by so many headers and parameters that the request has fewer.
    fn by_all_that_is_said(
        &mut self,
        class: Class,
        place: u64,
        mut best: Option<Found<'a>>,
    ) -> Option<Found<'a>> {
        let (keys, request, host) = (self.index.keys(), self.request, header::HOST);
        let sign = keys.sign(Sort::Method, std::iter::empty());
        let mark = keys.mark(request.method.as_str().bytes());
        best = self.under(class, Key { place, sign, mark }, best);
        for name in request.headers.keys().chain([&host]) {
            let Some(value) = matching::header_value(name, request) else { continue };
            let (sign, mark) = (keys.sign(Sort::Header, name.as_str().bytes()), keys.mark(value));
            best = self.under(class, Key { place, sign, mark }, best);
        }
        for (name, value) in matching::parameters(request.uri.query().unwrap_or_default()) {
            let sign = keys.sign(Sort::Query, percent_decode_str(name));
            let mark = keys.mark(percent_decode_str(value));
            best = self.under(class, Key { place, sign, mark }, best);
        }
        best
    }

    fn judge(&mut self, class: Class, filed: &'a Filed) -> Option<Found<'a>> {
        let matcher = &*filed.entry.matcher;
        let prefix = Some(matcher).filter(|matcher| class.has(matcher)).and_then(&mut self.matches)?;
        Some(Found { entry: &filed.entry, prefix })
    }
}

/// Which of two counts.
fn first_of<'a>(one: Option<Found<'a>>, other: Option<Found<'a>>) -> Option<Found<'a>> {
    let (Some(here), Some(there)) = (one, other) else { return one.or(other) };
    if here.entry.precedence(there.entry).is_gt() { other } else { one }
}

/// Prefixes of one path that are remembered on the way down; of more, those that are not are gone through again.
const NESTED: usize = 16;
/// Different headers and parameters that a place is looked through by; where there are more, what the request says is.
const SIGNS: usize = 16;

#[cfg(test)]
mod tests;
