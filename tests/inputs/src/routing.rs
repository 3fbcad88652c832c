//! Any request, put to routes of every kind: a decision, and what is sent on after it is a request again.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use config::store::{FileText, Options, Store};
use http::header;
use node_proxy::{
    control::compile::compile,
    route::{Decision, decide, edits, mirrors},
    snapshot::RouteTable,
};

use crate::head;

/// Of HTTPRoutes, and of GRPCRoutes.
static TABLES: LazyLock<[Arc<RouteTable>; 2]> = LazyLock::new(|| {
    let text = include_str!("../manifests/routes.yaml");
    let files = BTreeMap::from([(PathBuf::from("routes.yaml"), FileText::from(text))]);
    let outcome = Store::new(Options::default()).apply(&files);
    assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
    let snapshots = compile(&outcome.mesh);
    let snapshot = snapshots.values().next().expect("there is a tenant");
    ["cart", "calls"].map(|name| {
        let service = snapshot.directory.services.values().find(|entry| entry.service.name.as_str() == name);
        Arc::clone(&service.expect("there is a Service").routes)
    })
});

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
    let Some((how, text)) = bytes.split_first() else { return };
    let Some(request) = head::read(text, how & 1 != 0) else { return };
    for table in &*TABLES {
        decided(table, request.clone(), u32::from(how >> 1));
    }
}

fn decided(table: &RouteTable, mut request: http::request::Parts, chance: u32) {
    let hosts = |request: &http::request::Parts| request.headers.get_all(header::HOST).iter().count();
    let before = hosts(&request);
    match decide(table, &request, |below| chance % below) {
        Decision::Forward(forward) => {
            let rule = forward.rule.expect("a route is attached");
            for mirror in mirrors(&forward, |below| chance % below) {
                assert!(mirror.denominator > 0);
            }
            let matched = forward.matched_prefix;
            assert!(matched <= request.uri.path().len(), "{request:?}: {matched}");
            for edits in [Some(&rule.edits), forward.backend_edits].into_iter().flatten() {
                edits::apply_request(edits, &mut request, matched);
            }
            let path = request.uri.path();
            assert!(path.starts_with('/') || path == "*" || path.is_empty(), "{request:?}");
            assert!(request.uri.to_string().parse::<http::Uri>().is_ok(), "{request:?}");
            assert!(hosts(&request) <= before.max(1), "{request:?}");
        }
        Decision::Redirect { status, location, .. } => {
            assert!(status.is_redirection());
            // Bytes beyond ASCII are the client's own, as it wrote them.
            let place = location.as_bytes();
            assert!(!place.iter().any(|byte| byte.is_ascii_control() || *byte == b' '), "{location:?}");
            // A client that says no host is sent to a path; never to what it would take for a host.
            let is_path = place.starts_with(b"/") && !place.starts_with(b"//");
            assert!(
                place.starts_with(b"http://") || place.starts_with(b"https://") || is_path,
                "{location:?}"
            );
        }
        Decision::NoRoute | Decision::InvalidBackend { .. } => {}
    }
}
