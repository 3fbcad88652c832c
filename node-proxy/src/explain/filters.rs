//! What a rule and its backends do to a request and its response, and what the request is afterwards.
//!
//! What it becomes is asked of `route::edits`, which does it on the data path.

use std::time::Duration;

use config::model::{PathEdit, Redirect, Rewrite};
use http::{HeaderValue, header};

use super::{Telling, short, told::Name};
use crate::{
    route::edits,
    snapshot::routes::{CompiledBackend, CompiledMirror, CompiledRule, Edits, HeaderChange},
};

impl Telling<'_> {
    /// Those of a rule.
    pub(super) fn filters(&mut self, rule: &CompiledRule, matched_prefix: usize) {
        let mut all = of_edits(&rule.edits);
        all.extend(rule.redirect.as_ref().map(redirect));
        all.extend(rule.mirrors.iter().map(mirror));
        let timeout =
            |what: &str, after: Option<Duration>| after.map(|after| format!("{what} within {after:?}"));
        all.extend(timeout("answered", rule.request_timeout));
        all.extend(timeout("answered by one backend", rule.backend_timeout));
        if all.is_empty() {
            return;
        }
        self.stage(Name::Filters, all.join("; "), None);
        if !rule.edits.request.is_empty() || rule.edits.rewrite.is_some() {
            let mut request = self.question.request.clone();
            edits::apply_request(&rule.edits, &mut request, matched_prefix);
            let target = request.uri.path_and_query().map_or("/", |path| path.as_str());
            let host = request.headers.get(header::HOST).map(value).unwrap_or_default();
            self.detail(
                format!("the request becomes {} {} for host {host}", request.method, short(target)),
                None,
            );
        }
    }

    /// Those of a backend alone.
    pub(super) fn backend_filters(&mut self, backend: &CompiledBackend) {
        let mut all = of_edits(&backend.edits);
        all.extend(backend.mirrors.iter().map(mirror));
        for filter in all {
            self.detail(format!("of this backend alone: {filter}"), None);
        }
    }
}

fn of_edits(edits: &Edits) -> Vec<String> {
    let mut all = Vec::new();
    for (what, changes) in [("request", &edits.request), ("response", &edits.response)] {
        all.extend(changes.iter().map(|change| format!("{what} header {}", header(change))));
    }
    all.extend(edits.rewrite.as_ref().map(rewrite));
    all
}

fn header(change: &HeaderChange) -> String {
    match change {
        HeaderChange::Set(name, to) => format!("{name} set to {}", value(to)),
        HeaderChange::Add(name, with) => format!("{name} added with {}", value(with)),
        HeaderChange::Remove(name) => format!("{name} removed"),
    }
}

fn value(value: &HeaderValue) -> String {
    short(&String::from_utf8_lossy(value.as_bytes()))
}

fn rewrite(rewrite: &Rewrite) -> String {
    let host = rewrite.hostname.as_ref().map(|host| format!("host {}", short(host)));
    let parts: Vec<String> = host.into_iter().chain(rewrite.path.as_ref().map(path)).collect();
    format!("rewritten to {}", parts.join(" and "))
}

fn path(edit: &PathEdit) -> String {
    match edit {
        PathEdit::Full(path) => format!("path {}", short(path)),
        PathEdit::Prefix(prefix) => format!("path prefix {}", short(prefix)),
    }
}

fn redirect(redirect: &Redirect) -> String {
    format!("answered with a redirect ({})", redirect.status)
}

fn mirror(mirror: &CompiledMirror) -> String {
    let CompiledMirror { cluster, numerator, denominator } = mirror;
    let of = if numerator >= denominator { String::new() } else { format!("{numerator} of {denominator} ") };
    format!("{of}copied to Service {} port {}", cluster.service, cluster.port)
}
