//! Where the root is kept: a Secret of the own namespace, made by whoever of several control planes comes first; and the ConfigMap by
//! which nodes know what to trust.
//!
//! A Secret is made and never changed from here: it is people who change a root. One that cannot be used must never take the place of
//! what could.

use std::{path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::{
    super::api::{ApiError, JSON, JSON_PATCH},
    Authority, Keys, Presented,
};
use crate::identity::authority::{
    embedded::{
        DirectoryError,
        directory::pem,
        held::{self, Held, ROOT, Reading, Texts},
    },
    retry::{Backoff, report},
};

/// Why there is no root, or nobody is told of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum RootError {
    #[error("the Secret {SECRET}")]
    Secret(#[source] ApiError),
    #[error("the ConfigMap {ROOTS}")]
    Roots(#[source] ApiError),
    #[error("the MutatingWebhookConfiguration {WEBHOOK}")]
    Webhook(#[source] ApiError),
    #[error("{place}: {key} is not base64")]
    Encoding { place: String, key: String },
    #[error(transparent)]
    Root(#[from] DirectoryError),
}

impl Authority {
    /// Follows the root until dropped, and gives nodes the roots to trust.
    pub async fn keep(self: Arc<Self>) {
        let (mut backoff, mut said) = (Backoff::between(FIRST, LOOK), None);
        loop {
            match self.look().await {
                Ok(()) => {
                    backoff.reset();
                    said = None;
                }
                Err(error) => {
                    let error = report(&error);
                    if said.as_ref() != Some(&error) {
                        tracing::error!(
                            error,
                            ready = self.is_ready(),
                            "the root cannot be used as it is; it is tried again"
                        );
                        said = Some(error);
                    }
                    sleep(backoff.next(fastrand::f64())).await;
                    continue;
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Reads the root, and makes it where there is none.
    pub(super) async fn look(&self) -> Result<(), RootError> {
        let secret = self.secret().await?;
        self.adopt(&secret)?;
        if self.options.publishes {
            self.publish().await.map_err(RootError::Roots)?;
        }
        if self.options.webhook {
            self.introduce().await.map_err(RootError::Webhook)?;
        }
        Ok(())
    }

    async fn secret(&self) -> Result<Value, RootError> {
        let all = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        let path = format!("{all}/{SECRET}");
        match self.api.exchange(Method::GET, &path, None).await {
            Err(ApiError::NotInstalled) => {}
            found => return found.map_err(RootError::Secret),
        }
        let root = held::new_root(&self.options.trust_domain, self.now())?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": { "name": SECRET, "labels": { "app.kubernetes.io/part-of": "canopy" } },
            "data": { ROOT: STANDARD.encode(root.as_bytes()) },
        });
        match self.api.exchange(Method::POST, &all, Some((JSON, &secret))).await {
            Ok(made) => {
                tracing::info!(secret = SECRET, "a root was made");
                Ok(made)
            }
            // Another control plane was quicker: its root is everybody's.
            Err(error) if error.is_conflict() => {
                self.api.exchange(Method::GET, &path, None).await.map_err(RootError::Secret)
            }
            Err(error) => Err(RootError::Secret(error)),
        }
    }

    /// Signs with what the Secret says, if it says something new, or if it is time for another intermediate.
    fn adopt(&self, secret: &Value) -> Result<(), RootError> {
        let metadata = &secret["metadata"];
        let version = format!("{}/{}", metadata["uid"], metadata["resourceVersion"]);
        let now = self.now();
        let is_current = |keys: &Arc<Keys>| keys.version == version && !keys.held.is_due(now);
        if self.keys.borrow().as_ref().is_some_and(is_current) {
            return Ok(());
        }
        let place = format!("Secret {}/{SECRET}", self.namespace);
        let reading = Reading {
            place: &PathBuf::from(&place),
            trust_domain: &self.options.trust_domain,
            lifetime: self.options.lifetime,
            now,
        };
        let held = Held::read(&texts(secret, &place)?, reading)?;
        let bundle: String = held.roots().certificates().iter().map(pem).collect();
        let (chain, key) = held.server(&self.names(), now)?;
        let presented = Arc::new(Presented { chain, key });
        tracing::info!(
            roots = held.roots().certificates().len(),
            "certificates are signed with the root of the Secret {SECRET}"
        );
        self.keys.send_replace(Some(Arc::new(Keys { held, bundle, version, presented })));
        Ok(())
    }

    /// Gives nodes the roots, unless they have them.
    async fn publish(&self) -> Result<(), ApiError> {
        let Some(bundle) = self.keys.borrow().as_ref().map(|keys| keys.bundle.clone()) else { return Ok(()) };
        let all = format!("/api/v1/namespaces/{}/configmaps", self.namespace);
        let path = format!("{all}/{ROOTS}");
        let written = match self.api.exchange(Method::GET, &path, None).await {
            Ok(map) if map["data"][KEY] == bundle.as_str() => return Ok(()),
            Ok(mut map) => {
                map["data"][KEY] = json!(bundle);
                self.api.exchange(Method::PUT, &path, Some((JSON, &map))).await
            }
            Err(ApiError::NotInstalled) => {
                let map = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": { "name": ROOTS, "labels": { "app.kubernetes.io/part-of": "canopy" } },
                    "data": { KEY: bundle },
                });
                self.api.exchange(Method::POST, &all, Some((JSON, &map))).await
            }
            Err(error) => return Err(error),
        };
        match written {
            Ok(_) => tracing::info!(config_map = ROOTS, "nodes are told which roots to trust"),
            // Another was quicker, with the same roots: looked at again.
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Gives the API server the roots by which it trusts the webhook, unless it has them.
    async fn introduce(&self) -> Result<(), ApiError> {
        let Some(bundle) = self.roots() else { return Ok(()) };
        let path = format!("{WEBHOOKS}/{WEBHOOK}");
        let found = self.api.exchange(Method::GET, &path, None).await?;
        let patch = trusting(&found, &STANDARD.encode(bundle));
        if patch.is_empty() {
            return Ok(());
        }
        let patch = Value::Array(patch);
        self.api.exchange(Method::PATCH, &path, Some((JSON_PATCH, &patch))).await?;
        tracing::info!(webhook = WEBHOOK, "the API server is told which roots to trust");
        Ok(())
    }

    /// The names of the own Service.
    fn names(&self) -> Vec<String> {
        let service = format!("{SERVICE}.{}", self.namespace);
        let domain = &self.options.cluster_domain;
        vec![format!("{service}.svc"), service.clone(), format!("{service}.svc.{domain}")]
    }
}

/// What gives each of a configuration's webhooks these roots that has others.
fn trusting(found: &Value, bundle: &str) -> Vec<Value> {
    let webhooks = found["webhooks"].as_array().into_iter().flatten().enumerate();
    let others = webhooks.filter(|(_, webhook)| webhook["clientConfig"]["caBundle"] != bundle);
    let patch = others.map(|(index, _)| {
        json!({ "op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": bundle })
    });
    patch.collect()
}

/// A Secret's texts.
fn texts(secret: &Value, place: &str) -> Result<Texts, RootError> {
    let data = secret["data"].as_object().into_iter().flatten();
    let texts = data.map(|(key, text)| {
        let decoded = text.as_str().and_then(|text| STANDARD.decode(text).ok());
        let decoded =
            decoded.ok_or_else(|| RootError::Encoding { place: place.to_owned(), key: key.clone() })?;
        Ok((key.clone(), Zeroizing::new(decoded)))
    });
    texts.collect()
}

/// The Secret with the root: `root.pem`, and beside it what else is trusted.
const SECRET: &str = "canopy-ca";
/// The webhook by which pods get sidecars (deploy/daemonset/overlays/sidecar/webhook.yaml).
const WEBHOOK: &str = "canopy-sidecar";
const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
/// The ConfigMap with the roots, and the key of it that nodes mount.
const ROOTS: &str = "canopy-root";
const KEY: &str = "ca.crt";
/// The Service by which nodes find the control plane.
const SERVICE: &str = "canopy-control";
/// How often the Secret is looked at.
const LOOK: Duration = Duration::from_secs(30);
/// How soon after a failure; then less and less often.
const FIRST: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_webhook_that_has_other_roots_is_given_these_and_no_other_is_touched() {
        let with = |bundle: Value| json!({ "clientConfig": { "caBundle": bundle } });
        let found = json!({ "webhooks": [with("new".into()), with("old".into()), { "clientConfig": {} }] });
        let patch = trusting(&found, "new");
        let paths: Vec<_> = patch.iter().map(|step| step["path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["/webhooks/1/clientConfig/caBundle", "/webhooks/2/clientConfig/caBundle"]);
        assert!(patch.iter().all(|step| step["value"] == "new" && step["op"] == "add"));
        assert!(trusting(&json!({ "webhooks": [with("new".into())] }), "new").is_empty());
    }
}
