//! What is trusted changes while tunnels stand between two nodes: what rests on it ends, in and out; nothing else does.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use e2e::{HTTP, Listener, Mesh, Origin, Traffic, built, byte, dial, end_of, eventually, is_reset, port};
use serde_json::Value;
use testkit::{Daemon, Outcome, pki::Authority};

#[test]
fn a_certificate_on_a_revocation_list_ends_its_tunnels_in_and_out_and_makes_no_new_ones() -> Outcome {
    let mesh = Mesh::new()?;
    let ports = [port("tcp-echo", 7000)];
    let (client, other) = (mesh.here("shop", "client", &[])?, mesh.here("shop", "other", &[])?);
    let ledger = mesh.there("bank", "ledger", &ports)?;
    let at = ledger.at(7000);
    let _echo = Listener::echo(&ledger, at)?;
    let authority = Authority::new()?;
    for (namespace, account) in [("shop", "client"), ("shop", "other"), ("bank", "ledger")] {
        authority.issue(namespace, account)?;
    }
    let (files, lists) = (authority.path().display().to_string(), authority.lists()?.display().to_string());
    let arguments = ["--ca", "files", "--certificates", &files, "--crl", &lists];
    let (mut here, mut there) = (mesh.daemon_here(&arguments)?, mesh.daemon_there(&arguments)?);
    let (mut streams, mut others) = ([dial(&client, at)?, dial(&client, at)?], dial(&other, at)?);
    for stream in streams.iter_mut().chain([&mut others]) {
        echoes(stream)?;
    }

    authority.revoke(&[("shop", "client")])?;
    for stream in &mut streams {
        let end = byte(stream);
        assert!(is_reset(&end), "{end:?}");
    }
    let of = |line: &Value, caller: &str, reason: &str| {
        line["src.workload"] == caller && line["dst.addr"] == at.to_string() && line["reason"] == reason
    };
    let times = |daemon: &Daemon, caller: &str, reason: &str| {
        daemon.access_log().iter().filter(|line| of(line, caller, reason)).count()
    };
    eventually("the receiver says why", || times(&there, "shop/client", "certificate_revoked") == 2)?;
    eventually("the caller was told", || times(&here, "shop/client", "peer_denied") == 2)?;
    assert!(is_reset(&end_of(&client, at)));
    let refused = here.wait_logged(|line| of(line, "shop/client", "certificate_refused"));
    assert!(refused.is_ok(), "{:?}", here.access_log());
    echoes(&mut others)?;
    echoes(&mut dial(&other, at)?)?;

    authority.revoke(&[("shop", "client"), ("bank", "ledger")])?;
    let end = byte(&others);
    assert!(is_reset(&end), "{end:?}");
    here.wait_logged(|line| of(line, "shop/other", "certificate_revoked"))?;
    assert!(is_reset(&end_of(&other, at)));
    eventually("no tunnel is left", || {
        [&here, &there]
            .iter()
            .all(|daemon| daemon.metric("canopy_hbone_tunnels_open", &[]).is_ok_and(|open| open == 0.0))
    })?;
    there.wait_logged(|line| line["protocol"] == "hbone" && line["reason"] == "certificate_revoked")?;
    Ok(())
}

#[test]
fn a_change_of_root_under_traffic_fails_no_request_and_cuts_what_is_left_on_the_old_one() -> Outcome {
    let mesh = Mesh::new()?;
    let ports = [HTTP, port("tcp-echo", 7000)];
    let (client, web) = (mesh.here("shop", "client", &[])?, mesh.there("shop", "web", &ports)?);
    let vip = mesh.stage.service(("shop", "web"), 10, &ports, &[&web])?;
    let (_origin, _echo) = (Origin::start(&web, 80)?, Listener::echo(&web, web.at(7000))?);
    let (here, there) = mesh.daemons()?;
    let mut old = dial(&client, web.at(7000))?;
    echoes(&mut old)?;
    let traffic = Traffic::start(&client, vip.at(80), "web.shop")?;
    traffic.next(50)?;
    let step = |step: &str| -> Outcome {
        let done =
            Command::new(built("canopy")).args(["root", step, "--ca-dir"]).arg(mesh.authority()).output()?;
        assert!(done.status.success(), "{step}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    };
    let issued =
        |daemon: &Daemon| daemon.metric("canopy_identity_certificates_total", &[]).unwrap_or_default();
    step("prepare")?;
    let knows = |daemon: &Daemon| daemon.output().contains("the roots that are trusted have changed roots=2");
    eventually("both trust the next root, too", || knows(&here) && knows(&there))?;
    // It is said just before the cells are told.
    std::thread::sleep(Duration::from_secs(1));
    let before = [issued(&here), issued(&there)];
    step("switch")?;
    eventually("both have certificates of the new root", || {
        issued(&here) > before[0] && issued(&there) > before[1]
    })?;
    traffic.next(100)?;
    let mut new = dial(&client, web.at(7000))?;
    for stream in [&mut old, &mut new] {
        echoes(stream)?;
    }
    step("finish")?;
    let end = byte(&old);
    assert!(is_reset(&end), "{end:?}");
    echoes(&mut new)?;
    traffic.next(50)?;
    let tally = traffic.tally();
    assert_eq!(tally.failures, 0, "{}", tally.last_failure);
    let unknown =
        |daemon: &Daemon| daemon.access_log().iter().any(|line| line["reason"] == "unknown_authority");
    eventually("one of the ends says why", || unknown(&here) || unknown(&there))?;
    Ok(())
}

fn echoes(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"said")?;
    stream.read_exact(&mut [0; 4])
}
