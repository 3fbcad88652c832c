//! What the runtime wants, by its environment (CNI specification 1.1, section 2, "Parameters").
//!
//! Pure: what a variable says is an argument. It must never take a text for a path or a pod's name that is none.

use std::path::{Path, PathBuf};

use super::answer::{Code, Failure};

/// A call of the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What is to be done.
    pub command: Command,
    /// The sandbox (`CNI_CONTAINERID`); empty where the command is about none.
    pub container: String,
    /// The file that names its network namespace (`CNI_NETNS`), where there is one.
    pub netns: Option<PathBuf>,
    /// The pod, by what the runtime says in `CNI_ARGS`; `None` where it is no pod's.
    pub pod: Option<Pod>,
}

/// A pod, as containerd and CRI-O name it: `K8S_POD_NAMESPACE`, `K8S_POD_NAME`, `K8S_POD_UID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, where the runtime says it: containerd does since 1.6.
    pub uid: Option<String>,
}

/// The operations of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Add a sandbox.
    Add,
    /// Remove one.
    Del,
    /// Is it as it was made?
    Check,
    /// Can sandboxes be added?
    Status,
    /// Remove all but these.
    Gc,
    /// Which versions are spoken?
    Version,
}

impl Call {
    /// By what each variable says.
    ///
    /// # Errors
    /// Code 4, with the names of all variables that are wrong.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let text = |name: &str| variable(name).unwrap_or_default();
        let command = match text("CNI_COMMAND").as_str() {
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "STATUS" => Command::Status,
            "GC" => Command::Gc,
            "VERSION" => Command::Version,
            "" => {
                return Err(environment(
                    "CNI_COMMAND is not set: this is run by the container runtime, not by people (`canopy cni --help`)",
                ));
            }
            other => {
                return Err(environment(&format!("CNI_COMMAND is {other:?}, which is no command of CNI")));
            }
        };
        let (needs_container, needs_netns) = match command {
            Command::Add | Command::Check => (true, true),
            Command::Del => (true, false),
            Command::Status | Command::Gc | Command::Version => (false, false),
        };
        let (container, netns) = (text("CNI_CONTAINERID"), text("CNI_NETNS"));
        let mut wrong = Vec::new();
        if needs_container && !is_container(&container) {
            wrong.push("CNI_CONTAINERID");
        }
        if needs_container && !is_interface(&text("CNI_IFNAME")) {
            wrong.push("CNI_IFNAME");
        }
        if needs_netns && !Path::new(&netns).is_absolute() {
            wrong.push("CNI_NETNS");
        }
        let pod = pod(&text("CNI_ARGS"));
        if pod.is_err() {
            wrong.push("CNI_ARGS");
        }
        let (Ok(pod), true) = (pod, wrong.is_empty()) else {
            return Err(environment(&format!("missing or wrong: {}", wrong.join(", "))));
        };
        let netns = Some(PathBuf::from(netns)).filter(|netns| netns.is_absolute());
        Ok(Self { command, container, netns, pod })
    }
}

fn environment(details: &str) -> Failure {
    Failure::new(Code::Environment, "the environment is not that of a CNI call", details)
}

/// "Must start with an alphanumeric character, optionally followed by any combination of one or more alphanumeric characters, underscore,
/// dot or hyphen."
fn is_container(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(inner)
        && text.len() <= 256
}

/// As Linux has them.
fn is_interface(text: &str) -> bool {
    let is_bad = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace();
    (1..16).contains(&text.len()) && text != "." && text != ".." && !text.bytes().any(is_bad)
}

/// `KEY=VALUE` pairs, separated by semicolons. Without a pod's namespace and name it is no pod's; with one of them alone, or with a value
/// that is none, it is wrong. Others' keys are others'.
fn pod(arguments: &str) -> Result<Option<Pod>, ()> {
    let of = |key: &str| {
        let pairs = arguments.split(';').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .next_back()
            .filter(|value| !value.is_empty())
    };
    let is_word = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        text.len() <= 253 && text.bytes().all(inner)
    };
    let uid = of("K8S_POD_UID");
    match (of("K8S_POD_NAMESPACE"), of("K8S_POD_NAME")) {
        (None, None) => Ok(None),
        (Some(namespace), Some(name)) if is_word(namespace) && is_word(name) && uid.is_none_or(is_word) => {
            let (namespace, name, uid) = (namespace.to_owned(), name.to_owned(), uid.map(str::to_owned));
            Ok(Some(Pod { namespace, name, uid }))
        }
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGS: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=9f-1";

    fn read(variables: &[(&str, &str)]) -> Result<Call, Failure> {
        Call::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_call_is_read_as_runtimes_make_it() {
        let call = read(&[
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c0"),
            ("CNI_NETNS", "/var/run/netns/cni-1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", ARGS),
        ])
        .unwrap();
        assert_eq!((call.command, call.container.as_str()), (Command::Add, "c0"));
        let pod =
            Pod { namespace: "shop".to_owned(), name: "cart-0".to_owned(), uid: Some("9f-1".to_owned()) };
        assert_eq!(call.pod, Some(pod));
        // Its namespace may be gone.
        let call =
            read(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c0"), ("CNI_IFNAME", "eth0")]).unwrap();
        assert_eq!((call.netns, call.pod), (None, None));
        for command in ["VERSION", "STATUS", "GC"] {
            assert!(read(&[("CNI_COMMAND", command)]).is_ok(), "{command}");
        }
    }

    #[test]
    fn every_wrong_variable_is_named() {
        let ok = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c0"),
            ("CNI_NETNS", "/n"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", ""),
        ];
        for (name, value) in [
            ("CNI_COMMAND", ""),
            ("CNI_COMMAND", "add"),
            ("CNI_CONTAINERID", ""),
            ("CNI_CONTAINERID", "-c"),
            ("CNI_CONTAINERID", "c/../d"),
            ("CNI_NETNS", ""),
            ("CNI_NETNS", "netns"),
            ("CNI_IFNAME", ""),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "0123456789abcdef"),
            ("CNI_IFNAME", "eth 0"),
            ("CNI_ARGS", "K8S_POD_NAME=cart"),
            ("CNI_ARGS", "K8S_POD_NAMESPACE=../kube-system;K8S_POD_NAME=cart"),
            ("CNI_ARGS", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=ca/rt"),
        ] {
            let variables = ok.map(|(known, good)| (known, if known == name { value } else { good }));
            let failure = read(&variables).unwrap_err();
            assert_eq!(failure.code, Code::Environment);
            assert!(failure.details.contains(name), "{name}={value}: {failure}");
        }
        let failure = read(&[("CNI_COMMAND", "CHECK")]).unwrap_err();
        assert!(failure.details.contains("CNI_CONTAINERID, CNI_IFNAME, CNI_NETNS"), "{failure}");
    }
}
