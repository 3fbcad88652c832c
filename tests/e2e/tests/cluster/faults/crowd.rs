//! Many pods at once: all that the nodes carry, and as many behind them. Each calls as its first act, and each that is answered was carried.

use std::{fs, time::Duration};

use testkit::{Outcome, eventually};
use tokio::time::Instant;

use super::web;
use crate::lab::{
    FRIENDS_ALONE, NODES, OPTED_IN, REFUSED, ask, carried, is_refused, on_node, running, until_carried,
};

/// Who is answered only as its own identity, which a pod has not that gets by; and who never is, and has it from the policy.
const CROWD: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: @ACCOUNT@}
spec:
  parallelism: @COUNT@
  completions: @COUNT@
  backoffLimit: 0
  template:
    metadata: {labels: {app: crowd}}
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      serviceAccountName: @ACCOUNT@
      automountServiceAccountToken: false
      enableServiceLinks: false
      containers:
      - name: first
        image: canopy.mesh/busybox:1
        imagePullPolicy: Never
        command: [sh, -c, 'timeout 30 wget -q -O /dev/null http://web/@SO@']
";

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn five_hundred_pods_at_once_are_each_carried_from_their_first_call_on_and_leave_nothing() -> Outcome {
    let cluster = running();
    let (space, address) = web(&cluster, &[OPTED_IN])?;
    let before = left()?;
    let links = links();
    space.apply(FRIENDS_ALONE)?;
    eventually("the policy is obeyed", || is_refused(&ask(&space, "client-1", &address)))?;
    let began = Instant::now();
    // A call that fails for any other reason, as one that nobody takes, is none that was refused.
    let refused = format!(" 2>&1 | grep -q \"{REFUSED}\"");
    for (account, so, count) in [("friend", "", FRIENDS), ("default", refused.as_str(), STRANGERS)] {
        let job = CROWD.replace("@ACCOUNT@", account).replace("@SO@", so);
        space.apply(&job.replace("@COUNT@", &count.to_string()))?;
    }
    for account in ["friend", "default"] {
        let done = ["wait", "--for=condition=Complete", &format!("job/{account}"), "--timeout=480s"];
        if let Err(error) = space.kubectl(&done) {
            let jobs = space.kubectl(&["describe", "jobs"]).unwrap_or_default();
            return Err(format!("{error}\n{jobs}").into());
        }
    }
    eprintln!(">> {} pods in {:?}", FRIENDS + STRANGERS, began.elapsed());
    until_carried(&cluster, &space, &["client-1", "client-2"], true)?;
    eventually("nobody else is carried", || {
        let of_it =
            |tree: String| tree.lines().filter(|line| line.contains(&format!(" {}/", space.name()))).count();
        carried(&cluster).is_ok_and(|tree| of_it(tree) == 4)
    })?;
    space.kubectl(&["delete", "jobs", "--all", "--cascade=foreground", "--timeout=120s"])?;
    let until = Instant::now() + Duration::from_secs(120);
    while Instant::now() < until && (left()? != before || self::links() != links) {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(left()?, before, "what is pinned, and networks, by node");
    assert_eq!(self::links(), links, "interfaces of this machine");
    Ok(())
}

/// How much each node has pinned in the kernel, and how many networks.
fn left() -> Result<Vec<(usize, usize)>, Box<dyn std::error::Error + Send + Sync>> {
    let mut all = Vec::new();
    for node in NODES {
        all.push((files(&on_node(node, "/sys/fs/bpf")?)?, files(&on_node(node, "/run/netns")?)?));
    }
    Ok(all)
}

/// The files below a folder.
fn files(folder: &std::path::Path) -> std::io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

fn links() -> usize {
    fs::read_dir("/sys/class/net").map_or(0, Iterator::count)
}

const FRIENDS: u32 = 400;
const STRANGERS: u32 = 100;
