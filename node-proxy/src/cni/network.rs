//! The network's configuration, as the runtime hands it to one plugin of a chain (CNI specification 1.1, section 3, "Deriving request
//! configuration").
//!
//! Pure. The result of the plugins before this one is passed on as it came: it must never lose a field of it that this one does not know.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Code, Failure};

/// Versions of the specification that are spoken: those with chains.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The newest of them.
pub const NEWEST: &str = "1.1.0";

/// What this plugin is told.
#[derive(Debug, Clone)]
pub struct Network {
    /// The version that the runtime speaks.
    pub version: String,
    /// What the plugins before this one made.
    pub previous: Option<Value>,
    /// Where a garbage collection says which sandboxes there are: their names.
    pub valid: Vec<String>,
    /// What concerns this plugin alone.
    pub own: Own,
}

/// What `canopy cni install` writes into the chain.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Own {
    /// The daemon's gate.
    pub gate: PathBuf,
    /// How the API server is asked; without it, it is not.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// What the daemon leaves of namespaces on disk.
    #[serde(default)]
    pub cache: Option<PathBuf>,
    /// Namespaces whose pods pass unasked, besides `kube-system`: the daemon's own.
    #[serde(default, rename = "exemptNamespaces")]
    pub exempt: Vec<String>,
    /// How long a pod may wait, in seconds.
    #[serde(default = "seconds", rename = "timeoutSeconds")]
    pub seconds: u64,
}

fn seconds() -> u64 {
    DEFAULT_SECONDS
}

/// How long a pod waits unless it is said otherwise. The kubelet gives a sandbox two minutes, and tries again after a failure.
pub const DEFAULT_SECONDS: u64 = 20;
/// The longest that may be said.
pub const MOST_SECONDS: u64 = 90;

impl Own {
    /// How long a pod may wait.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.seconds.clamp(1, MOST_SECONDS))
    }

    /// Whether pods of a namespace pass unasked.
    pub fn is_exempt(&self, namespace: &str) -> bool {
        namespace == "kube-system" || self.exempt.iter().any(|exempt| exempt == namespace)
    }
}

impl Network {
    /// Reads it.
    ///
    /// # Errors
    /// Code 6 where it is no configuration, 1 where its version is not spoken, 7 where something in it is wrong.
    pub fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let value = value(bytes)?;
        let version = value["cniVersion"].as_str().unwrap_or("0.1.0").to_owned();
        if !VERSIONS.contains(&version.as_str()) {
            let details = format!("{version} is not among {}; correct cniVersion", VERSIONS.join(", "));
            return Err(Failure::new(Code::Version, "this version of CNI is not spoken", details));
        }
        let own = Own::deserialize(&value);
        let own =
            own.map_err(|error| Failure::new(Code::Network, "its own part of the chain is wrong", error))?;
        if !own.gate.is_absolute() {
            let details = "\"gate\" must be the full path of the daemon's --gate-socket";
            return Err(Failure::new(Code::Network, "its own part of the chain is wrong", details));
        }
        let previous = Some(value["prevResult"].clone()).filter(Value::is_object);
        // One specification says the one, and older runtimes the other (containernetworking/cni, issue 1101).
        let valid = [&value["cni.dev/valid-attachments"], &value["cni.dev/attachments"]];
        let valid = valid.into_iter().find_map(Value::as_array).map_or(&[][..], Vec::as_slice);
        let valid = valid.iter().filter_map(|one| Some(one["containerID"].as_str()?.to_owned())).collect();
        Ok(Self { version, previous, valid, own })
    }

    /// What an addition answers: "plugins provided a `prevResult` key must output it as their result".
    ///
    /// # Errors
    /// Code 7 where there is none: this plugin makes no network.
    pub fn result(&self) -> Result<String, Failure> {
        let none = || {
            let details =
                "there is no prevResult: it must stand behind the plugin that makes the pod's network";
            Failure::new(Code::Network, "this plugin makes no network itself", details)
        };
        self.previous.as_ref().map(Value::to_string).ok_or_else(none)
    }

    /// The addresses that the plugins before this one gave.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ips = self.previous.as_ref().and_then(|previous| previous["ips"].as_array());
        let ips = ips.map_or(&[][..], Vec::as_slice).iter().filter_map(|ip| ip["address"].as_str());
        let mut addresses: Vec<IpAddr> = ips.filter_map(|ip| ip.split('/').next()?.parse().ok()).collect();
        // One of each family, as a pod has them; other networks of it come in calls of their own.
        let mut families = Vec::new();
        addresses.retain(|address| {
            let is_new = !families.contains(&address.is_ipv4());
            families.push(address.is_ipv4());
            is_new
        });
        addresses
    }

    /// Whether the runtime speaks at least this version: operations came one after another.
    pub fn speaks(&self, version: &str) -> bool {
        let place = |of: &str| VERSIONS.iter().position(|known| *known == of);
        place(&self.version) >= place(version)
    }
}

/// The version of a configuration that is wrong otherwise, for the answer.
pub(super) fn version(bytes: &[u8]) -> Option<String> {
    Some(value(bytes).ok()?["cniVersion"].as_str()?.to_owned())
}

/// What `VERSION` answers.
pub(super) fn versions(bytes: &[u8]) -> Result<String, Failure> {
    // Nothing else is needed, and some runtimes say nothing at all.
    let version = if bytes.iter().all(u8::is_ascii_whitespace) { None } else { Some(value(bytes)?) };
    let version = version.as_ref().and_then(|value| value["cniVersion"].as_str()).unwrap_or(NEWEST);
    Ok(json!({"cniVersion": version, "supportedVersions": VERSIONS}).to_string())
}

fn value(bytes: &[u8]) -> Result<Value, Failure> {
    let bad = |why: String| Failure::new(Code::Decode, "the network's configuration is not understood", why);
    let value: Value = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    if value.is_object() { Ok(value) } else { Err(bad("it is no JSON object".to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Network, Failure> {
        Network::read(text.as_bytes())
    }

    #[test]
    fn what_the_plugins_before_made_is_passed_on_with_all_that_is_not_known_here() {
        let previous = r#"{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.5/16","gateway":"10.1.0.1"},{"address":"fd00::5/64"},
            {"address":"10.2.0.5/16"}],"interfaces":[{"name":"eth0","mtu":9000,"pciID":"x"}],"new":[18446744073709551615,1.5]}"#;
        let network = read(&format!(
            r#"{{"cniVersion":"1.1.0","name":"n","type":"canopy-cni","gate":"/g","prevResult":{previous}}}"#
        ))
        .unwrap();
        let (passed, came): (Value, Value) = (
            serde_json::from_str(&network.result().unwrap()).unwrap(),
            serde_json::from_str(previous).unwrap(),
        );
        assert_eq!(passed, came);
        let addresses = network.addresses().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(addresses, ["10.1.0.5", "fd00::5"], "one of each family");
    }

    #[test]
    fn what_is_wrong_is_said_by_its_code() {
        for (text, code) in [
            ("", Code::Decode),
            ("[]", Code::Decode),
            (r#"{"gate":"/g"}"#, Code::Version),
            (r#"{"cniVersion":"2.0.0","gate":"/g"}"#, Code::Version),
            (r#"{"cniVersion":"1.0.0"}"#, Code::Network),
            (r#"{"cniVersion":"1.0.0","gate":"g"}"#, Code::Network),
            (r#"{"cniVersion":"1.0.0","gate":"/g","timeoutSeconds":"1"}"#, Code::Network),
        ] {
            assert_eq!(read(text).unwrap_err().code, code, "{text}");
        }
        let alone = read(r#"{"cniVersion":"1.0.0","gate":"/g"}"#).unwrap();
        assert_eq!(alone.result().unwrap_err().code, Code::Network);
        assert!(alone.addresses().is_empty());
    }

    #[test]
    fn a_garbage_collection_names_sandboxes_by_either_key() {
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let text = format!(
                r#"{{"cniVersion":"1.1.0","gate":"/g","{key}":[{{"containerID":"a","ifname":"eth0"}},{{"ifname":"x"}}]}}"#
            );
            assert_eq!(read(&text).unwrap().valid, ["a"]);
        }
    }

    #[test]
    fn versions_are_told_with_or_without_one_asked_in() {
        for (text, version) in
            [("", NEWEST), (" \n", NEWEST), (r#"{"cniVersion":"9.0.0"}"#, "9.0.0"), ("{}", NEWEST)]
        {
            let told: Value = serde_json::from_str(&versions(text.as_bytes()).unwrap()).unwrap();
            assert_eq!(
                (&told["cniVersion"], &told["supportedVersions"]),
                (&json!(version), &json!(VERSIONS))
            );
        }
        assert_eq!(versions(b"{").unwrap_err().code, Code::Decode);
    }

    #[test]
    fn a_pod_waits_no_longer_than_the_kubelet_does() {
        for (seconds, expected) in
            [("", 20), (r#","timeoutSeconds":0"#, 1), (r#","timeoutSeconds":3600"#, 90)]
        {
            let network = read(&format!(r#"{{"cniVersion":"1.0.0","gate":"/g"{seconds}}}"#)).unwrap();
            assert_eq!(network.own.patience().as_secs(), expected);
        }
        let network =
            read(r#"{"cniVersion":"1.0.0","gate":"/g","exemptNamespaces":["canopy-system"]}"#).unwrap();
        let exempt = ["kube-system", "canopy-system", "shop"].map(|name| network.own.is_exempt(name));
        assert_eq!(exempt, [true, true, false]);
    }
}
