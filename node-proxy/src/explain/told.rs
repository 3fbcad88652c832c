//! What is told of a request: stages in the order of its way, each with the object that decides, and a verdict.
//!
//! Plain data, the same as text and as JSON. It must never carry a key or a certificate.

use serde::{Deserialize, Serialize};

/// All that is told of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What was asked about.
    pub asked: String,
    /// Version of the configuration that it is told by.
    pub configuration_version: u64,
    /// The stages of its way, as far as it comes.
    pub stages: Vec<Stage>,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// One stage of a request's way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Which.
    pub stage: Name,
    /// What is decided there, and why.
    pub says: String,
    /// The object that decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Object>,
    /// What else there is to say, with further objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
}

/// Something besides what a stage decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// What.
    pub says: String,
    /// The object that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Object>,
}

/// The stages, in the order in which a request meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// Who calls.
    Caller,
    /// Whether the connection comes to the proxy at all.
    Capture,
    /// What it is going to.
    Destination,
    /// What is spoken.
    Protocol,
    /// Whether the caller's tenant lets it out.
    Egress,
    /// Which rule it meets.
    Route,
    /// What the rule changes.
    Filters,
    /// Which backends may answer it.
    Backend,
    /// At which address, and by which delivery.
    Endpoint,
    /// What NetworkPolicies say of the pair.
    Network,
    /// Whether the receiver lets it in.
    Receiver,
}

impl Name {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Capture => "capture",
            Self::Destination => "destination",
            Self::Protocol => "protocol",
            Self::Egress => "egress",
            Self::Route => "route",
            Self::Filters => "filters",
            Self::Backend => "backend",
            Self::Endpoint => "endpoint",
            Self::Network => "network",
            Self::Receiver => "receiver",
        }
    }
}

/// An object that has a say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its kind.
    pub kind: String,
    /// Its namespace; none where it is cluster-scoped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The tenant whose it is, or who else writes it.
    pub owner: String,
    /// The file that it is written in, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// Prints as `KIND NAMESPACE/NAME`.
impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// In a word.
    pub outcome: Outcome,
    /// Why it is refused, from the closed set of reasons that the access log and the metrics have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In a sentence: where it goes, or by what it is refused.
    pub says: String,
    /// The object that refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Object>,
    /// What would have to be changed, by whom, for it to be carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What becomes of a request, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It goes to an endpoint.
    Carried,
    /// It is answered by the proxy, as a route says.
    Answered,
    /// It goes past the proxy.
    Passed,
    /// Some such requests are carried, and some are refused.
    Partly,
    /// It is refused.
    Refused,
}

impl Outcome {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Carried => "carried",
            Self::Answered => "answered",
            Self::Passed => "passed",
            Self::Partly => "partly",
            Self::Refused => "refused",
        }
    }

    /// Whether no such request is refused.
    pub fn is_served(self) -> bool {
        matches!(self, Self::Carried | Self::Answered | Self::Passed)
    }
}
