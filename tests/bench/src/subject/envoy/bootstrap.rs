//! Envoy's configuration: four listeners, four clusters of one endpoint.
//!
//! As the Envoy project asks of those who benchmark it: circuit breakers off, no request ids, no dynamic statistics.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use serde_json::{Value, json};
use testkit::{Netns, Node, Pod};

use super::{Pods, listener, rbac, tls::Papers};
use crate::lab::backends::{self, Port};

/// Which of the work it does.
#[derive(Debug)]
pub(super) enum Part {
    /// All of it.
    Alone,
    /// The client's side: it accepts as its app's neighbour and connects with mutual TLS.
    Client(Papers),
    /// The server's side: it accepts with mutual TLS and connects to its app.
    Server(Papers),
}

/// What one Envoy is to be.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub pods: Pods<'a>,
    pub part: &'a Part,
    pub log: Option<&'a Path>,
    /// What the names of its listeners and clusters begin with.
    pub prefix: &'a str,
    /// Added to every port of the server's.
    pub shift: u16,
    pub table: Table<'a>,
    /// Where the server's Envoy, if there is one, accepts.
    pub meets: Meeting<'a>,
    /// Of the server's, those that it has.
    pub ports: &'a [Port],
    /// Whom alone the server's lets in, by their SPIFFE ID; otherwise whoever has a certificate of its namespace.
    pub allows: Option<&'a str>,
}

/// Where the server's Envoy accepts what is for a port of the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meeting<'a> {
    pub netns: &'a Netns,
    address: IpAddr,
    /// The first of its ports, where one address is many servers'.
    first: Option<u16>,
}

impl<'a> Meeting<'a> {
    /// In the server's pod.
    pub(super) fn within(server: &'a Pod) -> Self {
        Self { netns: server.netns(), address: server.v4().into(), first: None }
    }

    /// On the server's node, whose address is that of its bridge; at ports of this server's number.
    pub(super) fn on(node: &'a Node, server: &Pod, number: u16) -> Self {
        let address = gateway(server);
        Self { netns: node.netns(), address, first: Some(20_000 + number * Port::ALL.len() as u16) }
    }

    pub(super) fn at(&self, port: Port) -> SocketAddr {
        let ordinal = Port::ALL.iter().position(|one| *one == port).unwrap_or_default() as u16;
        let number = self.first.map_or(20_000 + port.number(), |first| first + ordinal);
        SocketAddr::new(self.address, number)
    }
}

/// The address of a pod's node on the bridge of its pods.
pub(crate) fn gateway(pod: &Pod) -> IpAddr {
    let [a, b, subnet, _] = pod.v4().octets();
    IpAddr::from([a, b, subnet, 1])
}

/// Where the routes of HTTP/1.1 come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Table<'a> {
    /// There is one, for everything.
    One,
    /// They are read from a file.
    File(&'a Path),
    /// The control plane says them, and the endpoints behind them.
    Discovered,
}

impl<'a> Plan<'a> {
    /// With all ports and one route, within its pods.
    pub(super) fn of(pods: Pods<'a>, part: &'a Part) -> Self {
        let meets = Meeting::within(pods.server);
        let (ports, table) = (Port::ALL.as_slice(), Table::One);
        Self { pods, part, log: None, prefix: "", shift: 0, table, meets, ports, allows: None }
    }

    fn name(&self, port: Port) -> String {
        format!("{}{}", self.prefix, name(port))
    }
}

impl<'a> Plan<'a> {
    /// Where it accepts what is for a port, and in whose network namespace.
    pub(super) fn listens(&self, port: Port) -> (&'a Netns, SocketAddr) {
        match self.part {
            Part::Alone | Part::Client(_) => (self.pods.client.netns(), listener(port)),
            Part::Server(_) => (self.meets.netns, self.meets.at(port)),
        }
    }

    /// Where it connects.
    fn connects(&self, port: Port) -> SocketAddr {
        match self.part {
            Part::Alone | Part::Server(_) => self.pods.server.at(port.number()),
            Part::Client(_) => self.meets.at(port),
        }
    }
}

impl Part {
    /// Between two Envoys HTTP is HTTP/2: that is less work for both than many connections of HTTP/1.1.
    fn accepts_http2(&self, port: Port) -> bool {
        port == Port::Http2 || (port == Port::Http && matches!(self, Self::Server(_)))
    }

    fn speaks_http2(&self, port: Port) -> bool {
        port == Port::Http2 || (port == Port::Http && matches!(self, Self::Client(_)))
    }
}

/// The whole configuration; `control_plane` is the socket of who is asked for what is discovered.
pub(super) fn text(plans: &[Plan<'_>], admin: &Path, control_plane: Option<&Path>) -> String {
    let all = || plans.iter().flat_map(|plan| plan.ports.iter().map(move |port| (*port, plan)));
    let listeners: Vec<Value> = all().map(|(port, plan)| listener_of(port, plan)).collect();
    let mut clusters: Vec<Value> = all().map(|(port, plan)| cluster_of(port, plan)).collect();
    clusters.extend(control_plane.map(control_plane_of));
    let mut text = json!({
        // Asked for by whoever reads anything besides.
        "node": { "id": "bench", "cluster": "bench" },
        "admin": { "address": { "pipe": { "path": admin } } },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    });
    if control_plane.is_some() {
        let service = json!({ "envoy_grpc": { "cluster_name": CONTROL_PLANE } });
        // As deltas: of several resources of a type, only those that change are sent again.
        text["dynamic_resources"]["ads_config"] =
            json!({ "api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [service] });
    }
    text.to_string()
}

/// What the names of all that belongs to a port end in.
pub(super) fn name(port: Port) -> &'static str {
    match port {
        Port::Http => "http",
        Port::Http2 => "http2",
        Port::Echo => "echo",
        Port::Source => "source",
    }
}

fn listener_of(port: Port, plan: &Plan<'_>) -> Value {
    let (netns, address) = plan.listens(port);
    let filters = match plan.allows {
        _ if port.is_http() => vec![http_filter(port, plan)],
        Some(caller) => vec![rbac::of_connections(caller, &plan.name(port)), tcp_filter(port, plan)],
        None => vec![tcp_filter(port, plan)],
    };
    let mut chain = json!({ "filters": filters });
    if let Part::Server(papers) = plan.part {
        chain["transport_socket"] = papers.downstream();
    }
    json!({
        "name": plan.name(port),
        "address": { "socket_address": {
            "address": address.ip(), "port_value": address.port(),
            "network_namespace_filepath": netns.path(),
        } },
        "filter_chains": [chain],
    })
}

fn http_filter(port: Port, plan: &Plan<'_>) -> Value {
    let router = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        "dynamic_stats": false, "suppress_envoy_headers": true,
    });
    let router = json!({ "name": "envoy.filters.http.router", "typed_config": router });
    let filters: Vec<Value> = plan.allows.map(rbac::of_requests).into_iter().chain([router]).collect();
    let mut filter = json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": plan.name(port),
            "codec_type": if plan.part.accepts_http2(port) { "HTTP2" } else { "HTTP1" },
            "generate_request_id": false,
            "server_header_transformation": "PASS_THROUGH",
            "access_log": access_log(plan.log, HTTP_FIELDS),
            "http_filters": filters,
        },
    });
    let name = plan.name(port);
    let read = |source: Value| ("rds", json!({ "route_config_name": name, "config_source": source }));
    let (key, value) = match plan.table {
        Table::File(path) if port == Port::Http => {
            read(json!({ "path_config_source": { "path": path }, "resource_api_version": "V3" }))
        }
        Table::Discovered if port == Port::Http => read(discovered()),
        _ => ("route_config", route_config(&name, vec![route(json!({ "prefix": "/" }), &name)])),
    };
    filter["typed_config"][key] = value;
    filter
}

fn route(matches: Value, cluster: &str) -> Value {
    json!({ "match": matches, "route": { "cluster": cluster, "timeout": "0s" } })
}

fn route_config(name: &str, routes: Vec<Value>) -> Value {
    json!({ "name": name, "virtual_hosts": [{ "name": "web", "domains": ["*"], "routes": routes }] })
}

/// What a file of so many routes says: the same prefixes as Canopy's, by whole elements.
pub(crate) fn routes(count: usize) -> String {
    let name = name(Port::Http);
    let of = |number| route(json!({ "path_separated_prefix": backends::route(number) }), name);
    let mut config = route_config(name, (0..count).map(of).collect());
    config["@type"] = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration".into();
    json!({ "version_info": count.to_string(), "resources": [config] }).to_string()
}

fn tcp_filter(port: Port, plan: &Plan<'_>) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": plan.name(port),
            "cluster": plan.name(port),
            "access_log": access_log(plan.log, TCP_FIELDS),
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

fn cluster_of(port: Port, plan: &Plan<'_>) -> Value {
    let mut target = plan.connects(port);
    target.set_port(target.port() + plan.shift);
    let endpoint = json!({ "endpoint": { "address": { "socket_address": {
        "address": target.ip(), "port_value": target.port(),
    } } } });
    let unlimited = json!({
        "max_connections": MOST, "max_pending_requests": MOST, "max_requests": MOST, "max_retries": MOST,
    });
    let mut cluster = json!({
        "name": plan.name(port),
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [unlimited] },
        "load_assignment": { "cluster_name": plan.name(port), "endpoints": [{ "lb_endpoints": [endpoint] }] },
    });
    if matches!(plan.table, Table::Discovered) && port == Port::Http {
        cluster["type"] = "EDS".into();
        cluster["load_assignment"] = Value::Null;
        cluster["eds_cluster_config"] = json!({ "eds_config": discovered() });
    }
    if let Part::Client(papers) = plan.part {
        cluster["transport_socket"] = papers.upstream(port.is_http());
    }
    if plan.part.speaks_http2(port) {
        cluster["typed_extension_protocol_options"] = http2();
    }
    cluster
}

fn control_plane_of(socket: &Path) -> Value {
    let endpoint = json!({ "endpoint": { "address": { "pipe": { "path": socket } } } });
    json!({
        "name": CONTROL_PLANE,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": { "cluster_name": CONTROL_PLANE, "endpoints": [{ "lb_endpoints": [endpoint] }] },
        "typed_extension_protocol_options": http2(),
    })
}

fn discovered() -> Value {
    json!({ "ads": {}, "resource_api_version": "V3" })
}

fn http2() -> Value {
    json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        },
    })
}

/// The cluster of who is asked for what is discovered.
const CONTROL_PLANE: &str = "control-plane";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_routes_has_one_for_each_path_in_their_order() {
        let file: Value = serde_json::from_str(&routes(1_000)).unwrap();
        let config = &file["resources"][0];
        assert_eq!(config["name"], "http");
        let all = config["virtual_hosts"][0]["routes"].as_array().unwrap();
        assert_eq!(all.len(), 1_000);
        assert_eq!(all[999]["match"], json!({ "path_separated_prefix": "/route/00999" }));
        assert_eq!(all[999]["route"]["cluster"], "http");
    }
}
