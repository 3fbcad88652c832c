//! Applies a rule's or backend's edits to requests and responses: pure functions on `http`'s own types.
//!
//! First the rule's edits, then the chosen backend's. Must never leave a request that says two hosts.

use config::model::Rewrite;
use http::{
    HeaderMap, HeaderValue, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery},
};

use super::paths;
use crate::snapshot::routes::{Edits, HeaderChange};

/// Changes a request's target and headers. `matched_prefix` as in [`Forward`](super::Forward).
pub fn apply_request(edits: &Edits, request: &mut Parts, matched_prefix: usize) {
    for change in &edits.request {
        apply(change, &mut request.headers);
        if let HeaderChange::Set(header::HOST, host) = change {
            set_authority(request, host);
        }
    }
    if let Some(rewrite) = &edits.rewrite {
        apply_rewrite(rewrite, request, matched_prefix);
    }
}

/// Changes a response's headers.
pub fn apply_response(edits: &Edits, headers: &mut HeaderMap) {
    for change in &edits.response {
        apply(change, headers);
    }
}

fn apply(change: &HeaderChange, headers: &mut HeaderMap) {
    match change {
        HeaderChange::Set(name, value) => drop(headers.insert(name, value.clone())),
        HeaderChange::Add(name, value) => drop(headers.append(name, value.clone())),
        HeaderChange::Remove(name) => drop(headers.remove(name)),
    }
}

fn apply_rewrite(rewrite: &Rewrite, request: &mut Parts, matched_prefix: usize) {
    if let Some(edit) = &rewrite.path {
        let path = paths::replace(edit, &request.uri, matched_prefix);
        if let Ok(path) = PathAndQuery::try_from(path) {
            set_uri(request, |parts| parts.path_and_query = Some(path));
        }
    }
    let host = rewrite.hostname.as_deref().and_then(|host| HeaderValue::from_str(host).ok());
    if let Some(host) = host {
        set_authority(request, &host);
        let in_header = request.version < Version::HTTP_2 || request.uri.authority().is_none();
        if in_header || request.headers.contains_key(header::HOST) {
            request.headers.insert(header::HOST, host);
        }
    }
}

/// Changes the host of a target that has one (HTTP/2, absolute form).
fn set_authority(request: &mut Parts, host: &HeaderValue) {
    if request.uri.authority().is_none() {
        return;
    }
    if let Ok(authority) = Authority::try_from(host.as_bytes()) {
        set_uri(request, |parts| parts.authority = Some(authority));
    }
}

fn set_uri(request: &mut Parts, change: impl FnOnce(&mut http::uri::Parts)) {
    let mut parts = request.uri.clone().into_parts();
    change(&mut parts);
    if let Ok(uri) = Uri::from_parts(parts) {
        request.uri = uri;
    }
}
