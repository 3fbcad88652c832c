//! The configuration lives: edits take effect while traffic runs, a broken one harms nothing, pods and their
//! namespaces come and go, and what is not concerned does not notice.

use std::io::{Read, Write};

use e2e::{HTTP, Listener, Stage, Traffic, dial, eventually, port};
use testkit::{Addresses, Daemon, Outcome, Server, http};

const RAW: testkit::manifests::Port = port("tcp-raw", 7000);

#[test]
fn a_broken_edit_is_rejected_with_its_place_while_the_last_good_version_stays() -> Outcome {
    let stage = Stage::new()?;
    let client = stage.pod("shop", "client", &[])?;
    let (old, new) = (stage.pod("shop", "old", &[HTTP])?, stage.pod("shop", "new", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&old, &new])?;
    stage.service(("shop", "old"), 11, &[HTTP], &[&old])?;
    let _servers = (Server::nginx(&old, 80)?, Server::nginx(&new, 80)?);
    let good = "  - backendRefs:\n    - {name: old, port: 80, weight: 7}";
    stage.route("web", good)?;
    let daemon = stage.daemon()?;
    let traffic = Traffic::start(&client, vip.at(80), "web.shop")?;
    traffic.next(20)?;
    assert!(daemon.canopy(&["status"])?.status.success());

    stage.route("web", &good.replace("weight: 7", "weight: seven"))?;
    let line = stage.manifests.read("web.yaml")?.lines().position(|line| line.contains("seven"));
    let place = format!("web.yaml:{}:", line.ok_or("the edit was made")? + 1);
    eventually("the daemon names the place", || daemon.output().contains(&place))?;
    // The log says it before the status does.
    eventually("the status has it", || {
        daemon.canopy(&["status"]).is_ok_and(|status| status.status.code() == Some(1))
    })?;
    let status = daemon.canopy(&["status"])?;
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.status.code(), Some(1), "{said}");
    assert!(said.contains("rejected") && said.contains(&place) && said.contains("HTTPRoute"), "{said}");
    assert!(said.contains("backendRefs[0].weight"), "the field is named: {said}");
    daemon.wait_metric("canopy_configuration_rejected_objects", &[], 1.0)?;
    let meanwhile = traffic.next(50)?;
    assert_eq!((meanwhile.of("new"), meanwhile.failures), (0, 0), "{meanwhile:?}");

    // The rest of the directory goes on taking effect.
    stage.service(("shop", "other"), 12, &[HTTP], &[&new])?;
    eventually("another object's edit takes effect", || {
        http::get(&client, std::net::SocketAddr::from(([10, 96, 0, 12], 80)), "other", "/")
            .is_ok_and(|answer| answer.text() == "new")
    })?;
    stage.route("web", good)?;
    eventually("the mended object is accepted", || {
        daemon.canopy(&["status"]).is_ok_and(|output| output.status.success())
    })?;
    assert_eq!(traffic.next(20)?.failures, 0);
    Ok(())
}

#[test]
fn a_file_that_is_no_yaml_keeps_all_its_objects_as_they_were() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _nginx = Server::nginx(&web, 80)?;
    let daemon = stage.daemon()?;
    let traffic = Traffic::start(&client, vip.at(80), "web.shop")?;
    traffic.next(10)?;
    let good = stage.manifests.read("shop-web-service.yaml")?;
    stage.manifests.write("shop-web-service.yaml", &good.replacen("spec:", "spec: [", 1))?;
    eventually("the daemon names the file", || daemon.output().contains("shop-web-service.yaml:"))?;
    stage.manifests.write("shop-web-pod.yaml", "\u{0}\u{1}: {{{")?;
    eventually("the daemon names the other file", || daemon.output().contains("shop-web-pod.yaml:"))?;
    let meanwhile = traffic.next(50)?;
    assert_eq!(meanwhile.failures, 0, "{meanwhile:?}");
    Ok(())
}

#[test]
fn a_pod_comes_and_goes_without_touching_the_live_connections_of_others() -> Outcome {
    let stage = Stage::new()?;
    let client = stage.pod("shop", "client", &[])?;
    let (web, raw) = (stage.pod("shop", "web", &[HTTP])?, stage.pod("bank", "raw", &[RAW])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let raw_vip = stage.service(("bank", "raw"), 11, &[RAW], &[&raw])?;
    let _nginx = Server::nginx(&web, 80)?;
    let _echo = Listener::echo(&raw, raw.at(7000))?;
    let daemon = stage.daemon()?;
    let mut live = dial(&client, raw_vip.at(7000))?;
    let mut still_lives = || {
        live.write_all(b"still?")?;
        live.read_exact(&mut [0; 6])
    };
    still_lives()?;
    let traffic = Traffic::start(&client, vip.at(80), "web.shop")?;
    traffic.next(10)?;
    for round in 0..3 {
        // The same name and addresses each time, as a StatefulSet's pod has them.
        let guest = stage.node.pod_at("shop", "guest", Addresses::of_host(99))?;
        let nginx = Server::nginx(&guest, 80)?;
        stage.manifests.pod(&guest, &[HTTP])?;
        stage.service(("shop", "web"), 10, &[HTTP], &[&web, &guest])?;
        eventually("the pod gets requests", || traffic.tally().of("guest") > 10 * round)?;
        eventually("the pod has a tree", || enrolled(&daemon) == Some(4.0))?;
        assert_eq!(http::get(&guest, vip.at(80), "web.shop", "/")?.status, 200, "it is captured, too");
        still_lives()?;
        stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
        stage.put(&daemon, "shop-guest-pod.yaml", "")?;
        eventually("the pod has no tree", || enrolled(&daemon) == Some(3.0))?;
        // What was under way when the cell took that up may still be answered.
        traffic.next(1)?;
        let since = traffic.tally().of("guest");
        traffic.next(20)?;
        assert_eq!(traffic.tally().of("guest"), since, "nothing goes to a pod that is gone");
        drop((nginx, guest));
        still_lives()?;
    }
    let all = traffic.tally();
    assert_eq!(all.failures, 0, "{all:?}");
    Ok(())
}

#[test]
fn a_namespace_that_is_missing_is_reported_and_planted_when_it_appears() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _nginx = Server::nginx(&web, 80)?;
    let late = stage.node.pod_at("shop", "late", Addresses::of_host(99))?;
    stage.manifests.pod(&late, &[])?;
    let path = late.netns_path().display().to_string();
    drop(late);
    let daemon = stage.daemon()?;
    assert_eq!(http::get(&client, vip.at(80), "web.shop", "/")?.status, 200, "nobody waits for the missing");
    eventually("the daemon names the pod and the file", || {
        let output = daemon.output();
        output.lines().any(|line| line.contains("shop/late") && line.contains(&path))
    })?;
    eventually("it is counted", || {
        daemon.metric("canopy_forest_workloads_failed", &[]).is_ok_and(|failed| failed == 1.0)
    })?;
    eventually("the tree shows it", || {
        let told = daemon.canopy(&["tree"]).map(|told| String::from_utf8_lossy(&told.stdout).into_owned());
        told.is_ok_and(|tree| tree.contains("late") && tree.contains(&path))
    })?;
    let late = stage.node.pod_at("shop", "late", Addresses::of_host(99))?;
    eventually("it is planted", || enrolled(&daemon) == Some(3.0))?;
    assert_eq!(http::get(&late, vip.at(80), "web.shop", "/")?.text(), "web");
    daemon.wait_metric("canopy_forest_workloads_failed", &[], 0.0)?;
    Ok(())
}

#[test]
fn a_namespace_that_dies_under_load_takes_only_its_own_pod_along() -> Outcome {
    let stage = Stage::new()?;
    let client = stage.pod("shop", "client", &[])?;
    let (web, other) = (stage.pod("shop", "web", &[HTTP])?, stage.pod("bank", "other", &[])?);
    let victim = stage.pod("shop", "victim", &[HTTP])?;
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let doomed = stage.service(("shop", "victim"), 11, &[HTTP], &[&victim])?;
    let _nginx = Server::nginx(&web, 80)?;
    let dying = Server::nginx(&victim, 80)?;
    let daemon = stage.daemon()?;
    let (near, far) =
        (Traffic::start(&client, vip.at(80), "web")?, Traffic::start(&other, vip.at(80), "web")?);
    let to_victim = Traffic::start(&client, doomed.at(80), "victim")?;
    let from_victim = Traffic::start(&victim, vip.at(80), "web")?;
    for traffic in [&near, &far, &to_victim, &from_victim] {
        traffic.next(20)?;
    }
    let address = Addresses { v4: victim.v4(), v6: victim.v6() };
    drop((from_victim, dying, victim));
    eventually("the daemon notices", || enrolled(&daemon) == Some(3.0))?;
    eventually("it says so", || {
        let output = daemon.output();
        output.contains("no longer enrolled") && output.contains("else remove the Pod's manifest")
    })?;
    eventually("who asks for it is refused", || to_victim.tally().failures > 0)?;
    for traffic in [&near, &far] {
        let meanwhile = traffic.next(50)?;
        assert_eq!(meanwhile.failures, 0, "{meanwhile:?}");
    }
    let again = stage.node.pod_at("shop", "victim", address)?;
    let _nginx = Server::nginx(&again, 80)?;
    eventually("the pod is back", || enrolled(&daemon) == Some(4.0))?;
    let answered = to_victim.tally().total();
    eventually("and is asked again", || to_victim.tally().total() > answered)?;
    assert!(!daemon.output().contains("panicked"));
    Ok(())
}

fn enrolled(daemon: &Daemon) -> Option<f64> {
    daemon.metric("canopy_forest_workloads", &[]).ok()
}
