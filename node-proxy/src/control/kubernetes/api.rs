//! What is asked of an API server: pages of lists, and watches. Every answer is bounded, in bytes and in time.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, request};
use http_body_util::BodyExt;
use kube::client::Body;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::{access::told, lines::Lines};

/// An API server.
#[derive(Clone)]
pub(super) struct Api {
    client: kube::Client,
    /// Bytes of a page that are taken.
    most: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ApiError {
    /// It cannot be reached, or the answer broke off.
    #[error("the API server cannot be reached: {0}")]
    Away(String),
    /// It says nothing.
    #[error("the API server has said nothing for {0:?}")]
    Silent(Duration),
    /// There is no such kind, in this version.
    #[error("the cluster has no such kind")]
    NotInstalled,
    /// What is asked for is too long ago.
    #[error("the API server does not remember so far back")]
    Gone,
    /// It has too much to do.
    #[error("the API server asks to come back later ({status})")]
    Busy { status: u16, after: Option<Duration> },
    /// It does not know us.
    #[error(
        "the API server does not know us ({status}): {message}. Is the token or the certificate still valid?"
    )]
    Unknown { status: u16, message: String },
    /// It does not let us.
    #[error(
        "the API server refuses ({status}): {message}. Give the service account the ClusterRole of docs/control-plane.md"
    )]
    Refused { status: u16, message: String },
    /// Anything else.
    #[error("the API server says {status}: {message}")]
    Failed { status: u16, message: String },
    /// More than is taken.
    #[error("the API server's answer has more than {most} bytes")]
    TooLarge { most: usize },
    /// Not what an API server says.
    #[error("the API server's answer cannot be read: {0}")]
    Unreadable(String),
}

/// What an API server says of what it does not do (`meta/v1` Status).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    code: u16,
    message: String,
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Details {
    retry_after_seconds: Option<u64>,
}

impl Api {
    pub(super) fn new(client: kube::Client, most: usize) -> Self {
        Self { client, most }
    }

    /// A page of a list, whole.
    pub(super) async fn page(&self, path: &str, query: &[(&str, &str)]) -> Result<Bytes, ApiError> {
        let whole = async {
            let response = self.get(path, query).await?;
            collect(response, self.most).await
        };
        timeout(LONGEST_PAGE, whole).await.unwrap_or(Err(ApiError::Silent(LONGEST_PAGE)))
    }

    /// What happens from now on, line by line.
    pub(super) async fn watch(&self, path: &str, query: &[(&str, &str)]) -> Result<Lines, ApiError> {
        let response = timeout(LONGEST_HEAD, self.get(path, query)).await;
        let response = response.unwrap_or(Err(ApiError::Silent(LONGEST_HEAD)))?;
        Ok(Lines::of(response.into_body(), MOST_EVENT))
    }

    /// One object: asked for, made, or changed.
    pub(super) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value, ApiError> {
        let mut request = Request::builder().method(method).uri(path);
        let mut bytes = Vec::new();
        if let Some((form, value)) = body {
            request = request.header(header::CONTENT_TYPE, form);
            bytes = value.to_string().into_bytes();
        }
        let whole = async {
            let response = self.send(request, bytes.into()).await?;
            collect(response, self.most).await
        };
        let answer = timeout(LONGEST_HEAD, whole).await.unwrap_or(Err(ApiError::Silent(LONGEST_HEAD)))?;
        serde_json::from_slice(&answer).map_err(|error| ApiError::Unreadable(error.to_string()))
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Response<Body>, ApiError> {
        let mut uri = path.to_owned();
        for (index, (key, value)) in query.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            uri.push_str(&format!("{separator}{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        }
        self.send(Request::get(uri), Body::empty()).await
    }

    async fn send(&self, request: request::Builder, body: Body) -> Result<Response<Body>, ApiError> {
        let request = request
            .header(header::ACCEPT, JSON)
            .header(header::USER_AGENT, concat!("canopy/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|error| ApiError::Unreadable(told(&error)))?;
        let response = self.client.send(request).await.map_err(|error| ApiError::Away(told(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // A refusal that is none of an API server's is as good as one without a word.
        let said = collect(response, MOST_REFUSAL).await.unwrap_or_default();
        let refusal: Refusal = serde_json::from_slice(&said).unwrap_or_default();
        Err(Refusal { code: status.as_u16(), ..refusal }.into())
    }
}

impl From<Refusal> for ApiError {
    fn from(Refusal { code: status, message, details }: Refusal) -> Self {
        let message = config::finding::visible(&message.chars().take(MOST_MESSAGE).collect::<String>());
        match status {
            404 => Self::NotInstalled,
            410 => Self::Gone,
            401 => Self::Unknown { status, message },
            403 => Self::Refused { status, message },
            429 | 503 => {
                let after = details.and_then(|details| details.retry_after_seconds).map(Duration::from_secs);
                Self::Busy { status, after }
            }
            _ => Self::Failed { status, message },
        }
    }
}

impl ApiError {
    /// Whether it may be otherwise in a moment, with the same question.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Away(_) | Self::Silent(_) | Self::Busy { .. } => true,
            Self::Failed { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether somebody else was quicker.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Failed { status, .. } if *status == StatusCode::CONFLICT)
    }

    /// Whether what is known may be of a time that the API server has never seen: its store was put back to an earlier one.
    pub(super) fn is_ahead(&self) -> bool {
        // As the watch cache says it: "Too large resource version".
        matches!(self, Self::Failed { status, message } if *status == StatusCode::GATEWAY_TIMEOUT && message.starts_with("Too large resource version"))
    }
}

async fn collect(response: Response<Body>, most: usize) -> Result<Bytes, ApiError> {
    let mut body = response.into_body();
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::Away(told(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > most {
            return Err(ApiError::TooLarge { most });
        }
        all.extend_from_slice(&data);
    }
    Ok(all.into())
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

/// What objects are sent as, and are answered in.
pub(super) const JSON: &str = "application/json";
/// A change of what an object says (RFC 7386).
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
/// Changes of an object, one after the other (RFC 6902).
pub(super) const JSON_PATCH: &str = "application/json-patch+json";
/// Of one event: an object, of which etcd holds none that is larger than 1.5 MiB unless it is told to.
const MOST_EVENT: usize = 8 << 20;
const MOST_REFUSAL: usize = 64 << 10;
/// Characters of what is repeated to people.
const MOST_MESSAGE: usize = 512;
/// API servers end a request by themselves after a minute (`--request-timeout`).
const LONGEST_PAGE: Duration = Duration::from_secs(65);
const LONGEST_HEAD: Duration = Duration::from_secs(30);
