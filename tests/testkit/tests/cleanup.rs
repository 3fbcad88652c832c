//! What the testkit makes is there while it is held and gone afterwards. Needs root; looks at the machine with
//! `ip` and /proc, never through the testkit itself.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use testkit::{Addresses, Node, Outcome, eventually};

#[test]
fn pods_of_a_node_reach_each_other_over_both_families() -> Outcome {
    let node = Node::new()?;
    let (client, server) = (node.pod("shop", "client")?, node.pod("shop", "server")?);
    for address in [server.at(8080), server.at_v6(8080)] {
        let listener = server.run(|| TcpListener::bind(address))??;
        let got = thread::scope(|scope| {
            let answer = scope.spawn(|| {
                let (mut stream, peer) = listener.accept()?;
                stream.write_all(b"hello")?;
                Ok::<_, std::io::Error>(peer.ip())
            });
            let text = client.run(|| {
                let mut text = String::new();
                TcpStream::connect(address)?.read_to_string(&mut text)?;
                Ok::<_, std::io::Error>(text)
            });
            (text, answer.join())
        });
        assert_eq!(got.0??, "hello");
        let peer = got.1.map_err(|_| "the server's thread panicked")??;
        assert!(peer == client.v4() || peer == client.v6(), "the server saw {peer}");
    }
    Ok(())
}

#[test]
fn two_nodes_use_the_same_addresses_without_meeting() -> Outcome {
    let (one, two) = (Node::new()?, Node::new()?);
    let (a, b) = (one.pod("shop", "web")?, two.pod("shop", "web")?);
    assert_eq!(a.at(80), b.at(80));
    let _only_in_a = a.run(|| TcpListener::bind(a.at(80)))??;
    let from_b = b.run(|| TcpStream::connect(b.at(80)))?;
    assert!(from_b.is_err(), "a pod of one node answered in the other");
    Ok(())
}

#[test]
fn nothing_is_left_of_a_node_that_was_dropped() -> Outcome {
    let node = Node::new()?;
    let name = node.netns().name().to_owned();
    let pod = node.pod("shop", "web")?;
    let path = pod.netns_path().to_path_buf();
    let process = pod.start(sleep())?;
    let pid = process.pid();
    assert!(path.exists() && is_running(pid));
    assert!(ip(&["-n", &name, "link"])?.contains(pod.link()));
    assert_eq!(pod.netns().processes(), [pid]);

    drop(process);
    assert!(!is_running(pid));
    drop(pod);
    assert!(!path.exists());
    assert!(!ip(&["-n", &name, "link"])?.contains("pod10"));
    drop(node);
    assert!(!is_listed(&name)?);
    Ok(())
}

#[test]
fn nothing_is_left_after_a_panic() {
    let mut left: Option<(PathBuf, PathBuf, u32)> = None;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let node = Node::new().expect("a node");
        let pod = node.pod("shop", "web").expect("a pod");
        let process = pod.start(sleep()).expect("a process");
        left = Some((node.path().to_path_buf(), pod.netns_path().to_path_buf(), process.pid()));
        panic!("as a failing test does");
    }));
    assert!(ended.is_err());
    let (node, pod, pid) = left.expect("the node was made");
    assert!(!node.exists() && !pod.exists() && !is_running(pid));
}

#[test]
fn a_process_that_was_forgotten_ends_with_its_pod() -> Outcome {
    let node = Node::new()?;
    let pod = node.pod("shop", "web")?;
    let mut forgotten = pod.run(|| sleep().spawn())??;
    assert!(is_running(forgotten.id()));
    drop(pod);
    assert!(!forgotten.wait()?.success());
    Ok(())
}

#[test]
fn what_a_killed_process_left_is_swept_by_the_next_node() -> Outcome {
    // The largest pid that Linux gives out is 4194304.
    let stale = "kit-4194305-0";
    let mut inside = Command::new("unshare").args(["--net", "sleep", "60"]).spawn()?;
    let ours = fs::read_link("/proc/self/ns/net")?;
    while fs::read_link(format!("/proc/{}/ns/net", inside.id()))? == ours {
        thread::sleep(Duration::from_millis(5));
    }
    // Named only now: from here on, any other test's sweep may find it, even half made, or be at it just now.
    let id = inside.id().to_string();
    eventually("it has a name", || {
        Command::new("ip").args(["netns", "attach", stale, &id]).status().is_ok_and(|status| status.success())
    })?;
    let _node = Node::new()?;
    eventually("it is swept", || is_listed(stale).is_ok_and(|is_listed| !is_listed))?;
    assert!(!inside.wait()?.success());
    Ok(())
}

#[test]
fn the_thread_that_asks_stays_in_its_namespace() -> Outcome {
    let node = Node::new()?;
    let before = fs::read_link("/proc/thread-self/ns/net")?;
    let inside = node.netns().run(|| fs::read_link("/proc/thread-self/ns/net"))??;
    assert_ne!(before, inside);
    assert_eq!(before, fs::read_link("/proc/thread-self/ns/net")?);
    Ok(())
}

#[test]
fn a_host_number_reads_the_same_in_both_families() {
    let addresses = Addresses::of_host(121);
    assert_eq!(
        (addresses.v4.to_string(), addresses.v6.to_string()),
        ("10.77.0.121".into(), "fd77::121".into())
    );
}

fn sleep() -> Command {
    let mut command = Command::new("sleep");
    command.arg("60");
    command
}

fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Whether `ip netns` lists a namespace of exactly this name.
fn is_listed(name: &str) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let list = ip(&["netns", "list"])?;
    Ok(list.lines().any(|line| line.split(' ').next() == Some(name)))
}

fn ip(arguments: &[&str]) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let output = Command::new("ip").args(arguments).output()?;
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
