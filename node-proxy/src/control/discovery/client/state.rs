//! What one node knows of its conversation with a control plane: what is asked first, what is answered, what is held. Pure.
//!
//! A response is answered only when what it brought has been taken in. It must never forget what a control plane has not said is
//! gone: a new stream goes on from what is held.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use config::discovery::{Kind, Rejection, Resource};

use super::{
    unsaid::{Said, Unsaid},
    wanted::Wanted,
};
use crate::control::discovery::protocol::{Node, Request, Response, Status};

/// The state of all types of one conversation, over all of its streams.
#[derive(Debug)]
pub struct State {
    node: Node,
    /// Of each name the version that is in force; empty where none is, as only refused ones came.
    held: BTreeMap<Kind, HashMap<String, String>>,
    /// Where Addresses are asked for one by one.
    wanted: Option<Wanted>,
    /// How much of what is held a server is told when a stream begins.
    said: Said,
    unsaid: Unsaid,
    strangers: BTreeSet<String>,
}

/// What a response brings, for whoever puts the mesh together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Of which type.
    pub kind: Kind,
    /// New or changed.
    pub set: Vec<Resource>,
    /// Gone.
    pub removed: Vec<String>,
    /// Which names that were asked for it answers.
    pub answers: Vec<Answered>,
}

/// A name that was asked for, and what is known of it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The name.
    pub wanted: String,
    /// The resource that has it, if there is one.
    pub resource: Option<String>,
}

/// A response that is not answered yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Pending {
    kind: Kind,
    nonce: String,
    versions: Vec<(String, String)>,
    /// What is wrong whoever takes it in: names, and why.
    complaints: Vec<(String, String)>,
}

/// What to do with a response.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Have it taken in, then [`State::settle`] it.
    Take(Batch, Pending),
    /// Only answer it.
    Answer(Request),
    /// Nothing.
    Nothing,
}

impl Pending {
    /// Names of resources that are refused whoever takes them in.
    pub fn refused(&self) -> impl Iterator<Item = &str> {
        self.complaints.iter().map(|(name, _)| name.as_str())
    }
}

impl State {
    /// Of a node that says so of itself; `most` names can be asked for one by one where that is how Addresses are had.
    pub fn new(node: Node, most: Option<usize>) -> Self {
        Self {
            node,
            held: BTreeMap::new(),
            wanted: most.map(Wanted::new),
            said: Said::default(),
            unsaid: Unsaid::default(),
            strangers: BTreeSet::new(),
        }
    }

    /// Goes on from what was taken in in an earlier life; an Address is asked for as long as it is held.
    pub fn retain(&mut self, kind: Kind, resource: &Resource) {
        self.held.entry(kind).or_default().insert(resource.name.clone(), resource.version.clone());
        if let Some(wanted) = self.wanted.as_mut().filter(|_| kind.is_on_demand()) {
            wanted.hold(resource);
            wanted.keep(&resource.name);
        }
    }

    /// What was taken for what was taken in is refused: without a version, as in [`State::settle`].
    pub fn refuse(&mut self, kind: Kind, name: &str) {
        if let Some(version) = self.held.entry(kind).or_default().get_mut(name) {
            version.clear();
        }
    }

    /// Whether a type is had as a whole.
    pub fn is_wildcard(&self, kind: Kind) -> bool {
        self.wanted.is_none() || !kind.is_on_demand()
    }

    /// How many resources of a type are held.
    pub fn held(&self, kind: Kind) -> usize {
        self.held.get(&kind).map_or(0, HashMap::len)
    }

    /// Says less of what is held from the next stream on; `false` if nothing was said already, so that it was not too much.
    pub fn say_less(&mut self) -> bool {
        self.said = self.said.less();
        self.said != Said::All
    }

    /// The first requests of a new stream.
    pub fn open(&mut self) -> Vec<Request> {
        let mut requests = Vec::new();
        self.unsaid.begin();
        for kind in Kind::ALL {
            let is_wildcard = self.is_wildcard(kind);
            let initial_versions = self.versions(kind);
            let names = match self.wanted.as_mut().filter(|_| !is_wildcard) {
                // Who is told of versions takes what it is not asked for in the same request for what nobody wants.
                Some(wanted) if self.said == Said::All => wanted.open(),
                Some(wanted) => wanted.open_in_parts(),
                None => Vec::new(),
            };
            let (subscribe, unsubscribe) = match names.is_empty() {
                _ if is_wildcard => (Vec::new(), Vec::new()),
                // There is no way to ask for nothing; asking for all and not, in one request, is understood so.
                true => (vec![ALL.to_owned()], vec![ALL.to_owned()]),
                // With what is known of them, or a server would take that for what nobody wants any more.
                false => (names, Vec::new()),
            };
            requests.push(Request { subscribe, unsubscribe, initial_versions, ..request(kind) });
        }
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.node.clone());
        }
        requests
    }

    /// What a server is told of what is held.
    fn versions(&mut self, kind: Kind) -> HashMap<String, String> {
        let Some(held) = self.held.get(&kind) else { return HashMap::new() };
        match &self.wanted {
            _ if self.said == Said::All => held.clone(),
            Some(wanted) if kind.is_on_demand() => {
                self.unsaid.ask(kind, held, wanted.names());
                HashMap::new()
            }
            _ => self.unsaid.part(kind, held, self.said),
        }
    }

    /// Reads a response.
    pub fn read(&mut self, response: Response) -> Step {
        let Some(kind) = Kind::of(&response.type_url) else { return self.strange(response) };
        let gone = self.unsaid.gone(kind, &response);
        let mut pending =
            Pending { kind, nonce: response.nonce, versions: Vec::new(), complaints: Vec::new() };
        let mut set = Vec::with_capacity(response.resources.len());
        for resource in response.resources {
            if resource.name.is_empty() {
                pending.complaints.push(("(no name)".to_owned(), "a resource has to have a name".to_owned()));
                continue;
            }
            // A sign of life: it is as it was.
            let Some(body) = resource.resource else { continue };
            let is_right = body.type_url == kind.type_url();
            if !is_right {
                let why = format!("its message is a {:?}, not a {:?}", body.type_url, kind.type_url());
                pending.complaints.push((resource.name.clone(), why));
            }
            pending.versions.push((resource.name.clone(), resource.version.clone()));
            set.push(Resource {
                name: resource.name,
                aliases: resource.aliases,
                version: resource.version,
                // Nothing is no message of any type: it is refused as one that cannot be read, with all that follows from that.
                body: if is_right { body.value } else { Vec::new() },
            });
        }
        let names: BTreeSet<&str> = set.iter().map(|resource| resource.name.as_str()).collect();
        let mut removed = response.removed;
        removed.extend(gone);
        removed.retain(|name| !names.contains(name.as_str()));
        let answers = match self.wanted.as_mut().filter(|_| kind.is_on_demand()) {
            Some(wanted) => wanted.read(&set, &removed),
            None => Vec::new(),
        };
        let held = self.held.entry(kind).or_default();
        for name in &removed {
            held.remove(name);
        }
        Step::Take(Batch { kind, set, removed, answers }, pending)
    }

    /// Notes what was taken in, and gives the answer to the response.
    pub fn settle(&mut self, pending: Pending, rejections: &[Rejection]) -> Option<Request> {
        let Pending { kind, nonce, versions, mut complaints } = pending;
        let known: BTreeSet<String> = complaints.iter().map(|(name, _)| name.clone()).collect();
        let new = rejections.iter().filter(|rejection| !known.contains(&rejection.name));
        complaints.extend(new.map(|rejection| (rejection.name.clone(), rejection.message.clone())));
        let refused: BTreeSet<&str> = complaints.iter().map(|(name, _)| name.as_str()).collect();
        let held = self.held.entry(kind).or_default();
        for (name, version) in versions {
            if refused.contains(name.as_str()) {
                // Without a version it is sent again by a server that still has it, and one that has not says that it is gone.
                held.entry(name).or_default();
            } else {
                held.insert(name, version);
            }
        }
        // Without a nonce it would be a request.
        (!nonce.is_empty()).then(|| Request { nonce, error: status(&complaints), ..request(kind) })
    }

    /// Asks for an Address by a name: whether there is room for it, and its answer where that is known.
    pub fn want(&mut self, name: &str) -> (bool, Option<Answered>) {
        match &mut self.wanted {
            Some(wanted) => wanted.want(name),
            None => (true, None),
        }
    }

    /// Asks for a name no longer; says which resources are held for nobody then.
    pub fn unwant(&mut self, name: &str) -> Vec<String> {
        self.unsaid.unwant(name);
        let dropped = self.wanted.as_mut().map(|wanted| wanted.unwant(name)).unwrap_or_default();
        let held = self.held.entry(Kind::Address).or_default();
        for name in &dropped {
            held.remove(name);
        }
        dropped
    }

    /// Names that the server has not been told of: a request of its own, never part of an answer.
    pub fn subscriptions(&mut self) -> Option<Request> {
        let (subscribe, unsubscribe) = self.wanted.as_mut()?.changes();
        let is_any = !subscribe.is_empty() || !unsubscribe.is_empty();
        is_any.then(|| Request { subscribe, unsubscribe, ..request(Kind::Address) })
    }

    /// A type that nobody asked for.
    fn strange(&mut self, response: Response) -> Step {
        let Response { type_url, nonce, .. } = response;
        if self.strangers.len() < STRANGERS && self.strangers.insert(type_url.clone()) {
            tracing::warn!(type_url, "the control plane sends a type that nobody asked for: it is refused");
        }
        if nonce.is_empty() {
            return Step::Nothing;
        }
        let error =
            Some(Status { code: INVALID, message: format!("this node did not ask for {type_url:?}") });
        Step::Answer(Request { type_url, nonce, error, ..Request::default() })
    }
}

fn request(kind: Kind) -> Request {
    Request { type_url: kind.type_url().to_owned(), ..Request::default() }
}

/// What is said of resources that are not taken.
fn status(complaints: &[(String, String)]) -> Option<Status> {
    if complaints.is_empty() {
        return None;
    }
    let mut message = String::new();
    for (number, (name, why)) in complaints.iter().enumerate() {
        if message.len() > LONGEST {
            message.push_str(&format!("; and {} more", complaints.len() - number));
            break;
        }
        let separator = if message.is_empty() { "" } else { "; " };
        message.push_str(&format!("{separator}{name}: {why}"));
    }
    Some(Status { code: INVALID, message })
}

/// By which all of a type is meant.
const ALL: &str = "*";
/// `INVALID_ARGUMENT` of gRPC.
const INVALID: i32 = 3;
/// Bytes after which a message says only how many resources more are not taken.
const LONGEST: usize = 32 * 1024;
/// Unknown types that are warned of, each once.
const STRANGERS: usize = 16;

#[cfg(test)]
mod tests;
