//! This plugin's place in a network's configuration: put in, and taken out again.
//!
//! Pure, over texts. What others have written stays, in their order; where this plugin stands in a chain it is left, so that no two
//! installers push each other away for ever. What is not understood must never be written anew.

use serde_json::{Map, Value, json};

use crate::cni::{NAME, network::VERSIONS};

/// Why a file cannot be chained into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is no JSON.
    #[error(
        "it is no JSON object ({0}); it is left as it is: mend it, or have your network plugin write it anew"
    )]
    Broken(String),
    /// It is JSON, and no network's configuration.
    #[error("it has neither `plugins` nor a `type`, as a network's configuration does; it is left as it is")]
    NoPlugins,
    /// Nobody in it makes a network.
    #[error("it has no other plugin than this one, which makes no network; it is left as it is")]
    Alone,
    /// Its version has no chains.
    #[error(
        "its cniVersion is {0}, and chains are since 0.3.0 (known here are {known}); it is left as it is: have your network plugin write a newer one",
        known = VERSIONS.join(", ")
    )]
    Version(String),
}

/// A network's configuration with this plugin in it.
///
/// `None` where it is so already. A single plugin's configuration becomes a list of it and this one.
///
/// # Errors
/// It cannot be chained into.
pub fn chain(text: &str, entry: &Value) -> Result<Option<String>, Problem> {
    let mut network = parse(text)?;
    let version = network.get("cniVersion").and_then(Value::as_str).unwrap_or("0.1.0");
    if !VERSIONS.contains(&version) {
        return Err(Problem::Version(version.to_owned()));
    }
    if !network.contains_key("plugins") {
        let alone = Value::Object(network.clone());
        if is_own(&alone) {
            return Err(Problem::Alone);
        }
        let list = json!({"cniVersion": version, "name": network.get("name"), "plugins": [alone, entry]});
        return print(&list).map(Some);
    }
    let plugins = plugins(&mut network)?;
    if plugins.iter().all(is_own) {
        return Err(Problem::Alone);
    }
    match plugins.iter_mut().find(|plugin| is_own(plugin)) {
        Some(own) if own == entry => return Ok(None),
        Some(own) => *own = entry.clone(),
        None => plugins.push(entry.clone()),
    }
    print(&Value::Object(network)).map(Some)
}

/// A network's configuration without this plugin; `None` where it is not in it.
///
/// # Errors
/// It is not understood.
pub fn unchain(text: &str) -> Result<Option<String>, Problem> {
    let mut network = parse(text)?;
    if !network.contains_key("plugins") {
        return Ok(None);
    }
    let plugins = plugins(&mut network)?;
    let before = plugins.len();
    plugins.retain(|plugin| !is_own(plugin));
    if plugins.len() == before { Ok(None) } else { print(&Value::Object(network)).map(Some) }
}

/// Whether a list has nothing but this one plugin's configuration.
pub fn is_alone(list: &str, single: &str) -> bool {
    let (Ok(mut list), Ok(single)) = (parse(list), parse(single)) else { return false };
    plugins(&mut list).is_ok_and(|plugins| matches!(&plugins[..], [one] if one.as_object() == Some(&single)))
}

/// Whether a file is a single plugin's configuration, and no list.
pub fn is_single(text: &str) -> bool {
    parse(text).is_ok_and(|network| !network.contains_key("plugins"))
}

/// Whether a network is Multus's, which has others made: chained into it, this plugin would be asked before there is a network, and
/// Multus writes its file anew from the one behind it.
pub fn is_multus(text: &str) -> bool {
    let multus = |plugin: &Value| plugin["type"].as_str().is_some_and(|name| name.starts_with("multus"));
    let Ok(mut network) = parse(text) else { return false };
    if network.contains_key("plugins") {
        return plugins(&mut network).is_ok_and(|plugins| plugins.iter().any(multus));
    }
    multus(&Value::Object(network))
}

fn parse(text: &str) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_str(text) {
        Ok(Value::Object(network)) if network.contains_key("plugins") || network.contains_key("type") => {
            Ok(network)
        }
        Ok(Value::Object(_)) => Err(Problem::NoPlugins),
        Ok(_) => Err(Problem::Broken("it is something else".to_owned())),
        Err(error) => Err(Problem::Broken(error.to_string())),
    }
}

/// The plugins of a list, of which each has a type.
fn plugins(network: &mut Map<String, Value>) -> Result<&mut Vec<Value>, Problem> {
    let plugins = network.get_mut("plugins").and_then(Value::as_array_mut).ok_or(Problem::NoPlugins)?;
    let are_plugins = !plugins.is_empty() && plugins.iter().all(|plugin| plugin["type"].is_string());
    if are_plugins { Ok(plugins) } else { Err(Problem::NoPlugins) }
}

fn is_own(plugin: &Value) -> bool {
    plugin["type"] == NAME
}

/// As text that says the same. Of numbers with many digits, or of what is nested very deeply, that is not certain.
fn print(network: &Value) -> Result<String, Problem> {
    let text = format!("{network:#}\n");
    match serde_json::from_str::<Value>(&text) {
        Ok(read) if read == *network => Ok(text),
        _ => Err(Problem::Broken("it would not be the same when it is written again".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIDGE: &str = r#"{"cniVersion":"1.0.0","name":"podnet","plugins":[
        {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/16"}]]}},
        {"type":"portmap","capabilities":{"portMappings":true}}]}"#;
    const CALICO: &str = r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[
        {"type":"calico","log_level":"info","datastore_type":"kubernetes","mtu":0,"ipam":{"type":"calico-ipam"},
         "policy":{"type":"k8s"},"kubernetes":{"kubeconfig":"/etc/cni/net.d/calico-kubeconfig"}},
        {"type":"portmap","snat":true,"capabilities":{"portMappings":true}},{"type":"bandwidth","capabilities":{"bandwidth":true}}]}"#;
    const CILIUM: &str = r#"{"cniVersion":"0.3.1","name":"cilium","plugins":[
        {"type":"cilium-cni","enable-debug":false,"log-file":"/var/run/cilium/cilium-cni.log"}]}"#;
    const SINGLE: &str = r#"{"cniVersion":"0.3.1","name":"podnet","type":"bridge","bridge":"cni0","ipam":{"type":"host-local"}}"#;

    fn entry() -> Value {
        json!({"type": NAME, "gate": "/run/canopy/gate.sock"})
    }

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn it_comes_last_everything_else_stays_and_taken_out_all_is_as_it_was() {
        for original in [BRIDGE, CALICO, CILIUM] {
            let chained = chain(original, &entry()).unwrap().unwrap();
            let (before, after) = (value(original), value(&chained));
            let (before, after) =
                (before["plugins"].as_array().unwrap(), after["plugins"].as_array().unwrap());
            assert_eq!((&after[..before.len()], after.last()), (&before[..], Some(&entry())));
            assert_eq!(chain(&chained, &entry()), Ok(None), "twice is once");
            assert_eq!(value(&unchain(&chained).unwrap().unwrap()), value(original));
            assert_eq!(unchain(original), Ok(None));
        }
    }

    #[test]
    fn it_stays_where_it_stands_when_others_have_come_behind_it() {
        let chained = chain(CILIUM, &entry()).unwrap().unwrap();
        let mut list = value(&chained);
        let istio = json!({"type": "istio-cni", "log_level": "info"});
        list["plugins"].as_array_mut().unwrap().push(istio.clone());
        assert_eq!(chain(&list.to_string(), &entry()), Ok(None));
        let newer = json!({"type": NAME, "gate": "/run/other.sock"});
        let renewed = value(&chain(&list.to_string(), &newer).unwrap().unwrap());
        assert_eq!((&renewed["plugins"][1], &renewed["plugins"][2]), (&newer, &istio));
        let without = value(&unchain(&list.to_string()).unwrap().unwrap());
        assert_eq!(without["plugins"].as_array().unwrap().last(), Some(&istio));
    }

    #[test]
    fn a_single_plugin_becomes_a_list_of_it_and_this_one() {
        assert!(is_single(SINGLE) && !is_single(BRIDGE));
        let list = chain(SINGLE, &entry()).unwrap().unwrap();
        assert_eq!(value(&list)["plugins"], json!([value(SINGLE), entry()]));
        assert_eq!((&value(&list)["name"], &value(&list)["cniVersion"]), (&json!("podnet"), &json!("0.3.1")));
        assert!(!is_alone(&list, SINGLE));
        assert!(is_alone(&unchain(&list).unwrap().unwrap(), SINGLE));
        assert!(!is_alone(&unchain(&list).unwrap().unwrap(), BRIDGE));
    }

    #[test]
    fn what_is_broken_or_too_old_is_refused_with_why() {
        for (text, expected) in [
            ("", "it is no JSON object"),
            ("{\"plugins\": [", "it is no JSON object"),
            ("[]", "it is no JSON object"),
            ("{}", "it has neither `plugins` nor"),
            (r#"{"cniVersion":"1.0.0","plugins":{}}"#, "it has neither `plugins` nor"),
            (r#"{"cniVersion":"1.0.0","plugins":[]}"#, "it has neither `plugins` nor"),
            (r#"{"cniVersion":"1.0.0","plugins":[{"name":"x"}]}"#, "it has neither `plugins` nor"),
            (r#"{"cniVersion":"1.0.0","type":"canopy-cni"}"#, "it has no other plugin"),
            (r#"{"cniVersion":"1.0.0","plugins":[{"type":"canopy-cni"}]}"#, "it has no other plugin"),
            (r#"{"cniVersion":"0.2.0","type":"bridge"}"#, "its cniVersion is 0.2.0"),
            (r#"{"type":"bridge"}"#, "its cniVersion is 0.1.0"),
        ] {
            let problem = chain(text, &entry()).unwrap_err().to_string();
            assert!(problem.starts_with(expected) && problem.contains("left as it is"), "{text}: {problem}");
        }
    }

    #[test]
    fn multus_is_known_in_either_shape() {
        let delegating =
            r#"{"cniVersion":"0.3.1","name":"multus","type":"multus-shim","clusterNetwork":"/x"}"#;
        let listed = r#"{"cniVersion":"0.3.1","name":"m","plugins":[{"type":"multus"}]}"#;
        assert!(is_multus(delegating) && is_multus(listed));
        assert!(!is_multus(BRIDGE) && !is_multus(SINGLE) && !is_multus("{"));
    }
}
