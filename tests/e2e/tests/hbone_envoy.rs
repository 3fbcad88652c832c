//! Tunnels shared with Envoy, in both directions: it accepts ours, and we accept its own; each lets in who the other proves
//! to be, from whatever address.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    process::Command,
};

use e2e::{
    Envoy, Listener, Shown, Stage, built, byte, dial, end_of, eventually, foreign, is_reset, local, port,
};
use serde_json::{Value, json};
use testkit::{Daemon, KitError, Outcome, Pod, pki::Authority};

#[test]
fn envoy_takes_our_tunnel_as_the_workload_that_makes_it_and_reaches_its_app() -> Outcome {
    let (stage, authority) = (Stage::new()?, Authority::new()?);
    let (client, other) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "other", &[])?);
    let ledger = stage.node.pod("bank", "ledger")?;
    foreign(&stage, &ledger)?;
    for account in ["client", "other"] {
        authority.issue("shop", account)?;
    }
    let its = authority.issue("bank", "ledger")?;
    let _echo = Listener::echo(&ledger, local(7000))?;
    let envoy = Envoy::terminating(&ledger, Shown::of(&its), Some(CLIENT))?;
    let vip = stage.service(("bank", "ledger"), 10, &[port("tcp-echo", 7000)], &[&ledger])?;
    let site = ["--istio-cluster", "east", "--cluster-domain", "mesh.example"];
    let mut daemon = daemon_with(&stage, &authority, &site)?;
    let to = ledger.at(7000);
    let stream = echoes(&client, to)?;
    let from = stream.local_addr()?;
    stream.shutdown(Shutdown::Write)?;
    assert_eq!(byte(&stream)?, 0, "the end comes back");
    drop(stream);
    let line = daemon.wait_logged(|line| line["dst.addr"] == to.to_string())?;
    assert_eq!((&line["delivery"], &line["reason"]), (&"tunnel".into(), &Value::Null), "{line}");
    let trace = line["trace_id"].clone();
    let by_service = echoes(&client, vip.at(7000))?;
    let from_service = by_service.local_addr()?;
    drop(by_service);

    // By who it is, and not by the node or the authority that it has in common with the first.
    let end = end_of(&other, to);
    assert!(is_reset(&end), "{end:?}");
    let line = daemon.wait_logged(|line| line["src.workload"] == "shop/other")?;
    assert_eq!((&line["delivery"], &line["reason"]), (&"tunnel".into(), &"peer_denied".into()), "{line}");
    wait_refused(&daemon, "peer_denied", 1.0)?;

    eventually("Envoy's own word", || envoy.log().len() >= 3)?;
    let log = envoy.log();
    let of =
        |field: &str, value: &str| log.iter().find(|line| line[field] == value).cloned().unwrap_or_default();
    let let_in = of("forwarded", &format!("for=\"{from}\""));
    let turned_away = of("peer", "spiffe://cluster.local/ns/shop/sa/other");
    assert_eq!((&let_in["status"], &turned_away["status"]), (&json!(200), &json!(403)), "{log:?}");
    assert_eq!((&let_in["method"], &let_in["path"]), (&"CONNECT".into(), &Value::Null), "{let_in}");
    assert_eq!(let_in["authority"], to.to_string(), "{let_in}");
    assert_eq!(let_in["peer"], CLIENT, "{let_in}");
    let baggage = "k8s.cluster.name=east,k8s.namespace.name=shop,k8s.pod.name=client";
    assert_eq!(let_in["baggage"], baggage, "{let_in}");
    let host = "ledger.bank.svc.mesh.example";
    let named = of("forwarded", &format!("for=\"{from_service}\";host={host}"));
    assert_eq!((&named["peer"], &named["authority"]), (&CLIENT.into(), &to.to_string().into()), "{log:#?}");
    let traces = [&let_in, &turned_away].map(|line| line["traceparent"].as_str().unwrap_or_default());
    for trace in traces {
        assert!(trace.len() == 55 && trace.starts_with("00-") && trace.ends_with("-00"), "{trace:?}");
    }
    assert_ne!(traces[0], traces[1], "each connection has a trace of its own");
    assert_eq!(traces[0].get(3..35), trace.as_str(), "it is the one that is logged");
    Ok(())
}

#[test]
fn we_take_envoy_s_tunnel_and_know_who_it_is() -> Outcome {
    let (stage, authority) = (Stage::new()?, Authority::new()?);
    let ledger = stage.pod("bank", "ledger", &[port("tcp-echo", 7000)])?;
    // The first is known as who it says it is, the second to nobody.
    let (client, elsewhere) = (stage.node.pod("shop", "client")?, stage.node.pod("away", "elsewhere")?);
    foreign(&stage, &client)?;
    authority.issue("bank", "ledger")?;
    let (its, others) = (authority.issue("shop", "client")?, authority.issue("shop", "other")?);
    let _echo = Listener::echo(&ledger, ledger.at(7000))?;
    stage.manifests.write("client-only.yaml", CLIENT_ONLY)?;
    stage.service(("bank", "ledger"), 10, &[port("tcp-echo", 7000)], &[&ledger])?;
    let mut daemon = daemon_with(&stage, &authority, &[])?;
    let to = ledger.at(7000);
    let ways = [(9000, Shown::of(&its)), (9001, Shown::of(&others))];
    let _envoys = [Envoy::originating(&client, &ways, to)?, Envoy::originating(&elsewhere, &ways, to)?];
    drop(echoes(&client, local(9000))?);
    let line = daemon.wait_logged(|line| line["dst.addr"] == to.to_string())?;
    for (field, wanted) in [
        ("direction", "inbound"),
        ("workload", "bank/ledger"),
        ("src.workload", "shop/client"),
        ("dst.service", "bank/ledger"),
        ("delivery", "local"),
    ] {
        assert_eq!(line[field], wanted, "{field} of {line}");
    }
    says_what_envoy_said(&line);
    // Its certificate opens the same from any address, and its address opens nothing to another certificate.
    drop(echoes(&elsewhere, local(9000))?);
    for (number, pod) in [&client, &elsewhere].into_iter().enumerate() {
        assert!(is_ended(dial(pod, local(9001))), "{} spoke as another", pod.name());
        let of = |line: &Value| {
            let from = line["src.addr"].as_str().unwrap_or_default().starts_with(&format!("{}:", pod.v4()));
            from && line["dst.addr"] == to.to_string() && line["reason"] == "no_policy_allows"
        };
        let line = daemon.wait_logged(of)?;
        assert_eq!(line["direction"], "inbound", "{line}");
        // It claims to be whom the policy lets in, and is who its certificate says.
        assert_eq!(line["src.principal"], "spiffe://cluster.local/ns/shop/sa/other", "{line}");
        says_what_envoy_said(&line);
        wait_refused(&daemon, "no_policy_allows", (number + 1) as f64)?;
    }
    Ok(())
}

#[test]
fn we_take_the_tunnel_of_a_gateway_outside_the_mesh_by_its_certificate_of_the_embedded_authority() -> Outcome
{
    let stage = Stage::new()?;
    let ledger = stage.pod("bank", "ledger", &[port("tcp-echo", 7000)])?;
    // No manifest speaks of it, nor of its namespace.
    let gateway = stage.node.pod("ingress", "gateway")?;
    let _echo = Listener::echo(&ledger, ledger.at(7000))?;
    stage.manifests.write("gateway-only.yaml", GATEWAY_ONLY)?;
    // By default its authority is the embedded one.
    let mut daemon = stage.daemon()?;
    let files = tempfile::tempdir()?;
    let [its, others] = ["gateway", "other"].map(|account| files.path().join(account));
    certificate(&daemon, "gateway", &its)?;
    certificate(&daemon, "other", &others)?;
    let to = ledger.at(7000);
    let ways = [(9000, Shown::of(&its)), (9001, Shown::of(&others))];
    let _envoy = Envoy::originating(&gateway, &ways, to)?;
    drop(echoes(&gateway, local(9000))?);
    let line = daemon.wait_logged(|line| line["dst.addr"] == to.to_string())?;
    for (field, wanted) in [
        ("direction", "inbound"),
        ("workload", "bank/ledger"),
        ("src.principal", GATEWAY),
        ("delivery", "local"),
    ] {
        assert_eq!(line[field], wanted, "{field} of {line}");
    }
    assert_eq!(line["reason"], Value::Null, "{line}");

    assert!(is_ended(dial(&gateway, local(9001))), "another certificate of the authority opens nothing");
    let line = daemon.wait_logged(|line| line["reason"] == "no_policy_allows")?;
    assert_eq!(line["src.principal"], "spiffe://cluster.local/ns/ingress/sa/other", "{line}");
    assert!(is_ended(dial(&gateway, to)), "nor does its address without any");
    let line = daemon.wait_logged(|line| line["reason"] == "plaintext_refused")?;
    assert_eq!(line["src.principal"], Value::Null, "{line}");
    Ok(())
}

/// What docs/security.md tells who runs a gateway to do.
fn certificate(
    daemon: &Daemon,
    account: &str,
    to: &Path,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let identity = format!("spiffe://cluster.local/ns/ingress/sa/{account}");
    let mut command = Command::new(built("canopy"));
    command.args(["certificate", "--identity", &identity]);
    let written = command.arg("--ca-dir").arg(daemon.ca_dir()).arg("--out").arg(to).output()?;
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    Ok(())
}

const GATEWAY: &str = "spiffe://cluster.local/ns/ingress/sa/gateway";
/// It alone may call, and nobody in the clear.
const GATEWAY_ONLY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
    metadata: {namespace: bank, name: gateway-only}\n\
    spec: {rules: [{from: [{source: {principals: [cluster.local/ns/ingress/sa/gateway]}}]}]}\n---\n\
    apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
    metadata: {namespace: bank, name: strict}\nspec: {mtls: {mode: STRICT}}\n";

/// Who may call.
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
const CLIENT_ONLY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
    metadata: {namespace: bank, name: client-only}\n\
    spec: {rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}]}]}\n";

fn daemon_with(stage: &Stage, authority: &Authority, more: &[&str]) -> Result<Daemon, KitError> {
    let certificates = authority.path().display().to_string();
    stage.daemon_with(&[&["--ca", "files", "--certificates", &certificates], more].concat())
}

/// A line of a connection in its tunnel has its claims, as claims, and its trace.
fn says_what_envoy_said(line: &Value) {
    for (field, wanted) in [
        ("src.claimed.cluster", "west"),
        ("src.claimed.namespace", "shop"),
        ("src.claimed.workload", "client"),
        ("src.claimed.service", "client"),
        ("src.claimed.version", "v7"),
        ("src.claimed.region", "r1"),
        ("src.claimed.zone", "r1-z2"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
    ] {
        assert_eq!(line[field], wanted, "{field} of {line}");
    }
}

fn wait_refused(daemon: &Daemon, reason: &str, times: f64) -> Result<(), KitError> {
    daemon.wait_metric("canopy_refused_total", &[&format!("reason=\"{reason}\"")], times)
}

/// What it says comes back, in pieces small and large.
fn echoes(from: &Pod, to: SocketAddr) -> Result<TcpStream, Box<dyn std::error::Error + Send + Sync>> {
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

/// Whether the other end ends it, in whichever way, without an answer.
fn is_ended(dialled: std::io::Result<TcpStream>) -> bool {
    // The end may come before its client has looked at the new connection.
    let Ok(mut stream) = dialled else { return is_reset(&dialled) };
    let _ = stream.write_all(b"said");
    match byte(&stream) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}
