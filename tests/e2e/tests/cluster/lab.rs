//! What the tests of a cluster have in common: pods that answer and ask, and what Canopy's daemons say of them.
//!
//! It changes nothing outside a test's own namespaces, but for `faults.rs`, which has a test alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::repository;
use testkit::{Cluster, KitError, Outcome, Space, eventually};

/// The cluster that is up.
pub(crate) fn running() -> Cluster {
    Cluster::running(&repository().join("target/tools"))
}

/// What a node's own files are in, as this machine sees them.
pub(crate) fn node_folder(node: &str) -> PathBuf {
    repository().join("target/cluster").join(node)
}

/// The first process of a node, by its number on this machine.
fn init_of(node: &str) -> Result<String, KitError> {
    let path = node_folder(node).join("init");
    match fs::read_to_string(&path) {
        Ok(pid) => Ok(pid.trim().to_owned()),
        Err(source) => Err(KitError::File { path, source }),
    }
}

/// A file of a node by the path that it has there, also below what is mounted there alone.
pub(crate) fn on_node(node: &str, path: &str) -> Result<PathBuf, KitError> {
    Ok(Path::new("/proc").join(init_of(node)?).join("root").join(path.trim_start_matches('/')))
}

/// Runs a program inside a node.
pub(crate) fn run_on_node(node: &str, command: &[&str]) -> Outcome {
    let pid = init_of(node)?;
    // Of its processes, too, or /proc would be another's than it says.
    let within = ["--target", &pid, "--mount", "--pid", "--uts", "--net", "--"];
    done(Command::new("nsenter").args(within).args(command))
}

/// Runs a program to its end; what it says of a failure is the error.
pub(crate) fn done(command: &mut Command) -> Outcome {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Runs a script of the repository. What it leaves running has an output of its own.
pub(crate) fn script(name: &str, arguments: &[&str]) -> Outcome {
    let script = repository().join("scripts").join(name);
    done(Command::new(script).args(arguments).current_dir(repository()))
}

/// Makes an image of files (`/path/in/image=FILE`), and brings it into both nodes.
pub(crate) fn load(name: &str, entries: &[&str]) -> Outcome {
    let file = name.replace(['/', ':'], "-");
    let archive = repository().join(format!("target/images/{file}.tar")).to_string_lossy().into_owned();
    script("pack-image", &[&[archive.as_str(), name], entries].concat())?;
    script("cluster", &["load", &archive])
}

/// Does `act` when it is dropped.
pub(crate) fn finally<F: FnMut()>(act: F) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(act)
}

/// The label that opts a namespace in.
pub(crate) const OPTED_IN: &str = "canopy.mesh/mode=node";

/// Takes no plaintext.
pub(crate) const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
";

/// Makes the account `friend`, and lets it alone call `web`.
pub(crate) const FRIENDS_ALONE: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: friend}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  action: ALLOW
  rules: [{from: [{source: {serviceAccounts: [friend]}}]}]
";

/// Runs kubectl in the namespace that Canopy is installed in.
pub(crate) fn installed(cluster: &Cluster, arguments: &[&str]) -> Result<String, KitError> {
    cluster.kubectl(&[&["--namespace", "canopy-system"], arguments].concat())
}

/// The pods of the daemon, one for each node.
pub(crate) fn daemons(cluster: &Cluster) -> Result<Vec<String>, KitError> {
    let selector = "--selector=app.kubernetes.io/name=canopy-node";
    let names = installed(cluster, &["get", "pods", selector, "--output=name"])?;
    Ok(names.lines().map(str::to_owned).collect())
}

/// What all daemons carry, as `canopy tree` shows it.
pub(crate) fn carried(cluster: &Cluster) -> Result<String, KitError> {
    let tree = |pod: &String| installed(cluster, &["exec", pod, "--", "/usr/bin/canopy", "tree"]);
    daemons(cluster)?.iter().map(tree).collect()
}

/// Waits until each of these pods is carried, or none is.
pub(crate) fn until_carried(cluster: &Cluster, space: &Space, pods: &[&str], is: bool) -> Outcome {
    let named: Vec<String> = pods.iter().map(|pod| format!(" {}/{pod}  ", space.name())).collect();
    let what = format!("{} of {}: carried is {is}", pods.join(", "), space.name());
    eventually(&what, || {
        carried(cluster).is_ok_and(|tree| named.iter().all(|pod| tree.contains(pod) == is))
    })?;
    Ok(())
}

/// Servers on both nodes and a client on each, all of them ready.
pub(crate) fn serve_web(space: &Space) -> Outcome {
    space.apply(WEB)?;
    space.rolled_out("deployment/web")?;
    for client in ["client-1", "client-2"] {
        space.pod_ready(client)?;
    }
    Ok(())
}

/// Whether an Event of a pod has these words.
pub(crate) fn is_told_of(space: &Space, pod: &str, words: &str) -> bool {
    let of_it = format!("--field-selector=involvedObject.name={pod}");
    space.kubectl(&["get", "events", &of_it]).is_ok_and(|events| events.contains(words))
}

/// The lines of the access log that name this namespace, of all daemons.
pub(crate) fn log(cluster: &Cluster, space: &Space) -> Result<Vec<String>, KitError> {
    let mut lines = Vec::new();
    for pod in daemons(cluster)? {
        let said = installed(cluster, &["logs", &pod, "--since=5m"])?;
        let of_it = said.lines().filter(|line| line.contains(&format!("\"{}/", space.name())));
        lines.extend(of_it.filter(|line| line.contains("\"direction\"")).map(str::to_owned));
    }
    Ok(lines)
}

/// The pods of a selector, by name.
pub(crate) fn named(space: &Space, selector: &str) -> Result<Vec<String>, KitError> {
    let names = "--output=jsonpath={.items[*].metadata.name}";
    let said = space.kubectl(&["get", "pods", &format!("--selector={selector}"), names])?;
    Ok(said.split_whitespace().map(str::to_owned).collect())
}

/// An address as it stands in a URL.
pub(crate) fn host(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// What a pod is told at this host and path `/`.
pub(crate) fn ask(space: &Space, client: &str, host: &str) -> Result<String, KitError> {
    space.exec(client, &["timeout", "5", "wget", "-q", "-O", "-", &format!("http://{host}/")])
}

/// Whether this was asked and a policy said no: not that nobody answered, nor anything else that goes wrong.
pub(crate) fn is_refused(said: &Result<String, KitError>) -> bool {
    said.as_ref().is_err_and(|error| error.to_string().contains(REFUSED))
}

/// What who is refused by a policy is told, as wget has it.
pub(crate) const REFUSED: &str = "403 Forbidden";

/// A Service's pods are picked by chance, so it is asked until each has been. It knows of them a moment after they are ready.
pub(crate) fn both_answer(space: &Space, client: &str, host: &str) -> Outcome {
    let mut missing = NODES.to_vec();
    eventually(&format!("{client} hears of both nodes at {host}"), || {
        let said = ask(space, client, host).unwrap_or_default();
        missing.retain(|node| *node != said.trim());
        missing.is_empty()
    })?;
    Ok(())
}

/// A pod that only waits to be asked to do something, on this node, or on any.
pub(crate) fn sleeper(name: &str, node: Option<&str>) -> String {
    let on = node.map(|node| format!("  nodeName: {node}\n")).unwrap_or_default();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{on}  containers: \
         [{{name: it, image: 'canopy.mesh/busybox:1', imagePullPolicy: Never, command: [sleep, '3600']}}]\n"
    )
}

/// The nodes, by name.
pub(crate) const NODES: [&str; 2] = ["node-1", "node-2"];

/// A server that answers with the name of its node, one pod on each; and a client on each.
pub(crate) const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: web
        image: canopy.mesh/busybox:1
        imagePullPolicy: Never
        command: [sh, -c, 'mkdir /www && echo "$NODE" >/www/index.html && exec httpd -f -p 8080 -h /www']
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client-1}
spec:
  nodeName: node-1
  containers: [{name: client, image: "canopy.mesh/busybox:1", imagePullPolicy: Never, command: [sleep, "3600"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: client-2}
spec:
  nodeName: node-2
  containers: [{name: client, image: "canopy.mesh/busybox:1", imagePullPolicy: Never, command: [sleep, "3600"]}]
"#;
