//! The API server, asked by the plugin itself: of one namespace and one pod, their labels; of a pod that a label gives to a sidecar, whether
//! it has one.
//!
//! HTTPS by the roots and the token of a kubeconfig that `canopy cni install` wrote. It must never speak to a server that those roots do
//! not vouch for, nor ask for more than that.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use config::opt_in;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName, version::TLS13};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::control::sandboxes::mirror::uid_of_sandbox;
use crate::identity::{
    authority::{dial, report},
    provider,
};

/// Labels.
pub(super) type Labels = BTreeMap<String, String>;

/// What of an object's metadata is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Metadata {
    /// Its UID.
    pub(super) uid: String,
    /// Its labels.
    #[serde(default)]
    pub(super) labels: Labels,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Metadata {
    /// The UID by which the runtime knows it, if it is a pod.
    pub(super) fn sandbox(&self) -> &str {
        uid_of_sandbox(&self.uid, &self.annotations)
    }
}

/// The API server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The kubeconfig is wrong.
    #[error("{path}: {problem}; `canopy cni install` writes it anew")]
    Kubeconfig { path: PathBuf, problem: String },
    /// Nobody answers, or nobody whom the roots vouch for.
    #[error("the API server {server} cannot be reached: {problem}")]
    Away { server: String, problem: String },
    /// It says no.
    #[error("the API server answers {status} to {path}{}", hint(*status))]
    Refused { status: StatusCode, path: String },
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => ": is the token still valid? `canopy cni install --watch` renews it",
        StatusCode::FORBIDDEN => ": the plugin's account needs `get` on namespaces and pods",
        StatusCode::NOT_FOUND => ": there is no such object",
        _ => "",
    }
}

/// As kubectl has it, written as JSON, which is YAML.
#[derive(Debug, Deserialize)]
struct Kubeconfig {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Debug, Deserialize)]
struct NamedCluster {
    cluster: Cluster,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: PathBuf,
}

#[derive(Debug, Deserialize)]
struct NamedUser {
    user: User,
}

#[derive(Deserialize)]
struct User {
    token: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User")
    }
}

/// A connection to it.
#[derive(Debug)]
pub(super) struct Api {
    server: String,
    host: String,
    token: header::HeaderValue,
    sender: SendRequest<Empty<Bytes>>,
}

impl Api {
    /// Connects, as the kubeconfig says.
    pub(super) async fn connect(path: &Path) -> Result<Self, ApiError> {
        let bad = |problem: String| ApiError::Kubeconfig { path: path.to_owned(), problem };
        let text = fs::read(path).map_err(|error| bad(error.to_string()))?;
        let config: Kubeconfig = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        let (Some(cluster), Some(user)) =
            (config.clusters.into_iter().next(), config.users.into_iter().next())
        else {
            return Err(bad("it names no cluster or no user".to_owned()));
        };
        let (cluster, token) = (cluster.cluster, user.user.token);
        let mut token = header::HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| bad("its token is none".to_owned()))?;
        token.set_sensitive(true);
        let uri: Uri = cluster.server.parse().map_err(|_| bad(format!("{:?} is no URL", cluster.server)))?;
        let (Some("https"), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(bad(format!("its server must be an https:// URL, and is {}", cluster.server)));
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        // As kubectl has it: beside the kubeconfig, unless it is a full path.
        let roots = path.parent().unwrap_or(Path::new("/")).join(&cluster.certificate_authority);
        let tls = tls(&roots).map_err(|error| bad(format!("{}: {error}", roots.display())))?;
        let name =
            ServerName::try_from(host.clone()).map_err(|_| bad(format!("{host:?} is no server's name")))?;
        let away = |problem: String| ApiError::Away { server: cluster.server.clone(), problem };
        let connect = async {
            let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
            TlsConnector::from(Arc::new(tls)).connect(name, stream).await
        };
        let stream = timeout(PATIENCE, connect).await;
        let stream = stream.map_err(|_| away(format!("no connection within {PATIENCE:?}")))?;
        let stream = stream.map_err(|error| away(report(&error)))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| away(report(&error)))?;
        tokio::spawn(async move {
            // An error here is an error of the request, which reports it.
            let _ = connection.await;
        });
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Self { server: cluster.server, host: authority, token, sender })
    }

    /// A namespace's metadata.
    pub(super) async fn namespace(&mut self, name: &str) -> Result<Metadata, ApiError> {
        self.metadata(format!("/api/v1/namespaces/{name}")).await
    }

    /// A pod's metadata.
    pub(super) async fn pod(&mut self, namespace: &str, name: &str) -> Result<Metadata, ApiError> {
        self.metadata(format!("/api/v1/namespaces/{namespace}/pods/{name}")).await
    }

    /// Whether a pod has the container of a sidecar.
    pub(super) async fn has_sidecar(&mut self, namespace: &str, name: &str) -> Result<bool, ApiError> {
        #[derive(Deserialize)]
        struct Pod {
            #[serde(default)]
            spec: Spec,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            init_containers: Option<Vec<Container>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Container {
            name: String,
            restart_policy: Option<String>,
        }
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let pod = self.get::<Pod>(path, WHOLE).await?;
        let is_one = |container: &Container| {
            opt_in::is_sidecar(Some(&container.name), container.restart_policy.as_deref())
        };
        Ok(pod.spec.init_containers.into_iter().flatten().any(|container| is_one(&container)))
    }

    async fn metadata(&mut self, path: String) -> Result<Metadata, ApiError> {
        #[derive(Deserialize)]
        struct Object {
            metadata: Metadata,
        }
        self.get::<Object>(path, METADATA_ALONE).await.map(|object| object.metadata)
    }

    async fn get<T: DeserializeOwned>(&mut self, path: String, form: &str) -> Result<T, ApiError> {
        let away = |problem: String| ApiError::Away { server: self.server.clone(), problem };
        let request = Request::get(&path)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, self.token.clone())
            .header(header::ACCEPT, form)
            .body(Empty::new());
        let request = request.map_err(|error| away(error.to_string()))?;
        let exchange = async {
            let response = self.sender.send_request(request).await.map_err(|error| report(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            Ok::<_, String>((status, body.map_err(|error| error.to_string())?.to_bytes()))
        };
        let answered = timeout(PATIENCE, exchange).await;
        let answered = answered.map_err(|_| away(format!("no answer within {PATIENCE:?}")))?;
        let (status, body) = answered.map_err(away)?;
        if status != StatusCode::OK {
            return Err(ApiError::Refused { status, path });
        }
        serde_json::from_slice(&body)
            .map_err(|error| away(format!("its answer to {path} is not understood: {error}")))
    }
}

fn tls(roots: &Path) -> io::Result<ClientConfig> {
    let roots = dial::roots(roots).map_err(io::Error::other)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
    let builder = builder.with_protocol_versions(&[&TLS13]).map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Without a pod's specification (Kubernetes API concepts, "Metadata-only fetches"); a server that cannot sends all.
const METADATA_ALONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json";
const WHOLE: &str = "application/json";
/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of an answer at most: an object of etcd's is 1.5 MiB at most.
const LARGEST: usize = 4 * 1024 * 1024;
