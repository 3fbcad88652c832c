//! What became of each object over time: its conditions, since when each of them is as it is, and what of that is news for its owner.
//!
//! It must never hold more than there are objects, nor tell a tenant of another's.

use std::{collections::BTreeMap, time::SystemTime};

use config::{
    condition::{About, Condition, Standing},
    finding::ObjectRef,
    name::TenantId,
};
use serde::Serialize;

use crate::{
    telemetry::access::rfc3339,
    tenancy::events::{Kind, News},
};

/// Of every object, as of the last configuration.
#[derive(Debug, Default)]
pub(super) struct Standings(BTreeMap<ObjectRef, Kept>);

#[derive(Debug)]
struct Kept {
    standing: Standing,
    /// For each of its conditions.
    since: Vec<SystemTime>,
}

/// An object as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    #[serde(flatten)]
    object: &'a ObjectRef,
    tenant: Option<String>,
    observed_generation: Option<u64>,
    conditions: Vec<ShownCondition<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownCondition<'a> {
    #[serde(flatten)]
    condition: &'a Condition,
    last_transition_time: String,
}

impl Standings {
    /// Takes in what became of all objects; gives what is news for their owners. Objects that were never accepted before a daemon's
    /// first configuration are news, those that were are none.
    pub(super) fn take(&mut self, standings: &[Standing], now: SystemTime) -> Vec<(TenantId, News)> {
        let mut news = Vec::new();
        let mut kept = BTreeMap::new();
        for standing in standings {
            let before = self.0.get(&standing.object);
            if let (Some(tenant), Some(what)) = (&standing.tenant, difference(before, standing)) {
                news.push((tenant.clone(), News::new(Kind::Configuration, what)));
            }
            let since = |condition: &Condition| since(before, condition).unwrap_or(now);
            let since = standing.conditions.iter().map(since).collect();
            kept.insert(standing.object.clone(), Kept { standing: standing.clone(), since });
        }
        self.0 = kept;
        news.truncate(TOLD);
        news
    }

    /// How many objects are not accepted, by why.
    pub(super) fn rejected(&self) -> BTreeMap<&'static str, u64> {
        let mut reasons = BTreeMap::new();
        for kept in self.0.values() {
            if let Some(accepted) = kept.standing.of(About::Accepted).filter(|accepted| !accepted.status) {
                *reasons.entry(accepted.reason).or_default() += 1;
            }
        }
        reasons
    }

    /// Those of a tenant, or all.
    pub(super) fn to_json(&self, tenant: Option<&str>) -> serde_json::Value {
        let of = |kept: &Kept| kept.standing.tenant.as_ref().map(ToString::to_string);
        let is_wanted = |kept: &&Kept| tenant.is_none_or(|tenant| of(kept).as_deref() == Some(tenant));
        let shown: Vec<Shown<'_>> = self.0.values().filter(is_wanted).map(Kept::show).collect();
        serde_json::json!({ "objects": shown })
    }
}

impl Kept {
    fn show(&self) -> Shown<'_> {
        let Standing { object, tenant, observed_generation, conditions } = &self.standing;
        let show = |(condition, since): (_, &SystemTime)| {
            let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            ShownCondition { condition, last_transition_time: rfc3339(since.as_secs()) }
        };
        Shown {
            object,
            tenant: tenant.as_ref().map(ToString::to_string),
            observed_generation: *observed_generation,
            conditions: conditions.iter().zip(&self.since).map(show).collect(),
        }
    }
}

/// Since when a condition is as it is now, if it was so before.
fn since(before: Option<&Kept>, condition: &Condition) -> Option<SystemTime> {
    let before = before?;
    let place = before.standing.conditions.iter().position(|known| known.about == condition.about)?;
    let is_same = before.standing.conditions[place].status == condition.status;
    before.since.get(place).copied().filter(|_| is_same)
}

/// What its owner is told of an object, if it is anything new.
fn difference(before: Option<&Kept>, now: &Standing) -> Option<String> {
    let accepted = now.of(About::Accepted)?;
    let known = before.and_then(|before| before.standing.of(About::Accepted));
    let is_known = known.is_some_and(|known| {
        known.status == accepted.status && (accepted.status || known.message == accepted.message)
    });
    let Standing { object, .. } = now;
    match (accepted.status, known) {
        _ if is_known => None,
        (true, None) => None,
        (true, Some(_)) => Some(format!("{object} is accepted again")),
        (false, _) => {
            let programmed = now.of(About::Programmed).filter(|programmed| !programmed.status);
            let so = match programmed.map(|programmed| programmed.reason) {
                Some("KeptLastGood") => ", and its last good version stays in force",
                Some("StoodIn") => ", and the strictest reading of it is in force",
                Some(_) => ", and no version of it is in force",
                None => "",
            };
            Some(format!("{object} is not accepted ({}){so}: {}", accepted.reason, accepted.message))
        }
    }
}

/// What is told at once. More is in the status.
const TOLD: usize = 256;

#[cfg(test)]
mod tests;
