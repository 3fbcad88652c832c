//! Names of Addresses that are asked for one by one, and what is known of each. Pure.
//!
//! A name is of a resource, or one of its aliases. There are never more names than there is room for.

use std::collections::{BTreeSet, HashMap};

use config::discovery::{
    Resource,
    messages::{Address, address},
};

use super::{state::Answered, unsaid::LITTLE};

/// The names.
#[derive(Debug)]
pub(super) struct Wanted {
    most: usize,
    names: BTreeSet<String>,
    /// Resources that are held.
    held: HashMap<String, Known>,
    /// Which resource has an alias.
    by_alias: HashMap<String, String>,
    /// What the server has not been told.
    told: Untold,
}

/// By which other names a resource is known.
#[derive(Debug, Default)]
struct Known {
    aliases: Vec<String>,
    /// The Services that a workload is behind: whoever asks for one of them gets it, too.
    services: Vec<String>,
}

#[derive(Debug, Default)]
struct Untold {
    subscribe: BTreeSet<String>,
    unsubscribe: BTreeSet<String>,
}

impl Wanted {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            names: BTreeSet::new(),
            held: HashMap::new(),
            by_alias: HashMap::new(),
            told: Untold::default(),
        }
    }

    /// Asks for a name; whether there is room for it, and its answer where that is known.
    pub(super) fn want(&mut self, name: &str) -> (bool, Option<Answered>) {
        if self.names.len() >= self.most && !self.names.contains(name) {
            return (false, None);
        }
        self.keep(name);
        // A server need not send again what it knows to be here.
        let resource = self.resource(name).map(str::to_owned);
        (true, resource.map(|resource| Answered { wanted: name.to_owned(), resource: Some(resource) }))
    }

    /// Asks for a name whether there is room or not.
    pub(super) fn keep(&mut self, name: &str) {
        if self.names.insert(name.to_owned()) && !self.told.unsubscribe.remove(name) {
            self.told.subscribe.insert(name.to_owned());
        }
    }

    /// Asks for it no longer; gives the resource that nobody else asks for.
    pub(super) fn unwant(&mut self, name: &str) -> Vec<String> {
        if !self.names.remove(name) {
            return Vec::new();
        }
        if !self.told.subscribe.remove(name) {
            self.told.unsubscribe.insert(name.to_owned());
        }
        let Some(resource) = self.resource(name).map(str::to_owned) else { return Vec::new() };
        if self.is_wanted(&resource) || self.services(&resource).iter().any(|service| self.is_wanted(service))
        {
            return Vec::new();
        }
        self.drop_resource(&resource);
        vec![resource]
    }

    /// Names that are asked for.
    pub(super) fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// All names, for a server that knows none of them.
    pub(super) fn open(&mut self) -> Vec<String> {
        self.told = Untold::default();
        self.names.iter().cloned().collect()
    }

    /// The same for a server that takes no large request. Names that do not go into one are [`changes`](Self::changes).
    pub(super) fn open_in_parts(&mut self) -> Vec<String> {
        self.told = Untold { subscribe: self.names.clone(), unsubscribe: BTreeSet::new() };
        part(&mut self.told.subscribe)
    }

    /// What the server has not been told: names that are wanted, and that are no longer. What goes into one request; to be called until
    /// it gives none.
    pub(super) fn changes(&mut self) -> (Vec<String>, Vec<String>) {
        (part(&mut self.told.subscribe), part(&mut self.told.unsubscribe))
    }

    /// Takes in what is there and what is not; says which names that answers.
    pub(super) fn read(&mut self, set: &[Resource], removed: &[String]) -> Vec<Answered> {
        let mut answers = Vec::new();
        for name in removed {
            let aliases = self.drop_resource(name);
            let gone = aliases.into_iter().chain([name.clone()]).filter(|name| self.names.contains(name));
            answers.extend(gone.map(|wanted| Answered { wanted, resource: None }));
        }
        for resource in set {
            self.hold(resource);
            let Resource { name, aliases, .. } = resource;
            let there = aliases.iter().chain([name]).filter(|name| self.names.contains(*name));
            let answer = |wanted: &String| Answered { wanted: wanted.clone(), resource: Some(name.clone()) };
            answers.extend(there.map(answer));
        }
        // An address that goes from one to another in one response is there.
        let there: BTreeSet<String> = answers
            .iter()
            .filter(|answer| answer.resource.is_some())
            .map(|answer| answer.wanted.clone())
            .collect();
        answers.retain(|answer| answer.resource.is_some() || !there.contains(&answer.wanted));
        answers
    }

    /// Notes a resource and its names.
    pub(super) fn hold(&mut self, Resource { name, aliases, body, .. }: &Resource) {
        self.drop_resource(name);
        for alias in aliases {
            self.by_alias.insert(alias.clone(), name.clone());
        }
        self.held.insert(name.clone(), Known { aliases: aliases.clone(), services: services(body) });
    }

    /// Whether a resource is asked for, by whatever name.
    fn is_wanted(&self, resource: &str) -> bool {
        let aliases = self.held.get(resource).map(|known| &known.aliases);
        let mut names = aliases.into_iter().flatten().map(String::as_str).chain([resource]);
        names.any(|name| self.names.contains(name))
    }

    fn services(&self, resource: &str) -> &[String] {
        self.held.get(resource).map_or(&[], |known| &known.services)
    }

    /// Forgets a resource; gives the aliases that nobody has now.
    fn drop_resource(&mut self, name: &str) -> Vec<String> {
        let aliases = self.held.remove(name).unwrap_or_default().aliases;
        let mut gone = Vec::new();
        for alias in aliases {
            if self.by_alias.get(&alias).is_some_and(|of| of == name) {
                self.by_alias.remove(&alias);
                gone.push(alias);
            }
        }
        gone
    }

    fn resource<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.held
            .get_key_value(name)
            .map(|(name, _)| name.as_str())
            .or_else(|| self.by_alias.get(name).map(String::as_str))
    }
}

/// The Services that a workload is behind; none of what is no workload, or cannot be read.
fn services(body: &[u8]) -> Vec<String> {
    match <Address as prost::Message>::decode(body).map(|address| address.r#type) {
        Ok(Some(address::Type::Workload(workload))) => workload.services.into_keys().collect(),
        _ => Vec::new(),
    }
}

/// Takes as many names as go into a request that every server takes.
fn part(names: &mut BTreeSet<String>) -> Vec<String> {
    let mut room = LITTLE / 2;
    let mut part = Vec::new();
    while let Some(name) = names.pop_first() {
        room = room.saturating_sub(name.len() + OVERHEAD);
        part.push(name);
        if room == 0 {
            break;
        }
    }
    part
}

/// Bytes of a name in a list beside its text, at most.
const OVERHEAD: usize = 6;
