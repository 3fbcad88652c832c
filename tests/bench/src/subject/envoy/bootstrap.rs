//! Envoy's configuration: four listeners in the client pod, four clusters of one endpoint in the server pod.
//!
//! As the Envoy project asks of those who benchmark it: circuit breakers off, no request ids, no dynamic statistics.

use std::path::Path;

use serde_json::{Value, json};
use testkit::Pod;

use super::listener;
use crate::lab::backends::Port;

/// Between whom it stands.
#[derive(Debug)]
pub(super) struct Pods<'a> {
    pub client: &'a Pod,
    pub server: &'a Pod,
}

/// The whole configuration.
pub(super) fn text(pods: &Pods<'_>, admin: &Path, log: Option<&Path>) -> String {
    let listeners: Vec<Value> = Port::ALL.iter().map(|port| listener_of(*port, pods, log)).collect();
    let clusters: Vec<Value> = Port::ALL.iter().map(|port| cluster_of(*port, pods)).collect();
    json!({
        "admin": { "address": { "pipe": { "path": admin } } },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
    .to_string()
}

fn name(port: Port) -> &'static str {
    match port {
        Port::Http => "http",
        Port::Http2 => "http2",
        Port::Echo => "echo",
        Port::Source => "source",
    }
}

fn listener_of(port: Port, pods: &Pods<'_>, log: Option<&Path>) -> Value {
    let address = listener(port);
    let filter = if port.is_http() { http_filter(port, log) } else { tcp_filter(port, log) };
    json!({
        "name": name(port),
        "address": { "socket_address": {
            "address": address.ip(), "port_value": address.port(),
            "network_namespace_filepath": pods.client.netns_path(),
        } },
        "filter_chains": [{ "filters": [filter] }],
    })
}

fn http_filter(port: Port, log: Option<&Path>) -> Value {
    let router = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        "dynamic_stats": false, "suppress_envoy_headers": true,
    });
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": name(port), "timeout": "0s" } });
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name(port),
            "codec_type": if port == Port::Http2 { "HTTP2" } else { "HTTP1" },
            "generate_request_id": false,
            "server_header_transformation": "PASS_THROUGH",
            "access_log": access_log(log, HTTP_FIELDS),
            "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": router }],
            "route_config": {
                "name": name(port),
                "virtual_hosts": [{ "name": "web", "domains": ["*"], "routes": [route] }],
            },
        },
    })
}

fn tcp_filter(port: Port, log: Option<&Path>) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name(port),
            "cluster": name(port),
            "access_log": access_log(log, TCP_FIELDS),
        },
    })
}

fn access_log(log: Option<&Path>, fields: &[(&str, &str)]) -> Value {
    let Some(path) = log else { return json!([]) };
    let format: serde_json::Map<String, Value> =
        fields.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    json!([{
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": { "json_format": format },
        },
    }])
}

fn cluster_of(port: Port, pods: &Pods<'_>) -> Value {
    let endpoint = json!({ "endpoint": { "address": { "socket_address": {
        "address": pods.server.v4(), "port_value": port.number(),
    } } } });
    let unlimited = json!({
        "max_connections": MOST, "max_pending_requests": MOST, "max_requests": MOST, "max_retries": MOST,
    });
    let mut cluster = json!({
        "name": name(port),
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [unlimited] },
        "load_assignment": { "cluster_name": name(port), "endpoints": [{ "lb_endpoints": [endpoint] }] },
    });
    if port == Port::Http2 {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
    }
    cluster
}

const MOST: u32 = u32::MAX;

/// About what Canopy's access log says of a request.
const HTTP_FIELDS: &[(&str, &str)] = &[
    ("time", "%START_TIME%"),
    ("source", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("destination", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("route", "%ROUTE_NAME%"),
    ("endpoint", "%UPSTREAM_HOST%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("status", "%RESPONSE_CODE%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("duration_ms", "%DURATION%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
];

/// About what Canopy's access log says of a connection.
const TCP_FIELDS: &[(&str, &str)] = &[
    ("time", "%START_TIME%"),
    ("source", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("destination", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("endpoint", "%UPSTREAM_HOST%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("duration_ms", "%DURATION%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
];
