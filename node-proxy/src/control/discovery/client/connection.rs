//! The thread of discovery: connects, asks, hands over what comes, answers, and begins again when the stream ends.
//!
//! Whatever a control plane sends or does not, this thread must not end before the daemon does, nor ask in a circle without a pause.

use std::{
    net::IpAddr,
    sync::{Arc, mpsc},
    time::{Duration, SystemTime},
};

use config::discovery::{Kind, Resource};
use tokio::sync::{mpsc as queue, oneshot};
use tonic::{Code, Status, Streaming, metadata::MetadataValue};

use super::{
    Answer, Demand, Event, Options, Oversized, Standing, Taken, endpoint,
    state::{Batch, State, Step},
};
use crate::{
    control::discovery::{
        cache::Cache,
        protocol::{DELTA, LARGEST_MESSAGE, Request, Response},
    },
    identity::authority::{grpc, report, retry::Backoff},
};

/// The thread's state.
#[derive(Debug)]
pub(super) struct Connection {
    options: Options,
    state: State,
    cache: Cache,
    events: mpsc::Sender<Event>,
    standing: Arc<Standing>,
    demand: Option<Demand>,
    /// Whether the stream of now has brought anything.
    has_spoken: bool,
}

/// Why a stream is over.
#[derive(Debug)]
enum End {
    /// As streams end: a control plane that restarts, or shares its nodes anew.
    Clean(String),
    /// Something is wrong.
    Failed(String),
    /// A message is larger than who gets it takes.
    TooLarge(String, Option<Oversized>),
    /// Nobody listens any more.
    Over,
}

impl Connection {
    pub(super) fn new(
        options: Options,
        events: mpsc::Sender<Event>,
        standing: Arc<Standing>,
        demand: Option<Demand>,
    ) -> Self {
        let state = State::new(options.introduction.to_node(), options.on_demand);
        Self { options, state, cache: Cache::off(), events, standing, demand, has_spoken: false }
    }

    /// Works until nobody listens any more.
    pub(super) async fn run(&mut self) {
        if self.replay().await.is_none() {
            return;
        }
        let mut pause = Backoff::between(FIRST, LONGEST);
        loop {
            self.has_spoken = false;
            let began = tokio::time::Instant::now();
            let end = self.converse().await;
            // One that speaks and ends at once, again and again, is as much of a burden as one that says nothing.
            let has_lasted = self.has_spoken && began.elapsed() >= LASTING;
            if has_lasted {
                pause.reset();
            }
            let (error, is_clean) = match end {
                Ok(()) => ("it has ended the stream".to_owned(), true),
                Err(End::Clean(error)) => (error, true),
                Err(End::Failed(error)) => (error, false),
                Err(End::TooLarge(error, known)) => {
                    self.make_smaller(&error, known).await;
                    continue;
                }
                Err(End::Over) => return,
            };
            self.standing.away(&error, SystemTime::now());
            if !is_clean || !has_lasted {
                tokio::time::sleep(pause.next(fastrand::f64())).await;
            }
        }
    }

    /// What can be done where the same would be too large again: the next stream says less, at once. Where it said nothing already it
    /// is what comes that is too large, and nothing helps but what the operator does.
    async fn make_smaller(&mut self, error: &str, known: Option<Oversized>) {
        let what = match known {
            Some(Oversized::Response) => Oversized::Response,
            _ if self.state.say_less() => Oversized::Request,
            _ => Oversized::Response,
        };
        self.standing.oversized(what);
        self.standing.away(&format!("{error}: {}", what.advice()), SystemTime::now());
        if what == Oversized::Response {
            tokio::time::sleep(OVERSIZED_PAUSE.mul_f64(1.0 + fastrand::f64() / 4.0)).await;
        }
    }

    /// Hands over what the cache has.
    async fn replay(&mut self) -> Option<()> {
        let Some(directory) = self.options.cache.clone() else { return Some(()) };
        let header = self.options.header();
        let (cache, stored) = Cache::open(&directory, header.clone());
        self.cache = cache;
        for (kind, set) in stored.batches(&header) {
            set.iter().for_each(|resource| self.state.retain(kind, resource));
            if let Some(demand) = self.demand.as_ref().filter(|_| kind.is_on_demand()) {
                demand.retain(set.iter().map(|resource: &Resource| resource.name.clone()));
            }
            let batch = Batch { kind, set, removed: Vec::new(), answers: Vec::new() };
            let (taken, answer) = oneshot::channel();
            self.events.send(Event::Stored(batch, taken)).ok()?;
            let taken = answer.await.ok()?;
            for rejection in taken.rejections {
                self.state.refuse(kind, &rejection.name);
            }
            self.standing.held(kind, self.state.held(kind));
        }
        self.events.send(Event::Cached(stored.is_complete)).ok()
    }

    /// One stream, from its beginning to its end.
    async fn converse(&mut self) -> Result<(), End> {
        let Options { server, tls, .. } = &self.options;
        let channel = endpoint::connect(server, tls).await.map_err(End::Failed)?;
        let (questions, mut outgoing) = queue::channel(QUESTIONS);
        for request in self.state.open() {
            questions.send(request).await.map_err(gone)?;
        }
        let stream = futures_util::stream::poll_fn(move |cx| outgoing.poll_recv(cx));
        let request = self.request(stream).map_err(End::Failed)?;
        let answers = grpc::converse::<Request, Response>(channel, DELTA, request, LARGEST_MESSAGE).await;
        let mut answers = answers.map_err(|status| end(&status))?;
        self.standing.connected(SystemTime::now());
        // Names for which there was no room in the first request.
        self.tell(&questions).await?;
        loop {
            match self.next(&mut answers).await? {
                Next::Response(response) => self.take(response, &questions).await?,
                Next::Ordered => self.order(&questions).await?,
                Next::Ended => return Ok(()),
            }
        }
    }

    fn request<S>(&self, stream: S) -> Result<tonic::Request<S>, String> {
        let mut request = tonic::Request::new(stream);
        let cluster = &self.options.introduction.cluster;
        let cluster = MetadataValue::try_from(cluster)
            .map_err(|_| format!("{cluster:?} is not the name of a cluster: set --discovery-cluster"))?;
        request.metadata_mut().insert("clusterid", cluster);
        if let Some(token) = &self.options.token {
            let bearer =
                grpc::bearer(token, "name the file of a token with --discovery-token, or leave it out");
            request.metadata_mut().insert("authorization", bearer.map_err(|error| report(&error))?);
        }
        Ok(request)
    }

    async fn next(&self, answers: &mut Streaming<Response>) -> Result<Next, End> {
        let ordered = async {
            match &self.demand {
                Some(demand) => demand.ordered().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = answers.message() => match answer {
                Ok(Some(response)) => Ok(Next::Response(response)),
                Ok(None) => Ok(Next::Ended),
                Err(status) => Err(end(&status)),
            },
            () = ordered => Ok(Next::Ordered),
        }
    }

    /// Has a response taken in, and answers it.
    async fn take(&mut self, response: Response, questions: &queue::Sender<Request>) -> Result<(), End> {
        self.has_spoken = true;
        let (batch, pending) = match self.state.read(response) {
            Step::Take(batch, pending) => (batch, pending),
            Step::Answer(request) => return questions.send(request).await.map_err(gone),
            Step::Nothing => return Ok(()),
        };
        let kind = batch.kind;
        self.cache.write(kind, &batch.set, &batch.removed);
        let Taken { rejections, is_complete } = self.put(batch).await.ok_or(End::Over)?;
        let rejected = rejections.iter().map(|rejection| rejection.name.as_str());
        let refused: Vec<&str> = rejected.chain(pending.refused()).collect();
        self.cache.settle(&refused);
        if is_complete {
            self.cache.complete();
        }
        let answer = self.state.settle(pending, &rejections);
        let is_taken = answer.as_ref().is_none_or(|answer| answer.error.is_none());
        self.standing.answered(kind, is_taken, self.state.held(kind));
        match answer {
            Some(answer) => questions.send(answer).await.map_err(gone),
            None => Ok(()),
        }
    }

    /// Asks for what is wanted, and no longer for what is not.
    async fn order(&mut self, questions: &queue::Sender<Request>) -> Result<(), End> {
        let Some(orders) = self.demand.as_ref().map(Demand::orders) else { return Ok(()) };
        for name in orders.unwant {
            let removed = self.state.unwant(&name);
            if !removed.is_empty() {
                self.cache.write(Kind::Address, &[], &removed);
                self.cache.settle(&[]);
                let batch = Batch { kind: Kind::Address, set: Vec::new(), removed, answers: Vec::new() };
                self.put(batch).await.ok_or(End::Over)?;
            }
        }
        // On its own, so that a name which is wanted again is answered again.
        self.tell(questions).await?;
        let mut answers = Vec::new();
        for name in orders.want {
            let (has_room, answer) = self.state.want(&name);
            answers.extend(answer);
            if let Some(demand) = self.demand.as_ref().filter(|_| !has_room) {
                demand.answer(&[(name, Answer::Full)]);
            }
        }
        if !answers.is_empty() {
            let batch = Batch { kind: Kind::Address, set: Vec::new(), removed: Vec::new(), answers };
            self.events.send(Event::Batch(batch, None)).map_err(|_| End::Over)?;
        }
        self.tell(questions).await
    }

    async fn tell(&mut self, questions: &queue::Sender<Request>) -> Result<(), End> {
        while let Some(request) = self.state.subscriptions() {
            questions.send(request).await.map_err(gone)?;
        }
        Ok(())
    }

    /// Hands a batch over and waits for what becomes of it; `None` where nobody takes it.
    async fn put(&self, batch: Batch) -> Option<Taken> {
        let (taken, answer) = oneshot::channel();
        self.events.send(Event::Batch(batch, Some(taken))).ok()?;
        answer.await.ok()
    }
}

/// What comes next on a stream.
enum Next {
    Response(Response),
    Ordered,
    Ended,
}

/// The name by which an address of a network is asked for.
pub(super) fn name_of(network: &str, address: IpAddr) -> String {
    format!("{network}/{address}")
}

/// The stream's other half has ended: why is what the next response says.
fn gone<T>(_: queue::error::SendError<T>) -> End {
    End::Clean("it has ended the stream".to_owned())
}

fn end(status: &Status) -> End {
    let text = grpc::reason(status);
    match status.code() {
        // What a server that is built as this says of a request, and this node's own end of a response: with its own bound in it.
        Code::OutOfRange => {
            let is_own = status.message().contains(&format!("{LARGEST_MESSAGE} bytes"));
            return End::TooLarge(text, is_own.then_some(Oversized::Response));
        }
        // So say servers in Go, of a request and of what they would send.
        Code::ResourceExhausted if text.contains("larger than max") => {
            let is_sent = text.contains("send message larger");
            return End::TooLarge(text, is_sent.then_some(Oversized::Response));
        }
        _ => {}
    }
    let is_clean = match status.code() {
        Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => true,
        Code::Unavailable => {
            let message = status.message();
            message.contains("transport is closing") || message.contains("received prior goaway")
        }
        _ => false,
    };
    if is_clean { End::Clean(text) } else { End::Failed(text) }
}

/// A stream that ends sooner has not lasted.
const LASTING: Duration = Duration::from_secs(1);
/// The first pause before another try, and the longest.
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(15);
/// The pause after a response that is too large: a server makes all of it again for the next try.
const OVERSIZED_PAUSE: Duration = Duration::from_secs(60);
/// Requests that may wait to be sent; those of a beginning are fewer.
const QUESTIONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_too_much_is_told_by_the_words_of_who_does_not_take_it() {
        let is = |status: Status| match end(&status) {
            End::TooLarge(_, known) => Some(known),
            _ => None,
        };
        let own = format!(
            "Error, decoded message length too large: found 9 bytes, the limit is: {LARGEST_MESSAGE} bytes"
        );
        assert_eq!(is(Status::out_of_range(own)), Some(Some(Oversized::Response)), "this node's own end");
        let of_server =
            "Error, decoded message length too large: found 9 bytes, the limit is: 16777216 bytes";
        assert_eq!(is(Status::out_of_range(of_server)), Some(None));
        let of_go = |what: &str| Status::resource_exhausted(format!("{what} larger than max (9 vs. 8)"));
        assert_eq!(is(of_go("grpc: received message")), Some(None));
        assert_eq!(is(of_go("trying to send message")), Some(Some(Oversized::Response)));
        assert_eq!(is(Status::resource_exhausted("as many streams are open as may be")), None);
        assert_eq!(is(Status::unavailable("message larger than max")), None);
    }
}
