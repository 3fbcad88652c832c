//! With the real SPIRE: keys and certificates come from each node's agent, are renewed under traffic, and the authority changes
//! meanwhile; nobody notices.

use std::{collections::BTreeSet, net::Ipv4Addr, thread, time::Duration};

use e2e::{
    HTTP, Mesh, Origin, SpireAgent, SpireServer, Stage, TRUST_DOMAIN, Traffic, certificate_of, eventually,
};
use testkit::{Daemon, Outcome, http};
use tokio::time::Instant;

/// What SPIRE is asked for; it renews at half of it.
const LEAF: Duration = Duration::from_secs(120);
/// SPIRE makes its next authority at half of this and signs with it at 5/6, so it changes during the test.
const AUTHORITY: Duration = Duration::from_secs(180);
/// Two renewals of everything, and a change of authority.
const TRAFFIC: Duration = Duration::from_secs(170);

#[test]
fn certificates_of_two_minutes_are_renewed_under_traffic_between_nodes_and_nothing_fails() -> Outcome {
    let mesh = Mesh::new()?;
    let server = SpireServer::start(mesh.stage.node.netns(), Ipv4Addr::new(10, 77, 0, 1), LEAF, AUTHORITY)?;
    let near = server.agent(mesh.stage.node.netns(), "the first node's agent")?;
    let far = server.agent(mesh.second.netns(), "the second node's agent")?;
    for agent in [&near, &far] {
        server.register(agent, "/canopy", &["unix:uid:0"])?;
    }
    register(&server, &near, ("shop", "client"))?;
    register(&server, &far, ("bank", "ledger"))?;

    let (client, ledger) = (mesh.here("shop", "client", &[])?, mesh.there("bank", "ledger", &[HTTP])?);
    let vip = mesh.stage.service(("bank", "ledger"), 10, &[HTTP], &[&ledger])?;
    let _origin = Origin::start(&ledger, 80)?;
    // The caller's ends first: what it keeps open for later, the receiver would wait for.
    let there = mesh.daemon_there(&arguments(&far.admin_socket().display().to_string()))?;
    let mut here = mesh.daemon_here(&arguments(&near.admin_socket().display().to_string()))?;
    wait_for_certificate(&here, "shop/client")?;
    wait_for_certificate(&there, "bank/ledger")?;

    let traffic = Traffic::start(&client, vip.at(80), "ledger.bank")?;
    let (mut near_serials, mut far_serials) = (BTreeSet::new(), BTreeSet::new());
    let until = Instant::now() + TRAFFIC;
    let mut single = 0_u32;
    while Instant::now() < until {
        // Of its own connection, too: the long one needs no new tunnel.
        let answer = http::get(&client, vip.at(80), "ledger.bank", "/")?;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
        single += 1;
        near_serials.extend(serial(&here, "shop/client"));
        far_serials.extend(serial(&there, "bank/ledger"));
        let tally = traffic.tally();
        assert_eq!(
            tally.failures,
            0,
            "{}; the daemons said: {}{}",
            tally.last_failure,
            here.output(),
            there.output()
        );
        thread::sleep(Duration::from_millis(200));
    }
    let tally = traffic.tally();
    assert_eq!(tally.failures, 0, "{}", tally.last_failure);
    assert!(tally.total() > 2_000 && single > 30, "{tally:?}, {single} on connections of their own");
    assert!(near_serials.len() >= 3 && far_serials.len() >= 3, "renewed: {near_serials:?} {far_serials:?}");
    assert!(here.output().contains("the roots that are trusted have changed roots=2"), "{}", here.output());
    let line = here.wait_logged(|line| line["dst.addr"] == vip.at(80).to_string())?;
    assert_eq!(line["delivery"], "tunnel", "{line}");
    Ok(())
}

#[test]
fn identity_that_spire_does_not_know_yet_is_served_as_soon_as_it_is_registered() -> Outcome {
    let stage = Stage::new()?;
    let server =
        SpireServer::start(stage.node.netns(), Ipv4Addr::LOCALHOST, LEAF, Duration::from_secs(3600))?;
    let agent = server.agent(stage.node.netns(), "the agent")?;
    let _client = stage.pod("shop", "client", &[])?;
    let socket = agent.admin_socket().display().to_string();

    let workload_api = agent.workload_socket().display().to_string();
    let wrong = check(&stage, &workload_api)?;
    assert!(wrong.contains("admin_socket_path"), "{wrong}");
    let missing = check(&stage, "/nowhere/admin.sock")?;
    assert!(missing.contains("there is no socket at /nowhere/admin.sock"), "{missing}");
    let refused = check(&stage, &socket)?;
    assert!(refused.contains("does not take this process for a delegate"), "{refused}");
    assert!(refused.contains("authorized_delegates"), "{refused}");

    let daemon = stage.daemon_with(&arguments(&socket))?;
    eventually("the refusal", || problem(&daemon, "shop/client").contains("authorized_delegates"))?;
    server.register(&agent, "/canopy", &["unix:uid:0"])?;
    // The agent asks the server every five seconds, and the daemon asks the agent with growing pauses.
    wait("no entry", || {
        problem(&daemon, "shop/client").contains("no entry for spiffe://mesh.test/ns/shop/sa/client")
    })?;
    register(&server, &agent, ("shop", "other"))?;
    register(&server, &agent, ("shop", "client"))?;
    wait_for_certificate(&daemon, "shop/client")?;
    let accepted = check(&stage, &socket)?;
    assert!(accepted.contains("accepts this process as a delegate"), "{accepted}");
    assert!(!daemon.output().contains("PRIVATE"), "{}", daemon.output());
    Ok(())
}

fn arguments(socket: &str) -> Vec<&'static str> {
    // Leaked once per daemon of a test.
    vec!["--trust-domain", TRUST_DOMAIN, "--ca", format!("spire:{socket}").leak()]
}

fn register(server: &SpireServer, agent: &SpireAgent, (namespace, account): (&str, &str)) -> Outcome {
    let selectors = [format!("k8s:ns:{namespace}"), format!("k8s:sa:{account}")];
    server.register(
        agent,
        &format!("/ns/{namespace}/sa/{account}"),
        &selectors.each_ref().map(String::as_str),
    )?;
    Ok(())
}

fn check(stage: &Stage, socket: &str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let ca = format!("spire:{socket}");
    let mut command = std::process::Command::new(e2e::built("canopy"));
    command.args(["check", "--trust-domain", TRUST_DOMAIN, "--ca", &ca]);
    let output = stage.node.netns().run(|| command.output())??;
    Ok(String::from_utf8(output.stdout)?)
}

fn serial(daemon: &Daemon, workload: &str) -> Option<String> {
    certificate_of(daemon, workload)["serial"].as_str().map(str::to_owned)
}

fn problem(daemon: &Daemon, workload: &str) -> String {
    certificate_of(daemon, workload)["problem"].as_str().unwrap_or_default().to_owned()
}

fn wait_for_certificate(daemon: &Daemon, workload: &str) -> Outcome {
    let found = wait("a certificate", || serial(daemon, workload).is_some());
    found.map_err(|error| format!("{error}: {}", daemon.output()).into())
}

/// As `eventually`, for what SPIRE's agent does every five seconds at most.
fn wait(what: &str, mut done: impl FnMut() -> bool) -> Outcome {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        if done() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(format!("never: {what}").into())
}
