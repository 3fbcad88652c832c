//! Paths with their prefix, or all of them, replaced (Gateway API v1, `HTTPPathModifier`).
//!
//! Must never touch the query.

use config::model::PathEdit;
use http::Uri;

/// The new path and query of a request. `matched_prefix` is the length of the prefix that its rule matched.
pub(super) fn replace(edit: &PathEdit, uri: &Uri, matched_prefix: usize) -> String {
    let rest = match edit {
        PathEdit::Full(_) => "",
        PathEdit::Prefix(_) => uri.path().get(matched_prefix..).unwrap_or_default(),
    };
    let mut path = match edit {
        PathEdit::Full(path) => path.clone(),
        // As elements: a slash at the end of the prefix is none of its own.
        PathEdit::Prefix(prefix) => prefix.trim_end_matches('/').to_owned(),
    };
    path.push_str(rest);
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    path
}
