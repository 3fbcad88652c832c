//! The control plane of another make, with a client of the tests' own: it is what the daemon's client is judged by, so it has to
//! do the protocol as its specification says, and to tell what happened. Needs root, and what `scripts/control-plane` builds.

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use futures_util::stream;
use serde_json::json;
use testkit::{
    Netns, Outcome, block_on,
    control_plane::{Change, Closed, ControlPlane, Event, Opened, Step},
    unique_name,
};
use tokio::sync::mpsc;
use tonic::{
    Code, Request, Status, Streaming,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

const WORD: &str = "type.googleapis.com/testkit.Word";
const OTHER: &str = "type.googleapis.com/testkit.Other";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

#[test]
fn what_is_set_is_sent_to_who_asks_and_changes_follow_each_once() -> Outcome {
    let (netns, mut plane) = plane(0)?;
    plane.change(&[Change::set(WORD, "a", b"one"), Change::set(WORD, "b", b"two")])?;
    let at = plane.address().to_owned();
    netns.run(|| {
        block_on(async {
            let mut client = Client::dial(&at).await?;
            client.first(WORD, &[], &[]).await?;
            let first = client.answer().await?;
            assert_eq!(first.bodies(), [("a", &b"one"[..]), ("b", b"two")]);
            client.take(&first, None).await?;
            assert_eq!(plane.answer(WORD, "a")?.step, Step::Ack);

            plane.change(&[Change::set(WORD, "b", b"three"), Change::set(OTHER, "b", b"unasked")])?;
            let second = client.answer().await?;
            assert_eq!(second.bodies(), [("b", &b"three"[..])]);
            client.take(&second, Some("b: not this")).await?;
            let refusal = plane.answer(WORD, "b")?;
            assert_eq!((refusal.step, refusal.error.as_deref()), (Step::Nack, Some("b: not this")));
            assert_eq!(refusal.node, "the-node");

            plane.change(&[Change::remove(WORD, "a")])?;
            let third = client.answer().await?;
            assert_eq!((third.bodies(), third.removed.as_slice()), (vec![], &["a".to_owned()][..]));
            client.take(&third, None).await?;
            plane.answer(WORD, "a")?;
            let totals = plane.totals()?;
            assert_eq!((totals.open, totals.streams, totals.responses), (1, 1, 3));
            assert!(totals.sent > 0 && totals.received > 0, "{totals:?}");
            let sent: u64 = plane.all_events().iter().map(sent_with).sum();
            assert_eq!(sent, totals.sent);
            drop(client);
            let closed = plane.wait("the end of the stream", |events| events.iter().find_map(closed))?;
            assert_eq!((closed.node.as_str(), closed.sent), ("the-node", sent));
            Ok(())
        })
    })?
}

#[test]
fn who_comes_back_after_a_restart_gets_only_what_it_does_not_have() -> Outcome {
    let (netns, mut plane) = plane(1)?;
    plane.change(&[Change::set(WORD, "a", b"one"), Change::set(WORD, "b", b"two")])?;
    let at = plane.address().to_owned();
    netns.run(|| {
        block_on(async {
            let mut client = Client::dial(&at).await?;
            client.first(WORD, &[], &[]).await?;
            let first = client.answer().await?;
            client.take(&first, None).await?;
            plane.answer(WORD, "a")?;
            plane.stop()?;
            assert!(client.answer().await.is_err(), "the connection outlived the server");
            assert!(Client::dial(&at).await.is_err(), "something listens");
            plane.change(&[Change::set(WORD, "b", b"three")])?;
            plane.listen()?;
            assert_eq!(plane.address(), at);

            plane.mark();
            let mut again = Client::dial(&at).await?;
            again.first(WORD, &[], &first.versions()).await?;
            let second = again.answer().await?;
            assert_eq!(second.bodies(), [("b", &b"three"[..])]);
            again.take(&second, None).await?;
            plane.answer(WORD, "b")?;
            let told = plane.events().iter().find_map(|event| match event {
                Event::Request(request) if request.step == Step::First => Some(request.initial.len()),
                _ => None,
            });
            assert_eq!(told, Some(2));
            Ok(())
        })
    })?
}

#[test]
fn an_alias_leads_to_what_has_it_and_to_what_gets_it_later() -> Outcome {
    let (netns, mut plane) = plane(2)?;
    plane.change(&[Change::set(WORD, "a", b"one").called(&["/10.0.0.1"])])?;
    let at = plane.address().to_owned();
    netns.run(|| {
        block_on(async {
            let mut client = Client::dial(&at).await?;
            client.first(WORD, &["/10.0.0.1", "/10.0.0.2"], &[]).await?;
            let first = client.answer().await?;
            assert_eq!(first.bodies(), [("a", &b"one"[..])]);
            assert_eq!(first.resources[0].aliases, ["/10.0.0.1"]);
            client.take(&first, None).await?;
            plane.answer(WORD, "a")?;
            plane.change(&[
                Change::set(WORD, "c", b"nobody's"),
                Change::set(WORD, "b", b"two").called(&["/10.0.0.2"]).with_body_of(OTHER),
            ])?;
            let second = client.answer().await?;
            assert_eq!(second.bodies(), [("b", &b"two"[..])]);
            assert_eq!(second.resources[0].body.as_ref().map(|body| body.type_url.as_str()), Some(OTHER));
            Ok(())
        })
    })?
}

#[test]
fn it_is_slow_drops_streams_and_refuses_them_when_it_is_told_to() -> Outcome {
    let (netns, mut plane) = plane(3)?;
    let at = plane.address().to_owned();
    netns.run(|| {
        block_on(async {
            plane.delay(Duration::from_millis(300))?;
            let mut client = Client::dial(&at).await?;
            let asked = SystemTime::now();
            client.first(WORD, &[], &[]).await?;
            client.answer().await?;
            assert!(asked.elapsed()? >= Duration::from_millis(300), "{:?}", asked.elapsed());
            plane.delay(Duration::ZERO)?;

            plane.drop_streams()?;
            assert_eq!(client.ending().await?.code(), Code::Unavailable);
            // The connection is still good for another.
            client.open().await?;
            client.first(WORD, &[], &[]).await?;
            client.answer().await?;

            plane.refuse(16, "who are you?")?;
            plane.drop_streams()?;
            client.ending().await?;
            client.open().await?;
            assert_eq!(client.ending().await?.code(), Code::Unauthenticated);
            plane.refuse(0, "")?;
            plane.mark();
            client.open().await?;
            client.first(WORD, &[], &[]).await?;
            client.answer().await?;
            let opened = plane.wait("the stream", |events| events.iter().find_map(opened))?;
            assert_eq!((opened.authorization.as_str(), opened.cluster.as_str()), ("Bearer token", "home"));
            Ok(())
        })
    })?
}

#[test]
fn what_is_no_resource_of_envoy_s_is_not_served_and_the_rest_goes_on() -> Outcome {
    let (_netns, mut plane) = plane(4)?;
    let route = json!({"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"]}]});
    plane.change(&[Change::set_json(ROUTES, "r", &route)])?;
    let wrong = Change::set_json(ROUTES, "r", &json!({"name": "r", "hosts": []}));
    let refusal = plane.change(&[wrong]).err().ok_or("it took a field that there is not")?.to_string();
    assert!(refusal.contains("hosts"), "{refusal}");
    plane.change(&[Change::set_json(ROUTES, "s", &json!({"name": "s"}))])?;
    Ok(())
}

fn plane(number: u32) -> Result<(Netns, ControlPlane), Box<dyn std::error::Error + Send + Sync>> {
    // Numbers of their own: the other tests' nodes count from 0.
    let netns = Netns::create(&unique_name(9000 + number))?;
    let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    let plane = ControlPlane::start(&netns, &tools, "127.0.0.1:0")?;
    Ok((netns, plane))
}

fn sent_with(event: &Event) -> u64 {
    if let Event::Response(response) = event { response.bytes } else { 0 }
}

fn closed(event: &Event) -> Option<Closed> {
    if let Event::Closed(closed) = event { Some(closed.clone()) } else { None }
}

fn opened(event: &Event) -> Option<Opened> {
    if let Event::Opened(opened) = event { Some(opened.clone()) } else { None }
}

/// A client that does nothing by itself.
struct Client {
    channel: Channel,
    asks: mpsc::Sender<Ask>,
    answers: Streaming<Answer>,
}

impl Client {
    async fn dial(at: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let endpoint = Endpoint::from_shared(format!("http://{at}"))?.timeout(Duration::from_secs(60));
        let channel = endpoint.connect().await?;
        let (asks, answers) = stream(&channel).await?;
        Ok(Self { channel, asks, answers })
    }

    async fn open(&mut self) -> Outcome {
        (self.asks, self.answers) = stream(&self.channel).await?;
        Ok(())
    }

    async fn first(&self, type_url: &str, names: &[&str], known: &[(String, String)]) -> Outcome {
        self.ask(Ask {
            node: Some(Node { id: "the-node".into() }),
            type_url: type_url.into(),
            subscribe: names.iter().map(|&name| name.into()).collect(),
            initial: known.iter().cloned().collect(),
            ..Ask::default()
        })
        .await
    }

    async fn take(&self, answer: &Answer, error: Option<&str>) -> Outcome {
        let error = error.map(|message| Problem { code: 3, message: message.into() });
        let (type_url, nonce) = (answer.type_url.clone(), answer.nonce.clone());
        self.ask(Ask { type_url, nonce, error, ..Ask::default() }).await
    }

    async fn ask(&self, ask: Ask) -> Outcome {
        self.asks.send(ask).await.map_err(|_| "the stream is closed".into())
    }

    async fn answer(&mut self) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let mut answer = self.answers.message().await?.ok_or("the stream has ended")?;
        answer.resources.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(answer)
    }

    async fn ending(&mut self) -> Result<Status, Box<dyn std::error::Error + Send + Sync>> {
        self.answers.message().await.err().ok_or_else(|| "the stream goes on, or ended well".into())
    }
}

async fn stream(
    channel: &Channel,
) -> Result<(mpsc::Sender<Ask>, Streaming<Answer>), Box<dyn std::error::Error + Send + Sync>> {
    let (asks, asked) = mpsc::channel(4);
    let asked = stream::unfold(asked, |mut asked| async { asked.recv().await.map(|ask| (ask, asked)) });
    let mut request = Request::new(asked);
    request.metadata_mut().insert("authorization", "Bearer token".parse()?);
    request.metadata_mut().insert("clusterid", "home".parse()?);
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await?;
    let path = PathAndQuery::from_static(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    );
    let answers = client.streaming(request, path, ProstCodec::default()).await;
    // Headers come with the first message, or with the refusal.
    Ok((asks, answers?.into_inner()))
}

/// `DeltaDiscoveryRequest`; the tags are the field numbers of `envoy.service.discovery.v3`, as of the following.
#[derive(Clone, PartialEq, prost::Message)]
struct Ask {
    #[prost(message, optional, tag = "1")]
    node: Option<Node>,
    #[prost(string, tag = "2")]
    type_url: String,
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
struct Answer {
    #[prost(message, repeated, tag = "2")]
    resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
    #[prost(string, repeated, tag = "6")]
    removed: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Resource {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(message, optional, tag = "2")]
    body: Option<Body>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, repeated, tag = "4")]
    aliases: Vec<String>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Body {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl Answer {
    fn bodies(&self) -> Vec<(&str, &[u8])> {
        let value = |resource| Option::as_ref(resource).map_or(&[][..], |body: &Body| &body.value);
        self.resources.iter().map(|resource| (resource.name.as_str(), value(&resource.body))).collect()
    }

    fn versions(&self) -> Vec<(String, String)> {
        self.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone())).collect()
    }
}
