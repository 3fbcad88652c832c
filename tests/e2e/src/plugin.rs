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
    let arguments =
        format!("K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={uid}", pod.namespace(), pod.name());
    let mut child = Command::new(built("canopy"))
        .arg("cni")
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", pod.netns_path())
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
