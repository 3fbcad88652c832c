//! What Envoy is told of a tenant's routes and endpoints by a control plane: RouteConfiguration and ClusterLoadAssignment, encoded.
//!
//! The tags are the field numbers of Envoy's v3 API. Encoded here and not by the control plane, whose work on a change is then to send it.

use prost::Message;

use crate::{lab::backends::route, role::MARK};

/// The type of [`routes`].
pub(crate) const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// The type of [`endpoints`].
pub(crate) const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// A table of so many routes, of the same prefixes as Canopy's. The first says a number in the header [`MARK`].
pub(crate) fn routes(name: &str, count: usize, mark: &str) -> Vec<u8> {
    let of = |number| Route {
        matches: Some(RouteMatch { path_separated_prefix: route(number) }),
        route: Some(RouteAction { cluster: name.to_owned(), timeout: Some(Duration::default()) }),
        response_headers_to_add: (number == 0).then(|| header(mark)).into_iter().collect(),
    };
    let hosts =
        VirtualHost { name: "web".into(), domains: vec!["*".into()], routes: (0..count).map(of).collect() };
    RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![hosts] }.encode_to_vec()
}

/// A cluster's endpoints: one address at these ports.
pub(crate) fn endpoints(name: &str, address: std::net::IpAddr, ports: &[u16]) -> Vec<u8> {
    let of = |port: &u16| {
        let socket = SocketAddress { address: address.to_string(), port_value: (*port).into() };
        LbEndpoint { endpoint: Some(Endpoint { address: Some(Address { socket_address: Some(socket) }) }) }
    };
    let endpoints = vec![LocalityLbEndpoints { lb_endpoints: ports.iter().map(of).collect() }];
    ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints }.encode_to_vec()
}

fn header(mark: &str) -> HeaderValueOption {
    HeaderValueOption { header: Some(HeaderValue { key: MARK.into(), value: mark.to_owned() }) }
}

#[derive(Clone, PartialEq, Message)]
struct RouteConfiguration {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    virtual_hosts: Vec<VirtualHost>,
}

#[derive(Clone, PartialEq, Message)]
struct VirtualHost {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    domains: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    routes: Vec<Route>,
}

#[derive(Clone, PartialEq, Message)]
struct Route {
    #[prost(message, optional, tag = "1")]
    matches: Option<RouteMatch>,
    #[prost(message, optional, tag = "2")]
    route: Option<RouteAction>,
    #[prost(message, repeated, tag = "10")]
    response_headers_to_add: Vec<HeaderValueOption>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RouteMatch {
    #[prost(string, tag = "14")]
    path_separated_prefix: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RouteAction {
    #[prost(string, tag = "1")]
    cluster: String,
    /// Of nothing: none.
    #[prost(message, optional, tag = "8")]
    timeout: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Duration {}

#[derive(Clone, PartialEq, Eq, Message)]
struct HeaderValueOption {
    #[prost(message, optional, tag = "1")]
    header: Option<HeaderValue>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct HeaderValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ClusterLoadAssignment {
    #[prost(string, tag = "1")]
    cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    endpoints: Vec<LocalityLbEndpoints>,
}

#[derive(Clone, PartialEq, Message)]
struct LocalityLbEndpoints {
    #[prost(message, repeated, tag = "2")]
    lb_endpoints: Vec<LbEndpoint>,
}

#[derive(Clone, PartialEq, Message)]
struct LbEndpoint {
    #[prost(message, optional, tag = "1")]
    endpoint: Option<Endpoint>,
}

#[derive(Clone, PartialEq, Message)]
struct Endpoint {
    #[prost(message, optional, tag = "1")]
    address: Option<Address>,
}

#[derive(Clone, PartialEq, Message)]
struct Address {
    #[prost(message, optional, tag = "1")]
    socket_address: Option<SocketAddress>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct SocketAddress {
    #[prost(string, tag = "2")]
    address: String,
    #[prost(uint32, tag = "3")]
    port_value: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_route_for_each_path_and_the_first_alone_says_its_change() {
        let table = RouteConfiguration::decode(routes("web", 3, "00000107").as_slice()).unwrap();
        let all = &table.virtual_hosts[0].routes;
        let paths: Vec<&str> =
            all.iter().map(|route| route.matches.as_ref().unwrap().path_separated_prefix.as_str()).collect();
        assert_eq!(paths, ["/route/00000", "/route/00001", "/route/00002"]);
        let headers: Vec<usize> = all.iter().map(|route| route.response_headers_to_add.len()).collect();
        assert_eq!((headers, &all[0].response_headers_to_add[0]), (vec![1, 0, 0], &header("00000107")));
    }
}
