//! Tunnels shared with Envoy, in both directions: it accepts ours, and we accept its own.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use e2e::{Listener, Stage, dial, eventually, port, repository};
use serde_json::{Value, json};
use testkit::{Daemon, KitError, Outcome, Pod, Process, envoy, pki::Authority};

#[test]
fn envoy_takes_our_tunnel_and_reaches_its_app() -> Outcome {
    let (stage, authority) = (Stage::new()?, Authority::new()?);
    let client = stage.pod("shop", "client", &[])?;
    let ledger = stage.node.pod("bank", "ledger")?;
    foreign(&stage, &ledger)?;
    authority.issue("shop", "client")?;
    let its = authority.issue("bank", "ledger")?;
    let _echo = Listener::echo(&ledger, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7000))?;
    let _envoy = start(&ledger, &terminating(&its), its.as_path())?;
    let mut daemon = daemon(&stage, &authority)?;
    let mut stream = echoes(&client, ledger.at(7000))?;
    stream.shutdown(std::net::Shutdown::Write)?;
    assert_eq!(stream.read(&mut [0])?, 0, "the end comes back");
    drop(stream);
    let line = daemon.wait_logged(|line| line["dst.addr"] == ledger.at(7000).to_string())?;
    assert_eq!((&line["delivery"], &line["reason"]), (&"tunnel".into(), &Value::Null), "{line}");
    Ok(())
}

#[test]
fn we_take_envoy_s_tunnel_and_know_who_it_is() -> Outcome {
    let (stage, authority) = (Stage::new()?, Authority::new()?);
    let ledger = stage.pod("bank", "ledger", &[port("tcp-echo", 7000)])?;
    let client = stage.node.pod("shop", "client")?;
    foreign(&stage, &client)?;
    authority.issue("bank", "ledger")?;
    let its = authority.issue("shop", "client")?;
    let _echo = Listener::echo(&ledger, ledger.at(7000))?;
    let mut daemon = daemon(&stage, &authority)?;
    let to = ledger.at(7000);
    let _envoy = start(&client, &originating(&its, to), its.as_path())?;
    drop(echoes(&client, LOCAL)?);
    let line = daemon.wait_logged(|line| line["dst.addr"] == to.to_string())?;
    for (field, wanted) in [
        ("direction", "inbound"),
        ("workload", "bank/ledger"),
        ("src.workload", "shop/client"),
        ("delivery", "local"),
    ] {
        assert_eq!(line[field], wanted, "{field} of {line}");
    }
    Ok(())
}

/// Envoy in a pod, once its listener is there.
fn start(pod: &Pod, config: &Value, directory: &Path) -> Result<Process, KitError> {
    let binary = envoy::ensure(&repository().join("target/tools"))?;
    let file = directory.join("envoy.json");
    std::fs::write(&file, config.to_string())
        .map_err(|source| KitError::Start { what: file.display().to_string(), source })?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(file).args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]);
    let mut process = pod.start(command)?;
    process.wait_until("Envoy's listener", Duration::from_secs(20), || dial(pod, LISTENING).is_ok())?;
    Ok(process)
}

fn daemon(stage: &Stage, authority: &Authority) -> Result<Daemon, KitError> {
    stage.daemon_with(&["--ca", "files", "--certificates", &authority.path().display().to_string()])
}

/// What it says comes back, in pieces small and large.
fn echoes(
    from: &Pod,
    to: SocketAddr,
) -> Result<std::net::TcpStream, Box<dyn std::error::Error + Send + Sync>> {
    let mut last = None;
    eventually("an answer", || {
        let answer = dial(from, to).and_then(|mut stream| {
            for length in [1, 1000, 100_000] {
                let (said, mut heard) = (vec![b'x'; length], vec![0; length]);
                stream.write_all(&said)?;
                stream.read_exact(&mut heard)?;
                assert!(said == heard, "{length} bytes came back changed");
            }
            Ok(stream)
        });
        last = answer.ok();
        last.is_some()
    })?;
    last.ok_or_else(|| "nothing answered".into())
}

/// The manifest of a pod that another mesh's proxy answers for.
fn foreign(stage: &Stage, pod: &Pod) -> Result<(), KitError> {
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

fn tls(its: &Path, kind: &str, more: Value) -> Value {
    let file = |name: &str| json!({ "filename": its.join(name) });
    let mut context = json!({
        "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"),
        "common_tls_context": {
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
            "alpn_protocols": ["h2"],
            "tls_certificates": [{ "certificate_chain": file("tls.crt"), "private_key": file("tls.key") }],
            "validation_context": {
                "trusted_ca": file("ca.crt"),
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

/// Accepts CONNECT on port 15008 and connects to the app at its own loopback.
fn terminating(its: &Path) -> Value {
    let route = json!({
        "match": { "connect_matcher": {} },
        "route": { "cluster": "app", "upgrade_configs": [{ "upgrade_type": "CONNECT", "connect_config": {} }] },
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "tunnels", "codec_type": "HTTP2",
        "http2_protocol_options": { "allow_connect": true, "max_concurrent_streams": 100 },
        "upgrade_configs": [{ "upgrade_type": "CONNECT" }],
        "http_filters": [{ "name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
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
        "clusters": [cluster("app", SocketAddr::from(([127, 0, 0, 1], 7000)))],
    } })
}

/// Accepts bytes and carries them to `to` in a tunnel.
fn originating(its: &Path, to: SocketAddr) -> Value {
    let proxy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "bytes", "cluster": "tunnel",
        "tunneling_config": { "hostname": to.to_string() },
    });
    let mut tunnel = cluster("tunnel", SocketAddr::new(to.ip(), 15008));
    tunnel["transport_socket"] = tls(its, "UpstreamTlsContext", json!({}));
    tunnel["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": { "allow_connect": true } },
        },
    });
    json!({ "static_resources": {
        "listeners": [
            {
                "name": "bytes", "address": address(LOCAL),
                "filter_chains": [{ "filters": [{ "name": "tcp", "typed_config": proxy }] }],
            },
            sign_of_life(),
        ],
        "clusters": [tunnel, cluster("app", to)],
    } })
}

/// A port that tells that the others are there, too.
fn sign_of_life() -> Value {
    let proxy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "life", "cluster": "app",
    });
    json!({
        "name": "life", "address": address(LISTENING),
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

const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);
const LISTENING: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9001);
