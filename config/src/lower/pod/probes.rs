//! Probes: what the kubelet may ask a pod over the network. `exec` never leaves the node. The hooks of a container's life are not among
//! them: they have effects, and who calls by a NodePort comes from the kubelet's address, too.

use super::containers;
use crate::{
    document::{Node, Value},
    finding::{Reason, Severity},
    lower::Context,
    model::{HttpScheme, Probe, ProbeCheck},
};

const KINDS: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const HOOKS: [&str; 2] = ["postStart", "preStop"];
const HOOK_REFUSED: &str = "a hook has effects, and others come from the kubelet's address, too, so it is refused wherever plaintext is (PeerAuthentication STRICT): write exec";

pub(super) fn lower(context: &mut Context<'_>, spec: &Node) -> Vec<Probe> {
    let mut probes: Vec<Probe> = Vec::new();
    for container in containers(spec) {
        let asked = KINDS.iter().filter_map(|kind| container.get(kind));
        let found: Vec<_> = asked.filter_map(|node| probe(context, container, node)).collect();
        // Of a hook only HTTP goes over the network: the kubelet knows no gRPC there, and heeds `tcpSocket` no more.
        let hooks = HOOKS.iter().filter_map(|hook| container.at_path(&["lifecycle", hook, "httpGet"]));
        for node in hooks {
            if http(context, container, node).is_some() {
                context.note(Severity::NotObeyed, Reason::NotObeyed, node, HOOK_REFUSED);
            }
        }
        for probe in found {
            if !probes.contains(&probe) {
                probes.push(probe);
            }
        }
    }
    probes
}

fn probe(context: &mut Context<'_>, container: &Node, node: &Node) -> Option<Probe> {
    if let Some(node) = node.get("httpGet") {
        return http(context, container, node);
    }
    if let Some(tcp) = node.get("tcpSocket") {
        let port = port(context, container, tcp.get("port")?)?;
        return goes_to_the_pod(tcp).then_some(Probe { port, check: ProbeCheck::Tcp });
    }
    let grpc = node.get("grpc")?;
    let service = grpc.text_of("service").unwrap_or_default().to_owned();
    Some(Probe { port: context.port(grpc.get("port")?)?, check: ProbeCheck::Grpc { service } })
}

fn http(context: &mut Context<'_>, container: &Node, node: &Node) -> Option<Probe> {
    let port = port(context, container, node.get("port")?)?;
    let check = http_check(context, node)?;
    goes_to_the_pod(node).then_some(Probe { port, check })
}

/// The kubelet asks another machine if the probe names one: no business of this pod's.
fn goes_to_the_pod(action: &Node) -> bool {
    action.text_of("host").is_none_or(str::is_empty)
}

fn http_check(context: &mut Context<'_>, http: &Node) -> Option<ProbeCheck> {
    let scheme = match http.get("scheme") {
        None => HttpScheme::Http,
        Some(node) => match node.text() {
            Some("HTTP" | "") => HttpScheme::Http,
            Some("HTTPS") => {
                let message = "TLS cannot be looked into, so the kubelet is refused here wherever plaintext is (PeerAuthentication STRICT): have it ask over HTTP";
                context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
                HttpScheme::Https
            }
            _ => {
                context.invalid(node, format!("must be HTTP or HTTPS, not {}", node.describe()));
                return None;
            }
        },
    };
    let path = http.text_of("path").unwrap_or_default();
    // As the kubelet writes its request line.
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let header = |node: &Node| Some((node.text_of("name")?.to_owned(), node.text_of("value")?.to_owned()));
    let headers = http.items_of("httpHeaders").iter().filter_map(header).collect();
    Some(ProbeCheck::Http { scheme, path, headers })
}

/// A number, or the name of one of the same container's ports.
fn port(context: &mut Context<'_>, container: &Node, node: &Node) -> Option<u16> {
    let Value::Text(name) = &node.value else { return context.port(node) };
    let named = |port: &&Node| port.text_of("name") == Some(name);
    let Some(port) = container.items_of("ports").iter().find(named) else {
        let message = format!(
            "the container has no port called {name:?}: what the kubelet asks there is not known here"
        );
        context.note(Severity::Warning, Reason::DanglingReference, node, message);
        return None;
    };
    port.get("containerPort")?.int().and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0)
}
