//! One thing that an owner is told of an object, and how an API server takes it down: an Event of events.k8s.io/v1. Pure.
//!
//! It must never say more than the owner may know: whoever reads a namespace's Events is its owner.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use config::finding::ObjectRef;
use serde_json::{Value, json};

use super::super::kinds;

/// Something to be told of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Of which.
    pub regarding: Regarding,
    /// Why, in one word.
    pub reason: &'static str,
    /// What was being done, in one word.
    pub action: &'static str,
    /// For people.
    pub text: String,
    /// Whether something is wrong.
    pub is_warning: bool,
    /// Whether it may have been told before by a former process, which is then no reason to count it again.
    pub is_perhaps_known: bool,
}

/// An object, as an Event names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Regarding {
    /// Which.
    pub object: ObjectRef,
    /// Its UID, where that is known already; otherwise the API server is asked.
    pub uid: Option<String>,
}

/// Who tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reporter {
    /// Which part of Canopy, as `canopy.mesh/PART`.
    pub controller: &'static str,
    /// Which of them: a node, or a replica.
    pub instance: String,
}

impl Note {
    /// What makes two notes one that is told again: all but the numbers in it.
    pub(super) fn series(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let Self { regarding, reason, action, text, is_warning, .. } = self;
        (regarding, reason, action, is_warning).hash(&mut hasher);
        text.split(|letter: char| letter.is_ascii_digit()).filter(|part| !part.is_empty()).for_each(|part| {
            part.hash(&mut hasher);
        });
        hasher.finish()
    }
}

impl Regarding {
    /// An object of which only the name is known.
    pub fn named(object: ObjectRef) -> Self {
        Self { object, uid: None }
    }

    /// Where it is; `None` where it is of a kind that is not read.
    pub(super) fn path(&self) -> Option<String> {
        let Self { object, .. } = self;
        Some(kinds::resource(&object.kind)?.object(object.namespace.as_deref(), &object.name))
    }

    /// The namespace of its Events: its own, or, of what has none, the one that the API server takes those in.
    pub(super) fn namespace(&self) -> &str {
        self.object.namespace.as_deref().unwrap_or("default")
    }

    /// The path of the Events about it.
    pub(super) fn events(&self) -> String {
        format!("/apis/events.k8s.io/v1/namespaces/{}/events", self.namespace())
    }
}

/// What an Event is called: by what it says of which object, so that it is made once, whoever makes it and however often.
pub(super) fn name(note: &Note, uid: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (note.series(), uid).hash(&mut hasher);
    // Each of its letters is allowed in a name, but none of these at the end of a part of it.
    let object: String = note.regarding.object.name.chars().take(LONGEST_NAME).collect();
    format!("{}.{:016x}", object.trim_end_matches(['.', '-']), hasher.finish())
}

/// The Event, as it is told for the first time. `now`: a MicroTime of `meta/v1`.
pub(super) fn event(note: &Note, (name, uid): (&str, &str), reporter: &Reporter, now: &str) -> Option<Value> {
    let Note { regarding, reason, action, text, is_warning, .. } = note;
    let resource = kinds::resource(&regarding.object.kind)?;
    Some(json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": regarding.namespace() },
        "eventTime": now,
        "reportingController": reporter.controller,
        "reportingInstance": bounded(&reporter.instance, LONGEST_WORD),
        "action": action,
        "reason": reason,
        "type": if *is_warning { "Warning" } else { "Normal" },
        "regarding": {
            "apiVersion": resource.api_version(resource.versions[0]),
            "kind": regarding.object.kind,
            "namespace": regarding.object.namespace,
            "name": regarding.object.name,
            "uid": uid,
        },
        "note": bounded(text, LONGEST_NOTE),
    }))
}

/// The change of an Event that was told so often by now, as a merge patch: nothing else of it may change.
pub(super) fn again(count: u64, now: &str) -> Value {
    json!({ "series": { "count": count, "lastObservedTime": now } })
}

/// As much of a text as there is room for, in bytes.
fn bounded(text: &str, most: usize) -> String {
    let text = config::finding::visible(text);
    if text.len() <= most {
        return text;
    }
    format!("{}{ELLIPSIS}", &text[..text.floor_char_boundary(most - ELLIPSIS.len())])
}

impl fmt::Display for Regarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object.fmt(f)
    }
}

/// Bytes, as Kubernetes' validation of Events bounds them.
const LONGEST_NOTE: usize = 1024;
const LONGEST_WORD: usize = 128;
/// Letters of an object's name in that of an Event (which may have 253).
const LONGEST_NAME: usize = 200;
const ELLIPSIS: &str = "…";

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Note {
        Note {
            regarding: Regarding::named(ObjectRef::new("HTTPRoute", Some("shop"), "cart")),
            reason: "InvalidValue",
            action: "Configure",
            text: text.to_owned(),
            is_warning: true,
            is_perhaps_known: false,
        }
    }

    #[test]
    fn an_event_is_in_its_objects_namespace_or_in_default_and_says_who_tells_of_which_object() {
        let reporter = Reporter { controller: "canopy.mesh/control", instance: "a".to_owned() };
        let told = event(&note("m"), ("cart.1", "u1"), &reporter, "T").unwrap();
        assert_eq!(
            told,
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event",
                "metadata": { "name": "cart.1", "namespace": "shop" }, "eventTime": "T",
                "reportingController": "canopy.mesh/control", "reportingInstance": "a",
                "action": "Configure", "reason": "InvalidValue", "type": "Warning",
                "regarding": {
                    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "namespace": "shop",
                    "name": "cart", "uid": "u1",
                },
                "note": "m",
            })
        );
        let tenant =
            Note { regarding: Regarding::named(ObjectRef::new("Tenant", None, "shop")), ..note("m") };
        let told = event(&tenant, ("n", "u"), &reporter, "T").unwrap();
        assert_eq!(
            (&told["metadata"]["namespace"], &told["regarding"]["namespace"]),
            (&json!("default"), &Value::Null)
        );
        assert_eq!(tenant.regarding.events(), "/apis/events.k8s.io/v1/namespaces/default/events");
    }

    #[test]
    fn a_note_is_as_long_as_kubernetes_takes_it_and_cut_between_letters() {
        let reporter = Reporter { controller: "canopy.mesh/control", instance: "ü".repeat(80) };
        let told = event(&note(&"ü".repeat(600)), ("n", "u"), &reporter, "T").unwrap();
        let (text, instance) = (told["note"].as_str().unwrap(), told["reportingInstance"].as_str().unwrap());
        assert!(text.len() <= 1024 && text.len() > 1018 && text.ends_with('…'), "{}", text.len());
        assert!(instance.len() <= 128, "{}", instance.len());
    }

    #[test]
    fn what_differs_in_numbers_alone_is_the_same_told_again_and_anothers_object_is_not() {
        assert_eq!(note("refused 7").series(), note("refused 12").series());
        assert_ne!(note("refused 7").series(), note("ended 7").series());
        assert_eq!(name(&note("m"), "u"), name(&note("m"), "u"));
        assert_ne!(name(&note("m"), "u"), name(&note("m"), "v"), "a name that was given again");
        let long = ObjectRef::new("HTTPRoute", Some("shop"), &format!("{}-b", "a".repeat(199)));
        let name = name(&Note { regarding: Regarding::named(long), ..note("m") }, "u");
        assert!(name.len() <= 253 && name.starts_with(&format!("{}.", "a".repeat(199))), "{name}");
    }
}
