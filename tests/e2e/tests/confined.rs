//! What a running cell's process is left with, as the kernel shows it: no system calls, capabilities or descriptors but those that
//! are documented (decision 0016).
//!
//! It must never ask the process itself, which may say anything.

use std::{collections::BTreeMap, fs, path::PathBuf, thread, time::Duration};

use e2e::{HTTP, Origin, Stage, ask};
use testkit::{Daemon, Outcome};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// CAP_SYS_ADMIN and CAP_BPF (linux/capability.h), where hooks steer.
const WITH_HOOKS: u64 = (1 << 21) | (1 << 39);
/// CAP_SYS_ADMIN and CAP_NET_ADMIN, where iptables does.
const WITH_MARKS: u64 = (1 << 21) | (1 << 12);
/// Ways to the daemon and connections; pipes to splice with; an event loop and its beat; the page of its counts; its pods' namespaces; the map of
/// notes on its sockets.
const KINDS: [&str; 9] =
    ["socket", "pipe", "eventpoll", "eventfd", "timerfd", "memfd", "net", "bpf-map", "/dev/null"];

#[test]
fn a_running_cell_is_confined_and_holds_nothing_that_is_not_documented() -> Outcome {
    let stage = Stage::new()?;
    let (client, server) = (stage.pod("shop", "client", &[])?, stage.pod("shop", "web", &[HTTP])?);
    let web = stage.service(("shop", "web"), 10, &[HTTP], &[&server])?;
    let _origin = Origin::start(&server, 80)?;
    stage.manifests.write(
        "tenant.yaml",
        "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: shop}\n\
         spec: {namespaces: [shop], isolation: process}\n",
    )?;
    let daemon = stage.daemon()?;
    let pid = cell(&daemon)?;
    // One request that is answered: then the cell serves.
    ask(&client, web.at(80), 1)?;

    let held = held(pid)?;
    let kept = if held.contains_key("bpf-map") { WITH_HOOKS } else { WITH_MARKS };
    // Each thread has its own.
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        // Whoever ends between two looks is none.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).unwrap_or_default()
        };
        assert_eq!((of("Seccomp"), of("NoNewPrivs")), ("2", "1"), "{status}");
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(u64::from_str_radix(of(set), 16)?, kept, "{set}: {status}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(u64::from_str_radix(of(set), 16)?, 0, "{set}: {status}");
        }
        threads += 1;
    }
    assert!(threads > 1, "the lane has a thread of its own");

    for (kind, targets) in &held {
        assert!(KINDS.contains(&kind.as_str()) || is_its_log(targets, &daemon), "{kind}: {held:?}");
    }
    for (kind, most) in [("bpf-map", 1), ("memfd", 1)] {
        assert!(held.get(kind).is_none_or(|all| all.len() <= most), "{kind}: {held:?}");
    }
    assert!(held.contains_key("socket") && held.contains_key("net"), "{held:?}");
    Ok(())
}

/// Whether it is where the daemon's own log goes, which is the process's as well.
fn is_its_log(targets: &[PathBuf], daemon: &Daemon) -> bool {
    let log = [1, 2].map(|number| fs::read_link(format!("/proc/{}/fd/{number}", daemon.pid())).ok());
    targets.iter().all(|target| log.iter().flatten().any(|log| log == target))
}

/// What it has descriptors of, by kind.
fn held(pid: u32) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut held = BTreeMap::<_, Vec<_>>::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        // Whoever closes one between two looks has it no more.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let text = target.to_string_lossy();
        // socket:[1], anon_inode:[eventpoll], anon_inode:bpf-map, /memfd:name (deleted), net:[1]
        let kind = match text.strip_prefix("anon_inode:") {
            Some(kind) => kind.trim_matches(['[', ']']).to_owned(),
            None if text.starts_with("/memfd:") => "memfd".to_owned(),
            // Where namespaces are bound to names, and as long as they are.
            None if text.starts_with("/run/netns/") => "net".to_owned(),
            None if text.starts_with('/') => text.to_string(),
            None => text.split(':').next().unwrap_or_default().to_owned(),
        };
        held.entry(kind).or_default().push(target);
    }
    Ok(held)
}

/// The process of the one tenant that has one, once it serves.
fn cell(daemon: &Daemon) -> Result<u32> {
    for _ in 0..500 {
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // Whoever ends between two looks is none.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let Some((name, rest)) = stat.rsplit_once(") ") else { continue };
            let parent = rest.split(' ').nth(1).and_then(|parent| parent.parse::<u32>().ok());
            if name.ends_with("(shop") && parent == Some(daemon.pid()) {
                return Ok(pid);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!("shop has no process of its own: {}", daemon.output()).into())
}
