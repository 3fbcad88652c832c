//! Which cluster, and as whom: a kubeconfig, or the service account of the pod that this runs in.
//!
//! It must never say a token, a key or a password, to anybody but the API server.

use std::{env, error::Error, path::PathBuf};

use hyper_util::{client::legacy, rt::TokioExecutor};
use kube::{
    Config,
    client::ConfigExt,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tower::{BoxError, ServiceBuilder};

/// Where the cluster is said to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Kubeconfigs, merged as kubectl merges them; without any, the service account of this pod, else kubectl's own file.
    pub kubeconfig: Vec<PathBuf>,
    /// The context in it; the current one without.
    pub context: Option<String>,
}

/// Why there is no cluster to ask.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No kubeconfig that can be used.
    #[error("no cluster: give a kubeconfig with --kubeconfig, or run as a pod with a service account")]
    Kubeconfig(#[source] KubeconfigError),
    /// No service account.
    #[error("this pod's service account cannot be used: is automountServiceAccountToken false?")]
    ServiceAccount(#[source] kube::config::InClusterError),
    /// A proxy on the way.
    #[error(
        "the kubeconfig names a proxy (proxy-url), which is not supported: take it out, or run within the cluster"
    )]
    Proxy,
    /// Certificates or credentials that cannot be used.
    #[error("certificates or credentials for the API server cannot be used")]
    Credentials(#[source] Box<kube::Error>),
}

impl Access {
    /// What there is to say of the cluster, found once.
    pub(super) async fn find(&self) -> Result<Config, AccessError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        if !self.kubeconfig.is_empty() {
            let all = self.read().map_err(AccessError::Kubeconfig)?;
            return Config::from_custom_kubeconfig(all, &options).await.map_err(AccessError::Kubeconfig);
        }
        if env::var_os("KUBERNETES_SERVICE_HOST").is_some() && self.context.is_none() {
            return Config::incluster().map_err(AccessError::ServiceAccount);
        }
        Config::from_kubeconfig(&options).await.map_err(AccessError::Kubeconfig)
    }

    fn read(&self) -> Result<Kubeconfig, KubeconfigError> {
        let mut all = Kubeconfig::default();
        for path in &self.kubeconfig {
            all = all.merge(Kubeconfig::read_from(path)?)?;
        }
        Ok(all)
    }
}

/// A client of that cluster. Tokens are read again as they are renewed. Nothing is tried twice: who asks knows better when.
pub(super) fn client(config: Config) -> Result<kube::Client, AccessError> {
    if config.proxy_url.is_some() {
        return Err(AccessError::Proxy);
    }
    // Else rustls would not know whose cryptography to take. There may be one by now, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let failed = |error| AccessError::Credentials(Box::new(error));
    let connector = config.rustls_https_connector().map_err(failed)?;
    let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(failed)?)
        .layer(config.extra_headers_layer().map_err(failed)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(kube::Client::new(service, config.default_namespace))
}

/// An error with its causes, each said once.
pub(super) fn told(error: &dyn Error) -> String {
    crate::identity::authority::retry::report(error)
}
