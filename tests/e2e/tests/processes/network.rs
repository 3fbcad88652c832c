//! A cell's process is not in the node's network: it lives where there is nothing, and makes every socket in a pod's namespace.

use std::{fs, path::PathBuf};

use e2e::{HTTP, Listener, Mesh, Origin, ask, dial};
use testkit::{Daemon, Outcome};

use super::{Result, cell, echo, tenant};

/// The network namespace of a process, or of one of its threads.
fn namespace(path: &str) -> Result<PathBuf> {
    Ok(fs::read_link(format!("/proc/{path}/ns/net"))?)
}

/// That no thread of a cell is where its daemon is, and that there is nothing where they are.
fn is_apart(daemon: &Daemon, tenant: &str) -> Outcome {
    let pid = cell(daemon, tenant)?;
    let node = namespace(&daemon.pid().to_string())?;
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let task = task.file_name();
        assert_ne!(namespace(&format!("{pid}/task/{}", task.to_string_lossy()))?, node);
    }
    // The first thread stays there; the lane goes into pods' for a moment.
    for (table, heads) in [("route", 1), ("ipv6_route", 0), ("if_inet6", 0)] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        let ways = text.lines().skip(heads).filter(|line| !line.ends_with(" lo"));
        assert_eq!(ways.count(), 0, "{table}: {text}");
    }
    Ok(())
}

#[test]
fn a_cells_process_lives_in_no_network_and_its_pods_reach_everybody() -> Outcome {
    let mesh = Mesh::new()?;
    let (client, near) = (mesh.here("shop", "client", &[])?, mesh.here("shop", "near", &[HTTP])?);
    let (guest, far) = (mesh.here("bank", "guest", &[HTTP])?, mesh.there("shop", "far", &[HTTP])?);
    let vip = |name, number, pod| mesh.stage.service(name, number, &[HTTP], &[pod]);
    let direct = vip(("shop", "near"), 10, &near)?;
    let handoff = vip(("bank", "guest"), 11, &guest)?;
    let tunnel = vip(("shop", "far"), 12, &far)?;
    let _origins = (Origin::start(&near, 80)?, Origin::start(&guest, 80)?, Origin::start(&far, 80)?);
    mesh.stage.manifests.write("tenant.yaml", &tenant("process", ""))?;
    let (mut here, there) = mesh.daemons()?;
    is_apart(&here, "shop")?;
    is_apart(&there, "shop")?;

    for (to, how) in [(direct, "direct"), (handoff, "handoff"), (tunnel, "tunnel")] {
        ask(&client, to.at(80), 2).map_err(|error| format!("{how}: {error}"))?;
        here.wait_logged(|line| line["workload"] == "shop/client" && line["delivery"] == how)?;
    }
    // Whom nobody has told of: a pod of the node without a manifest.
    let stranger = mesh.stage.node.pod("out", "stranger")?;
    let _echo = Listener::echo(&stranger, stranger.at(7000))?;
    let mut outside = dial(&client, stranger.at(7000))?;
    echo(&mut outside, b"to nobody known")?;
    drop(outside);
    here.wait_logged(|line| line["workload"] == "shop/client" && line["delivery"] == "passthrough")?;
    is_apart(&here, "shop")?;
    Ok(())
}
