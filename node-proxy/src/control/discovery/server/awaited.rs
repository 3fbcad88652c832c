//! Answers that a node owes: by when each has to have come.
//!
//! Nothing but an answer counts as one: whoever asks for more and more and never says what became of what it was sent would be kept for
//! ever, without the policies that it was sent. Pure: the time is an argument.

use std::{collections::BTreeMap, time::Duration};

use config::discovery::Kind;
use tokio::time::Instant;

/// By type, since when the answer to its response is due, and which response it was of all.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    sent: u64,
    since: BTreeMap<Kind, (u64, Instant)>,
}

impl Awaited {
    /// A response of a type is on its way.
    pub(super) fn sent(&mut self, kind: Kind, now: Instant) {
        self.sent += 1;
        self.since.insert(kind, (self.sent, now));
    }

    /// Something was heard: whether a response is still unanswered, `is_open` says.
    pub(super) fn heard(&mut self, is_open: impl Fn(Kind) -> bool, now: Instant) {
        let mut answered = None;
        self.since.retain(|kind, (number, _)| {
            let is_open = is_open(*kind);
            if !is_open {
                answered = answered.max(Some(*number));
            }
            is_open
        });
        let Some(answered) = answered else { return };
        // A node takes in one after the other: the next one's turn begins now.
        for (_, since) in self.since.values_mut().filter(|(number, _)| *number > answered) {
            *since = now;
        }
    }

    /// When an answer is too late; `None` where none is owed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.values().map(|(_, since)| *since + ANSWER).min()
    }
}

/// How long a node may take for an answer to a response: it reads it, and puts all that it says in force before.
pub(super) const ANSWER: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_response_is_to_be_answered_when_its_turn_has_come_and_nothing_else_puts_that_off() {
        let (mut awaited, begin) = (Awaited::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(awaited.deadline(), None);
        awaited.sent(Kind::Tenant, at(0));
        awaited.sent(Kind::Address, at(1));
        awaited.heard(|_| true, at(100));
        assert_eq!(awaited.deadline(), Some(at(0) + ANSWER), "it asks for more, and answers nothing");
        awaited.heard(|kind| kind == Kind::Address, at(110));
        assert_eq!(awaited.deadline(), Some(at(110) + ANSWER), "what comes after it was waiting for it");
        awaited.sent(Kind::Tenant, at(150));
        awaited.heard(|kind| kind == Kind::Address, at(200));
        assert_eq!(awaited.deadline(), Some(at(110) + ANSWER), "who answers others owes this all the same");
        awaited.heard(|_| false, at(210));
        assert_eq!(awaited.deadline(), None);
    }
}
