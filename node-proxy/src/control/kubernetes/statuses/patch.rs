//! What became of an object, as the status that it is to have. Pure.
//!
//! Of a status that several write, no word of others is touched.

use config::condition::{About, Condition, Standing};
use serde_json::{Value, json};

use crate::control::standings::for_owner;

/// The change that has an object say what became of it, as a merge patch of its status; `None` if it says so already. It applies to the
/// object as it was seen, and to no later version.
pub(super) fn of(object: &Value, standing: &Standing, now: &str) -> Option<Value> {
    let status = match &*standing.object.kind {
        "Tenant" => {
            json!({ "conditions": conditions(&object["status"]["conditions"], standing, now, |_| true) })
        }
        _ => json!({ "parents": parents(object, standing, now) }),
    };
    let is_there = |(key, value): (&String, &Value)| object["status"][key] == *value;
    if status.as_object().is_some_and(|status| status.iter().all(is_there)) {
        return None;
    }
    let version = &object["metadata"]["resourceVersion"];
    Some(json!({ "metadata": { "resourceVersion": version }, "status": status }))
}

/// What others say of a route as they say it, then one entry for each Service that is its parent.
fn parents(object: &Value, standing: &Standing, now: &str) -> Vec<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let before = list(&object["status"]["parents"]);
    let is_ours = |entry: &Value| entry["controllerName"] == CONTROLLER;
    let mut parents: Vec<Value> = before.iter().filter(|entry| !is_ours(entry)).cloned().collect();
    let is_service = |parent: &&Value| parent["group"] == "" && parent["kind"] == "Service";
    let references = list(&object["spec"]["parentRefs"]);
    for reference in references.iter().filter(is_service) {
        let entry = before.iter().find(|entry| is_ours(entry) && entry["parentRef"] == *reference);
        let said = entry.map_or(&Value::Null, |entry| &entry["conditions"]);
        let is_of_routes =
            |condition: &Condition| matches!(condition.about, About::Accepted | About::ResolvedRefs);
        parents.push(json!({
            "parentRef": reference,
            "controllerName": CONTROLLER,
            "conditions": conditions(said, standing, now, is_of_routes),
        }));
    }
    parents
}

/// Conditions with the time since when they are so.
fn conditions(
    before: &Value,
    standing: &Standing,
    now: &str,
    is_wanted: impl Fn(&Condition) -> bool,
) -> Vec<Value> {
    let all = standing.conditions.iter().filter(|condition| is_wanted(condition));
    let told = all.map(|condition| {
        let about = condition.about.as_str();
        let status = if condition.status { "True" } else { "False" };
        let before = before.as_array().into_iter().flatten().find(|before| before["type"] == about);
        let since = before.filter(|before| before["status"] == status);
        let since = since.map_or(json!(now), |before| before["lastTransitionTime"].clone());
        let message: String = for_owner(condition).chars().take(MOST_MESSAGE).collect();
        let mut told = json!({
            "type": about,
            "status": status,
            "reason": condition.reason,
            "message": message,
            "lastTransitionTime": since,
        });
        if let Some(generation) = standing.observed_generation {
            told["observedGeneration"] = json!(generation);
        }
        told
    });
    told.collect()
}

/// Who says it, to Gateway API.
const CONTROLLER: &str = "canopy.mesh/controller";
/// Characters of a condition's message (`meta/v1` Condition takes 32,768).
const MOST_MESSAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use config::finding::ObjectRef;

    use super::*;

    const NOW: &str = "2026-01-31T12:00:00Z";
    const EARLIER: &str = "2026-01-01T00:00:00Z";

    fn standing(kind: &str, conditions: &[(About, bool)]) -> Standing {
        let condition = |(about, status): &(About, bool)| Condition {
            about: *about,
            status: *status,
            reason: "Why",
            message: "m".to_owned(),
        };
        Standing {
            object: ObjectRef::new(kind, None, "x"),
            tenant: None,
            observed_generation: Some(3),
            conditions: conditions.iter().map(condition).collect(),
        }
    }

    fn told(about: &str, status: &str, since: &str) -> Value {
        json!({
            "type": about, "status": status, "reason": "Why", "message": "m", "lastTransitionTime": since,
            "observedGeneration": 3,
        })
    }

    #[test]
    fn a_route_is_told_of_each_service_that_is_its_parent_beside_what_others_say() {
        let service = json!({ "group": "", "kind": "Service", "name": "cart" });
        let gateway = json!({ "name": "edge" });
        let others = json!({ "parentRef": gateway, "controllerName": "example.com/c", "conditions": [] });
        let stale =
            json!({ "parentRef": { "name": "gone" }, "controllerName": CONTROLLER, "conditions": [] });
        let mut route = json!({
            "metadata": { "resourceVersion": "9" },
            "spec": { "parentRefs": [gateway, service] },
            "status": { "parents": [others, stale] },
        });
        let about = [(About::Accepted, true), (About::ResolvedRefs, false), (About::Programmed, true)];
        let patch = of(&route, &standing("HTTPRoute", &about), NOW).unwrap();
        let conditions = [told("Accepted", "True", NOW), told("ResolvedRefs", "False", NOW)];
        let ours = json!({ "parentRef": service, "controllerName": CONTROLLER, "conditions": conditions });
        let expected =
            json!({ "metadata": { "resourceVersion": "9" }, "status": { "parents": [others, ours] } });
        assert_eq!(patch, expected);
        route["status"] = patch["status"].clone();
        assert_eq!(of(&route, &standing("HTTPRoute", &about), EARLIER), None, "it says so already");
    }

    #[test]
    fn a_condition_that_stays_as_it_is_keeps_its_time_and_one_that_turns_has_a_new_one() {
        let before = [told("Accepted", "True", EARLIER), told("Programmed", "True", EARLIER)];
        let tenant = json!({ "metadata": {}, "status": { "conditions": before } });
        let now = standing("Tenant", &[(About::Accepted, true), (About::Programmed, false)]);
        let patch = of(&tenant, &now, NOW).unwrap();
        let expected = [told("Accepted", "True", EARLIER), told("Programmed", "False", NOW)];
        assert_eq!(patch["status"]["conditions"], json!(expected));
    }
}
