//! What the parts of an installed Canopy may do is what its documentation says, asked of the API server that decides.

use testkit::{Outcome, eventually};

use crate::lab::running;

/// What every account may ask, whoever it is: about itself, and where the API is.
const EVERYBODY: [&str; 4] = ["self", ".well-known", "/", "health"];

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn each_account_may_do_what_its_role_says_and_the_api_server_knows_of_nothing_else() -> Outcome {
    let cluster = running();
    for (account, wanted) in [
        (
            "canopy-node",
            &[
                "events.events.k8s.io [create patch]",
                "namespaces [get list watch]",
                "pods [get list watch]",
                "runtimeclasses.node.k8s.io [get list watch]",
                "tenants.canopy.mesh [get list watch]",
            ][..],
        ),
        ("canopy-cni", &["namespaces [get]", "pods [get]"]),
    ] {
        let user = format!("--as=system:serviceaccount:canopy-system:{account}");
        let listed = cluster.kubectl(&["auth", "can-i", "--list", &user])?;
        let mut rights: Vec<String> = Vec::new();
        for line in listed.lines().skip(1).filter(|line| !line.starts_with(' ')) {
            let resource = line.split_whitespace().next().unwrap_or_default();
            if EVERYBODY.iter().any(|word| resource.contains(word)) || resource.starts_with('[') {
                continue;
            }
            let verbs = line.rsplit_once('[').map_or("", |(_, verbs)| verbs);
            rights.push(format!("{resource} [{verbs}"));
        }
        rights.sort();
        assert_eq!(rights, wanted, "{account}:\n{listed}");
    }
    // And from the other side: no Secret, and no pod of its own making.
    for account in ["canopy-node", "canopy-cni", "canopy-control"] {
        let user = format!("--as=system:serviceaccount:canopy-system:{account}");
        for (verb, what) in [("get", "secrets"), ("create", "pods"), ("patch", "pods"), ("get", "nodes")] {
            let said = cluster.kubectl(&["auth", "can-i", verb, what, "--all-namespaces", &user]);
            assert!(said.is_err(), "{account} may {verb} {what}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn who_edits_a_namespaces_pods_takes_none_of_them_off_the_mesh() -> Outcome {
    let cluster = running();
    let space = cluster.space(&[])?;
    let user = "--as=mallory";
    space.kubectl(&["create", "rolebinding", "edit", "--clusterrole=edit", "--user=mallory"])?;
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: free, labels: {canopy.mesh/mode: 'off'}}
spec:
  containers: [{name: a, image: 'canopy.mesh/busybox:1', imagePullPolicy: Never, command: [sleep, '3600']}]
";
    let plain = pod.replace(", labels: {canopy.mesh/mode: 'off'}", "");
    eventually("the role is known", || space.apply_as(&plain, user).is_ok())?;
    let refused = space.apply_as(pod, user).expect_err("the label is administrators'").to_string();
    assert!(refused.contains("canopy.mesh/mode") && refused.contains("canopy-metadata"), "{refused}");
    let deployment = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: free}}\nspec:\n  selector: {{matchLabels: {{app: free}}}}\n  template:\n    \
         metadata: {{labels: {{app: free, canopy.mesh/mode: 'off'}}}}\n    {}",
        "spec: {containers: [{name: a, image: 'canopy.mesh/busybox:1'}]}\n"
    );
    let refused = space.apply_as(&deployment, user).expect_err("in a template, too").to_string();
    assert!(refused.contains("canopy.mesh/mode"), "{refused}");
    // An administrator may.
    space.apply(&deployment)?;
    Ok(())
}
