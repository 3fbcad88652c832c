//! Which objects have turned to be refused, and so which owners are told by an Event. Pure.
//!
//! What is refused as before is no news, however often it is looked at.

use std::{collections::BTreeMap, sync::Arc};

use config::{
    condition::{About, Condition, Standing},
    finding::ObjectRef,
};

use super::{
    super::{
        events::{Note, Regarding},
        kinds,
    },
    Standings,
};
use crate::control::standings::{for_owner, instead};

/// What was refused when it was looked at last, and why.
#[derive(Debug, Default)]
pub(super) struct Turns {
    refused: BTreeMap<ObjectRef, (&'static str, String)>,
    /// What was looked at last.
    looked: Option<Standings>,
    /// Objects whose owners were not told, and whether they may have been by another.
    missed: BTreeMap<ObjectRef, bool>,
}

impl Turns {
    /// Takes in how all objects stand; gives what is news.
    pub(super) fn take(&mut self, all: &Standings) -> Vec<Note> {
        // Nobody has told anything yet, or nothing since.
        let is_as_before = self.looked.as_ref().is_some_and(|last| Arc::ptr_eq(last, all));
        if all.is_empty() || is_as_before && self.missed.is_empty() {
            return Vec::new();
        }
        let mut notes = Vec::new();
        let mut refused = BTreeMap::new();
        for standing in all.iter().filter(|standing| is_written(&standing.object)) {
            let Some(condition) = refusal(standing) else { continue };
            let why = (condition.reason, for_owner(condition).to_owned());
            if self.refused.get(&standing.object) != Some(&why) {
                notes.push(self.note(standing, condition));
            }
            refused.insert(standing.object.clone(), why);
        }
        self.refused = refused;
        self.missed.clear();
        self.looked = Some(Arc::clone(all));
        notes
    }

    /// An owner was not told. He is at the next look, of how the object is then.
    pub(super) fn missed(&mut self, object: ObjectRef, is_perhaps_known: bool) {
        self.refused.remove(&object);
        self.missed.insert(object, is_perhaps_known);
    }

    /// Another may have told owners meanwhile.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn note(&self, standing: &Standing, condition: &Condition) -> Note {
        let so = instead(standing).map_or_else(String::new, |instead| format!(" ({instead})"));
        let what = match condition.about {
            About::Accepted => "not accepted",
            About::ResolvedRefs => "what it refers to cannot be used",
            About::Programmed => "not in force",
            About::Conflicted => "in conflict",
        };
        Note {
            regarding: Regarding::named(standing.object.clone()),
            reason: condition.reason,
            action: "Configure",
            text: format!("{what}{so}: {}", for_owner(condition)),
            is_warning: true,
            is_perhaps_known: self.looked.is_none() || self.missed.get(&standing.object) == Some(&true),
        }
    }
}

/// Whether it is somebody's work, and not a controller's. What is wrong with pods, their nodes tell.
fn is_written(object: &ObjectRef) -> bool {
    kinds::resource(&object.kind).is_some_and(|resource| resource.written)
}

/// The first of its conditions that is not as its author wants it.
fn refusal(standing: &Standing) -> Option<&Condition> {
    standing.conditions.iter().find(|condition| !condition.is_well())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(kind: &str, conditions: &[(About, bool, &'static str)]) -> Arc<Standing> {
        let condition = |(about, status, reason): &(About, bool, &'static str)| Condition {
            about: *about,
            status: *status,
            reason,
            message: "spec.x: wrong, as sales/till has it".to_owned(),
        };
        Arc::new(Standing {
            object: ObjectRef::new(kind, Some("shop"), "cart"),
            tenant: None,
            observed_generation: None,
            conditions: conditions.iter().map(condition).collect(),
        })
    }

    fn well(kind: &str) -> Arc<Standing> {
        standing(kind, &[(About::Accepted, true, "Accepted"), (About::Conflicted, false, "NoConflicts")])
    }

    fn refused(kind: &str, reason: &'static str) -> Arc<Standing> {
        standing(kind, &[(About::Accepted, false, reason), (About::Programmed, false, "StoodIn")])
    }

    fn told(notes: &[Note]) -> Vec<(&'static str, bool)> {
        notes.iter().map(|note| (note.reason, note.is_perhaps_known)).collect()
    }

    #[test]
    fn an_owner_is_told_when_an_object_turns_to_be_refused_and_when_the_reason_is_another() {
        let mut turns = Turns::default();
        let kind = "AuthorizationPolicy";
        assert!(turns.take(&[well(kind)].into()).is_empty());
        let notes = turns.take(&[refused(kind, "InvalidValue")].into());
        assert_eq!(told(&notes), [("InvalidValue", false)]);
        assert_eq!(
            notes[0].text,
            "not accepted (the strictest reading of it is in force): spec.x: wrong, as sales/till has it"
        );
        assert!(turns.take(&[refused(kind, "InvalidValue")].into()).is_empty(), "it is as it was");
        assert_eq!(told(&turns.take(&[refused(kind, "WrongType")].into())), [("WrongType", false)]);
        assert!(turns.take(&[well(kind)].into()).is_empty());
        assert_eq!(told(&turns.take(&[refused(kind, "WrongType")].into())), [("WrongType", false)], "again");
    }

    #[test]
    fn what_was_refused_before_we_looked_may_have_been_told_by_another() {
        let mut turns = Turns::default();
        assert!(turns.take(&[].into()).is_empty());
        assert_eq!(
            told(&turns.take(&[refused("HTTPRoute", "InvalidValue")].into())),
            [("InvalidValue", true)]
        );
        turns.forget();
        assert_eq!(
            told(&turns.take(&[refused("HTTPRoute", "InvalidValue")].into())),
            [("InvalidValue", true)]
        );
    }

    #[test]
    fn an_owner_who_could_not_be_told_is_told_later_of_how_it_is_then() {
        let mut turns = Turns::default();
        let object = ObjectRef::new("HTTPRoute", Some("shop"), "cart");
        let all: Standings = [refused("HTTPRoute", "InvalidValue")].into();
        assert_eq!(told(&turns.take(&all)), [("InvalidValue", true)]);
        turns.missed(object.clone(), true);
        assert_eq!(told(&turns.take(&all)), [("InvalidValue", true)], "another may have told him");
        assert!(turns.take(&all).is_empty(), "once");
        let other: Standings = [refused("HTTPRoute", "WrongType")].into();
        assert_eq!(told(&turns.take(&other)), [("WrongType", false)]);
        turns.missed(object.clone(), false);
        let last: Standings = [refused("HTTPRoute", "TooLarge")].into();
        assert_eq!(told(&turns.take(&last)), [("TooLarge", false)], "not what it was");
        turns.missed(object, false);
        assert!(turns.take(&[well("HTTPRoute")].into()).is_empty(), "it is well by now");
    }

    #[test]
    fn a_conflict_is_told_without_whose_it_is_and_of_what_controllers_write_nobody_is_told() {
        let conflict = |kind| {
            standing(kind, &[(About::Accepted, true, "Accepted"), (About::Conflicted, true, "Conflict")])
        };
        let notes = Turns::default().take(&[conflict("Service")].into());
        assert_eq!(told(&notes), [("Conflict", true)]);
        assert!(
            notes[0].text.starts_with("in conflict: it claims") && !notes[0].text.contains("sales"),
            "{notes:?}"
        );
        assert!(Turns::default().take(&[conflict("EndpointSlice"), conflict("Pod")].into()).is_empty());
    }
}
