//! A cluster, asked by a person: single objects, lists, and commands run in the containers of Canopy's own pods.
//!
//! Nothing is watched and nothing is kept. It must never change an object of the cluster.

use std::{io, time::Duration};

use http::Method;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::api::AttachParams;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::{
    Access, AccessError,
    access::{self, told},
    api::{Api, ApiError, JSON},
};

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Asking {
    api: Api,
    client: kube::Client,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody to ask.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// There is no such object, or no such kind.
    #[error("the cluster has none")]
    Absent,
    /// Whoever asks may not.
    #[error("you may not: {0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// What a command in a container said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub complaint: String,
    /// Whether its exit code was 0.
    pub is_success: bool,
}

impl From<ApiError> for AskError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::NotInstalled => Self::Absent,
            ApiError::Refused { message, .. } => Self::Refused(message),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl Asking {
    /// The cluster, and the namespace that the kubeconfig's context names. Nothing is sent yet.
    pub async fn of(access: &Access) -> Result<(Self, String), AskError> {
        let config = access.find().await?;
        let namespace = config.default_namespace.clone();
        let client = access::client(config)?;
        Ok((Self { api: Api::new(client.clone(), MOST_PAGE), client }, namespace))
    }

    /// One object.
    pub async fn get(&self, path: &str) -> Result<Value, AskError> {
        Ok(self.api.exchange(Method::GET, path, None).await?)
    }

    /// All objects of a list, in pages.
    pub async fn list(&self, path: &str, labels: Option<&str>) -> Result<Vec<Value>, AskError> {
        let mut all = Vec::new();
        let mut next = String::new();
        loop {
            let mut query = vec![("limit", "500")];
            query.extend(labels.map(|labels| ("labelSelector", labels)));
            if !next.is_empty() {
                query.push(("continue", &next));
            }
            let page = self.api.page(path, &query).await?;
            let mut page: Value =
                serde_json::from_slice(&page).map_err(|error| AskError::Failed(error.to_string()))?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                all.extend(items);
            }
            match page["metadata"]["continue"].as_str() {
                Some(token) if !token.is_empty() => next = token.to_owned(),
                _ => return Ok(all),
            }
        }
    }

    /// Whether whoever asks may do that (SelfSubjectAccessReview, which makes no object).
    pub async fn may(&self, attributes: &Value) -> Result<bool, AskError> {
        let review = serde_json::json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": attributes },
        });
        let body = Some((JSON, &review));
        let answer = self.api.exchange(Method::POST, REVIEWS, body).await?;
        Ok(answer["status"]["allowed"] == true)
    }

    /// Runs a command in a container (the subresource `exec`, over a web socket), and hears it to its end, or for so long.
    pub async fn run(
        &self,
        (namespace, pod, container): (&str, &str, &str),
        command: &[String],
        longest: Duration,
    ) -> Result<Said, AskError> {
        let heard = self.hear(namespace, pod, container, command);
        let silent = || AskError::Failed(format!("no answer within {} s", longest.as_secs()));
        timeout(longest, heard).await.unwrap_or_else(|_| Err(silent()))
    }

    async fn hear(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        command: &[String],
    ) -> Result<Said, AskError> {
        let pods: kube::Api<Pod> = kube::Api::namespaced(self.client.clone(), namespace);
        let how = AttachParams::default().container(container).stdin(false).stdout(true).stderr(true);
        let mut process = pods.exec(pod, command, &how).await.map_err(refusal)?;
        let (out, complaint, status) = (process.stdout(), process.stderr(), process.take_status());
        let (out, complaint) = tokio::join!(collect(out, MOST_OUT), collect(complaint, MOST_COMPLAINT));
        let failed = |error: io::Error| AskError::Failed(told(&error));
        let (out, complaint) = (out.map_err(failed)?, complaint.map_err(failed)?);
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        judge(out, complaint, status.as_ref())
    }
}

/// What a command said, unless it was not run at all.
fn judge(out: String, complaint: String, status: Option<&Status>) -> Result<Said, AskError> {
    let Some(status) = status else {
        return Err(AskError::Failed("the connection broke off before the command had ended".to_owned()));
    };
    let is_success = status.status.as_deref() == Some("Success");
    // As the kubelet says that it ran and how it ended; anything else says why it did not run.
    if !is_success && status.reason.as_deref() != Some("NonZeroExitCode") {
        return Err(AskError::Failed(status.message.clone().unwrap_or_else(|| "it was not run".to_owned())));
    }
    Ok(Said { out, complaint, is_success })
}

fn refusal(error: kube::Error) -> AskError {
    match error {
        kube::Error::Api(status) if status.code == 403 => AskError::Refused(status.message.clone()),
        kube::Error::Api(status) if status.code == 404 => AskError::Absent,
        other => AskError::Failed(told(&other)),
    }
}

/// Text up to its end; more than so many bytes is an error, as half of an answer is none.
async fn collect(from: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(most + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it says more than {most} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asking")
    }
}

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// Of a page of 500 objects.
const MOST_PAGE: usize = 64 << 20;
/// A tree with all of its connections is some 20 KiB for a pod.
const MOST_OUT: u64 = 32 << 20;
const MOST_COMPLAINT: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::testing::Cluster, *};

    const NODES: &str = "/api/v1/nodes";

    fn block<T>(asked: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(asked)
    }

    #[test]
    fn a_list_of_several_pages_is_read_whole_and_a_kind_that_is_not_there_is_told_as_such() {
        let cluster = Cluster::start(&[]);
        cluster.install(NODES);
        for index in 0..501 {
            cluster.put(NODES, json!({ "metadata": { "name": format!("n{index:03}") } }));
        }
        block(async {
            let (asking, _) = Asking::of(&cluster.access()).await.unwrap();
            assert_eq!(asking.list(NODES, None).await.unwrap().len(), 501);
            assert!(matches!(asking.list("/apis/none/v1/nones", None).await, Err(AskError::Absent)));
        });
        assert_eq!(cluster.asked(NODES, "continue").len(), 1);
    }

    #[test]
    fn a_command_that_fails_has_said_something_and_one_that_was_not_run_has_not() {
        let status = |status: &str, reason: &str| Status {
            status: Some(status.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some("why".to_owned()),
            ..Status::default()
        };
        let judged = |status: Option<&Status>| judge("out".to_owned(), String::new(), status);
        assert!(judged(Some(&status("Success", ""))).unwrap().is_success);
        let failed = judged(Some(&status("Failure", "NonZeroExitCode"))).unwrap();
        assert_eq!((failed.out.as_str(), failed.is_success), ("out", false));
        assert_eq!(judged(Some(&status("Failure", "InternalError"))).unwrap_err().to_string(), "why");
        assert!(judged(None).unwrap_err().to_string().contains("broke off"));
    }
}
