//! Steps 8 and 9: a second node. What a capture on the wire between the two sees of a call, and a caller that is not allowed.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use testkit::{Capture, Daemon, Options, Segment, http};

use crate::{
    Arguments,
    cast::ARCHIVE,
    error::{DemoError, claim},
    evidence,
    story::Stage,
};

impl Stage<'_> {
    /// The same configuration, another node, the same authority.
    pub(super) fn second_daemon(&self, arguments: &Arguments) -> Result<Daemon, DemoError> {
        self.screen
            .heading("8. A second node, and the wire between the two: mutual TLS, seen by a packet capture");
        let authority = self.daemon.ca_dir().display().to_string();
        let options = Options {
            redirect: arguments.redirect.clone(),
            instance: Some("demo-node-b".into()),
            arguments: ["--node", "node-b", "--ca-dir", &authority, "--drain", "1"]
                .map(str::to_owned)
                .to_vec(),
            ..Options::default()
        };
        let far = Daemon::start_with(&self.cast.other_node, self.manifests.path(), &options)?;
        let address = self.cast.archive.v4();
        self.screen.fact("bank/archive", &format!("{address}, nginx, on node-b with a daemon of its own"));
        Ok(far)
    }

    pub(super) fn tunnel_on_the_wire(&self) -> Result<(), DemoError> {
        let capture = Capture::start(&self.cast.node)?;
        let answer = http::get(&self.cast.ledger, ARCHIVE, "archive.bank", SECRET)?;
        let seen = capture.finish()?;
        claim(answer.status == 200, "the ledger is answered by the archive", || {
            format!("{}: {}\n{}", answer.status, answer.text(), self.daemon.output())
        })?;
        let caller = format!("peer={} ", self.cast.ledger.v4());
        claim(answer.text().contains(&caller), "the archive sees its caller's own address", || {
            answer.text()
        })?;
        self.screen.held(&format!(
            "bank/ledger → http://archive.bank{SECRET}: 200, and the archive saw {}",
            caller.trim()
        ));
        self.picture(&seen);
        let far = IpAddr::from(self.cast.archive.v4());
        let elsewhere = seen.iter().filter(|segment| segment.port_of(far) != Some(TUNNELS)).count();
        claim(!seen.is_empty() && elsewhere == 0, "all of it went to port 15008", || format!("{seen:?}"))?;
        let words = [SECRET.as_bytes(), b"HTTP/1.1", b"archive.bank"];
        let readable = seen.iter().any(|segment| words.iter().any(|word| holds(&segment.payload, word)));
        claim(!readable, "nothing of the call can be read on the wire", || format!("{seen:?}"))?;
        let hello = seen.iter().any(|segment| segment.payload.starts_with(&[22, 3, 1]));
        claim(hello, "a TLS handshake was seen", || format!("{seen:?}"))?;
        self.screen.held("TLS records alone: neither the path nor the host nor `HTTP/1.1` is in any packet");
        Ok(())
    }

    /// Packets each way by port, and how their payloads begin.
    fn picture(&self, seen: &[Segment]) {
        let mut ways: BTreeMap<String, Vec<&Segment>> = BTreeMap::new();
        for segment in seen {
            let way = format!("{} → {}", end(segment.source), end(segment.destination));
            ways.entry(way).or_default().push(segment);
        }
        for (way, segments) in ways {
            let bytes: usize = segments.iter().map(|segment| segment.payload.len()).sum();
            let cells = "▪".repeat(segments.len().min(40));
            self.screen.quote(&format!("{way}  {cells} {} packets, {bytes} bytes", segments.len()));
            for segment in segments.iter().filter(|segment| !segment.payload.is_empty()).take(2) {
                self.screen.quote(&format!("    {}  {}", hex(&segment.payload), kind(&segment.payload)));
            }
        }
    }

    pub(super) fn denied_caller(&self, far: &Daemon) -> Result<(), DemoError> {
        self.screen.heading(
            "9. A caller that may not: an AuthorizationPolicy lets bank/ledger alone call bank/archive",
        );
        let answer = http::get(&self.cast.frontend, ARCHIVE, "archive.bank", SECRET)?;
        claim(answer.status == 403, "shop/frontend is refused with 403", || {
            format!("{}: {}\n{}", answer.status, answer.text(), far.output())
        })?;
        let reason = answer.headers.get("canopy-refused").and_then(|value| value.to_str().ok());
        let reason = reason.unwrap_or_default().to_owned();
        claim(reason == "peer_denied", "the answer says why", || format!("{:?}", answer.headers))?;
        self.screen.held(&format!("shop/frontend → http://archive.bank: 403, canopy-refused: {reason}"));
        let denied = || {
            let log = far.access_log().into_iter();
            log.rev().find(|line| line["workload"] == "bank/archive" && line["policy"] == POLICY)
        };
        let logged = self.stop.wait_until(Duration::from_secs(20), || denied().is_some())?;
        claim(logged, "the archive's own daemon has logged the denial", || {
            format!("{:?}\n{}", far.access_log(), far.output())
        })?;
        self.screen.line("  What the archive's daemon logged, in part:");
        let line = denied().unwrap_or_default();
        self.screen.quote(&evidence::excerpt(
            &line,
            &["tenant", "workload", "src.workload", "dst.addr", "reason", "policy"],
        ));
        claim(
            line["reason"] == "no_policy_allows" && line["src.workload"] == "shop/frontend",
            "with its reason",
            || line.to_string(),
        )?;
        self.screen
            .held("refused before anything reached the archive's app, with the policy and the reason named");
        Ok(())
    }
}

fn holds(payload: &[u8], words: &[u8]) -> bool {
    payload.windows(words.len()).any(|window| window == words)
}

/// Ports that nobody knows by number are left out.
fn end(address: std::net::SocketAddr) -> String {
    if address.port() == TUNNELS { address.to_string() } else { address.ip().to_string() }
}

fn hex(payload: &[u8]) -> String {
    payload.iter().take(12).map(|byte| format!("{byte:02x} ")).collect()
}

/// A TLS record says in its first byte what it is.
fn kind(payload: &[u8]) -> &'static str {
    match payload.first() {
        Some(20 | 22) => "TLS handshake",
        Some(23) => "TLS, encrypted",
        _ => "the rest of a record",
    }
}

/// Asked for of the archive, which echoes what it sees of its caller.
const SECRET: &str = "/echo?gold=12";
const POLICY: &str = "bank/archive-is-for-the-ledger";
const TUNNELS: u16 = 15_008;
