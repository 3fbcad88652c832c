//! What is spoken on a connection, and who says so.

use config::model::AppProtocol;

use super::{Telling, told::Name};
use crate::{
    accept::{Protocol, detect},
    snapshot::Destination,
};

/// Whether requests are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// They are.
    Http,
    /// Bytes pass as they are.
    Opaque,
}

impl Telling<'_> {
    /// Tells what is spoken with a destination.
    pub(super) fn protocol(&mut self, destination: &Destination) -> Speaks {
        let port = match destination {
            Destination::Service { entry, .. } => format!("port {} of Service {}", entry.port, entry.service),
            Destination::Workload { .. } => "what Services say of this port of the pod".to_owned(),
            Destination::Outside => "what is outside the mesh".to_owned(),
        };
        let routed = self.is_http_by_a_route(destination);
        let (speaks, says) = match destination.protocol() {
            AppProtocol::Http1 if routed => {
                (Speaks::Http, format!("HTTP: {port} declares nothing, and an HTTPRoute is attached"))
            }
            AppProtocol::Http1 => (Speaks::Http, format!("HTTP: {port} declares it")),
            AppProtocol::Http2 if routed => {
                (Speaks::Http, format!("HTTP/2: {port} declares nothing, and a GRPCRoute is attached"))
            }
            AppProtocol::Http2 => (Speaks::Http, format!("HTTP/2: {port} declares it")),
            AppProtocol::Tcp if matches!(destination, Destination::Outside) => {
                (Speaks::Opaque, format!("opaque bytes, as is {port}"))
            }
            AppProtocol::Tcp => (Speaks::Opaque, format!("opaque bytes: {port} declares it")),
            AppProtocol::Undeclared => self.detected(&port),
        };
        self.stage(Name::Protocol, says, None);
        if speaks == Speaks::Opaque && self.question.is_http {
            self.detail("--path, --method and --header say nothing here: no request is read", None);
        }
        speaks
    }

    /// A port that says nothing, for callers that have a route to it.
    fn is_http_by_a_route(&self, destination: &Destination) -> bool {
        matches!(destination, Destination::Service { entry, routes }
            if entry.cluster.protocol == AppProtocol::Undeclared && routes.default.is_none())
    }

    /// Nothing is declared: what the first bytes of this request would be taken for.
    fn detected(&self, port: &str) -> (Speaks, String) {
        let request = &self.question.request;
        let target = request.uri.path_and_query().map_or("/", |path| path.as_str());
        let line = format!("{} {target} HTTP/1.1\r\n", request.method);
        let is_http = detect::settle(line.as_bytes()) != Protocol::Tcp;
        let taken = if is_http { "HTTP" } else { "opaque bytes" };
        let says = format!(
            "the first bytes decide, as nothing is declared by {port}: this request is taken for {taken}"
        );
        (if is_http { Speaks::Http } else { Speaks::Opaque }, says)
    }
}
