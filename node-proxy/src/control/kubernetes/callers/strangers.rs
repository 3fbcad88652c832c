//! Whose token is reviewed, and whose is not: each review costs the API server some milliseconds, whoever had it made.
//!
//! An address pays for a review before it is made and has back what it paid for one that was worth it, so that no number of requests at a
//! time is more than one after the other. Who showed a good token lately pays nothing: others at his address, of his node's network or
//! behind one translation, must not lock him out. Holds no token, and no more of anything than its bounds.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::super::rate::Buckets;
use crate::sys::digest::sha256;

/// What is known of addresses and of tokens.
#[derive(Debug)]
pub(super) struct Strangers(Mutex<State>);

#[derive(Debug)]
struct State {
    /// What addresses may pay with.
    tries: Buckets,
    /// Reviews that addresses have under way.
    under_way: HashMap<String, usize>,
    /// Tokens that are reviewed just now: who shows the same one waits for what comes of it.
    reviewed: HashMap<Print, watch::Receiver<()>>,
    good: HashMap<Print, Good>,
}

/// A token that was good.
#[derive(Debug, Clone, Copy)]
struct Good {
    until: Instant,
    /// Of one who may read the mesh: a node's daemon, or a sidecar.
    is_readers: bool,
}

/// By what a token is known again, and nobody else knows it: its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Print([u8; 32]);

/// What becomes of who shows a token.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    /// It was good lately: it is reviewed, and nobody pays.
    Known,
    /// It is reviewed, and this was paid for.
    Stranger(Place<'a>),
    /// It is being reviewed; who waits enters again.
    Wait(watch::Receiver<()>),
    /// Not now.
    Refused,
}

/// A review that an address has paid for, until this is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    of: &'a Strangers,
    from: String,
    print: Print,
    /// Ends the others' waiting when it is dropped.
    _reviewed: watch::Sender<()>,
}

impl Print {
    /// Of a token.
    pub(super) fn of(token: &str) -> Self {
        // Without a hash, none is known again.
        Self(sha256(token.as_bytes()).unwrap_or_else(|| std::array::from_fn(|_| fastrand::u8(..))))
    }
}

impl Strangers {
    /// Each address pays for so many refused tokens at once, and for one more after every `pause`.
    pub(super) fn new(burst: u32, pause: Duration) -> Self {
        Self(Mutex::new(State {
            tries: Buckets::new(burst, pause),
            under_way: HashMap::new(),
            reviewed: HashMap::new(),
            good: HashMap::new(),
        }))
    }

    /// Who shows nothing pays for that he asked; whether he could.
    pub(super) fn pay(&self, from: &str, now: Instant) -> bool {
        self.state().tries.take(from, now)
    }

    /// What becomes of who shows this token, and, where it is to be a reader's, was good as one.
    pub(super) fn enter(&self, from: &str, print: Print, as_reader: bool, now: Instant) -> Entry<'_> {
        let mut state = self.state();
        let is_good = |good: &Good| good.until > now && (good.is_readers || !as_reader);
        if state.good.get(&print).is_some_and(is_good) {
            return Entry::Known;
        }
        if let Some(reviewed) = state.reviewed.get(&print) {
            return Entry::Wait(reviewed.clone());
        }
        let under_way = state.under_way.get(from).copied().unwrap_or_default();
        if under_way >= AT_ONCE || !state.tries.take(from, now) {
            return Entry::Refused;
        }
        let (ends, reviewed) = watch::channel(());
        state.under_way.insert(from.to_owned(), under_way + 1);
        state.reviewed.insert(print, reviewed);
        Entry::Stranger(Place { of: self, from: from.to_owned(), print, _reviewed: ends })
    }

    /// A token is good.
    pub(super) fn welcome(&self, print: Print, is_readers: bool, now: Instant) {
        let mut state = self.state();
        let good = &mut state.good;
        if good.len() >= MOST && !good.contains_key(&print) {
            good.retain(|_, good| good.until > now);
            if good.len() >= MOST {
                // Other workloads have addresses of their own, which nobody else uses up.
                good.retain(|_, good| good.is_readers);
            }
            if good.len() >= MOST {
                return;
            }
        }
        good.insert(print, Good { until: now + LATELY, is_readers });
    }

    /// A token is good no longer.
    pub(super) fn forget(&self, print: Print) {
        self.state().good.remove(&print);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// It was worth it, or nobody has looked: the address has it back.
    pub(super) fn give_back(self, now: Instant) {
        self.of.state().tries.give_back(&self.from, now);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.reviewed.remove(&self.print);
        if let Some(under_way) = state.under_way.get_mut(&self.from) {
            *under_way -= 1;
            if *under_way == 0 {
                state.under_way.remove(&self.from);
            }
        }
    }
}

/// Reviews of tokens not seen before that an address may have under way.
pub(super) const AT_ONCE: usize = 8;
/// For how long a good token is remembered after its last review: as long as the kubelet has it made for by default.
const LATELY: Duration = Duration::from_secs(3600);
/// Tokens that are remembered: more than a cluster has nodes.
const MOST: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn strangers() -> (Strangers, Instant) {
        (Strangers::new(10, Duration::from_secs(1)), Instant::now())
    }

    fn print(token: usize) -> Print {
        Print::of(&token.to_string())
    }

    #[test]
    fn an_address_pays_before_a_review_and_has_back_what_was_worth_it() {
        let (strangers, now) = strangers();
        let enter = |token| strangers.enter("a", print(token), true, now);
        for round in 0..3 {
            for token in 0..20 {
                let Entry::Stranger(place) = enter(token) else { panic!("{round}") };
                place.give_back(now);
            }
        }
        // Whoever goes away meanwhile has paid like one who is refused.
        for token in 0..10 {
            assert!(matches!(enter(token), Entry::Stranger(_)));
        }
        assert!(matches!(enter(10), Entry::Refused) && !strangers.pay("a", now));
        assert!(
            strangers.pay("b", now)
                && matches!(strangers.enter("b", print(10), true, now), Entry::Stranger(_))
        );
        assert!(strangers.pay("a", now + Duration::from_secs(1)));
    }

    #[test]
    fn an_address_has_so_many_reviews_under_way_and_no_more() {
        let (strangers, now) = strangers();
        let enter = |token| strangers.enter("a", print(token), true, now);
        let mut places: Vec<_> = (0..AT_ONCE).map(enter).collect();
        assert!(places.iter().all(|entry| matches!(entry, Entry::Stranger(_))));
        assert!(matches!(enter(AT_ONCE), Entry::Refused));
        assert!(matches!(strangers.enter("b", print(AT_ONCE), true, now), Entry::Stranger(_)));
        places.pop();
        assert!(matches!(enter(AT_ONCE), Entry::Stranger(_)));
        drop(places);
        let state = strangers.state();
        assert!(state.under_way.is_empty() && state.reviewed.is_empty(), "nothing is left of them");
    }

    #[tokio::test]
    async fn one_token_is_reviewed_once_at_a_time_and_who_waits_for_it_pays_nothing() {
        let (strangers, now) = strangers();
        let enter = |from| strangers.enter(from, print(1), true, now);
        let Entry::Stranger(place) = enter("a") else { panic!() };
        let (Entry::Wait(mut one), Entry::Wait(mut other)) = (enter("a"), enter("b")) else { panic!() };
        assert!(!one.has_changed().unwrap());
        strangers.welcome(print(1), true, now);
        place.give_back(now);
        assert!(one.changed().await.is_err() && other.changed().await.is_err(), "they enter again");
        assert!(matches!(enter("a"), Entry::Known) && matches!(enter("b"), Entry::Known));
    }

    #[test]
    fn who_was_good_lately_is_let_in_past_others_at_his_address_until_he_is_not_or_it_is_long_ago() {
        let (strangers, now) = strangers();
        strangers.welcome(print(1), true, now);
        strangers.welcome(print(2), false, now);
        while strangers.pay("a", now) {}
        let enter = |token, as_reader, at| strangers.enter("a", print(token), as_reader, at);
        assert!(matches!(enter(1, true, now), Entry::Known) && matches!(enter(1, false, now), Entry::Known));
        assert!(matches!(enter(2, false, now), Entry::Known));
        assert!(matches!(enter(2, true, now), Entry::Refused), "it was good, and no daemon's");
        assert!(matches!(enter(3, true, now), Entry::Refused), "another's token");
        let later = now + LATELY;
        while strangers.pay("a", later) {}
        assert!(matches!(enter(1, true, later), Entry::Refused), "it is long ago");
        strangers.welcome(print(1), true, later);
        assert!(matches!(enter(1, true, later), Entry::Known));
        strangers.forget(print(1));
        assert!(matches!(enter(1, true, later), Entry::Refused));
    }

    #[test]
    fn as_many_good_tokens_are_remembered_as_may_be_and_no_workloads_crowds_out_a_daemons() {
        let (strangers, now) = strangers();
        strangers.welcome(print(MOST), true, now);
        for token in 0..MOST {
            strangers.welcome(print(token), false, now);
        }
        assert!(strangers.state().good.len() <= MOST);
        assert!(matches!(strangers.enter("a", print(MOST), true, now), Entry::Known));
        let of_daemons = 0..=MOST;
        of_daemons.for_each(|token| strangers.welcome(print(token), true, now));
        assert_eq!(strangers.state().good.len(), MOST);
        strangers.welcome(print(MOST + 1), false, now + LATELY);
        assert_eq!(strangers.state().good.len(), 1, "what is long ago makes room");
    }

    #[test]
    fn tokens_are_known_by_their_sha_256() {
        // printf abc | sha256sum
        assert_eq!(Print::of("abc").0[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_ne!(Print::of("a"), Print::of("b"));
    }
}
