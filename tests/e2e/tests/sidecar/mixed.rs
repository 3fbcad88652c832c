//! A mesh of sidecars, nodes and pods without either: each reaches each.

use e2e::{HTTP, Origin};
use testkit::{Outcome, http};

use super::scene::{CAPTURES, Scene, is_carried};

#[test]
fn a_pod_of_the_nodes_daemon_and_one_with_a_sidecar_reach_each_other_in_tunnels() -> Outcome {
    for capture in CAPTURES {
        let scene = Scene::new()?;
        let carried = scene.stage.pod("shop", "carried", &[HTTP])?;
        let alone = scene.pod("shop", "alone", &[HTTP])?;
        let (_one, _other) = (Origin::start(&carried, 80)?, Origin::start(&alone, 80)?);
        let (mut daemon, mut sidecar) = (scene.daemon()?, scene.sidecar(&alone, capture, &[])?);
        for (from, to, name) in [(&carried, &alone, "alone"), (&alone, &carried, "carried")] {
            let answer = http::get(from, to.at(80), "any", "/")?;
            assert_eq!((answer.status.as_u16(), answer.header("x-pod")), (200, name), "{capture}");
        }
        for (who, proxy, other) in
            [("shop/carried", &mut daemon, "shop/alone"), ("shop/alone", &mut sidecar, "shop/carried")]
        {
            let line = proxy.wait_logged(|line| is_carried(line, who, "tunnel"))?;
            let proven = format!("spiffe://cluster.local/ns/shop/sa/{}", other.trim_start_matches("shop/"));
            assert_eq!(
                (&line["dst.workload"], &line["dst.principal"]),
                (&other.into(), &proven.into()),
                "{line}"
            );
        }
        let told = daemon.canopy(&["tree"])?;
        assert!(!String::from_utf8_lossy(&told.stdout).contains("shop/alone"), "{told:?}");
        // What the daemon has kept for further requests ends with it.
        drop(daemon);
        let line = sidecar.wait_logged(|line| is_carried(line, "shop/alone", "local"))?;
        assert_eq!(line["src.principal"], "spiffe://cluster.local/ns/shop/sa/carried", "{line}");
    }
    Ok(())
}

#[test]
fn a_pod_without_a_proxy_and_one_with_a_sidecar_reach_each_other_in_the_clear() -> Outcome {
    for capture in CAPTURES {
        let scene = Scene::new()?;
        let (plain, alone) = (scene.stage.node.pod("away", "plain")?, scene.pod("shop", "alone", &[HTTP])?);
        let (_one, _other) = (Origin::start(&plain, 80)?, Origin::start(&alone, 80)?);
        let mut sidecar = scene.sidecar(&alone, capture, &[])?;
        for (from, to, name) in [
            (&plain, alone.at(80), "alone"),
            (&plain, alone.at_v6(80), "alone"),
            (&alone, plain.at(80), "plain"),
        ] {
            let answer = http::get(from, to, "any", "/")?;
            assert_eq!((answer.status.as_u16(), answer.header("x-pod")), (200, name), "{capture} {to}");
        }
        let line = sidecar.wait_logged(|line| line["direction"] == "inbound")?;
        assert_eq!(
            (&line["src.principal"], &line["delivery"]),
            (&serde_json::Value::Null, &"local".into()),
            "{line}"
        );
        sidecar.wait_logged(|line| {
            is_carried(line, "shop/alone", "passthrough") || is_carried(line, "shop/alone", "network")
        })?;
    }
    Ok(())
}
