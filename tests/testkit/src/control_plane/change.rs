//! What a control plane is told to serve from now on, resource by resource.

use serde_json::{Value, json};

/// A change of one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Change(Value);

impl Change {
    /// The resource is this message, as it is encoded. It need not be one that anybody can read.
    #[must_use]
    pub fn set(type_url: &str, name: &str, body: &[u8]) -> Self {
        Self(json!({"type": type_url, "name": name, "body": base64(body)}))
    }

    /// The resource is this message of Envoy's, told as protobuf's JSON.
    #[must_use]
    pub fn set_json(type_url: &str, name: &str, message: &Value) -> Self {
        Self(json!({"type": type_url, "name": name, "json": message}))
    }

    /// The resource is gone.
    #[must_use]
    pub fn remove(type_url: &str, name: &str) -> Self {
        Self(json!({"type": type_url, "name": name}))
    }

    /// It can be asked for by these names, too.
    #[must_use]
    pub fn called(mut self, aliases: &[&str]) -> Self {
        self.0["aliases"] = aliases.into();
        self
    }

    /// It is found by these names, too, and not called so: a pod by its Service's.
    #[must_use]
    pub fn found_by(mut self, names: &[&str]) -> Self {
        self.0["found_by"] = names.into();
        self
    }

    /// Its body says to be of another type than it is served as.
    #[must_use]
    pub fn with_body_of(mut self, type_url: &str) -> Self {
        self.0["body_type"] = type_url.into();
        self
    }

    /// Its type.
    #[must_use]
    pub fn type_url(&self) -> &str {
        self.0["type"].as_str().unwrap_or_default()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0["name"].as_str().unwrap_or_default()
    }

    pub(super) fn told(&self) -> &Value {
        &self.0
    }
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let of = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let group = of(0) << 16 | of(1) << 8 | of(2);
        for at in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_as_rfc_4648_says() {
        let told = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(told, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }
}
