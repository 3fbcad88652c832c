//! How a node meets who tells it: it waits, says what for, and serves nothing before it was told all; it is told by who proves
//! who it is, and by nobody else.

use std::path::Path;

use e2e::eventually;
use testkit::{
    Daemon, Outcome,
    control_plane::{Event, Opened, Step},
    http,
    pki::{Authority, Leaf},
};

use super::{
    said::{ADDRESS, AUTHORIZATION, route, set_route},
    shop::Shop,
};

#[test]
fn a_node_that_was_never_told_all_enrols_nothing_and_says_what_it_waits_for() -> Outcome {
    let mut shop = Shop::told()?;
    shop.plane.stop()?;
    let mut daemon = shop.launch(&[])?;
    let waits = "nothing is served before the control plane has said what there is";
    eventually("the log says it", || daemon.output().contains(waits))?;
    eventually("the status says it", || {
        let status = status(&daemon);
        status.contains("away for") && status.contains("waiting for") && status.contains("Authorization")
    })?;
    assert!(!is_ready(&daemon), "{}", status(&daemon));

    // Who tells of everything but of who may come in has not told all.
    shop.plane.ignore(&[AUTHORIZATION])?;
    shop.plane.mark();
    shop.plane.listen()?;
    shop.plane.answer(ADDRESS, &super::said::uid(&shop.client))?;
    eventually("the status says what is left", || {
        let status = status(&daemon);
        status.contains("connected") && status.contains("waiting for Authorization")
    })?;
    assert!(!is_ready(&daemon) && !shop.answers(), "{}", status(&daemon));
    let answer = http::get(&shop.client, shop.old.at(80), "old", "/")?;
    assert_eq!(answer.text().trim(), "old", "what is not enrolled is as it was");
    assert!(daemon.access_log().is_empty(), "{:?}", daemon.access_log());

    shop.plane.ignore(&[])?;
    shop.plane.drop_streams()?;
    daemon.wait_ready()?;
    eventually("the Service answers", || shop.answers())?;
    Ok(())
}

#[test]
fn a_node_that_is_not_let_in_says_why_and_tries_again() -> Outcome {
    let mut shop = Shop::told()?;
    shop.plane.refuse(16, "who are you?")?;
    let mut daemon = shop.launch(&[])?;
    eventually("the status says why", || status(&daemon).contains("who are you?"))?;
    assert!(!is_ready(&daemon));
    shop.plane.refuse(0, "")?;
    daemon.wait_ready()?;
    eventually("the Service answers", || shop.answers())?;
    let tries = shop.plane.all_events().iter().filter(|event| matches!(event, Event::Opened(_))).count();
    assert_eq!(tries, 1, "streams that are refused are not opened");
    Ok(())
}

#[test]
fn who_tells_is_killed_and_another_takes_its_place_and_has_to_say_only_what_is_new() -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut shop = Shop::told_by(&format!("unix:{}/control.sock", folder.path().display()), &[])?;
    let mesh = shop.mesh();
    shop.plane.change(&mesh)?;
    let daemon = shop.daemon(&[])?;
    eventually("the Service answers", || shop.answers())?;
    let traffic = e2e::Traffic::start(&shop.client, super::shop::at(10), "web.shop")?;
    let changed = [mesh, vec![set_route(&route(&["new"]))]].concat();
    shop.restart(&changed)?;
    eventually("what is new is obeyed", || traffic.next(20).is_ok_and(|tally| tally.of("old") == 0))?;
    let sent: u64 = shop.plane.all_events().iter().map(count).sum();
    assert_eq!((sent, traffic.tally().failures), (1, 0), "{:?}", shop.plane.all_events());
    drop(daemon);
    Ok(())
}

#[test]
fn who_tells_and_who_is_told_prove_who_they_are() -> Outcome {
    let (authority, other) = (Authority::new()?, Authority::new()?);
    let leaf = Leaf { hosts: &["control.test"], usages: "serverAuth", ..Leaf::default() };
    let own = authority.issue_odd(("control", "plane"), &leaf)?;
    let node = authority.issue("canopy-system", "node")?;
    let (root, strange) = (text(&authority.path().join("root.crt")), text(&other.path().join("root.crt")));
    let [certificate, key] = pair(&own);
    let arguments = ["-certificate", &certificate, "-key", &key, "-client-roots", &root];
    let mut shop = Shop::told_by("127.0.0.1:0", &arguments)?;
    let mesh = shop.mesh();
    shop.plane.change(&mesh)?;
    let token = authority.path().join("token");
    std::fs::write(&token, "a-token\n")?;
    let (url, token) = (format!("https://{}", shop.plane.address()), text(&token));
    let [certificate, key] = pair(&node);
    let trusting =
        |root| ["--discovery", &url, "--discovery-root", root, "--discovery-name", "control.test"].to_vec();
    let proving = |root| {
        let proof = ["--discovery-certificate", &certificate, "--discovery-key", &key];
        let said = ["--discovery-token", &token, "--discovery-cluster", "east"];
        [trusting(root), proof.to_vec(), said.to_vec()].concat()
    };
    for (wrong, arguments) in [("trusts another", proving(&strange)), ("shows nothing", trusting(&root))] {
        let daemon = shop.launch(&arguments)?;
        let away = || daemon.output().contains("the control plane is away");
        eventually(wrong, away)?;
        assert!(!is_ready(&daemon), "{wrong}");
        assert_eq!(shop.plane.totals()?.streams, 0, "{wrong}: {}", daemon.output());
    }
    let _daemon = shop.daemon(&proving(&root))?;
    eventually("the Service answers", || shop.answers())?;
    let opened = shop.plane.wait("the stream", |events| events.iter().find_map(opened))?;
    assert_eq!((opened.authorization.as_str(), opened.cluster.as_str()), ("Bearer a-token", "east"));
    let first = shop.plane.wait("who asks", |events| {
        events.iter().find_map(|event| match event {
            Event::Request(request) if request.step == Step::First => Some(request.node.clone()),
            _ => None,
        })
    })?;
    assert!(first.starts_with("ztunnel~") && first.ends_with(".svc.cluster.local"), "{first}");
    Ok(())
}

fn status(daemon: &Daemon) -> String {
    let output = daemon.canopy(&["status"]);
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn is_ready(daemon: &Daemon) -> bool {
    daemon.scrape("/readyz").is_ok_and(|answer| answer.status.is_success())
}

fn opened(event: &Event) -> Option<Opened> {
    if let Event::Opened(opened) = event { Some(opened.clone()) } else { None }
}

fn count(event: &Event) -> u64 {
    if let Event::Response(response) = event { response.count } else { 0 }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn pair(folder: &Path) -> [String; 2] {
    [text(&folder.join("tls.crt")), text(&folder.join("tls.key"))]
}
