//! Names of Addresses that are asked for one by one, and what is known of each. Pure.
//!
//! A name is of a resource, or one of its aliases. There are never more names than there is room for.

use std::collections::{BTreeSet, HashMap};

use config::discovery::Resource;

use super::state::Answered;

/// The names.
#[derive(Debug)]
pub(super) struct Wanted {
    most: usize,
    names: BTreeSet<String>,
    /// Resources that are held, with their aliases.
    held: HashMap<String, Vec<String>>,
    /// Which resource has an alias.
    by_alias: HashMap<String, String>,
    /// What the server has not been told.
    told: Untold,
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
        let is_wanted = |name: &String| self.names.contains(name);
        if is_wanted(&resource)
            || self.held.get(&resource).is_some_and(|aliases| aliases.iter().any(is_wanted))
        {
            return Vec::new();
        }
        self.drop_resource(&resource);
        vec![resource]
    }

    /// All names, for a server that knows none of them.
    pub(super) fn open(&mut self) -> Vec<String> {
        self.told = Untold::default();
        self.names.iter().cloned().collect()
    }

    /// What the server has not been told: names that are wanted, and that are no longer.
    pub(super) fn changes(&mut self) -> (Vec<String>, Vec<String>) {
        let Untold { subscribe, unsubscribe } = std::mem::take(&mut self.told);
        (subscribe.into_iter().collect(), unsubscribe.into_iter().collect())
    }

    /// Takes in what is there and what is not; says which names that answers.
    pub(super) fn read(&mut self, set: &[Resource], removed: &[String]) -> Vec<Answered> {
        let mut answers = Vec::new();
        for name in removed {
            let aliases = self.drop_resource(name);
            let gone = aliases.into_iter().chain([name.clone()]).filter(|name| self.names.contains(name));
            answers.extend(gone.map(|wanted| Answered { wanted, resource: None }));
        }
        for Resource { name, aliases, .. } in set {
            self.hold(name, aliases);
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
    pub(super) fn hold(&mut self, name: &str, aliases: &[String]) {
        self.drop_resource(name);
        for alias in aliases {
            self.by_alias.insert(alias.clone(), name.to_owned());
        }
        self.held.insert(name.to_owned(), aliases.to_vec());
    }

    /// Forgets a resource; gives the aliases that nobody has now.
    fn drop_resource(&mut self, name: &str) -> Vec<String> {
        let aliases = self.held.remove(name).unwrap_or_default();
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
