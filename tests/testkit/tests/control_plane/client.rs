//! A client of the tests' own, and the messages of the protocol as far as it speaks it.

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use futures_util::stream;
use testkit::{Netns, Outcome, block_on};
use tokio::sync::mpsc;
use tonic::{
    Request, Status, Streaming,
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// A client that does nothing by itself: one connection, with one stream after the other.
pub(crate) struct Client {
    orders: mpsc::UnboundedSender<Order>,
    answers: Receiver<Result<Answer, Status>>,
}

enum Order {
    Open,
    Ask(Ask),
}

impl Client {
    /// A client of its own thread in the namespace, with its first stream.
    pub(crate) fn dial(netns: &Netns, at: &str) -> Result<Self, Failure> {
        let (orders, ordered) = mpsc::unbounded_channel();
        let (answer, answers) = channel();
        let at = at.to_owned();
        netns.spawn(move || block_on(run(at, ordered, answer)))?;
        let client = Self { orders, answers };
        client.order(Order::Open)?;
        Ok(client)
    }

    pub(crate) fn open(&self) -> Outcome {
        self.order(Order::Open)
    }

    pub(crate) fn first(&self, type_url: &str, names: &[&str], known: &[(String, String)]) -> Outcome {
        self.order(Order::Ask(Ask {
            node: Some(Node { id: "the-node".into() }),
            type_url: type_url.into(),
            subscribe: names.iter().map(|&name| name.into()).collect(),
            initial: known.iter().cloned().collect(),
            ..Ask::default()
        }))
    }

    pub(crate) fn take(&self, answer: &Answer, error: Option<&str>) -> Outcome {
        let error = error.map(|message| Problem { code: 3, message: message.into() });
        let (type_url, nonce) = (answer.type_url.clone(), answer.nonce.clone());
        self.order(Order::Ask(Ask { type_url, nonce, error, ..Ask::default() }))
    }

    pub(crate) fn answer(&self) -> Result<Answer, Failure> {
        let mut answer = self.answers.recv_timeout(LIMIT)??;
        answer.resources.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(answer)
    }

    pub(crate) fn ending(&self) -> Result<Status, Failure> {
        self.answers.recv_timeout(LIMIT)?.err().ok_or_else(|| "the stream goes on".into())
    }

    fn order(&self, order: Order) -> Outcome {
        self.orders.send(order).map_err(|_| "the client has ended".into())
    }
}

/// Ends with the orders.
async fn run(
    at: String,
    mut orders: mpsc::UnboundedReceiver<Order>,
    answers: Sender<Result<Answer, Status>>,
) {
    let channel = match Endpoint::from_shared(format!("http://{at}")) {
        Ok(endpoint) => endpoint.connect().await,
        Err(error) => Err(error),
    };
    let channel = match channel {
        Ok(channel) => channel,
        Err(error) => return drop(answers.send(Err(Status::unavailable(error.to_string())))),
    };
    let mut asks = None;
    while let Some(order) = orders.recv().await {
        match order {
            Order::Open => {
                let (sender, asked) = mpsc::unbounded_channel();
                asks = Some(sender);
                tokio::spawn(listen(channel.clone(), asked, answers.clone()));
            }
            Order::Ask(ask) => asks.iter().for_each(|asks| drop(asks.send(ask.clone()))),
        }
    }
}

/// One stream, to its end.
async fn listen(
    channel: Channel,
    asked: mpsc::UnboundedReceiver<Ask>,
    answers: Sender<Result<Answer, Status>>,
) {
    let asked = stream::unfold(asked, |mut asked| async { asked.recv().await.map(|ask| (ask, asked)) });
    let mut request = Request::new(asked);
    for (name, value) in [("authorization", "Bearer token"), ("clusterid", "home")] {
        request.metadata_mut().insert(name, MetadataValue::from_static(value));
    }
    let mut client = tonic::client::Grpc::new(channel);
    let failed = client.ready().await.err().map(|error| Status::unavailable(error.to_string()));
    let opened = match failed {
        // Its headers come with its first message.
        None => client.streaming(request, PathAndQuery::from_static(DELTA), ProstCodec::default()).await,
        Some(failed) => Err(failed),
    };
    let ending = match opened {
        Err(status) => status,
        Ok(opened) => {
            let mut opened: Streaming<Answer> = opened.into_inner();
            loop {
                match opened.message().await {
                    Ok(Some(answer)) => drop(answers.send(Ok(answer))),
                    Ok(None) => break Status::ok("the stream has ended"),
                    Err(status) => break status,
                }
            }
        }
    };
    // Nobody asks any more once the test is over.
    drop(answers.send(Err(ending)));
}

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
const LIMIT: Duration = Duration::from_secs(60);
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// `DeltaDiscoveryRequest`; the tags are the field numbers of `envoy.service.discovery.v3`, as of the following.
#[derive(Clone, PartialEq, prost::Message)]
struct Ask {
    #[prost(message, optional, tag = "1")]
    node: Option<Node>,
    #[prost(string, tag = "2")]
    pub(crate) type_url: String,
    #[prost(string, repeated, tag = "3")]
    subscribe: Vec<String>,
    #[prost(map = "string, string", tag = "5")]
    initial: HashMap<String, String>,
    #[prost(string, tag = "6")]
    nonce: String,
    #[prost(message, optional, tag = "7")]
    error: Option<Problem>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Node {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Problem {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// `DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Answer {
    #[prost(message, repeated, tag = "2")]
    pub(crate) resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    pub(crate) type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub(crate) removed: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Resource {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) body: Option<Body>,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "4")]
    pub(crate) aliases: Vec<String>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Body {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl Answer {
    pub(crate) fn bodies(&self) -> Vec<(&str, &[u8])> {
        let value = |resource| Option::as_ref(resource).map_or(&[][..], |body: &Body| &body.value);
        self.resources.iter().map(|resource| (resource.name.as_str(), value(&resource.body))).collect()
    }

    pub(crate) fn versions(&self) -> Vec<(String, String)> {
        self.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone())).collect()
    }
}
