//! What befalls one node: its power is cut and it is there again before a daemon is, a pod's network goes without a word, the disk is full.

use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::MetadataExt,
    time::Duration,
};

use testkit::{Cluster, Outcome, Traffic, eventually};

use super::{web, without_daemons};
use crate::lab::{
    OPTED_IN, ask, carried, finally, installed, is_told_of, on_node, run_on_node, running, script, sleeper,
    until_carried,
};

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn pods_that_a_node_starts_before_its_daemon_wait_for_it_and_others_do_not() -> Outcome {
    let cluster = running();
    let (space, address) = web(&cluster, &[OPTED_IN])?;
    let (outside, other) = web(&cluster, &[])?;
    let away = without_daemons(&cluster)?;

    script("cluster", &["stop", "node-1"])?;
    assert!(space.inside("client-1").is_err(), "a node without power runs nothing");
    script("cluster", &["start", "node-1"])?;
    // Which pods it has, the kubelet asks the API server, and then starts all that it finds.
    eventually("a pod that is nobody's is there again", || {
        ask(&outside, "client-1", &other).is_ok_and(|said| said.starts_with("node-"))
    })?;
    eventually("one that is captured waits, and says for what", || {
        is_told_of(&space, "client-1", "no daemon enrols the pod")
    })?;
    for _ in 0..20 {
        assert!(space.inside("client-1").is_err(), "no process of it runs");
        std::thread::sleep(Duration::from_millis(100));
    }

    drop(away);
    installed(&cluster, &["rollout", "status", "daemonset/canopy-node", "--timeout=90s"])?;
    eventually("what waited is there again", || {
        ["client-1", "client-2"].iter().all(|client| ask(&space, client, &address).is_ok())
    })?;
    until_carried(&cluster, &space, &["client-1", "client-2"], true)
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn a_pod_whose_network_goes_without_a_word_is_forgotten_and_the_next_of_its_name_is_carried() -> Outcome {
    let cluster = running();
    let (space, address) = web(&cluster, &[OPTED_IN])?;
    let undisturbed = Traffic::start(&space.inside("client-2")?, address.parse()?, "web")?;
    let client = space.inside("client-1")?;
    let network = client.network()?;

    // Its name goes first. Who has the network open needs no name for it.
    let name = name_of(network)?;
    run_on_node("node-1", &["umount", "--lazy", &name])?;
    fs::remove_file(on_node("node-1", &name)?)?;
    for _ in 0..10 {
        ask(&space, "client-1", &address)?;
    }
    // Then the network itself, with all that was in it; the container runtime has told nobody of it.
    client.vanish()?;
    space.kubectl(&["delete", "pod", "client-1", "--grace-period=1"])?;
    until_carried(&cluster, &space, &["client-1"], false)?;
    space.apply(&sleeper("client-1", Some("node-1")))?;
    space.pod_ready("client-1")?;
    // Which network it has, no number tells: that of one that is gone is given again.
    until_carried(&cluster, &space, &["client-1"], true)?;
    eventually("it is served again", || ask(&space, "client-1", &address).is_ok())?;
    eventually("it is carried once", || {
        carried(&cluster)
            .is_ok_and(|tree| tree.matches(&format!(" {}/client-1  ", space.name())).count() == 1)
    })?;
    let tally = undisturbed.tally();
    assert!(tally.failures == 0 && tally.total() > 100, "{tally:?}");
    Ok(())
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn a_pod_whose_sandbox_ends_is_carried_again_in_the_next_one_at_another_address() -> Outcome {
    let cluster = running();
    let (space, address) = web(&cluster, &[OPTED_IN])?;
    let client = space.inside("client-1")?;
    let network = client.network()?;
    client.vanish()?;
    eventually("the kubelet has made it another", || {
        space.inside("client-1").is_ok_and(|client| client.network().is_ok_and(|now| now != network))
    })?;
    space.pod_ready("client-1")?;
    until_carried(&cluster, &space, &["client-1"], true)?;
    eventually("it is served again", || ask(&space, "client-1", &address).is_ok())?;
    Ok(())
}

/// The file by which node-1's container runtime names a network namespace.
fn name_of(network: u64) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    for entry in fs::read_dir(on_node("node-1", "/run/netns")?)? {
        let entry = entry?;
        if fs::metadata(entry.path())?.ino() == network {
            return Ok(format!("/run/netns/{}", entry.file_name().to_string_lossy()));
        }
    }
    Err(format!("no file in node-1's /run/netns is network namespace {network}").into())
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn a_daemon_whose_disk_is_full_goes_on_comes_back_and_leaves_nothing_there_that_is_true_no_more() -> Outcome {
    let cluster = running();
    let (changed, _) = web(&cluster, &[])?;
    run_on_node("node-1", &["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", STATE])?;
    let small = finally(|| {
        drop(run_on_node("node-1", &["umount", "--lazy", STATE]));
        drop(anew(&cluster));
    });
    anew(&cluster)?;
    let known = on_node("node-1", &format!("{STATE}/namespaces.json"))?;
    let says = |word: &str| fs::read_to_string(&known).is_ok_and(|text| text.contains(word));
    eventually("the daemon keeps what it knows there", || says(changed.name()))?;

    fill()?;
    let (space, address) = web(&cluster, &[OPTED_IN])?;
    // Room that the daemon makes, by ending what it has there, it may use.
    eventually("what namespaces said before is there no more", || !known.exists() || says(space.name()))?;
    for client in ["client-1", "client-2"] {
        ask(&space, client, &address)?;
    }
    let traffic = Traffic::start(&space.inside("client-2")?, address.parse()?, "web")?;
    traffic.next(100)?;
    // It starts with the disk as it is, while whoever asks from the other node goes on, if by one server.
    anew(&cluster)?;
    until_carried(&cluster, &space, &["client-1", "client-2"], true)?;
    eventually("it serves", || ask(&space, "client-1", &address).is_ok())?;
    space.apply(&sleeper("late", Some("node-1")))?;
    space.pod_ready("late")?;
    until_carried(&cluster, &space, &["late"], true)?;
    ask(&space, "late", &address)?;

    fs::remove_file(on_node("node-1", FILLER)?)?;
    changed.kubectl(&["label", "namespace", changed.name(), OPTED_IN])?;
    eventually("it is kept there again", || says(changed.name()) && says(space.name()))?;
    drop(small);
    eventually("all is as before", || ask(&space, "client-1", &address).is_ok())?;
    Ok(())
}

/// Ends the daemon of node-1, and waits for the next.
fn anew(cluster: &Cluster) -> Outcome {
    let selector = ["--selector=app.kubernetes.io/name=canopy-node", "--field-selector=spec.nodeName=node-1"];
    installed(cluster, &[&["delete", "pods", "--grace-period=1"], &selector[..]].concat())?;
    installed(cluster, &["rollout", "status", "daemonset/canopy-node", "--timeout=90s"])?;
    Ok(())
}

/// Writes into the state's directory until there is no room, not even for a byte.
fn fill() -> Outcome {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(on_node("node-1", FILLER)?)?;
    for size in [4096, 1] {
        loop {
            match file.write_all(&vec![b'x'; size]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Where the daemon keeps what a restart starts from.
const STATE: &str = "/var/lib/canopy";
const FILLER: &str = "/var/lib/canopy/filler";
