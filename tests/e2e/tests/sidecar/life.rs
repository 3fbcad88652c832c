//! How a sidecar begins and ends: nothing is served before it is ready, what is under way ends by itself, and one that was killed leaves
//! nothing open.

use std::{
    io::{Read, Write},
    process::Command,
    time::Duration,
};

use e2e::{HTTP, Listener, Origin, built, dial, eventually, port};
use rustix::process::Signal;
use testkit::{Daemon, Options, Outcome, Process, http};

use super::scene::{CAPTURES, Scene, confined, is_carried};

#[test]
fn what_is_under_way_goes_on_after_sigterm_and_the_sidecar_ends_when_it_is_over() -> Outcome {
    for capture in CAPTURES {
        let scene = Scene::new()?;
        let ports = [port("tcp-echo", 7000)];
        let (client, ledger) = (scene.pod("shop", "client", &[])?, scene.pod("bank", "ledger", &ports)?);
        let _echo = Listener::echo(&ledger, ledger.at(7000))?;
        let (mut here, _there) =
            (scene.sidecar(&client, capture, &["--drain", "20"])?, scene.sidecar(&ledger, capture, &[])?);
        let mut stream = dial(&client, ledger.at(7000))?;
        let echo = |stream: &mut std::net::TcpStream| {
            stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0]))
        };
        echo(&mut stream)?;
        here.process().signal(Signal::TERM);
        eventually("it drains", || here.output().contains("draining"))?;
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(50));
            echo(&mut stream).map_err(|error| format!("{capture}: {error}"))?;
        }
        drop(stream);
        let ended = here.process().wait(Duration::from_secs(10)).ok_or("it goes on")?;
        assert!(ended.success(), "{capture}: {ended}");
    }
    Ok(())
}

#[test]
fn a_sidecar_that_is_killed_leaves_its_pod_closed_and_the_next_one_takes_it_up() -> Outcome {
    for capture in CAPTURES {
        let scene = Scene::new()?;
        let (plain, web) = (scene.stage.node.pod("away", "plain")?, scene.pod("bank", "web", &[HTTP])?);
        let (_origin, _outside) = (Origin::start(&web, 80)?, Origin::start(&plain, 80)?);
        let reach = || {
            let asked = |from, to| http::get(from, to, "any", "/").is_ok_and(|answer| answer.status == 200);
            (asked(&plain, web.at(80)), asked(&web, plain.at(80)))
        };
        let config = scene.stage.manifests.path().display().to_string();
        let mut options = scene.options(capture, &[]);
        options.instance = Some(format!("killed-{capture}-{}", std::process::id()));
        let mut first = Daemon::sidecar(&web, &["--config", &config], &options)?;
        assert_eq!(reach(), (true, true), "{capture}");
        first.process().signal(Signal::KILL);
        eventually("it is gone", || first.process().has_ended())?;
        assert_eq!(reach(), (false, false), "{capture}: closed");
        let _second = Daemon::sidecar(&web, &["--config", &config], &options)?;
        assert_eq!(reach(), (true, true), "{capture}");
        drop(first);
    }
    Ok(())
}

#[test]
fn a_sidecar_whose_pod_nobody_knows_is_not_ready_and_opens_nothing_that_was_left_closed() -> Outcome {
    for capture in CAPTURES {
        let scene = Scene::new()?;
        let (plain, web) = (scene.stage.node.pod("away", "plain")?, scene.pod("bank", "web", &[HTTP])?);
        let (_origin, _outside) = (Origin::start(&web, 80)?, Origin::start(&plain, 80)?);
        let asked = |from, to| http::get(from, to, "any", "/").is_ok_and(|answer| answer.status == 200);
        let reach = || (asked(&plain, web.at(80)), asked(&web, plain.at(80)));
        let config = scene.stage.manifests.path().display().to_string();
        let mut options = scene.options(capture, &[]);
        options.instance = Some(format!("unknown-{capture}-{}", std::process::id()));
        let mut first = Daemon::sidecar(&web, &["--config", &config], &options)?;
        first.process().signal(Signal::KILL);
        eventually("it is gone", || first.process().has_ended())?;
        let file = "bank-web-pod.yaml";
        let pod = scene.stage.manifests.read(file)?;
        scene.stage.manifests.remove(file)?;
        let mut second = Daemon::launch_sidecar(&web, &["--config", &config], &options)?;
        eventually("it has read what there is", || second.output().contains("no Pod of this name is known"))?;
        let is_ready = || {
            web.run(|| e2e::is_answered(([127, 0, 0, 1], 15_020).into(), "GET /readyz HTTP/1.1\r\nhost: any"))
        };
        std::thread::sleep(Duration::from_millis(500));
        assert!(!is_ready()?, "{capture}");
        assert_eq!(reach(), (false, false), "{capture}: closed");
        scene.stage.manifests.write(file, &pod)?;
        second.wait_ready()?;
        assert_eq!(reach(), (true, true), "{capture}");
        drop(first);
    }
    Ok(())
}

#[test]
fn a_sidecar_that_follows_a_control_plane_needs_no_manifests_and_is_who_it_is_told_to_be() -> Outcome {
    for capture in CAPTURES {
        let scene = Scene::new()?;
        let (client, web) = (scene.pod("shop", "client", &[])?, scene.pod("bank", "web", &[HTTP])?);
        let vip = scene.stage.service(("bank", "web"), 10, &[HTTP], &[&web])?;
        let _origin = Origin::start(&web, 80)?;
        let folder = tempfile::tempdir()?;
        let socket = format!("unix:{}", folder.path().join("control.sock").display());
        let mut command = Command::new(built("canopy"));
        command.arg("control").arg("--config").arg(scene.stage.manifests.path());
        command.args(["--listen", &socket, "--metrics-addr", "127.0.0.1:15022"]);
        let _control = Process::start(scene.stage.node.netns(), command)?;
        let sidecar = |pod: &testkit::Pod| {
            let addresses = format!("{},{}", pod.v4(), pod.v6());
            let about = ["--pod-ip", &addresses, "--service-account", pod.name(), "--discovery", &socket];
            Daemon::sidecar(pod, &about, &scene.options(capture, &[]))
        };
        let (mut here, mut there) = (sidecar(&client)?, sidecar(&web)?);
        eventually("it answers", || {
            http::get(&client, vip.at(80), "web.bank", "/").is_ok_and(|answer| answer.status == 200)
        })?;
        here.wait_logged(|line| is_carried(line, "shop/client", "tunnel"))?;
        // What it has kept for further requests ends with it.
        drop(here);
        let line = there.wait_logged(|line| is_carried(line, "bank/web", "local"))?;
        assert_eq!(line["src.principal"], "spiffe://cluster.local/ns/shop/sa/client", "{line}");
    }
    Ok(())
}

#[test]
fn a_sidecar_of_a_group_of_its_own_reaches_out_while_its_pod_is_closed_and_nobody_else_does() -> Outcome {
    let scene = Scene::new()?;
    let (plain, web) = (scene.stage.node.pod("away", "plain")?, scene.pod("bank", "web", &[HTTP])?);
    let _outside = Origin::start(&plain, 80)?;
    let folder = tempfile::tempdir()?;
    let grouped = confined(folder.path(), &format!("--regid {GROUP} --clear-groups"))?;
    let config = scene.stage.manifests.path().display().to_string();
    let options = Options { binary: Some(grouped), ..scene.options("nftables", &[]) };
    let mut sidecar = Daemon::sidecar(&web, &["--config", &config], &options)?;
    sidecar.process().signal(Signal::KILL);
    eventually("it is gone", || sidecar.process().has_ended())?;
    let reaches = |group: &str| -> Result<bool, super::scene::Failure> {
        let mut command = Command::new("setpriv");
        let dial = format!("exec 3<>/dev/tcp/{}/80", plain.v4());
        command.args(["--regid", group, "--clear-groups", "bash", "-c", &dial]);
        let mut process = web.start(command)?;
        Ok(process.wait(Duration::from_secs(20)).ok_or("it hangs")?.success())
    };
    assert_eq!((reaches(GROUP)?, reaches("0")?, reaches("1000")?), (true, false, false));
    Ok(())
}

/// As the webhook gives it (node-proxy/src/control/inject/container.rs).
const GROUP: &str = "15021";
