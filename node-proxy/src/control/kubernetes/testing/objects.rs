//! Of the small API server: Secrets and ConfigMaps, one by one, and reviews of tokens.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::Cluster;

/// Objects by their paths, and tokens by what they say.
#[derive(Default)]
pub(in super::super) struct Singles {
    version: u64,
    objects: BTreeMap<String, Value>,
    tokens: BTreeMap<String, Token>,
}

/// What is known of a token.
#[derive(Debug, Clone)]
pub(in super::super) struct Token {
    /// For whom it is.
    pub(in super::super) audience: &'static str,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub(in super::super) user: &'static str,
    /// `pod-name`, `pod-uid`, `node-name`.
    pub(in super::super) extra: Vec<(&'static str, &'static str)>,
}

impl Cluster {
    /// A token is valid from now on.
    pub(in super::super) fn token(&self, text: &str, token: Token) {
        self.state().singles.tokens.insert(text.to_owned(), token);
    }

    /// It has expired, or its pod is gone.
    pub(in super::super) fn expire(&self, text: &str) {
        self.state().singles.tokens.remove(text);
    }

    /// An object as it is now.
    pub(in super::super) fn single(&self, path: &str) -> Value {
        self.state().singles.objects.get(path).cloned().unwrap_or_default()
    }

    /// Somebody changes an object.
    pub(in super::super) fn edit(&self, path: &str, object: Value) {
        self.state().singles.keep(path, object);
    }
}

impl Singles {
    /// The answer; `None` for what is not here.
    pub(super) fn answer(&mut self, method: &Method, path: &str, body: &Bytes) -> Option<(u16, Value)> {
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        if path.ends_with("/tokenreviews") {
            return Some((201, self.review(said)));
        }
        let (_, rest) = path.split_once("/secrets").or_else(|| path.split_once("/configmaps"))?;
        let refusal = |status: u16| Some((status, json!({ "kind": "Status", "code": status })));
        let name = said["metadata"]["name"].as_str().unwrap_or_default();
        let at = if rest.is_empty() { format!("{path}/{name}") } else { path.to_owned() };
        match (method.as_str(), self.objects.get(&at)) {
            ("POST", Some(_)) => refusal(409),
            ("GET", Some(object)) => Some((200, object.clone())),
            ("PUT", Some(before))
                if before["metadata"]["resourceVersion"] != said["metadata"]["resourceVersion"] =>
            {
                refusal(409)
            }
            ("POST", None) | ("PUT", Some(_)) => Some((200, self.keep(&at, said))),
            _ => refusal(404),
        }
    }

    fn keep(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    /// As an API server does it: a token that is known, for one of the audiences.
    fn review(&self, mut review: Value) -> Value {
        let token = review["spec"]["token"].as_str().and_then(|text| self.tokens.get(text));
        let audiences = review["spec"]["audiences"].as_array().cloned().unwrap_or_default();
        review["status"] = match token.filter(|token| audiences.iter().any(|one| one == token.audience)) {
            None => json!({ "user": {}, "error": "[invalid bearer token, token has expired]" }),
            Some(Token { audience, user, extra }) => {
                let extra = extra
                    .iter()
                    .map(|(key, word)| (format!("authentication.kubernetes.io/{key}"), json!([word])));
                let extra: serde_json::Map<String, Value> = extra.collect();
                json!({
                    "authenticated": true, "audiences": [audience],
                    "user": { "username": user, "groups": ["system:serviceaccounts"], "extra": extra },
                })
            }
        };
        review
    }
}
