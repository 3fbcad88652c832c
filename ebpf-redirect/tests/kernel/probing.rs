//! What the machine can do, asked of the kernel itself.

use std::{env, fs, path::PathBuf, process::Command};

use ebpf_redirect::probe::{State, probe};

use super::support::need_root;

#[test]
fn this_machine_has_every_hook_and_says_since_when_kernels_do() {
    need_root();
    let features = probe();
    for feature in &features {
        assert_eq!(feature.state, State::Available, "{feature:?}");
        assert!(!feature.needed_for.is_empty());
    }
    for hook in ["connect4", "connect6", "getpeername4", "getsockname6", "sock_ops", "sk_lookup"] {
        let feature = features.iter().find(|feature| feature.name == hook).unwrap();
        assert!(feature.minimum_kernel.starts_with("5."), "{feature:?}");
    }
}

/// What is said of cgroup v2 by this test itself, run in a group and a cgroup namespace of its own, after `prepare`.
fn within_a_cgroup_namespace(name: &str, prepare: &str) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
    let root = root.split(' ').nth(1).unwrap().to_owned();
    let group = PathBuf::from(&root).join(format!("canopy-test-{}-{name}", std::process::id()));
    fs::create_dir(&group).unwrap();
    let script = "echo $$ > \"$1/cgroup.procs\" && exec unshare -Cm sh -c \"$3\" sh \"$2\" \"$4\"";
    let own = env::current_exe().unwrap();
    let run = format!("{prepare} exec \"$2\" --exact --nocapture probing::cgroup_v2_as_it_is_seen_here");
    let told = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&group)
        .args([root.as_str(), run.as_str()])
        .arg(own)
        .env(WITHIN, "1")
        .output();
    let removed = fs::remove_dir(&group);
    let told = told.unwrap();
    removed.unwrap();
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        told.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&told.stderr)
    );
    text
}

/// Says it, where another test asks.
#[test]
fn cgroup_v2_as_it_is_seen_here() {
    if env::var_os(WITHIN).is_some() {
        let cgroup2 = probe().into_iter().find(|feature| feature.name == "cgroup2").unwrap();
        println!("cgroup2: {:?}", cgroup2.state);
    }
}

#[test]
fn the_machines_root_of_cgroup_v2_is_found_within_a_cgroup_namespace_and_a_part_alone_is_none() {
    need_root();
    let hosts = within_a_cgroup_namespace("hosts", "");
    assert!(hosts.contains("cgroup2: Available"), "{hosts}");
    let part = within_a_cgroup_namespace("part", "umount -l \"$1\" && mount -t cgroup2 none \"$1\" &&");
    assert!(part.contains("mount the host's /sys/fs/cgroup"), "{part}");
}

const WITHIN: &str = "CANOPY_TEST_WITHIN_CGROUP_NAMESPACE";
