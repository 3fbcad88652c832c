//! With a certificate service as istiod's: each node's daemon asks it for its own pods, in their names, and what it signs
//! carries connections between the nodes.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    path::PathBuf,
    thread,
    time::Duration,
};

use e2e::{HTTP, Listener, Mesh, Origin, Stage, built, certificate_of, dial, port};
use tempfile::TempDir;
use testkit::{
    Daemon, Outcome, http,
    istio::{Istiod, NAME},
    manifests::Port,
};
use tokio::time::Instant;

const ECHO: Port = port("tcp-echo", 7000);
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
const LEDGER: &str = "spiffe://cluster.local/ns/bank/sa/ledger";
/// Of the first node; the second reaches it there, too.
const SERVICE: &str = "10.77.0.1:15012";

/// A daemon's options, and the file with its node's token.
struct Asking {
    options: Vec<String>,
    token: PathBuf,
    _folder: TempDir,
}

impl Asking {
    fn new(istiod: &Istiod, token: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("token");
        fs::write(&file, token)?;
        let options = [
            ("--ca", format!("istio:{SERVICE}")),
            ("--istio-server-name", NAME.to_owned()),
            ("--istio-root", istiod.root().display().to_string()),
            ("--istio-token", file.display().to_string()),
            ("--istio-cluster", "east".to_owned()),
        ];
        let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        Ok(Self { options, token: file, _folder: folder })
    }

    fn options(&self) -> Vec<&str> {
        self.options.iter().map(String::as_str).collect()
    }
}

fn start(stage: &Stage) -> Result<Istiod, testkit::KitError> {
    Istiod::start(stage.node.netns(), SocketAddr::from(([0, 0, 0, 0], 15012)))
}

#[test]
fn certificates_of_the_service_carry_a_mutually_authenticated_connection_between_two_nodes() -> Outcome {
    let mesh = Mesh::new()?;
    let (client, ledger) = (mesh.here("shop", "client", &[])?, mesh.there("bank", "ledger", &[ECHO])?);
    let vip = mesh.stage.service(("bank", "ledger"), 10, &[ECHO], &[&ledger])?;
    let _echo = Listener::echo(&ledger, ledger.at(7000))?;
    let istiod = start(&mesh.stage)?;
    // As istiod: a node's account may ask for who has a pod on that node, and for nobody else.
    istiod.trust("token-of-first", CLIENT);
    istiod.trust("token-of-second", LEDGER);
    let (near, far) = (Asking::new(&istiod, "token-of-first")?, Asking::new(&istiod, "token-of-second\n")?);
    let mut there = mesh.daemon_there(&far.options())?;
    let mut here = mesh.daemon_here(&near.options())?;
    let (ours, theirs) = (issued(&here, "shop/client")?, issued(&there, "bank/ledger")?);

    let mut stream = dial(&client, vip.at(7000))?;
    stream.write_all(b"as myself")?;
    stream.shutdown(Shutdown::Write)?;
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed)?;
    assert_eq!(echoed, "as myself");
    drop(stream);
    let line = here.wait_logged(|line| line["dst.addr"] == vip.at(7000).to_string())?;
    for (field, wanted) in [("delivery", "tunnel"), ("src.principal", CLIENT), ("dst.principal", LEDGER)] {
        assert_eq!(line[field], wanted, "{field} of {line}");
    }
    let line = there.wait_logged(|line| line["dst.addr"] == ledger.at(7000).to_string())?;
    assert_eq!(line["src.principal"], CLIENT, "{line}");

    let asked = istiod.asked();
    for (token, identity, serial) in [("token-of-first", CLIENT, &ours), ("token-of-second", LEDGER, &theirs)]
    {
        let of_node: Vec<_> = asked.iter().filter(|asked| asked.token == token).collect();
        let names: BTreeSet<_> = of_node.iter().map(|asked| asked.identity.as_deref()).collect();
        assert_eq!(names, [Some(identity)].into(), "{token} is for its own pods: {asked:?}");
        assert!(of_node.iter().any(|asked| asked.serial.as_ref() == Some(serial)), "{serial}: {asked:?}");
        assert!(
            of_node.iter().all(|asked| (&*asked.cluster, asked.seconds) == ("east", 86_400)),
            "{asked:?}"
        );
    }
    assert!(asked.iter().all(|asked| asked.token.starts_with("token-of-")), "{asked:?}");
    Ok(())
}

#[test]
fn a_node_that_the_service_does_not_trust_says_so_and_serves_once_its_token_is_another() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _origin = Origin::start(&web, 80)?;
    let istiod = start(&stage)?;
    let asking = Asking::new(&istiod, "token-of-a-stranger")?;
    let mut check = std::process::Command::new(built("canopy"));
    check.arg("check").args(asking.options());
    let check = String::from_utf8(stage.node.netns().run(|| check.output())??.stdout)?;
    assert!(check.contains("speaks TLS with a certificate that"), "{check}");

    let daemon = stage.daemon_with(&asking.options())?;
    let problem =
        || certificate_of(&daemon, "shop/client")["problem"].as_str().unwrap_or_default().to_owned();
    wait("the refusal", || problem().contains("CA_TRUSTED_NODE_ACCOUNTS"))?;
    assert!(daemon.metric("canopy_identity_certificate_failures_total", &[])? > 0.0);
    assert_eq!(daemon.metric("canopy_identity_certificates_total", &[])?, 0.0);
    // Within one tenant of one node nobody needs a certificate.
    assert_eq!(http::get(&client, vip.at(80), "web.shop", "/")?.status.as_u16(), 200);
    istiod.trust("token-of-the-node", CLIENT);
    fs::write(&asking.token, "token-of-the-node")?;
    issued(&daemon, "shop/client")?;
    assert!(!daemon.output().contains("token-of-"), "{}", daemon.output());
    Ok(())
}

/// The number of a workload's certificate, once it has one.
fn issued(daemon: &Daemon, workload: &str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let serial = || certificate_of(daemon, workload)["serial"].as_str().map(str::to_owned);
    wait("a certificate", || serial().is_some()).map_err(|error| format!("{error}: {}", daemon.output()))?;
    Ok(serial().unwrap_or_default().replace(':', ""))
}

/// Looks now and then: the daemon asks with growing pauses.
fn wait(what: &str, mut done: impl FnMut() -> bool) -> Outcome {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        if done() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("never: {what}").into())
}
