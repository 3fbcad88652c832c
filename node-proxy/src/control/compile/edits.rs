//! Filters to edits of requests and responses.
//!
//! Must never compile an edit of a header that frames messages: what a connection carries would then be read differently at
//! its two ends (RFC 9112, 11.2).

use config::{
    headers::{self, Change},
    model::{Filter, HeaderEdit, PathEdit, Redirect, Rewrite},
};
use http::{HeaderName, HeaderValue, uri::Authority};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::snapshot::routes::{Edits, HeaderChange};

/// The edits among filters. Redirects are the rule's alone; mirrors are compiled with what they lead to.
pub(super) fn compile(filters: &[Filter]) -> Edits {
    let mut edits = Edits::default();
    for filter in filters {
        match filter {
            Filter::RequestHeaders(edit) => changes(edit, &mut edits.request),
            Filter::ResponseHeaders(edit) => changes(edit, &mut edits.response),
            Filter::Rewrite(Rewrite { hostname, path }) => {
                let (hostname, path) = (hostname.as_deref().and_then(host), path.as_ref().map(path_edit));
                edits.rewrite = Some(Rewrite { hostname, path });
            }
            Filter::Redirect(_) | Filter::Mirror(_) => {}
        }
    }
    edits
}

/// The rule's redirect, if any filter is one.
pub(super) fn redirect(filters: &[Filter]) -> Option<Redirect> {
    filters.iter().find_map(|filter| match filter {
        Filter::Redirect(redirect) => Some(Redirect {
            hostname: redirect.hostname.as_deref().and_then(host),
            path: redirect.path.as_ref().map(path_edit),
            ..redirect.clone()
        }),
        _ => None,
    })
}

/// Set, then add, then remove.
fn changes(edit: &HeaderEdit, into: &mut Vec<HeaderChange>) {
    let pair = |(name, value): &(String, String), change| {
        // By its bytes: a value may have characters beyond ASCII.
        Some((editable(name, change)?, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    };
    let set = edit.set.iter().filter_map(|said| pair(said, Change::Set));
    into.extend(set.map(|(name, value)| HeaderChange::Set(name, value)));
    let added = edit.add.iter().filter_map(|said| pair(said, Change::Add));
    into.extend(added.map(|(name, value)| HeaderChange::Add(name, value)));
    let removed = edit.remove.iter().filter_map(|name| editable(name, Change::Remove));
    into.extend(removed.map(HeaderChange::Remove));
}

fn host(host: &str) -> Option<String> {
    Authority::try_from(host).is_ok().then(|| host.to_owned())
}

/// With everything encoded that no path may hold, so that applying it cannot fail.
fn path_edit(edit: &PathEdit) -> PathEdit {
    let encode = |path: &String| utf8_percent_encode(path, &NOT_IN_A_PATH).to_string();
    match edit {
        PathEdit::Full(path) => PathEdit::Full(encode(path)),
        PathEdit::Prefix(path) => PathEdit::Prefix(encode(path)),
    }
}

/// RFC 3986, 3.3; `%` is left alone, because what it encodes is encoded already.
const NOT_IN_A_PATH: AsciiSet = CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The name of a header to which configuration may do this.
fn editable(name: &str, change: Change) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    headers::forbidden(change, name.as_str()).is_none().then_some(name)
}
