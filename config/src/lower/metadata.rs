//! `metadata`: names, labels, annotations, times.

use std::collections::BTreeMap;

use super::{Context, Meta};
use crate::{
    document::{Node, Value},
    finding::{Reason, Severity},
    name::{Name, Namespace},
    object::Kind,
    opt_in::{Mode, ON_FAILURE, OnFailure, RUNTIME_HANDLER},
};

pub(crate) use crate::opt_in::{MODE, NETNS};

pub(super) const EXCLUDE_OUTBOUND_PORTS: &str = "canopy.mesh/exclude-outbound-ports";
pub(super) const EXCLUDE_OUTBOUND_CIDRS: &str = "canopy.mesh/exclude-outbound-cidrs";
pub(super) const EXCLUDE_INBOUND_PORTS: &str = "canopy.mesh/exclude-inbound-ports";

/// What the label of namespaces and pods says of those that are out.
pub(super) const MODE_OFF: &str = "off";

const POD_ANNOTATIONS: [&str; 5] =
    [NETNS, RUNTIME_HANDLER, EXCLUDE_OUTBOUND_PORTS, EXCLUDE_OUTBOUND_CIDRS, EXCLUDE_INBOUND_PORTS];

/// Reads `metadata`; `None` (with a finding) if a name in it is invalid.
pub(super) fn read(context: &mut Context<'_>, root: &Node, kind: Kind) -> Option<Meta> {
    let meta = root.get("metadata")?;
    let name = context.name::<Name>(meta.get("name")?)?;
    own_annotations(context, meta, kind);
    own_labels(context, meta, kind);
    let namespace = match (meta.get("namespace"), kind) {
        (Some(node), Kind::Namespace | Kind::Tenant) => {
            context.invalid(node, format!("a {} is cluster-scoped: remove the namespace", kind.as_str()));
            return None;
        }
        (None, Kind::Namespace | Kind::Tenant) => None,
        (Some(node), _) => Some(context.name(node)?),
        (None, _) => Namespace::try_from("default").ok(),
    };
    let created = match meta.get("creationTimestamp") {
        Some(node) => Some(seconds(node.text()?).or_else(|| {
            context.invalid(node, "must be a time as 2026-01-31T12:00:00Z");
            None
        })?),
        None => None,
    };
    Some(Meta { namespace, name, uid: meta.text_of("uid").map(str::to_owned), created })
}

/// When an object was created, where it says so.
pub(super) fn created(root: &Node) -> Option<i64> {
    seconds(root.at_path(&["metadata", "creationTimestamp"])?.text()?)
}

/// Namespace and name alone, of an object whose other facts are wrong. A name that is none is replaced: there is no
/// better one, and what is protected counts.
pub(super) fn names_only(root: &Node) -> Option<Meta> {
    let meta = root.get("metadata")?;
    let namespace = Namespace::try_from(meta.text_of("namespace").unwrap_or("default")).ok()?;
    let name = Name::try_from(meta.text_of("name").unwrap_or_default());
    let name = name.or_else(|_| Name::try_from("unreadable")).ok()?;
    Some(Meta { namespace: Some(namespace), name, uid: None, created: None })
}

/// An annotation in Canopy's own group that does nothing is most likely a slip.
fn own_annotations(context: &mut Context<'_>, meta: &Node, kind: Kind) {
    for entry in meta.get("annotations").map_or(&[][..], Node::entries) {
        let known = kind == Kind::Pod && POD_ANNOTATIONS.contains(&entry.key.as_str());
        if entry.key.starts_with("canopy.mesh/") && !known {
            let message = if kind == Kind::Pod {
                format!("does nothing: annotations of pods are {}", POD_ANNOTATIONS.join(", "))
            } else {
                format!("does nothing on a {}: only pods have annotations of canopy.mesh", kind.as_str())
            };
            context.note(Severity::Warning, Reason::UnknownField, &entry.node, message);
        }
    }
}

/// A label in Canopy's own group that does nothing is a slip, or meant to make somebody part of a tenant.
fn own_labels(context: &mut Context<'_>, meta: &Node, kind: Kind) {
    for entry in meta.get("labels").map_or(&[][..], Node::entries) {
        let known = match kind {
            Kind::Namespace => entry.key == MODE || entry.key == ON_FAILURE,
            Kind::Pod => entry.key == MODE,
            _ => false,
        };
        if entry.key.starts_with("canopy.mesh/") && !known {
            let message = format!(
                "does nothing: the labels of canopy.mesh are {MODE}, of namespaces and pods, and {ON_FAILURE}, of namespaces. Whose a \
                 namespace is, the Tenant says that lists it"
            );
            context.note(Severity::Warning, Reason::UnknownField, &entry.node, message);
        }
    }
}

/// Says of a mode what it does not do. `of` whom it is.
pub(super) fn check_mode(context: &mut Context<'_>, root: &Node, of: &str) {
    let Some(node) = root.at_path(&["metadata", "labels", MODE]) else { return };
    let message = match node.text().and_then(Mode::of) {
        Some(Mode::Node | Mode::Sidecar | Mode::Off) => return,
        None => format!("does nothing: the mode of a {of} is node, sidecar or off"),
    };
    context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
}

/// Says of what is to be while no daemon is there that it is neither.
pub(super) fn check_on_failure(context: &mut Context<'_>, root: &Node) {
    let Some(node) = root.at_path(&["metadata", "labels", ON_FAILURE]) else { return };
    if node.text().and_then(OnFailure::of).is_none() {
        let message = "does nothing: say open or closed; pods wait for a daemon as with closed";
        context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
    }
}

/// A mapping of texts: labels or a selector. Nothing is an empty text, as it is for the API server; where it is refused,
/// the schema says so.
pub(super) fn texts(node: Option<&Node>) -> BTreeMap<String, String> {
    let entries = node.map_or(&[][..], Node::entries);
    let text = |node: &Node| match node.value {
        Value::Null => Some(String::new()),
        _ => node.text().map(str::to_owned),
    };
    entries.iter().filter_map(|entry| Some((entry.key.clone(), text(&entry.node)?))).collect()
}

/// An annotation, with its node.
pub(super) fn annotation<'a>(root: &'a Node, key: &str) -> Option<&'a Node> {
    root.at_path(&["metadata", "annotations", key])
}

/// RFC 3339 in UTC, as Kubernetes writes it, to seconds since the epoch; fractions are dropped.
fn seconds(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let valid = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    valid.then(|| days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let digits =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<i64>().ok())?;
    let parts: Vec<i64> = text.split(separator).map(digits).collect::<Option<_>>()?;
    parts.try_into().ok()
}

/// Days from 1970-01-01 in the Gregorian calendar: years are counted from March, so that a leap day comes last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month < 3 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let leap_days = year / 4 - year / 100 + year / 400;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    // 719 468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_seconds_since_the_epoch() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("2024-02-29T12:34:56.789Z", Some(1_709_210_096)),
            ("2026-11-22", None),
            ("2026-13-22T00:00:00Z", None),
            ("2026-11-22T00:00:00+01:00", None),
            ("2026-+1-22T00:00:00Z", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
