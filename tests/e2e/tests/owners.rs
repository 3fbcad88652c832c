//! A tenant's owner sees what is its own and nothing of anybody else; and is told when a budget bites, and when the node was at
//! fault. What was used per hour outlives the daemon.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
};

use e2e::{HTTP, Stage, dial, eventually};
use rustix::{process::Uid, thread::set_thread_uid};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Daemon, Outcome, Server, http};

/// Users of whom this machine knows nothing.
const SHOP: u32 = 20_017;
const BANK: u32 = 20_018;
const NEXT: u32 = 20_019;

#[test]
fn an_owner_is_shown_its_own_tenant_and_a_stranger_nothing() -> Outcome {
    let stage = Stage::new()?;
    let _pods = [stage.pod("shop", "web", &[])?, stage.pod("bank", "vault", &[])?];
    stage.manifests.write("shop-tenant.yaml", &owned("shop", SHOP))?;
    stage.manifests.write("bank-tenant.yaml", &owned("bank", BANK))?;
    let directory = open_directory()?;
    let daemon = stage.daemon_with(&["--owners-dir", &directory.path().to_string_lossy()])?;
    let [shop, bank] = ["shop", "bank"].map(|name| directory.path().join(format!("{name}.sock")));
    eventually("each owner has a socket", || shop.exists() && bank.exists())?;
    eventually("it is the owner's alone", || {
        fs::metadata(&shop).is_ok_and(|file| file.mode() & 0o777 == 0o600 && file.uid() == SHOP)
    })?;

    for (user, socket, own, other) in [(SHOP, &shop, "shop/web", "bank"), (BANK, &bank, "bank/vault", "shop")]
    {
        let answer = ask_as(user, socket, "/costs")?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("a head and a body")?;
        assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        let costs: Value = serde_json::from_str(body)?;
        let tenants = costs["tenants"].as_array().ok_or("tenants")?;
        assert_eq!((tenants.len(), tenants[0]["tenant"].as_str()), (1, own.split('/').next()), "{costs}");
        assert_eq!(tenants[0]["workloads"][0]["workload"], own, "{costs}");
        assert_eq!(costs["resident_bytes"]["process"], 0.0, "the node's sums are not told: {costs}");
        for path in [
            "/costs",
            "/events",
            "/showback",
            "/objects",
            "/costs?tenant=bank",
            "/objects?tenant=bank&tenant=shop",
        ] {
            let answer = ask_as(user, socket, path)?;
            assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains(other), "{path}: {answer}");
        }
        for path in ["/tree", "/status", "/trace", "/"] {
            assert!(ask_as(user, socket, path)?.starts_with("HTTP/1.1 403 "), "{path}");
        }
    }
    assert!(ask_as(0, &shop, "/costs")?.starts_with("HTTP/1.1 200 "), "root may");

    let refused = ask_as(BANK, &shop, "/costs").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    // Whatever the file says: who asks is known from the kernel.
    fs::set_permissions(&shop, fs::Permissions::from_mode(0o666))?;
    let answer = ask_as(BANK, &shop, "/costs");
    assert!(answer.as_ref().map_or(true, String::is_empty), "{answer:?}");
    let stranger = ask_as(SHOP, &daemon.admin_socket(), "/costs");
    assert!(stranger.as_ref().map_or(true, String::is_empty), "{stranger:?}");

    let mut kept = connect_as(SHOP, &shop)?;
    kept.write_all(b"GET /costs HTTP/1.1\r\nhost: canopy\r\n\r\n")?;
    assert!(kept.read(&mut [0; 16])? > 0);
    stage.manifests.write("shop-tenant.yaml", &owned("shop", NEXT))?;
    eventually("who is owner now is answered", || {
        ask_as(NEXT, &shop, "/costs").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    })?;
    kept.read_to_end(&mut Vec::new())?;
    let late = kept.write_all(b"GET /costs HTTP/1.1\r\nhost: canopy\r\n\r\n");
    assert!(late.is_err() || kept.read(&mut [0; 16]).is_ok_and(|bytes| bytes == 0), "who was is cut off");
    assert!(ask_as(SHOP, &shop, "/costs").is_err());
    stage.manifests.remove("shop-tenant.yaml")?;
    eventually("without an owner there is no socket", || !shop.exists())?;
    assert!(bank.exists());
    Ok(())
}

#[test]
fn an_owner_is_told_that_its_budget_bit_and_all_are_told_what_the_node_did() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let _other = stage.pod("bank", "vault", &[])?;
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _nginx = Server::nginx(&web, 80)?;
    // Both of what it bounds connections by, so that there is no doubt whose bound it was.
    let budget = "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: others}\n\
                  spec: {globalDefault: true, budget: {connections: 2, descriptors: 16}}\n";
    stage.manifests.write("others.yaml", budget)?;
    let daemon = stage.daemon()?;
    let _held = [dial(&client, vip.at(80))?, dial(&client, vip.at(80))?];
    daemon.wait_metric("canopy_accept_connections_open", &["tenant=\"ns/shop\""], 2.0)?;
    // It may be refused before its client knows that it was made.
    let third = dial(&client, vip.at(80)).and_then(|mut stream| stream.read(&mut [0; 16]));
    assert!(third.map_or(true, |bytes| bytes == 0), "there is no room for it");
    let mut told = Vec::new();
    eventually("its owner is told", || {
        told = events(&daemon, &["--tenant", "ns/shop"]).unwrap_or_default();
        told.iter().any(|event| event["kind"] == "budget")
    })?;
    let bite = told.iter().find(|event| event["kind"] == "budget").ok_or("the event")?;
    assert_eq!((&bite["reason"], &bite["count"]), (&"connection_limit".into(), &1.into()), "{bite}");
    let all = events(&daemon, &[])?;
    for tenant in ["ns/shop", "ns/bank"] {
        let node = all.iter().filter(|event| event["tenant"] == tenant && event["kind"] == "node");
        assert_eq!(node.count(), 1, "{tenant} is told that the daemon was started: {all:?}");
    }
    assert!(!all.iter().any(|event| event["tenant"] == "ns/bank" && event["kind"] == "budget"), "{all:?}");
    let text = String::from_utf8(daemon.canopy(&["events"])?.stdout)?;
    assert!(text.contains("  ns/shop  budget  your budget refused 1: connection_limit\n"), "{text}");
    Ok(())
}

#[test]
fn what_was_used_in_an_hour_outlives_the_daemon() -> Outcome {
    let stage = Stage::new()?;
    let (client, web) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let vip = stage.service(("shop", "web"), 10, &[HTTP], &[&web])?;
    let _nginx = Server::nginx(&web, 80)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("showback.jsonl").to_string_lossy().into_owned();
    let mut daemon = stage.daemon_with(&["--showback-file", &file])?;
    let used = |daemon: &Daemon, what: &str| {
        let output = daemon.canopy(&["showback", "--format", "json", "--tenant", "ns/shop"])?;
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        // An hour may have ended meanwhile.
        Ok::<f64, Box<dyn std::error::Error + Send + Sync>>(
            rows.iter().filter_map(|row| row[what].as_f64()).sum(),
        )
    };
    for round in 1..=2 {
        for _ in 0..5 {
            assert_eq!(http::get(&client, vip.at(80), "any", "/")?.status, 200);
        }
        eventually("they are in the row", || {
            used(&daemon, "requests").is_ok_and(|requests| requests == f64::from(5 * round))
        })?;
        if round == 1 {
            drop(daemon);
            assert!(fs::read_to_string(&file)?.contains("\"tenant\":\"ns/shop\""));
            daemon = stage.daemon_with(&["--showback-file", &file])?;
            assert_eq!(used(&daemon, "requests")?, 5.0, "of the daemon before");
        }
    }
    assert!(used(&daemon, "cpu_user_seconds")? + used(&daemon, "cpu_system_seconds")? > 0.0);
    assert!(used(&daemon, "memory_peak_bytes")? > 0.0);
    let table = String::from_utf8(daemon.canopy(&["showback", "--since", "1h"])?.stdout)?;
    assert!(table.starts_with("hour,tenant,") && table.contains(",ns/shop,"), "{table}");
    Ok(())
}

fn owned(name: &str, uid: u32) -> String {
    format!(
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\n\
         spec: {{namespaces: [{name}], owner: {{uid: {uid}}}}}\n"
    )
}

/// A directory that everybody may enter.
fn open_directory() -> io::Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("owners").tempdir_in("/tmp")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    Ok(directory)
}

/// Asks as a user; the whole answer, or nothing where nobody answers.
fn ask_as(uid: u32, socket: &Path, path: &str) -> io::Result<String> {
    let mut stream = connect_as(uid, socket)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: canopy\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    // Who is not answered may be cut while it asks.
    if stream.write_all(request.as_bytes()).is_err() || stream.read_to_string(&mut answer).is_err() {
        return Ok(String::new());
    }
    Ok(answer)
}

/// Connects on a thread that is that user's, so that the kernel says so of the connection.
fn connect_as(uid: u32, socket: &Path) -> io::Result<UnixStream> {
    std::thread::scope(|scope| {
        let connect = scope.spawn(|| {
            set_thread_uid(Uid::from_raw(uid))?;
            UnixStream::connect(socket)
        });
        connect.join().map_err(|_| io::Error::other("it panicked"))?
    })
}

fn events(
    daemon: &Daemon,
    arguments: &[&str],
) -> Result<Vec<Value>, Box<dyn std::error::Error + Send + Sync>> {
    let output = daemon.canopy(&[&["events", "--json"], arguments].concat())?;
    let lines = String::from_utf8(output.stdout)?;
    Ok(lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}
