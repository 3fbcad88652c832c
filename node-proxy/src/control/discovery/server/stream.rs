//! One stream of the delta protocol, as a state machine: requests and changes in, responses out.
//!
//! Pure: no connection, no clock, no log. One response of a type is under way at a time, and what changes meanwhile is merged; so a
//! slow node costs the server a set of names. Nothing that a node says may make it hold more than its limits.

use std::{collections::BTreeMap, sync::Arc};

use config::{
    discovery::{Kind, Reader, Shelf},
    name::NodeName,
};

use super::{
    super::protocol::{Request, Response},
    change::Change,
    subscription::{Contents, Subscription},
    version::Version,
};

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// What is known of which node it is.
    proof: Proof,
    reader: Option<Reader>,
    kinds: BTreeMap<Kind, Subscription>,
    /// Types that nobody here knows, and whether they were answered.
    strange: BTreeMap<String, bool>,
    nonces: u64,
    encoded: u64,
}

/// What who asks has proven of which node he is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// Nothing: what it says of its name is not believed.
    Nothing,
    /// That it may say any name: it is root here, or ourselves.
    Trusted,
    /// That it is this node, which is the only one that it may ask as.
    Node(NodeName),
}

/// What a request tells beside what it asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// A response was not taken.
    Nack {
        /// Of this type.
        kind: Kind,
        /// The node's reason.
        message: String,
        /// What is meant, as far as can be told.
        resources: Vec<(Arc<str>, Option<Version>)>,
    },
    /// Asked for is a type that is not served.
    Strange {
        /// The type.
        type_url: String,
    },
    /// The node's name is none.
    Misnamed {
        /// The name.
        name: String,
    },
}

/// Why a stream is ended.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It asks for too much.
    #[error("a stream may be subscribed to {SUBSCRIPTIONS} names; subscribe to \"*\" for more")]
    TooMany,
    /// It says that it is another node than it has proven to be.
    #[error(
        "this node's token is of another node than it says: ask as the node of your pod (spec.nodeName, --node)"
    )]
    OtherNode,
    /// A name is longer than any is.
    #[error("a name has {0} bytes; no resource's name has more than {NAME_BYTES}")]
    TooLong(usize),
}

/// What is to be done next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// This is to be sent. A strange type is of no kind.
    Send(Option<Kind>, Response),
    /// There may be more after a pause in which others have their turn.
    Pause,
    /// Nothing, until something is heard or noted.
    Wait,
}

impl Stream {
    /// A stream of which nothing was heard.
    pub(super) fn new(proof: Proof) -> Self {
        Self { proof, reader: None, kinds: BTreeMap::new(), strange: BTreeMap::new(), nonces: 0, encoded: 0 }
    }

    /// Takes in a request.
    pub(super) fn hear(&mut self, request: &Request, shelf: &Shelf) -> Result<Vec<Notice>, Refusal> {
        let mut notices: Vec<Notice> = self.meet(request)?.into_iter().collect();
        let Some(kind) = Kind::of(&request.type_url) else {
            notices.extend(self.hear_strange(&request.type_url));
            return Ok(notices);
        };
        self.check(kind, request)?;
        match self.kinds.get_mut(&kind) {
            None => {
                self.kinds.insert(kind, Subscription::begin(kind, request, shelf));
            }
            Some(subscription) => {
                // To a response of before, nothing is to be said any more. What is asked for besides counts all the same.
                let sent = subscription.answered(&request.nonce);
                if let (Some(sent), Some(error)) = (sent, &request.error) {
                    let resources = subscription.not_taken(&sent, &error.message);
                    notices.push(Notice::Nack { kind, message: error.message.clone(), resources });
                }
                subscription.alter(request, shelf);
            }
        }
        Ok(notices)
    }

    /// Takes note of a change of the shelf: whether there may be something to send.
    pub(super) fn note(&mut self, change: &Change, shelf: &Shelf) -> bool {
        let mut is_due = false;
        for subscription in self.kinds.values_mut() {
            subscription.note(change, shelf);
            is_due |= subscription.is_due();
        }
        is_due
    }

    /// What is to be done next. What others refer to goes first, and what is gone goes last.
    pub(super) fn next(&mut self, shelf: &Shelf) -> Next {
        if let Some((type_url, answered)) = self.strange.iter_mut().find(|(_, answered)| !**answered) {
            *answered = true;
            let type_url = type_url.clone();
            return Next::Send(None, self.response(&type_url, Contents::default()));
        }
        let Some(reader) = self.reader.clone() else { return Next::Wait };
        let nonce = (self.nonces + 1).to_string();
        // Who is protected does not overtake what protects them.
        let is_protecting = self.kinds.iter().any(|(kind, one)| kind.protects() && one.is_in_flight());
        for (kind, subscription) in self.kinds.iter_mut().filter(|(kind, subscription)| {
            !(subscription.is_in_flight() || is_protecting && **kind == Kind::Address)
        }) {
            let left = subscription.look_up(shelf, &reader, SLICE, &mut self.encoded);
            if left > 0 && !subscription.is_full() {
                return Next::Pause;
            }
            if let Some(contents) = subscription.take_draft(&nonce) {
                let (kind, is_whole) = (*kind, subscription.has_said_all());
                let mut response = self.response(kind.type_url(), contents);
                if is_whole {
                    response.say_whole();
                }
                return Next::Send(Some(kind), response);
            }
        }
        // As long as anything may still come, what it may refer to stays: also that which waits for an answer.
        if self.kinds.values().any(Subscription::is_pending) {
            return Next::Wait;
        }
        let removals = self
            .kinds
            .iter_mut()
            .rev()
            .find_map(|(kind, subscription)| Some((*kind, subscription.take_removals(&nonce)?)));
        match removals {
            Some((kind, contents)) => Next::Send(Some(kind), self.response(kind.type_url(), contents)),
            None => Next::Wait,
        }
    }

    /// Whether an answer to a response of a type is awaited.
    pub(super) fn awaits_answer(&self, kind: Kind) -> bool {
        self.kinds.get(&kind).is_some_and(Subscription::is_in_flight)
    }

    /// Whether anything was heard.
    pub(super) fn has_begun(&self) -> bool {
        self.reader.is_some()
    }

    /// How often a resource was encoded for it.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded
    }

    fn response(&mut self, type_url: &str, contents: Contents) -> Response {
        self.nonces += 1;
        let Contents { resources, removed } = contents;
        let nonce = self.nonces.to_string();
        let type_url = type_url.to_owned();
        Response { system_version: String::new(), resources, type_url, nonce, removed }
    }

    /// Hears who it is; only the first request of a stream says so.
    fn meet(&mut self, request: &Request) -> Result<Option<Notice>, Refusal> {
        if self.reader.is_some() {
            return Ok(None);
        }
        let said = request.node.as_ref().and_then(|node| node.metadata.as_ref());
        let said = said.and_then(|metadata| metadata.fields.get(NODE_NAME)?.text.as_deref());
        let (node, notice) = match (&self.proof, said) {
            (Proof::Nothing, _) | (Proof::Trusted, None) => (None, None),
            (Proof::Trusted, Some(said)) => match NodeName::try_from(said) {
                Ok(node) => (Some(node), None),
                Err(_) => (None, Some(Notice::Misnamed { name: said.to_owned() })),
            },
            (Proof::Node(node), Some(said)) if said != node.as_str() => return Err(Refusal::OtherNode),
            (Proof::Node(node), _) => (Some(node.clone()), None),
        };
        self.reader = Some(Reader { node });
        Ok(notice)
    }

    /// A type that is not served is answered once, so that nobody waits for it.
    fn hear_strange(&mut self, type_url: &str) -> Option<Notice> {
        if self.strange.contains_key(type_url) || self.strange.len() >= STRANGE || type_url.len() > NAME_BYTES
        {
            return None;
        }
        self.strange.insert(type_url.to_owned(), false);
        Some(Notice::Strange { type_url: type_url.to_owned() })
    }

    fn check(&self, kind: Kind, request: &Request) -> Result<(), Refusal> {
        let asked = self.kinds.get(&kind).map_or(0, Subscription::asked);
        if asked + request.subscribe.len() > SUBSCRIPTIONS || request.initial_versions.len() > KNOWN {
            return Err(Refusal::TooMany);
        }
        let names = request.subscribe.iter().chain(request.initial_versions.keys());
        match names.map(String::len).find(|bytes| *bytes > NAME_BYTES) {
            Some(bytes) => Err(Refusal::TooLong(bytes)),
            None => Ok(()),
        }
    }
}

/// Where a node says its name, in its metadata.
const NODE_NAME: &str = "NODE_NAME";
/// Names that a stream may be subscribed to at a time. A node that comes back asks for all that it has kept: with 200 Services of
/// 20 endpoints, 4,200.
const SUBSCRIPTIONS: usize = 100_000;
/// Resources of one type that a node may say it has: twice as many as it takes.
const KNOWN: usize = 200_000;
/// Bytes of a name. Of Kubernetes' names the longest is that of a pod, with its cluster, its namespace and two slashes.
const NAME_BYTES: usize = 1024;
/// Types that are not served and answered nevertheless.
const STRANGE: usize = 16;
/// Resources that are encoded before others have their turn: some milliseconds.
const SLICE: usize = 256;

#[cfg(test)]
mod tests;
