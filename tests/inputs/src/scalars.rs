//! Any text as the value of any one field: names, addresses, networks, quantities, durations, paths, expressions. No panic
//! from reading to compiling to deciding, and no object that vanishes without a finding.
//!
//! The fields are those in `@{…}` of the manifests beside; the first byte says which one has the text, the second whether it
//! stands in quotes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use config::{
    finding::Severity,
    identity::{Identity, TrustDomain},
    store::{FileText, Options, Store},
};
use node_proxy::{
    control::compile::compile,
    policy::{Inbound, decide_inbound, early},
};

use crate::text;

const MANIFESTS: &str = include_str!("../manifests/scalars.yaml");

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
    let [field, quotes, value @ ..] = bytes else { return };
    let (is_quoted, text) = (quotes & 1 == 1, text(value));
    if let Ok(identity) = text.parse::<Identity>() {
        assert_eq!(identity.to_string(), text, "a SPIFFE ID has one spelling");
    }
    if let Ok(domain) = TrustDomain::try_from(text) {
        assert_eq!(domain.as_str(), text);
    }
    // A text that is not quoted could be more than a value.
    let plain =
        !is_quoted && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./-_+".contains(&byte));
    let value = if plain { text.to_owned() } else { quoted(text) };
    let manifests = with(usize::from(*field), &value);
    let files = BTreeMap::from([(PathBuf::from("fuzz.yaml"), FileText::from(manifests.as_str()))]);
    let outcome = Store::new(Options::default()).apply(&files);
    let rejected: BTreeSet<_> = outcome
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Rejected)
        .filter_map(|finding| finding.object.as_ref())
        .collect();
    assert!(outcome.accepted + rejected.len() >= outcome.objects, "an object vanished: {manifests}");
    for snapshot in compile(&outcome.mesh).values() {
        for workload in outcome.mesh.workloads.values() {
            let Some(policy) = snapshot.policies.of(&workload.pod) else { continue };
            let destination = ([10, 0, 0, 9], 8080).into();
            let inbound = Inbound { identity: None, client: [10, 0, 0, 1].into(), destination };
            let decision = decide_inbound(policy, &inbound);
            let early = early::denials(policy.deny.iter().map(|policy| &**policy));
            let denied = early.denials.iter().any(|denial| {
                denial.cidr.contains(&inbound.client)
                    && (denial.ports.is_empty() || denial.ports.contains(&8080))
            });
            assert!(!denied || decision.is_err(), "denied early, but let in: {manifests}");
        }
    }
}

/// The manifests, one of whose fields has this value.
fn with(field: usize, value: &str) -> String {
    let fields = MANIFESTS.matches("@{").count();
    let mut rest = MANIFESTS;
    let mut all = String::new();
    for number in 0..fields {
        let (before, after) = rest.split_once("@{").unwrap_or((rest, "}"));
        let (usual, after) = after.split_once('}').unwrap_or((after, ""));
        all += before;
        all += if number == field % fields { value } else { usual };
        rest = after;
    }
    all + rest
}

/// As YAML quotes any text.
fn quoted(text: &str) -> String {
    let mut all = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => all.extend(['\\', c]),
            ' '..='~' => all.push(c),
            _ => all += &format!("\\U{:08x}", u32::from(c)),
        }
    }
    all + "\""
}
