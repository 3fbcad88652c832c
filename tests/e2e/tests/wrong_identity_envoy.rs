//! Every certificate that proves nothing, shown by a peer that is not ours, at either end of a tunnel: refused before a byte
//! of HTTP, with its own reason. Where it comes from is the same each time.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use e2e::{Envoy, Listener, Shown, Stage, byte, dial, end_of, eventually, foreign, is_reset, local, port};
use serde_json::Value;
use testkit::{
    Daemon, KitError, Outcome, Pod,
    pki::{Authority, Leaf, Valid},
};

/// What is shown, and why it is refused.
struct Row {
    name: &'static str,
    certificate: Option<PathBuf>,
    reason: &'static str,
}

/// An authority, another that nobody here knows, and what they have issued.
struct Certificates {
    ours: Authority,
    _theirs: Authority,
    sound: PathBuf,
    rows: Vec<Row>,
}

impl Certificates {
    /// Certificates for one who would be `namespace/account`, each with a flaw; `usage` is what one of them is made for
    /// alone, which is not what it is shown for.
    fn of((namespace, account): (&str, &str), usage: &str) -> Result<Self, KitError> {
        let (ours, theirs) = (Authority::new()?, Authority::new()?);
        let sound = ours.issue(namespace, account)?;
        let right = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        let foreign = format!("spiffe://other.test/ns/{namespace}/sa/{account}");
        let right = [right.as_str()];
        let leaf = Leaf { uris: &right, ..Leaf::default() };
        let flaws = [
            ("of another trust domain", Leaf { uris: &[foreign.as_str()], ..leaf }, "trust_domain_mismatch"),
            ("expired", Leaf { valid: Valid::Past, ..leaf }, "certificate_expired"),
            ("not valid yet", Leaf { valid: Valid::Future, ..leaf }, "certificate_not_yet_valid"),
            ("revoked", leaf, "certificate_revoked"),
            ("without a name", Leaf { uris: &[], ..leaf }, "identity_mismatch"),
            (
                "of no workload",
                Leaf { uris: &["spiffe://cluster.local/node/7"], ..leaf },
                "identity_mismatch",
            ),
            ("with a name too many", Leaf { uris: &[right[0], OTHER], ..leaf }, "identity_mismatch"),
            ("for another use", Leaf { usages: usage, ..leaf }, "certificate_malformed"),
        ];
        let mut rows = vec![Row {
            name: "of another authority",
            certificate: Some(theirs.issue(namespace, account)?),
            reason: "unknown_authority",
        }];
        for (number, (name, leaf, reason)) in flaws.into_iter().enumerate() {
            let certificate = Some(ours.issue_odd(("flaws", &number.to_string()), &leaf)?);
            rows.push(Row { name, certificate, reason });
            if name == "revoked" {
                ours.revoke(&[("flaws", &number.to_string())])?;
            }
        }
        Ok(Self { ours, _theirs: theirs, sound, rows })
    }

    fn daemon(&self, stage: &Stage) -> Result<Daemon, KitError> {
        let (files, lists) =
            (self.ours.path().display().to_string(), self.ours.lists()?.display().to_string());
        stage.daemon_with(&["--ca", "files", "--certificates", &files, "--crl", &lists])
    }

    fn shown<'a>(&'a self, row: &'a Row) -> Shown<'a> {
        Shown { certificate: row.certificate.as_deref(), trust: &self.sound }
    }
}

#[test]
fn a_client_that_does_not_prove_who_it_is_is_refused_by_the_receiver_with_its_own_reason() -> Outcome {
    let mut certificates = Certificates::of(("shop", "client"), "serverAuth")?;
    certificates.rows.push(Row { name: "none at all", certificate: None, reason: "certificate_missing" });
    certificates.ours.issue("bank", "ledger")?;
    let stage = Stage::new()?;
    let ledger = stage.pod("bank", "ledger", &[port("tcp-echo", 7000)])?;
    let client = stage.node.pod("shop", "client")?;
    foreign(&stage, &client)?;
    let app = App::start(&ledger, ledger.at(7000))?;
    let mut daemon = certificates.daemon(&stage)?;
    let mut ways = vec![(SOUND, Shown::of(&certificates.sound))];
    ways.extend(certificates.rows.iter().zip(SOUND + 1..).map(|(row, port)| (port, certificates.shown(row))));
    let envoy = Envoy::originating(&client, &ways, ledger.at(7000))?;
    for (row, port) in certificates.rows.iter().zip(SOUND + 1..) {
        let before = refused(&daemon, row.reason);
        assert!(is_turned_away(dial(&client, local(port))), "{}: {}", row.name, envoy.output());
        eventually(row.name, || refused(&daemon, row.reason) == before + 1.0)?;
    }
    let of = |line: &Value, reason: &str| {
        let from = line["src.addr"].as_str().unwrap_or_default().starts_with(&format!("{}:", client.v4()));
        let tunnel = line["protocol"] == "hbone" && line["direction"] == "inbound";
        from && tunnel && line["workload"] == "bank/ledger" && line["reason"] == reason
    };
    for row in &certificates.rows {
        let times = certificates.rows.iter().filter(|other| other.reason == row.reason).count();
        eventually(row.name, || {
            daemon.access_log().iter().filter(|line| of(line, row.reason)).count() == times
        })?;
    }
    assert_eq!(app.asked(), 0, "nothing of it reached the app");
    eventually("who proves it is let in, from the same address", || {
        dial(&client, local(SOUND)).is_ok_and(|mut stream| is_answered(&mut stream))
    })?;
    daemon.wait_logged(|line| line["dst.addr"] == ledger.at(7000).to_string() && line["reason"].is_null())?;
    Ok(())
}

#[test]
fn a_server_that_does_not_prove_to_be_who_was_called_is_sent_nothing_and_the_caller_says_why() -> Outcome {
    let mut certificates = Certificates::of(("bank", "ledger"), "clientAuth")?;
    let others = certificates.ours.issue("bank", "other")?;
    let row = Row { name: "another workload's", certificate: Some(others), reason: "identity_mismatch" };
    certificates.rows.push(row);
    certificates.ours.issue("shop", "client")?;
    let stage = Stage::new()?;
    let client = stage.pod("shop", "client", &[])?;
    let ledger = stage.node.pod("bank", "ledger")?;
    foreign(&stage, &ledger)?;
    let app = App::start(&ledger, local(7000))?;
    let mut daemon = certificates.daemon(&stage)?;
    let to = ledger.at(7000);
    let of = |line: &Value, reason: &Value| {
        let called = line["src.workload"] == "shop/client" && line["dst.addr"] == to.to_string();
        called && line["direction"] == "outbound" && line["delivery"] == "tunnel" && line["reason"] == *reason
    };
    for (told, row) in certificates.rows.iter().enumerate() {
        let envoy = Envoy::terminating(&ledger, certificates.shown(row), None)?;
        let before = refused(&daemon, row.reason);
        let end = end_of(&client, to);
        assert!(is_reset(&end), "{}: {end:?}", row.name);
        eventually(row.name, || refused(&daemon, row.reason) == before + 1.0)?;
        eventually(row.name, || daemon.access_log().len() == told + 1)?;
        let line = daemon.access_log().pop().unwrap_or_default();
        assert!(of(&line, &row.reason.into()), "{}: {line}", row.name);
        assert!(envoy.log().is_empty(), "{}: {:?}", row.name, envoy.log());
    }
    assert_eq!(app.asked(), 0, "nothing was said to it");
    let _envoy = Envoy::terminating(&ledger, Shown::of(&certificates.sound), None)?;
    assert!(is_answered(&mut dial(&client, to)?), "who proves it is called, at the same address");
    let told = daemon.wait_logged(|line| of(line, &Value::Null));
    assert!(told.is_ok(), "{:?}", daemon.access_log().last());
    Ok(())
}

/// An app that answers what it is asked, and counts.
struct App {
    _listener: Listener,
    asked: Arc<AtomicUsize>,
}

impl App {
    fn start(pod: &Pod, at: std::net::SocketAddr) -> Result<Self, KitError> {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let listener = Listener::start(pod, at, move |mut stream| {
            count.fetch_add(1, Relaxed);
            let mut said = [0; 4];
            stream.read_exact(&mut said)?;
            stream.write_all(&said)?;
            // Its caller ends first: Envoy breaks off a tunnel whose far end does.
            stream.read_to_end(&mut Vec::new()).map(drop)
        })?;
        Ok(Self { _listener: listener, asked })
    }

    fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

/// Whether what is said is not answered, but ended.
fn is_turned_away(dialled: std::io::Result<TcpStream>) -> bool {
    // The end may come before its client has looked at the new connection.
    let Ok(mut stream) = dialled else { return is_reset(&dialled) };
    let _ = stream.write_all(b"said");
    match byte(&stream) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

fn is_answered(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"said").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"said"
}

fn refused(daemon: &Daemon, reason: &str) -> f64 {
    daemon.metric("canopy_refused_total", &[&format!("reason=\"{reason}\"")]).unwrap_or(f64::NAN)
}

const OTHER: &str = "spiffe://cluster.local/ns/bank/sa/other";
/// The port of Envoy's loopback that shows a good certificate; the others follow.
const SOUND: u16 = 9000;
