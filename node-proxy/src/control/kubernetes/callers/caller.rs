//! Who asks, as the API server's review of a token says (authentication.k8s.io/v1 TokenReview). Pure.
//!
//! Nothing of the token itself is read here: what it says of itself is nobody's word until the API server has said so.

use std::{fmt, str::FromStr};

use config::name::{Namespace, ServiceAccount};
use serde_json::{Value, json};

use super::{super::residents::Residents, Refusal};

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: ServiceAccount,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control::kubernetes) struct Caller {
    pub(in crate::control::kubernetes) account: Account,
    /// The pod that the token was made for: name and UID.
    pod: Option<(String, String)>,
    /// Its node, where the API server says it (Kubernetes 1.32 and newer do).
    node: Option<String>,
}

/// What is asked of the API server.
pub(super) fn review(token: &str, audience: &str) -> Value {
    json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token, "audiences": [audience] },
    })
}

impl Caller {
    /// As the review says it.
    pub(super) fn read(review: &Value, audience: &str) -> Result<Self, Refusal> {
        let status = &review["status"];
        if status["authenticated"] != true {
            return Err(Refusal::Token);
        }
        // An API server that knows nothing of audiences names none, and means its own.
        let audiences = status["audiences"].as_array().into_iter().flatten();
        if !audiences.into_iter().any(|one| one == audience) {
            return Err(Refusal::Audience);
        }
        let user = status["user"]["username"].as_str().unwrap_or_default();
        let account = user.strip_prefix("system:serviceaccount:").and_then(|of| of.split_once(':'));
        let (namespace, name) = account.ok_or(Refusal::Account)?;
        let account = Account {
            namespace: namespace.try_into().map_err(|_| Refusal::Account)?,
            name: name.try_into().map_err(|_| Refusal::Account)?,
        };
        let extra = |key: &str| {
            let words = status["user"]["extra"][format!("authentication.kubernetes.io/{key}")].as_array();
            match words.map(Vec::as_slice) {
                Some([Value::String(word)]) if !word.is_empty() => Some(word.clone()),
                _ => None,
            }
        };
        Ok(Self { account, pod: extra("pod-name").zip(extra("pod-uid")), node: extra("node-name") })
    }

    /// Whether it is the pod of a sidecar, which reads the mesh for itself.
    pub(super) fn has_sidecar(&self, residents: &Residents) -> bool {
        let pod = self.pod.as_ref();
        pod.is_some_and(|(name, uid)| residents.has_sidecar(self.account.namespace.as_str(), name, uid))
    }

    /// The node it asks from: what the token says, and what is known of its pod. Where both are known they have to agree.
    pub(super) fn node(&self, residents: &Residents) -> Result<String, Refusal> {
        let (name, uid) = self.pod.as_ref().ok_or(Refusal::Node)?;
        let known = residents.node_of(self.account.namespace.as_str(), name, uid);
        match (self.node.clone(), known) {
            (Some(said), Some(known)) if said != known => Err(Refusal::Node),
            (Some(node), _) | (None, Some(node)) => Ok(node),
            (None, None) => Err(Refusal::Node),
        }
    }
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let what = || format!("{text:?} is not NAMESPACE/SERVICE_ACCOUNT, as in canopy-system/canopy-node");
        let (namespace, name) = text.split_once('/').ok_or_else(what)?;
        let namespace = namespace.try_into().map_err(|_| what())?;
        Ok(Self { namespace, name: name.try_into().map_err(|_| what())? })
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: Value) -> Result<Caller, Refusal> {
        Caller::read(&json!({ "status": status }), "istio-ca")
    }

    #[test]
    fn a_caller_is_who_the_api_server_says_for_our_audience() {
        let user = json!({ "username": "system:serviceaccount:shop:cart" });
        let caller =
            status(json!({ "authenticated": true, "audiences": ["istio-ca"], "user": user })).unwrap();
        assert_eq!(caller.account.to_string(), "shop/cart");
        for (said, why) in [
            (json!({}), Refusal::Token),
            (json!({ "authenticated": "true", "audiences": ["istio-ca"], "user": user }), Refusal::Token),
            (json!({ "authenticated": false, "audiences": ["istio-ca"], "user": user }), Refusal::Token),
            (json!({ "authenticated": true, "user": user }), Refusal::Audience),
            (json!({ "authenticated": true, "audiences": ["api"], "user": user }), Refusal::Audience),
            (json!({ "authenticated": true, "audiences": ["istio-ca"] }), Refusal::Account),
        ] {
            assert_eq!(status(said.clone()), Err(why), "{said}");
        }
        for user in ["system:node:a", "root", "system:serviceaccount:shop", "system:serviceaccount:a/b:c"] {
            let said =
                json!({ "authenticated": true, "audiences": ["istio-ca"], "user": { "username": user } });
            assert_eq!(status(said), Err(Refusal::Account), "{user}");
        }
    }
}
