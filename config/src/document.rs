//! From the text of a file to documents: YAML (any number of them) and JSON, with lines and columns.
//!
//! A malformed document is one finding and the others of the file are still read. Memory is bounded by
//! [`Limits`] whatever the text says; aliases count for what they expand to.

use serde::de::DeserializeSeed;
use serde_yaml::{MessageFormatter, UserMessageFormatter};

use crate::finding::{Position, Reason};

pub(crate) use self::{
    node::{Entry, Node, Value, shorten, shorten_line},
    paths::Paths,
};

mod node;
mod paths;
mod split;

/// How much is read before a file, document or object is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub file_bytes: usize,
    /// Documents of one file.
    pub documents_per_file: usize,
    /// Values of one document, after its aliases were expanded.
    pub nodes_per_document: usize,
    /// Mappings and lists inside each other.
    pub depth: usize,
    /// Pods, Namespaces, Tenants and security objects in all files, and as many others.
    pub objects: usize,
    /// Findings of one file; further ones are counted only.
    pub findings_per_file: usize,
}

/// Far above what a node's manifests need (a pod as the API server returns it has about 300 values), and
/// low enough that the worst file costs tens of megabytes.
impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 8 << 20,
            documents_per_file: 10_000,
            nodes_per_document: 100_000,
            depth: 48,
            objects: 100_000,
            findings_per_file: 500,
        }
    }
}

/// Why a file or document could not be read at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Defect {
    pub(crate) at: Position,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) unread: Unread,
}

/// Text of which no tree could be made, for those who look for what it may have been.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unread {
    /// Lines of the file before it.
    pub(crate) lines_before: u32,
    pub(crate) text: String,
    /// It may go on: only so much of the file was read.
    pub(crate) is_cut: bool,
}

/// A part of a file: the text of a document with the lines before it, or what cannot be told to be one.
#[derive(Debug)]
pub(crate) enum Part<'t> {
    Document { lines_before: u32, text: &'t str },
    Defect(Defect),
}

/// Every document of a file, in order; each is still to be parsed.
pub(crate) fn parts<'t>(bytes: &'t [u8], limits: &Limits) -> Vec<Part<'t>> {
    if bytes.len() > limits.file_bytes {
        let message = format!(
            "the file has more than {} bytes, which is all that is read: split it into several files",
            limits.file_bytes
        );
        let unread = Unread { lines_before: 0, text: legible(bytes), is_cut: true };
        return vec![Part::Defect(Defect { at: START, reason: Reason::TooLarge, message, unread })];
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => return vec![Part::Defect(not_utf8(bytes, error.valid_up_to()))],
    };
    let mut documents = Vec::new();
    for chunk in split::split(text) {
        if documents.len() == limits.documents_per_file {
            let rest = text.split_inclusive('\n').skip(chunk.lines_before as usize).collect();
            documents.push(Part::Defect(too_many(rest, chunk.lines_before, limits)));
            break;
        }
        documents.push(Part::Document { lines_before: chunk.lines_before, text: chunk.text });
    }
    documents
}

/// The documents of a text, each with the lines before it.
pub(crate) fn split(text: &str) -> impl Iterator<Item = (u32, &str)> {
    split::split(text).map(|chunk| (chunk.lines_before, chunk.text))
}

/// What of a file can be read as text, whatever its encoding: what is ASCII in it is so in UTF-16, too.
pub(crate) fn legible(bytes: &[u8]) -> String {
    let bytes: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a file has no document at all.
pub(crate) fn says_nothing(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| split::split(text.trim_start_matches('\u{feff}')).next().is_none())
}

const START: Position = Position { line: 1, column: 1 };

/// The tree of a document.
pub(crate) fn parse(text: &str, lines_before: u32, limits: &Limits) -> Result<Node, Defect> {
    let mut node = serde_yaml::from_str_with_options::<Node>(text, options(limits))
        .map_err(|error| several(text, lines_before).unwrap_or_else(|| malformed(&error, lines_before)))
        .map_err(|defect| Defect {
            unread: Unread { lines_before, text: text.replace('\0', ""), is_cut: false },
            ..defect
        })?;
    node.shift_lines(lines_before);
    Ok(node)
}

/// Reads of a well-formed document what the seed keeps, however many values it has: the memory that this takes is the
/// seed's to bound. `None` if it is not well-formed, or worse than large.
pub(crate) fn skim<'t, S: DeserializeSeed<'t>>(text: &'t str, seed: S) -> Option<S::Value> {
    let known = Limits::default();
    let limits = Limits { nodes_per_document: text.len(), depth: 2 * known.depth, ..known };
    let mut options = options(&limits);
    if let Some(budget) = &mut options.budget {
        budget.max_recorded_anchor_events = known.nodes_per_document;
    }
    options.alias_limits.max_total_replayed_events = known.nodes_per_document;
    serde_yaml::with_deserializer_from_str_with_options(text, options, |document| seed.deserialize(document))
        .ok()
}

fn options(limits: &Limits) -> serde_yaml::Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: limits.depth,
            flow_nesting_limit: limits.depth,
            max_nodes: limits.nodes_per_document,
            max_events: 3 * limits.nodes_per_document,
            max_recorded_anchor_events: limits.nodes_per_document,
            max_documents: 1,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: limits.nodes_per_document,
            max_replay_stack_depth: limits.depth,
        },
        // Reported with the field's path by the schema check, instead of as a broken document.
        duplicate_keys: serde_yaml::DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
        non_finite_float_policy: serde_yaml::NonFiniteFloatPolicy::AsString,
    }
}

/// Where a document is JSON values one after the other: programs write such files, and YAML has no word for them.
fn several(text: &str, lines_before: u32) -> Option<Defect> {
    let marker = if text.starts_with("---") { 3 } else { 0 };
    let values = serde_json::Deserializer::from_str(&text[marker..]);
    let mut values = values.into_iter::<serde::de::IgnoredAny>();
    values.next()?.ok()?;
    let (before, after) = text.split_at(marker + values.byte_offset());
    values.next()?.ok()?;
    let blank = after.len() - after.trim_start().len();
    let before = &text[..before.len() + blank];
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let at = Position {
        line: narrow(before.matches('\n').count() + 1) + lines_before,
        column: narrow(before[line_start..].chars().count() + 1),
    };
    let message = "a second JSON value in one document: put a line --- before it, or make both items of a List (apiVersion v1)";
    let unread = Unread::default();
    Some(Defect { at, reason: Reason::Malformed, message: message.to_owned(), unread })
}

fn malformed(error: &serde_yaml::Error, lines_before: u32) -> Defect {
    let mut error = error.without_snippet();
    while let serde_yaml::Error::AliasError { error: cause, .. } = error {
        error = cause;
    }
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let at = error.location().filter(|location| location.line() > 0).map_or(START, |location| Position {
        line: narrow(location.line()),
        column: narrow(location.column()).max(1),
    });
    let too_large = matches!(
        error,
        serde_yaml::Error::Budget { .. }
            | serde_yaml::Error::AliasReplayLimitExceeded { .. }
            | serde_yaml::Error::AliasExpansionLimitExceeded { .. }
            | serde_yaml::Error::AliasReplayStackDepthExceeded { .. }
    );
    let said = UserMessageFormatter.format_message(error).escape_debug().to_string();
    let (reason, message) = if too_large {
        (Reason::TooLarge, format!("{said}: use fewer aliases, less nesting or smaller documents"))
    } else {
        (Reason::Malformed, format!("this document is neither YAML nor JSON: {said}"))
    };
    let at = Position { line: at.line + lines_before, ..at };
    Defect { at, reason, message, unread: Unread::default() }
}

fn too_many(text: String, lines_before: u32, limits: &Limits) -> Defect {
    let message = format!(
        "more than {} documents in one file: the rest of it is not read, split it",
        limits.documents_per_file
    );
    let at = Position { line: lines_before + 1, column: 1 };
    Defect { at, reason: Reason::TooLarge, message, unread: Unread { lines_before, text, is_cut: false } }
}

fn not_utf8(bytes: &[u8], valid: usize) -> Defect {
    let before = &bytes[..valid];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let newlines = before.iter().filter(|byte| **byte == b'\n').count();
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Defect {
        at: Position { line: narrow(newlines + 1), column: narrow(column) },
        reason: Reason::Unreadable,
        message: format!("byte 0x{:02x} is not UTF-8: save the file as UTF-8", bytes[valid]),
        unread: Unread { lines_before: 0, text: legible(bytes), is_cut: false },
    }
}

#[cfg(test)]
mod tests;
