//! What a control plane tells of its clients.

use std::collections::BTreeMap;

use serde_json::Value;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It listens.
    Listening {
        /// Where: `IP:PORT` or `unix:PATH`.
        address: String,
    },
    /// It does not listen any more, and all connections are closed.
    Stopped,
    /// A stream was opened.
    Opened(Opened),
    /// A client has said something.
    Request(Request),
    /// Something was sent to it.
    Response(Response),
    /// A stream has ended, whoever ended it.
    Closed(Closed),
    /// A command was carried out, or was not.
    Answer {
        /// Of the command.
        id: u64,
        /// All that was said.
        value: Value,
    },
}

/// A stream that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its number: they count up over all clients.
    pub stream: u64,
    /// The header `authorization`; empty without.
    pub authorization: String,
    /// The header `clusterid`; empty without.
    pub cluster: String,
}

/// What a client has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// On which stream.
    pub stream: u64,
    /// When: microseconds since 1970.
    pub at_us: u64,
    /// Who it says to be.
    pub node: String,
    /// The type that it speaks of.
    pub type_url: String,
    /// What it is.
    pub step: Step,
    /// The response that it answers; empty if none.
    pub nonce: String,
    /// Names that it wants from now on.
    pub subscribe: Vec<String>,
    /// Names that it does not want any more.
    pub unsubscribe: Vec<String>,
    /// What it says to have: versions by name.
    pub initial: BTreeMap<String, String>,
    /// Why it does not take what it answers.
    pub error: Option<String>,
    /// The size of the message.
    pub bytes: u64,
}

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The first of its type on its stream.
    First,
    /// A response is taken.
    Ack,
    /// A response is not taken, or not whole.
    Nack,
    /// It answers nothing.
    Subscription,
}

/// What was sent to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// On which stream.
    pub stream: u64,
    /// When: microseconds since 1970.
    pub at_us: u64,
    /// The type that it speaks of.
    pub type_url: String,
    /// By which it is answered.
    pub nonce: String,
    /// What it has: the first thousand names. Empty where it is not a delta.
    pub names: Vec<String>,
    /// What is gone: the first thousand names.
    pub removed: Vec<String>,
    /// How many resources it has.
    pub count: u64,
    /// The size of the message.
    pub bytes: u64,
}

/// A stream that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Which.
    pub stream: u64,
    /// Who had it; empty where it never said.
    pub node: String,
    /// Bytes of the messages that were sent on it.
    pub sent: u64,
    /// Bytes of the messages that came.
    pub received: u64,
}

/// What went over all streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Streams that are open.
    pub open: u64,
    /// Streams that were opened.
    pub streams: u64,
    /// Messages that came.
    pub requests: u64,
    /// Messages that were sent.
    pub responses: u64,
    /// Bytes of the messages that were sent.
    pub sent: u64,
    /// Bytes of the messages that came.
    pub received: u64,
}

impl Request {
    /// Whether it answers this response.
    #[must_use]
    pub fn answers(&self, response: &Response) -> bool {
        (self.stream, &self.type_url, &self.nonce) == (response.stream, &response.type_url, &response.nonce)
    }
}

impl Response {
    /// Whether it has the resource, or says that it is gone.
    #[must_use]
    pub fn says(&self, name: &str) -> bool {
        self.names.iter().chain(&self.removed).any(|its| its == name)
    }
}

impl Event {
    /// The event of a line; `None` of one that this does not know.
    pub(super) fn of(line: &Value) -> Option<Self> {
        Some(match line["event"].as_str()? {
            "listening" => Self::Listening { address: text(&line["address"]) },
            "stopped" => Self::Stopped,
            "opened" => Self::Opened(Opened {
                stream: number(&line["stream"]),
                authorization: text(&line["authorization"]),
                cluster: text(&line["cluster"]),
            }),
            "request" => Self::Request(request(line)?),
            "response" => Self::Response(response(line)),
            "closed" => Self::Closed(Closed {
                stream: number(&line["stream"]),
                node: text(&line["node"]),
                sent: number(&line["sent"]),
                received: number(&line["received"]),
            }),
            "done" | "failed" => Self::Answer { id: number(&line["id"]), value: line.clone() },
            _ => return None,
        })
    }
}

impl Totals {
    pub(super) fn of(value: &Value) -> Self {
        Self {
            open: number(&value["open"]),
            streams: number(&value["streams"]),
            requests: number(&value["requests"]),
            responses: number(&value["responses"]),
            sent: number(&value["sent"]),
            received: number(&value["received"]),
        }
    }
}

/// The requests about a type.
pub(super) fn requests<'a>(events: &'a [Event], type_url: &str) -> impl Iterator<Item = &'a Request> {
    events.iter().filter_map(move |event| match event {
        Event::Request(request) if request.type_url == type_url => Some(request),
        _ => None,
    })
}

/// The responses about a type.
pub(super) fn responses<'a>(events: &'a [Event], type_url: &str) -> impl Iterator<Item = &'a Response> {
    events.iter().filter_map(move |event| match event {
        Event::Response(response) if response.type_url == type_url => Some(response),
        _ => None,
    })
}

fn request(line: &Value) -> Option<Request> {
    let initial = line["initial"].as_object().into_iter().flatten();
    Some(Request {
        stream: number(&line["stream"]),
        at_us: number(&line["at_us"]),
        node: text(&line["node"]),
        type_url: text(&line["type"]),
        step: match line["kind"].as_str()? {
            "first" => Step::First,
            "ack" => Step::Ack,
            "nack" => Step::Nack,
            "subscription" => Step::Subscription,
            _ => return None,
        },
        nonce: text(&line["nonce"]),
        subscribe: texts(&line["subscribe"]),
        unsubscribe: texts(&line["unsubscribe"]),
        initial: initial.map(|(name, version)| (name.clone(), text(version))).collect(),
        error: line["error"].as_str().map(str::to_owned),
        bytes: number(&line["bytes"]),
    })
}

fn response(line: &Value) -> Response {
    Response {
        stream: number(&line["stream"]),
        at_us: number(&line["at_us"]),
        type_url: text(&line["type"]),
        nonce: text(&line["nonce"]),
        names: texts(&line["names"]),
        removed: texts(&line["removed"]),
        count: number(&line["count"]),
        bytes: number(&line["bytes"]),
    }
}

/// What is empty is left out of a line.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}
