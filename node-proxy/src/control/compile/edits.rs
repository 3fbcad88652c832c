//! Filters to edits of requests and responses.
//!
//! Must never compile an edit of a header that frames messages: what a connection carries would then be read differently at
//! its two ends (RFC 9112, 11.2).

use config::model::{Filter, HeaderEdit};
use http::{HeaderName, HeaderValue, header};

use crate::snapshot::routes::{Edits, HeaderChange};

/// The edits among filters; redirects and mirrors are the rule's.
pub(super) fn compile(filters: &[Filter]) -> Edits {
    let mut edits = Edits::default();
    for filter in filters {
        match filter {
            Filter::RequestHeaders(edit) => changes(edit, &mut edits.request),
            Filter::ResponseHeaders(edit) => changes(edit, &mut edits.response),
            Filter::Rewrite(rewrite) => edits.rewrite = Some(rewrite.clone()),
            Filter::Redirect(_) | Filter::Mirror(_) => {}
        }
    }
    edits
}

/// Set, then add, then remove.
fn changes(edit: &HeaderEdit, into: &mut Vec<HeaderChange>) {
    let pair = |(name, value): &(String, String)| Some((editable(name)?, HeaderValue::from_str(value).ok()?));
    into.extend(edit.set.iter().filter_map(pair).map(|(name, value)| HeaderChange::Set(name, value)));
    into.extend(edit.add.iter().filter_map(pair).map(|(name, value)| HeaderChange::Add(name, value)));
    into.extend(edit.remove.iter().filter_map(|name| editable(name)).map(HeaderChange::Remove));
}

/// The name of a header that configuration may change: a valid one that belongs to the message, not to the connection.
fn editable(name: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let framing = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    let framing = framing.contains(&name) || matches!(name.as_str(), "keep-alive" | "proxy-connection");
    (!framing).then_some(name)
}
