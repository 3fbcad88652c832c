//! Tunnels shared with Envoy, in both directions.

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use e2e::{Envoy, Listener, Shown, dial, eventually, foreign, local, port};
use testkit::{Outcome, Pod, pki::Authority};

use super::scene::{CAPTURES, Failure, Scene, is_carried};

#[test]
fn envoy_takes_a_sidecars_tunnel_and_a_sidecar_takes_envoys() -> Outcome {
    for capture in CAPTURES {
        let (scene, authority) = (Scene::new()?, Authority::new()?);
        let ports = [port("tcp-echo", 7000)];
        let (client, ledger) =
            (scene.pod("shop", "client", &ports)?, scene.stage.node.pod("bank", "ledger")?);
        foreign(&scene.stage, &ledger)?;
        authority.issue("shop", "client")?;
        let its = authority.issue("bank", "ledger")?;
        let _apps = (Listener::echo(&ledger, local(7000))?, Listener::echo(&client, client.at(7000))?);
        let certificates = authority.path().display().to_string();
        let mut sidecar =
            scene.sidecar(&client, capture, &["--ca", "files", "--certificates", &certificates])?;
        let takes = Envoy::terminating(&ledger, Shown::of(&its), Some(CLIENT))?;
        echoes(&client, ledger.at(7000))?;
        sidecar.wait_logged(|line| is_carried(line, "shop/client", "tunnel"))?;
        eventually("Envoy's own word", || takes.log().iter().any(|line| line["peer"] == CLIENT))?;
        drop(takes);
        let _makes = Envoy::originating(&ledger, &[(9000, Shown::of(&its))], client.at(7000))?;
        echoes(&ledger, local(9000))?;
        let line = sidecar.wait_logged(|line| is_carried(line, "shop/client", "local"))?;
        assert_eq!(line["src.principal"], "spiffe://cluster.local/ns/bank/sa/ledger", "{capture}: {line}");
    }
    Ok(())
}

/// What it says comes back.
fn echoes(from: &Pod, to: SocketAddr) -> Result<(), Failure> {
    eventually("an answer", || {
        let answer = dial(from, to).and_then(|mut stream| {
            let (said, mut heard) = (vec![b'x'; 100_000], vec![0; 100_000]);
            stream.write_all(&said)?;
            stream.read_exact(&mut heard)?;
            Ok(said == heard)
        });
        answer.is_ok_and(|same| same)
    })?;
    Ok(())
}

const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
