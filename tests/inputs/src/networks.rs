//! Any text of a network's configuration, as a runtime hands it to the CNI plugin and as a directory has it: no panic; what the plugins
//! before have made is passed on as it is; and chained in and taken out again, the text says what it said, but for this plugin.

use node_proxy::cni::{
    NAME,
    install::chain::{chain, is_alone, is_single, unchain},
    network::Network,
};
use serde_json::{Value, json};

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
    let text = crate::text(bytes);
    let value = serde_json::from_str::<Value>(text);
    if let Ok(network) = Network::read(bytes) {
        assert!(network.addresses().len() <= 2, "one of each family");
        if let (Ok(result), Ok(value)) = (network.result(), &value)
            && !has_fraction(&value["prevResult"])
        {
            assert_eq!(serde_json::from_str::<Value>(&result).ok().as_ref(), Some(&value["prevResult"]));
        }
    }
    let entry = json!({"type": NAME, "gate": "/run/canopy/gate.sock"});
    let (Ok(Some(chained)), Ok(mut value)) = (chain(text, &entry), value) else { return };
    assert_eq!(chain(&chained, &entry), Ok(None), "twice is once");
    let without = unchain(&chained).expect("it was written here").expect("it is in it");
    if is_single(text) {
        assert!(is_alone(&without, text), "{without}");
        return;
    }
    if let Some(plugins) = value["plugins"].as_array_mut() {
        plugins.retain(|plugin| plugin["type"] != NAME);
    }
    assert_eq!(serde_json::from_str::<Value>(&without).ok(), Some(value));
}

/// Whose last digits may be others when it is read again. No result of CNI has one.
fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_fraction),
        Value::Object(values) => values.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}
