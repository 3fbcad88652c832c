//! Answers to who asked for a destination: given when the mesh that has it is in force, and with it what its routes lead to.
//!
//! A destination must not be said to be there before its backends are, or the first requests to it would find none. A control plane
//! that says nothing of a backend holds nobody up for long.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::super::client::{Answer, Demand};

/// Those that are not given yet.
#[derive(Debug, Default)]
pub(super) struct Answers {
    given: Vec<(String, Answer)>,
    /// Since when something is held back.
    held: Option<Instant>,
    /// Backends that were waited for in vain.
    silent: BTreeSet<String>,
}

impl Answers {
    pub(super) fn push(&mut self, name: String, answer: Answer) {
        self.given.push((name, answer));
    }

    /// Those to give now. `needed` are the Services that routes of what is known lead to.
    pub(super) fn due(
        &mut self,
        needed: &BTreeSet<String>,
        demand: &Demand,
        now: Instant,
    ) -> Vec<(String, Answer)> {
        if self.given.is_empty() {
            return Vec::new();
        }
        self.silent.retain(|name| needed.contains(name));
        let missing: Vec<&String> = needed.iter().filter(|name| self.is_missing(name, demand)).collect();
        let since = *self.held.get_or_insert(now);
        if missing.is_empty() || now.saturating_duration_since(since) >= PATIENCE {
            self.silent.extend(missing.into_iter().cloned());
            self.held = None;
            return std::mem::take(&mut self.given);
        }
        let is_held =
            |(name, answer): &(String, Answer)| *answer == Answer::Present && !needed.contains(name);
        let (held, due) = std::mem::take(&mut self.given).into_iter().partition(is_held);
        self.given = held;
        if self.given.is_empty() {
            self.held = None;
        }
        due
    }

    /// Whether nobody has said anything of a backend yet.
    fn is_missing(&self, name: &String, demand: &Demand) -> bool {
        let is_told = || self.given.iter().any(|(given, _)| given == name);
        !self.silent.contains(name) && !is_told() && demand.want_name(name) == Answer::Asked
    }
}

/// How long backends are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const CART: (&str, Answer) = ("/10.96.0.1", Answer::Present);
    const BACKEND: &str = "shop/green.shop.svc.cluster.local";

    fn pushed(answers: &mut Answers, (name, answer): (&str, Answer)) {
        answers.push(name.to_owned(), answer);
    }

    fn given((name, answer): (&str, Answer)) -> Vec<(String, Answer)> {
        vec![(name.to_owned(), answer)]
    }

    #[test]
    fn a_destination_is_there_when_what_its_routes_lead_to_is() {
        let (demand, now, needed) = (Demand::new(9, ""), Instant::now(), [BACKEND.to_owned()].into());
        let mut answers = Answers::default();
        pushed(&mut answers, CART);
        pushed(&mut answers, ("/10.96.0.2", Answer::Absent));
        assert_eq!(
            answers.due(&needed, &demand, now),
            given(("/10.96.0.2", Answer::Absent)),
            "others are not held"
        );
        assert_eq!(answers.due(&needed, &demand, now), []);
        pushed(&mut answers, (BACKEND, Answer::Present));
        let both = [given(CART), given((BACKEND, Answer::Present))].concat();
        assert_eq!(answers.due(&needed, &demand, now), both);
        demand.answer(&both);
        pushed(&mut answers, CART);
        assert_eq!(answers.due(&needed, &demand, now), given(CART), "what is known is not waited for");
    }

    #[test]
    fn a_backend_of_which_nothing_is_said_holds_nobody_up_for_long_nor_twice() {
        let (demand, now, needed) = (Demand::new(9, ""), Instant::now(), [BACKEND.to_owned()].into());
        let mut answers = Answers::default();
        pushed(&mut answers, CART);
        assert_eq!(answers.due(&needed, &demand, now), []);
        assert_eq!(answers.due(&needed, &demand, now + PATIENCE), given(CART));
        pushed(&mut answers, CART);
        assert_eq!(answers.due(&needed, &demand, now + PATIENCE), given(CART));
    }

    #[test]
    fn a_destination_without_routes_is_there_at_once() {
        let mut answers = Answers::default();
        pushed(&mut answers, CART);
        assert_eq!(answers.due(&BTreeSet::new(), &Demand::new(9, ""), Instant::now()), given(CART));
    }
}
