//! Which of several control planes writes: the one that holds a Lease (coordination.k8s.io/v1). A pure decision.
//!
//! Two may believe that they hold it only as long as their clocks go at other speeds, by a third: whoever has not renewed it for two
//! thirds of its time stops writing, and nobody takes it before all of it is over. Times of others are never compared with ours.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

/// What one of them knows.
#[derive(Debug)]
pub(super) struct Candidate {
    identity: String,
    /// The Lease as it was last seen to change, and when.
    seen: Option<(String, Instant)>,
    /// Until when it may write.
    holds_until: Option<Instant>,
}

/// What to do about the Lease.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is another's.
    Wait,
    /// There is none: make it.
    Create(Value),
    /// Take it, or keep it: nobody may have changed it meanwhile.
    Update(Value),
}

impl Candidate {
    pub(super) fn new(identity: String) -> Self {
        Self { identity, seen: None, holds_until: None }
    }

    /// What to do about the Lease as it is now, if there is one. `wall` is the time of day, for people who read it.
    pub(super) fn step(&mut self, lease: Option<&Value>, now: Instant, wall: &str) -> Step {
        let Some(lease) = lease else { return Step::Create(self.lease(None, wall)) };
        let spec = &lease["spec"];
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        let version = lease["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if holder == self.identity || holder.is_empty() {
            return Step::Update(self.lease(Some(lease), wall));
        }
        self.holds_until = None;
        let since = match &self.seen {
            Some((seen, since)) if seen == version => *since,
            _ => {
                self.seen = Some((version.to_owned(), now));
                now
            }
        };
        let lasts = spec["leaseDurationSeconds"].as_u64().map_or(LASTS, Duration::from_secs);
        if now.saturating_duration_since(since) < lasts {
            return Step::Wait;
        }
        Step::Update(self.lease(Some(lease), wall))
    }

    /// The Lease is ours, as of a request that was begun then.
    pub(super) fn holds(&mut self, begun: Instant) {
        self.holds_until = Some(begun + LASTS * 2 / 3);
    }

    /// Whether it may write.
    pub(super) fn may_write(&self, now: Instant) -> bool {
        self.holds_until.is_some_and(|until| now < until)
    }

    fn lease(&self, before: Option<&Value>, wall: &str) -> Value {
        let spec = before.map(|before| &before["spec"]);
        let is_ours = spec.is_some_and(|spec| spec["holderIdentity"] == self.identity.as_str());
        let taken = spec.and_then(|spec| spec["leaseTransitions"].as_u64()).unwrap_or(0);
        let since = spec.filter(|_| is_ours).map_or(json!(wall), |spec| spec["acquireTime"].clone());
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": NAME,
                "resourceVersion": before.map(|before| before["metadata"]["resourceVersion"].clone()),
            },
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": LASTS.as_secs(),
                "acquireTime": since,
                "renewTime": wall,
                "leaseTransitions": if is_ours || before.is_none() { taken } else { taken + 1 },
            },
        })
    }
}

/// The Lease's name.
pub(super) const NAME: &str = "canopy-control";
/// For how long a Lease is somebody's who does not renew it: as Kubernetes' own controllers have it.
const LASTS: Duration = Duration::from_secs(15);
/// How often it is renewed, and looked at by who does not hold it.
pub(super) const EVERY: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: &str = "2026-01-31T12:00:00.000000Z";

    fn as_stored(step: Step, version: &str) -> Value {
        let (Step::Create(mut lease) | Step::Update(mut lease)) = step else { panic!("{step:?}") };
        lease["metadata"]["resourceVersion"] = json!(version);
        lease
    }

    #[test]
    fn one_writes_and_the_other_takes_over_when_the_lease_was_not_renewed_for_all_of_its_time() {
        let (mut one, mut other) = (Candidate::new("one".to_owned()), Candidate::new("other".to_owned()));
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let lease = as_stored(one.step(None, at(0), WALL), "1");
        assert!(!one.may_write(at(0)), "not before the API server says so");
        one.holds(at(0));
        assert!(one.may_write(at(99)) && !one.may_write(at(100)));
        assert_eq!(other.step(Some(&lease), at(10), WALL), Step::Wait);
        let renewed = as_stored(one.step(Some(&lease), at(30), WALL), "2");
        one.holds(at(30));
        assert_eq!(renewed["spec"]["leaseTransitions"], 0);
        assert_eq!(other.step(Some(&renewed), at(159), WALL), Step::Wait, "it was seen to change");
        assert_eq!(other.step(Some(&renewed), at(308), WALL), Step::Wait);
        let taken = as_stored(other.step(Some(&renewed), at(309), WALL), "3");
        assert_eq!(taken["spec"]["holderIdentity"], "other");
        assert_eq!(taken["spec"]["leaseTransitions"], 1);
        other.holds(at(309));
        assert_eq!(one.step(Some(&taken), at(310), WALL), Step::Wait);
        assert!(!one.may_write(at(40)), "it is another's");
    }

    #[test]
    fn a_lease_that_nobody_holds_is_taken_at_once_and_only_as_it_was_seen() {
        let mut one = Candidate::new("one".to_owned());
        let lease = json!({ "metadata": { "resourceVersion": "7" }, "spec": { "holderIdentity": "" } });
        let Step::Update(taken) = one.step(Some(&lease), Instant::now(), WALL) else { panic!() };
        assert_eq!(taken["metadata"]["resourceVersion"], "7");
    }
}
