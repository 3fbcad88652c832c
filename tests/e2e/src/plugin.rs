//! The plugin of the container network, run as a container runtime runs it.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use testkit::Pod;

use crate::built;

/// Runs it for a pod's sandbox, with this network's configuration on its standard input, to its end.
///
/// # Panics
/// It cannot be run, or does not read.
#[must_use]
pub fn run_plugin(command: &str, pod: &Pod, (uid, container): (&str, &str), network: &Value) -> Output {
    let sandbox = PodSandbox { name: pod.name(), uid, container, place: pod };
    run_plugin_for(command, &sandbox, network)
}

/// A pod's sandbox, as a container runtime calls it.
#[derive(Debug)]
pub struct PodSandbox<'a> {
    /// The pod's name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// The sandbox's own name.
    pub container: &'a str,
    /// Where it is: the network, and the namespace, of this one, which may have another name.
    pub place: &'a Pod,
}

/// The same for a sandbox whose pod is not called as its place.
///
/// # Panics
/// As [`run_plugin`].
#[must_use]
pub fn run_plugin_for(command: &str, sandbox: &PodSandbox<'_>, network: &Value) -> Output {
    let PodSandbox { name, uid, container, place } = sandbox;
    let arguments = format!("K8S_POD_NAMESPACE={};K8S_POD_NAME={name};K8S_POD_UID={uid}", place.namespace());
    let mut child = Command::new(built("canopy"))
        .arg("cni")
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", place.netns_path())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    child.stdin.take().expect("a pipe").write_all(network.to_string().as_bytes()).expect("it reads");
    child.wait_with_output().expect("its end")
}
