//! What became of each object over time: its conditions, since when each of them is as it is, and what of that is news for its owner.
//!
//! It must never hold more than there are objects, nor tell a tenant of another's.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use config::{
    condition::{About, Condition, Standing},
    finding::ObjectRef,
    name::TenantId,
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::differences;
use crate::{
    telemetry::access::rfc3339,
    tenancy::events::{Kind, News},
};

/// Of every object, as of the last configuration.
#[derive(Debug, Default)]
pub(super) struct Standings {
    kept: BTreeMap<ObjectRef, Kept>,
    /// As they were given last. There may be many, of which one is another: what is the very same is not looked into.
    last: Arc<[Arc<Standing>]>,
}

#[derive(Debug)]
struct Kept {
    standing: Arc<Standing>,
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
    #[serde(flatten, serialize_with = "without_message")]
    condition: &'a Condition,
    message: &'a str,
    last_transition_time: String,
}

impl Standings {
    /// Takes in what became of all objects, in their order; gives what is news for their owners, as far as those `are_there`: whoever
    /// makes up a namespace has nobody to tell, and takes no room from others.
    pub(super) fn take(
        &mut self,
        standings: &Arc<[Arc<Standing>]>,
        are_there: impl Fn(&TenantId) -> bool,
        now: SystemTime,
    ) -> Vec<(TenantId, News)> {
        let last = std::mem::replace(&mut self.last, Arc::clone(standings));
        let mut news = Vec::new();
        let mut told: BTreeMap<&TenantId, usize> = BTreeMap::new();
        for object in differing(&last, standings) {
            let Some(standing) = of(standings, object) else {
                self.kept.remove(object);
                continue;
            };
            let before = self.kept.get(object);
            let owner = standing.tenant.as_ref().filter(|owner| are_there(owner));
            if let (Some(owner), Some(what)) = (owner, difference(before, standing)) {
                let told = told.entry(owner).or_default();
                *told += 1;
                if *told <= TOLD {
                    news.push((owner.clone(), News::new(Kind::Configuration, short(&what))));
                }
            }
            let since = |condition: &Condition| since(before, condition).unwrap_or(now);
            let since = standing.conditions.iter().map(since).collect();
            self.kept.insert(object.clone(), Kept { standing: Arc::clone(standing), since });
        }
        news
    }

    /// How many objects are not accepted, by why.
    pub(super) fn rejected(&self) -> BTreeMap<&'static str, u64> {
        let mut reasons = BTreeMap::new();
        for kept in self.kept.values() {
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
        let show = |kept: &'_ Kept| kept.show(tenant.is_some());
        let shown: Vec<serde_json::Value> = self.kept.values().filter(is_wanted).map(show).collect();
        serde_json::json!({ "objects": shown })
    }
}

impl Kept {
    /// To an owner, or to who may see everybody's.
    fn show(&self, to_owner: bool) -> serde_json::Value {
        let Standing { object, tenant, observed_generation, conditions } = &*self.standing;
        let show = |(condition, since): (_, &SystemTime)| {
            let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let message = if to_owner { for_owner(condition) } else { &condition.message };
            ShownCondition { condition, message, last_transition_time: rfc3339(since.as_secs()) }
        };
        let shown = Shown {
            object,
            tenant: tenant.as_ref().map(ToString::to_string),
            observed_generation: *observed_generation,
            conditions: conditions.iter().zip(&self.since).map(show).collect(),
        };
        // Plain data with texts as keys: turning it into JSON cannot fail.
        serde_json::to_value(shown).unwrap_or_default()
    }
}

/// The objects of which something else may be said than before. Both are in the order of objects.
fn differing<'a>(last: &'a [Arc<Standing>], now: &'a [Arc<Standing>]) -> BTreeSet<&'a ObjectRef> {
    let by_object = |standing: &'a Arc<Standing>| (&standing.object, standing);
    let is_same = |before: &&Arc<Standing>, now: &&Arc<Standing>| Arc::ptr_eq(before, now);
    differences::differing(last.iter().map(by_object), now.iter().map(by_object), is_same)
        .into_iter()
        .collect()
}

/// What is said of an object: of several of a name the last.
fn of<'a>(standings: &'a [Arc<Standing>], object: &ObjectRef) -> Option<&'a Arc<Standing>> {
    let end = standings.partition_point(|standing| standing.object <= *object);
    standings[..end].last().filter(|standing| standing.object == *object)
}

/// All of it but its message.
fn without_message<S: Serializer>(condition: &&Condition, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(3))?;
    map.serialize_entry("type", condition.about.as_str())?;
    map.serialize_entry("status", if condition.status { "True" } else { "False" })?;
    map.serialize_entry("reason", condition.reason)?;
    map.end()
}

/// What an owner is told of a condition: where somebody else has what the object claims, not who, nor in which file.
pub(super) fn for_owner(condition: &Condition) -> &str {
    match condition.reason {
        "Conflict" | "NotPermitted" => {
            "it claims what is another's, or not its to claim: whoever runs the node sees whose"
        }
        _ => &condition.message,
    }
}

/// As much of a message as an event has room for: what is in it was written by whoever wrote the object.
fn short(what: &str) -> String {
    match what.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &what[..end]),
        None => what.to_owned(),
    }
}

/// Since when a condition is as it is now, if it was so before.
fn since(before: Option<&Kept>, condition: &Condition) -> Option<SystemTime> {
    let before = before?;
    let place = before.standing.conditions.iter().position(|known| known.about == condition.about)?;
    let is_same = before.standing.conditions[place].status == condition.status;
    before.since.get(place).copied().filter(|_| is_same)
}

/// What is in force in the place of an object that is not, if anything is.
pub(super) fn instead(standing: &Standing) -> Option<&'static str> {
    match standing.of(About::Programmed).filter(|programmed| !programmed.status)?.reason {
        "KeptLastGood" => Some("its last good version stays in force"),
        "StoodIn" => Some("the strictest reading of it is in force"),
        _ => None,
    }
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
            let is_in_force = now.of(About::Programmed).is_none_or(|programmed| programmed.status);
            let so = match instead(now) {
                Some(instead) => format!(", and {instead}"),
                None if is_in_force => String::new(),
                None => ", and no version of it is in force".to_owned(),
            };
            Some(format!("{object} is not accepted ({}){so}: {}", accepted.reason, for_owner(accepted)))
        }
    }
}

/// What each owner is told at once. More is in the status.
const TOLD: usize = 16;
/// Letters of one event.
const LETTERS: usize = 512;

#[cfg(test)]
mod tests;
