//! Who may call, as Envoy is told: one rule that lets in one SPIFFE ID, which the client's certificate proves.
//!
//! As much as Canopy's AuthorizationPolicy asks for, and no more.

use serde_json::{Value, json};

/// The filter before a request's route.
pub(super) fn of_requests(caller: &str) -> Value {
    json!({ "name": "envoy.filters.http.rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": rules(caller),
    } })
}

/// The same before a connection of bytes.
pub(super) fn of_connections(caller: &str, name: &str) -> Value {
    json!({ "name": "envoy.filters.network.rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
        "stat_prefix": name,
        "rules": rules(caller),
    } })
}

fn rules(caller: &str) -> Value {
    let principal = json!({ "authenticated": { "principal_name": { "exact": caller } } });
    json!({ "action": "ALLOW", "policies": { "callers": {
        "permissions": [{ "any": true }], "principals": [principal],
    } } })
}
