//! What a request must look like: path, headers, query parameters, method.

use super::Context;
use crate::{
    document::Node,
    finding::{Reason, Severity},
    lower::http_route::header_edit,
    model::{HeaderMatch, Match, PathMatch, QueryMatch, ValueMatch},
    pattern,
};

// Gateway API v1, HTTPRouteMatch.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
pub(in crate::lower) const MAX_CONDITIONS: usize = 16;
const MAX_PATH: usize = 1024;
const MAX_HEADER_VALUE: usize = 4096;
const MAX_QUERY_VALUE: usize = 1024;

/// One alternative; `None` (with findings) if its path is invalid.
pub(super) fn lower(context: &mut Context<'_>, node: &Node) -> Option<Match> {
    let path = match node.get("path") {
        Some(node) => Some(path(context, node)?),
        None => None,
    };
    super::at_most(context, node, "headers", MAX_CONDITIONS);
    super::at_most(context, node, "queryParams", MAX_CONDITIONS);
    let method = node.get("method").and_then(|node| method(context, node));
    Some(Match { path, headers: headers(context, node), query: query(context, node), method })
}

fn method(context: &mut Context<'_>, node: &Node) -> Option<String> {
    let text = node.text().unwrap_or_default();
    if !METHODS.contains(&text) {
        context.invalid(node, format!("must be one of {}, not {}", METHODS.join(", "), node.describe()));
        return None;
    }
    if text == "CONNECT" {
        let message = "a CONNECT is refused before any rule is asked, so this matches nothing: remove it";
        context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
    }
    Some(text.to_owned())
}

fn path(context: &mut Context<'_>, node: &Node) -> Option<PathMatch> {
    let value_node = node.get("value").unwrap_or(node);
    let value = node.text_of("value").unwrap_or("/").to_owned();
    if value.len() > MAX_PATH {
        context.invalid(value_node, format!("is longer than {MAX_PATH} characters"));
        return None;
    }
    match node.text_of("type").unwrap_or("PathPrefix") {
        "Exact" => absolute(context, value_node, &value).map(|()| PathMatch::Exact(value)),
        "PathPrefix" => absolute(context, value_node, &value).map(|()| PathMatch::Prefix(value)),
        "RegularExpression" => regex(context, value_node, &value).map(|()| PathMatch::Regex(value)),
        _ => {
            let node = node.get("type").unwrap_or(node);
            let message = format!("must be Exact, PathPrefix or RegularExpression, not {}", node.describe());
            context.invalid(node, message);
            None
        }
    }
}

/// Gateway API's rules for literal paths: absolute, normalised, nothing that a server would read otherwise.
pub(super) fn absolute(context: &mut Context<'_>, node: &Node, value: &str) -> Option<()> {
    let forbidden = ["//", "/./", "/../", "%2f", "%2F", "#"];
    let character = |c: char| c.is_ascii_alphanumeric() || "-/._~!$&'()*+,;=:@%".contains(c);
    let complaint = if !value.starts_with('/') {
        "must start with '/'".to_owned()
    } else if let Some(part) = forbidden.iter().find(|part| value.contains(*part)) {
        format!("must not contain {part:?}")
    } else if value.ends_with("/..") || value.ends_with("/.") {
        "must not end with '/.' or '/..'".to_owned()
    } else if let Some(c) = value.chars().find(|c| !character(*c)) {
        format!("must not contain {c:?}: percent-encode it")
    } else {
        return Some(());
    };
    context.invalid(node, complaint);
    None
}

/// What has to be a regular expression is one; or a finding.
pub(in crate::lower) fn regex(context: &mut Context<'_>, node: &Node, value: &str) -> Option<()> {
    pattern::compile(value).map_err(|error| context.invalid(node, error.to_string())).ok().map(drop)
}

/// The conditions on headers.
pub(in crate::lower) fn headers(context: &mut Context<'_>, parent: &Node) -> Vec<HeaderMatch> {
    let mut headers: Vec<HeaderMatch> = Vec::new();
    let mut written: Vec<&str> = Vec::new();
    for node in parent.items_of("headers") {
        let Some(name_node) = node.get("name") else { continue };
        let Some(name) = header_edit::name(context, name_node) else { continue };
        if written.contains(&name_node.text().unwrap_or_default()) {
            context.reject(name_node, Reason::Duplicate, "this header is matched twice: remove one");
            continue;
        }
        written.extend(name_node.text());
        if headers.iter().any(|other| other.name == name) {
            // Gateway API: of names that differ in case only, the first counts.
            let message = "only the first condition on this header counts: remove this one";
            context.note(Severity::NotObeyed, Reason::NotObeyed, name_node, message);
            continue;
        }
        if let Some(value) = value(context, node, MAX_HEADER_VALUE) {
            headers.push(HeaderMatch { name, value });
        }
    }
    headers
}

fn query(context: &mut Context<'_>, parent: &Node) -> Vec<QueryMatch> {
    let mut query: Vec<QueryMatch> = Vec::new();
    for node in parent.items_of("queryParams") {
        let Some(name_node) = node.get("name") else { continue };
        let name = name_node.text().unwrap_or_default().to_owned();
        if !header_edit::is_token(&name) {
            context.invalid(name_node, "must be 1 to 256 letters, digits or !#$%&'*+-.^_`|~");
        } else if query.iter().any(|other| other.name == name) {
            context.reject(name_node, Reason::Duplicate, "this parameter is matched twice: remove one");
        } else if let Some(value) = value(context, node, MAX_QUERY_VALUE) {
            query.push(QueryMatch { name, value });
        }
    }
    query
}

fn value(context: &mut Context<'_>, node: &Node, limit: usize) -> Option<ValueMatch> {
    let value_node = node.get("value")?;
    let text = value_node.text().unwrap_or_default().to_owned();
    if text.is_empty() || text.len() > limit {
        context.invalid(value_node, format!("must have 1 to {limit} characters"));
        return None;
    }
    match node.text_of("type").unwrap_or("Exact") {
        "Exact" => Some(ValueMatch::Exact(text)),
        "RegularExpression" => regex(context, value_node, &text).map(|()| ValueMatch::Regex(text)),
        _ => {
            let node = node.get("type").unwrap_or(node);
            context.invalid(node, format!("must be Exact or RegularExpression, not {}", node.describe()));
            None
        }
    }
}
