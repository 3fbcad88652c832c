//! Between two sidecars: what one app calls is captured, crosses the network within mutual TLS, and is captured at the other.

use std::io::{Read, Write};

use e2e::{HTTP, Listener, Origin, TLS_RECORD, contains, dial, eventually, port};
use serde_json::Value;
use testkit::{Capture, Daemon, Options, Outcome, http};

use super::scene::{CAPTURES, Scene, confined, is_carried};

const MARKER: &str = "a-secret-that-no-wire-may-show";

#[test]
fn plain_http_between_two_sidecars_is_captured_and_crosses_the_network_in_mutual_tls() -> Outcome {
    for capture in CAPTURES {
        let scene = Scene::new()?;
        let (client, web) = (scene.pod("shop", "client", &[])?, scene.pod("bank", "web", &[HTTP])?);
        let vip = scene.stage.service(("bank", "web"), 10, &[HTTP], &[&web])?;
        let origin = Origin::start(&web, 80)?;
        let (mut here, mut there) =
            (scene.sidecar(&client, capture, &[])?, scene.sidecar(&web, capture, &[])?);
        let wire = Capture::frames(&scene.stage.node)?;
        for to in [vip.at(80), vip.at_v6(80), web.at(80)] {
            let answer = http::get(&client, to, MARKER, "/balance")?;
            assert_eq!(answer.status.as_u16(), 200, "{capture} {to}: {}", answer.text());
            let seen = origin.seen().pop().ok_or("the application saw a request")?;
            let caller = if to.is_ipv4() { client.v4().to_string() } else { client.v6().to_string() };
            assert_eq!(seen.peer.ip().to_canonical().to_string(), caller, "{capture}: its true caller");
        }
        let packets = wire.finish()?;
        assert!(packets.iter().any(|packet| contains(packet, &TLS_RECORD)), "{capture}: no TLS was seen");
        assert!(!packets.iter().any(|packet| contains(packet, MARKER.as_bytes())), "{capture}: in the clear");
        let line = here.wait_logged(|line| line["dst.addr"] == vip.at(80).to_string())?;
        assert!(is_carried(&line, "shop/client", "tunnel"), "{capture}: {line}");
        assert_eq!(line["dst.principal"], "spiffe://cluster.local/ns/bank/sa/web", "{line}");
        // What it has kept for further requests ends with it.
        drop(here);
        let line = there.wait_logged(|line| line["src.workload"] == "shop/client")?;
        assert!(is_carried(&line, "bank/web", "local"), "{capture}: {line}");
        assert_eq!(line["src.principal"], "spiffe://cluster.local/ns/shop/sa/client", "{line}");
    }
    Ok(())
}

#[test]
fn opaque_bytes_keep_their_ends_and_many_callers_of_one_pod_share_nothing_but_its_tunnels() -> Outcome {
    for capture in CAPTURES {
        let scene = Scene::new()?;
        let ports = [port("tcp-echo", 7000)];
        let (client, ledger) = (scene.pod("shop", "client", &[])?, scene.pod("bank", "ledger", &ports)?);
        let _echo = Listener::echo(&ledger, ledger.at(7000))?;
        let _sidecars = (scene.sidecar(&client, capture, &[])?, scene.sidecar(&ledger, capture, &[])?);
        let mut streams = Vec::new();
        for number in 0..20 {
            let mut stream = dial(&client, ledger.at(7000))?;
            write!(stream, "caller {number}")?;
            streams.push(stream);
        }
        for (number, mut stream) in streams.into_iter().enumerate() {
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut echoed = String::new();
            stream.read_to_string(&mut echoed)?;
            assert_eq!(echoed, format!("caller {number}"), "{capture}");
        }
    }
    Ok(())
}

#[test]
fn a_sidecar_that_may_not_use_ebpf_captures_by_nftables_with_the_rights_that_the_webhook_gives_it() -> Outcome
{
    let scene = Scene::new()?;
    let (client, web) = (scene.pod("shop", "client", &[])?, scene.pod("bank", "web", &[HTTP])?);
    let _origin = Origin::start(&web, 80)?;
    let folder = tempfile::tempdir()?;
    // node-proxy/src/control/inject/container.rs
    let binary = confined(folder.path(), "--bounding-set=-all,+net_admin --inh-caps=-all --no-new-privs")?;
    let config = scene.stage.manifests.path().display().to_string();
    let options = Options { binary: Some(binary), ..scene.options("auto", &[]) };
    let mut here = Daemon::sidecar(&client, &["--config", &config], &options)?;
    let mut there = Daemon::sidecar(&web, &["--config", &config], &options)?;
    assert!(here.output().contains("nftables"), "{}", here.output());
    for to in [web.at(80), web.at_v6(80)] {
        assert_eq!(http::get(&client, to, "any", "/")?.status.as_u16(), 200, "{to}");
    }
    here.wait_logged(|line| is_carried(line, "shop/client", "tunnel"))?;
    drop(here);
    let line = there.wait_logged(|line| is_carried(line, "bank/web", "local"))?;
    assert_eq!(line["src.principal"], "spiffe://cluster.local/ns/shop/sa/client", "{line}");
    Ok(())
}

#[test]
fn a_sidecar_says_by_what_it_captures_and_answers_the_verbs_of_a_daemon() -> Outcome {
    let scene = Scene::new()?;
    let (client, web) = (scene.pod("shop", "client", &[])?, scene.pod("bank", "web", &[HTTP])?);
    scene.stage.service(("bank", "web"), 10, &[HTTP], &[&web])?;
    let sidecar = scene.sidecar(&client, "auto", &[])?;
    assert!(sidecar.output().contains("capture is by eBPF"), "{}", sidecar.output());
    let told = |arguments: &[&str]| -> Result<String, super::scene::Failure> {
        let told = sidecar.canopy(arguments)?;
        assert!(told.status.success(), "{arguments:?}: {told:?}");
        Ok(String::from_utf8_lossy(&told.stdout).into_owned())
    };
    let tree: Value = serde_json::from_str(&told(&["tree", "--json"])?)?;
    assert_eq!(tree["cells"].as_array().map(Vec::len), Some(1), "{tree}");
    assert!(told(&["tree"])?.contains("shop/client") && !told(&["tree"])?.contains("bank/web"));
    told(&["status"])?;
    let explained = told(&["explain", "--from", "shop/client", "--to", "web.bank:80"])?;
    assert!(explained.contains("tunnel"), "{explained}");
    let by_rules = scene.sidecar(&web, "nftables", &[])?;
    eventually("it says how it captures", || {
        by_rules
            .canopy(&["tree"])
            .is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains("nftables"))
    })?;
    Ok(())
}
