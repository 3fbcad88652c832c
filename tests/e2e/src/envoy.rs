//! Envoy as the proxy of a pod that is not ours: it takes tunnels for its app, or makes them, as whom and with whatever
//! certificate a test says.
//!
//! Its configuration is written by hand after Envoy's documentation, not derived from what our own end does.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{KitError, Pod, Process, envoy};

use crate::{Stage, dial, repository};

/// A running Envoy. Dropping it ends it.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    log: PathBuf,
}

/// What it shows to its peer, and whom it believes.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The directory of `tls.crt` and `tls.key`; without it, nothing is shown.
    pub certificate: Option<&'a Path>,
    /// The directory of the `ca.crt` that it trusts.
    pub trust: &'a Path,
}

impl<'a> Shown<'a> {
    /// What is in an account's directory.
    #[must_use]
    pub fn of(account: &'a Path) -> Self {
        Self { certificate: Some(account), trust: account }
    }
}

impl Envoy {
    /// Takes tunnels at port 15008 of the pod, from `allowed` (a SPIFFE ID) or from whoever proves to be of the trust domain,
    /// and connects each to port 7000 of its loopback.
    ///
    /// # Errors
    /// There is no Envoy, or it does not start.
    pub fn terminating(pod: &Pod, its: Shown<'_>, allowed: Option<&str>) -> Result<Self, KitError> {
        Self::start(pod, its.trust, |log| terminating(its, allowed, log))
    }

    /// Takes bytes at a port of its loopback for each of `ways`, and carries them to `to` in a tunnel that shows what the
    /// way says, and says the same of its workload whatever it shows.
    ///
    /// # Errors
    /// There is no Envoy, or it does not start.
    pub fn originating(pod: &Pod, ways: &[(u16, Shown<'_>)], to: SocketAddr) -> Result<Self, KitError> {
        let directory = ways.first().map_or(Path::new("/"), |(_, shown)| shown.trust);
        Self::start(pod, directory, |_| originating(ways, to))
    }

    /// What it logged of the tunnels that it took: a line each, when they end.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Asks its admin port to do something; what it answers.
    ///
    /// # Errors
    /// It does not answer.
    pub fn admin(pod: &Pod, path: &str) -> std::io::Result<String> {
        let mut stream = dial(pod, ADMIN)?;
        write!(stream, "POST {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200 ") { Ok(answer) } else { Err(std::io::Error::other(answer)) }
    }

    /// One of its counts and gauges.
    ///
    /// # Errors
    /// It does not answer, or does not know it.
    pub fn stat(pod: &Pod, name: &str) -> std::io::Result<u64> {
        let answer = Self::admin(pod, "/stats")?;
        let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok());
        value.ok_or_else(|| std::io::Error::other(format!("no {name} in {answer}")))
    }

    /// What it printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }

    fn start(pod: &Pod, directory: &Path, config: impl FnOnce(&Path) -> Value) -> Result<Self, KitError> {
        let binary = envoy::ensure(&repository().join("target/tools"))?;
        let file = |name: &str| directory.join(format!("{}-{name}", pod.name()));
        let (log, written) = (file("tunnels.log"), file("envoy.json"));
        let mut config = config(&log);
        config["admin"] = json!({ "address": address(ADMIN) });
        std::fs::write(&written, config.to_string())
            .map_err(|source| KitError::Start { what: written.display().to_string(), source })?;
        let mut command = Command::new(binary);
        command.arg("-c").arg(written).args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]);
        command.args(["--file-flush-interval-msec", "10"]);
        // Who drains says so at the next answer, not by chance at some later one.
        command.args(["--drain-strategy", "immediate"]);
        let mut process = pod.start(command)?;
        process.wait_until("Envoy's listeners", START_LIMIT, || dial(pod, LIFE).is_ok())?;
        Ok(Self { process, log })
    }
}

/// Writes the manifest of a pod that another mesh's proxy answers for.
///
/// # Errors
/// It cannot be written.
pub fn foreign(stage: &Stage, pod: &Pod) -> Result<(), KitError> {
    let (namespace, name, v4) = (pod.namespace(), pod.name(), pod.v4());
    stage.manifests.namespace(namespace)?;
    stage.manifests.write(
        &format!("{namespace}-{name}-pod.yaml"),
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  namespace: {namespace}\n  name: {name}\n\
             \x20 annotations: {{ambient.istio.io/redirection: enabled}}\n\
             spec:\n  serviceAccountName: {name}\n  containers:\n  - {{name: app, image: none}}\n\
             status:\n  phase: Running\n  podIP: {v4}\n  podIPs: [{{ip: {v4}}}]\n\
             \x20 conditions: [{{type: Ready, status: \"True\"}}]\n"
        ),
    )
}

/// A port of Envoy's loopback, for [`Envoy::originating`] and for the app of [`Envoy::terminating`].
#[must_use]
pub const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn tls(shown: Shown<'_>, kind: &str, more: Value) -> Value {
    let file = |directory: &Path, name: &str| json!({ "filename": directory.join(name) });
    let pair = |its: &Path| json!({ "certificate_chain": file(its, "tls.crt"), "private_key": file(its, "tls.key") });
    let certificates: Vec<_> = shown.certificate.map(pair).into_iter().collect();
    let mut context = json!({
        "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"),
        "common_tls_context": {
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
            "alpn_protocols": ["h2"],
            "tls_certificates": certificates,
            "validation_context": {
                "trusted_ca": file(shown.trust, "ca.crt"),
                "match_typed_subject_alt_names": [
                    { "san_type": "URI", "matcher": { "prefix": "spiffe://cluster.local/" } },
                ],
            },
        },
    });
    if let (Some(context), Some(more)) = (context.as_object_mut(), more.as_object()) {
        context.extend(more.clone());
    }
    json!({ "name": "tls", "typed_config": context })
}

fn terminating(its: Shown<'_>, allowed: Option<&str>, log: &Path) -> Value {
    let route = json!({
        "match": { "connect_matcher": {} },
        "route": { "cluster": "app", "upgrade_configs": [{ "upgrade_type": "CONNECT", "connect_config": {} }] },
    });
    let mut filters: Vec<_> = allowed.map(only).into_iter().collect();
    filters.push(json!({ "name": "router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }));
    let fields = json!({
        "authority": "%REQ(:AUTHORITY)%", "method": "%REQ(:METHOD)%", "path": "%REQ(:PATH)%",
        "baggage": "%REQ(BAGGAGE)%", "forwarded": "%REQ(FORWARDED)%", "traceparent": "%REQ(TRACEPARENT)%",
        "peer": "%DOWNSTREAM_PEER_URI_SAN%", "status": "%RESPONSE_CODE%",
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "tunnels", "codec_type": "HTTP2",
        "http2_protocol_options": windows(json!({ "allow_connect": true, "max_concurrent_streams": 100 })),
        "upgrade_configs": [{ "upgrade_type": "CONNECT" }],
        "http_filters": filters,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
        "access_log": [{ "name": "file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": log, "log_format": { "json_format": fields } } }],
    });
    json!({ "static_resources": {
        "listeners": [
            {
                "name": "tunnels", "address": address(SocketAddr::from(([0, 0, 0, 0], 15008))),
                "filter_chains": [{
                    "transport_socket": tls(its, "DownstreamTlsContext", json!({ "require_client_certificate": true })),
                    "filters": [{ "name": "http", "typed_config": manager }],
                }],
            },
            sign_of_life(),
        ],
        "clusters": [cluster("app", local(7000)), cluster("nowhere", local(1))],
    } })
}

/// As meshes set them, a stream's below its connection's; Envoy's own are larger than what tests send.
fn windows(mut options: Value) -> Value {
    options["initial_stream_window_size"] = json!(4 << 20);
    options["initial_connection_window_size"] = json!(16 << 20);
    options
}

/// Lets in whose certificate names this, and nobody else.
fn only(spiffe_id: &str) -> Value {
    json!({ "name": "rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": { "action": "ALLOW", "policies": { "one": {
            "permissions": [{ "any": true }],
            "principals": [{ "authenticated": { "principal_name": { "exact": spiffe_id } } }],
        } } },
    } })
}

fn originating(ways: &[(u16, Shown<'_>)], to: SocketAddr) -> Value {
    let (mut listeners, mut clusters) = (Vec::new(), vec![cluster("nowhere", local(1))]);
    let said: Vec<_> =
        SAID.iter().map(|(key, value)| json!({ "header": { "key": key, "value": value } })).collect();
    for (port, shown) in ways {
        let name = format!("tunnel-{port}");
        let proxy = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name, "cluster": name,
            "tunneling_config": { "hostname": to.to_string(), "headers_to_add": said },
        });
        listeners.push(json!({
            "name": name, "address": address(local(*port)),
            "filter_chains": [{ "filters": [{ "name": "tcp", "typed_config": proxy }] }],
        }));
        let mut tunnel = cluster(&name, SocketAddr::new(to.ip(), 15008));
        tunnel["transport_socket"] = tls(*shown, "UpstreamTlsContext", json!({}));
        tunnel["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": windows(json!({ "allow_connect": true })) },
            },
        });
        clusters.push(tunnel);
    }
    listeners.push(sign_of_life());
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
}

/// A port that tells that the others are there, too, and reaches nobody: the last of all, since Envoy opens them in order.
fn sign_of_life() -> Value {
    let proxy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "life", "cluster": "nowhere",
    });
    json!({
        "name": "life", "address": address(LIFE),
        "filter_chains": [{ "filters": [{ "name": "tcp", "typed_config": proxy }] }],
    })
}

fn cluster(name: &str, to: SocketAddr) -> Value {
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(to) } }] }],
        },
    })
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip(), "port_value": at.port() } })
}

/// What Envoy says in the fields of its CONNECTs, as proxies of a mesh do.
const SAID: [(&str, &str); 3] = [
    (
        "baggage",
        "k8s.cluster.name=west,k8s.namespace.name=shop,k8s.deployment.name=client,service.name=client,\
         service.version=v7,cloud.region=r1,cloud.availability_zone=r1-z2",
    ),
    ("forwarded", "for=\"%DOWNSTREAM_REMOTE_ADDRESS%\";host=ledger.bank.svc.cluster.local"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
];

const LIFE: SocketAddr = local(9999);
const ADMIN: SocketAddr = local(9998);
const START_LIMIT: Duration = Duration::from_secs(60);
