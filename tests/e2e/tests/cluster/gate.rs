//! The gate: a pod of an opted-in namespace is carried before its first container starts.

use testkit::{Outcome, Space, eventually};

use crate::lab::{FRIENDS_ALONE, OPTED_IN, WEB, running, until_carried};

/// Asks once, in the first moment of its init container, and says what came of it.
const FIRST: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: @NAME@}
spec:
  template:
    spec:
      restartPolicy: Never
      serviceAccountName: @ACCOUNT@
      nodeName: @NODE@
      initContainers:
      - {name: first, image: 'canopy.mesh/busybox:1', imagePullPolicy: Never, command: [sh, -c, 'timeout 5 wget -q -O - http://web/ 2>&1; true']}
      containers:
      - {name: then, image: 'canopy.mesh/busybox:1', imagePullPolicy: Never, command: ['true']}
";

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn the_first_call_of_a_pods_first_container_is_made_as_the_pods_identity() -> Outcome {
    let cluster = running();
    let space = cluster.space(&[OPTED_IN])?;
    space.apply(WEB)?;
    space.apply(FRIENDS_ALONE)?;
    space.rolled_out("deployment/web")?;
    space.pod_ready("client-1")?;
    until_carried(&cluster, &space, &["client-1"], true)?;
    eventually("the policy is obeyed", || crate::lab::ask(&space, "client-1", "web").is_err())?;
    // Several, since what is too early by a moment is so only now and then.
    for round in 0..3 {
        for (account, node, wanted) in [
            ("friend", "node-1", "node-"),
            ("default", "node-2", "wget:"),
            ("friend", "node-2", "node-"),
            ("default", "node-1", "wget:"),
        ] {
            let said = first_call(&space, &format!("{account}-{node}-{round}"), account, node)?;
            assert!(said.starts_with(wanted), "{account} on {node}: {said}");
        }
    }
    Ok(())
}

fn first_call(space: &Space, name: &str, account: &str, node: &str) -> Result<String, testkit::KitError> {
    space.apply(&FIRST.replace("@NAME@", name).replace("@ACCOUNT@", account).replace("@NODE@", node))?;
    space.kubectl(&["wait", "--for=condition=Complete", &format!("job/{name}"), "--timeout=60s"])?;
    space.kubectl(&["logs", &format!("job/{name}"), "--container=first"])
}
