//! The `location` of a redirect (Gateway API v1, `HTTPRequestRedirectFilter`).
//!
//! Must never name a port that the scheme implies, or a host that is none.

use std::fmt::Write;

use config::model::Redirect;
use http::{HeaderValue, header, request::Parts, uri::Authority};

use super::paths;

/// Where a request is sent. `listener_port` is the Service port it came to.
pub(super) fn location(
    redirect: &Redirect,
    request: &Parts,
    matched_prefix: usize,
    listener_port: u16,
) -> Option<HeaderValue> {
    let uri = &request.uri;
    let path = match &redirect.path {
        Some(edit) => paths::replace(edit, uri, matched_prefix),
        None => uri.path_and_query().map_or_else(|| "/".to_owned(), |path| path.as_str().to_owned()),
    };
    let host = match &redirect.hostname {
        Some(host) => Some(host.clone()),
        None => authority(request).map(|authority| authority.host().to_owned()),
    };
    // HTTP/1.0 without a host: all that can be said is where on this server.
    let Some(host) = host else { return HeaderValue::try_from(path).ok() };
    let scheme = redirect.scheme.as_deref().or(uri.scheme_str()).unwrap_or("http");
    let implied = well_known(scheme);
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => port,
        (None, Some(_)) => implied.unwrap_or(listener_port),
        (None, None) => listener_port,
    };
    let mut location = format!("{scheme}://{host}");
    if implied != Some(port) {
        write!(location, ":{port}").ok()?;
    }
    location.push_str(&path);
    HeaderValue::try_from(location).ok()
}

/// Whom a request means: the target's authority (HTTP/2, absolute form), otherwise the `host` header.
fn authority(request: &Parts) -> Option<Authority> {
    let from_header = || {
        let host = request.headers.get(header::HOST)?;
        Authority::try_from(host.as_bytes()).ok().filter(|authority| !authority.host().is_empty())
    };
    request.uri.authority().cloned().or_else(from_header)
}

fn well_known(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}
