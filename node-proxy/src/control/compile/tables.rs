//! HTTPRoutes and GRPCRoutes to route tables: which routes a Service port has, and for whom.
//!
//! A route in the Service's namespace is the producer's and meant for all callers; any other is a consumer's and must never
//! touch callers outside its own namespace (Gateway API, GAMMA). A table must never be made anew for one route of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use config::{
    model::{AppProtocol, BackendTarget, HttpRoute},
    name::{Namespace, RouteKind, RouteName, ServiceName},
};

use super::{clusters::Clusters, differences::differences, matchers, rules};
use crate::snapshot::{
    Cluster, RouteTable,
    routes::{Change, CompiledRule, Entry, Matcher},
};

/// All route tables of a mesh, other than the default ones.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// As they were last seen. Apart from what was made of them, so that what did not change is not looked into.
    seen: BTreeMap<RouteName, Arc<HttpRoute>>,
    routes: HashMap<RouteName, Route>,
    /// Routes by the Services that they name, as parents or as backends.
    naming: HashMap<ServiceName, HashSet<RouteName>>,
    attached: HashMap<Attachment, Attached>,
}

/// A route, and what was made of it.
#[derive(Debug)]
struct Route {
    source: Arc<HttpRoute>,
    /// Condition and rule, by position.
    matches: Arc<[(Arc<Matcher>, usize)]>,
    /// What its targets were when the rules were made.
    clusters: Vec<Option<Arc<Cluster>>>,
    rules: Arc<[Arc<CompiledRule>]>,
    /// The tables that it stands in, each once. A set would take ten times the memory of the one that it usually is.
    attachments: Vec<Attachment>,
}

/// Whose table it is: all callers' (`None`) or one namespace's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Attachment {
    caller: Option<Namespace>,
    service: ServiceName,
    port: u16,
}

/// A table, and how many routes it is of.
#[derive(Debug)]
struct Attached {
    routes: usize,
    /// GRPCRoutes among them. Linking leaves a port routes of one kind.
    grpc: usize,
    table: Arc<RouteTable>,
}

/// What becomes different in a table, and how many routes fewer and more it is of.
#[derive(Debug, Default)]
struct Difference {
    fewer: usize,
    more: usize,
    /// GRPCRoutes among those.
    fewer_grpc: usize,
    more_grpc: usize,
    change: Change,
}

impl Tables {
    /// Takes over the routes of a mesh. `touched` are Services that changed; gives the ones whose producers' tables did.
    pub(super) fn update(
        &mut self,
        routes: &BTreeMap<RouteName, Arc<HttpRoute>>,
        clusters: &Clusters,
        touched: &BTreeSet<ServiceName>,
    ) -> BTreeSet<ServiceName> {
        let mut different: BTreeSet<RouteName> =
            touched.iter().filter_map(|service| self.naming.get(service)).flatten().cloned().collect();
        different.extend(differences(&self.seen, routes, Arc::ptr_eq));
        let mut changes = BTreeMap::new();
        for name in different {
            self.replace(name, routes, clusters, &mut changes);
        }
        let producers = changes.keys().filter(|attachment| attachment.caller.is_none());
        let producers = producers.map(|attachment| attachment.service.clone()).collect();
        for (attachment, difference) in changes {
            self.change(attachment, difference);
        }
        producers
    }

    /// The producer's table of a Service port, if any route is attached to it.
    pub(super) fn producer(&self, service: &ServiceName, port: u16) -> Option<&Arc<RouteTable>> {
        let attachment = Attachment { caller: None, service: service.clone(), port };
        self.attached.get(&attachment).map(|attached| &attached.table)
    }

    /// Every consumer's table: for callers of which namespace, of which Service port.
    pub(super) fn consumers(
        &self,
    ) -> impl Iterator<Item = (&Namespace, &ServiceName, u16, &Arc<RouteTable>)> {
        self.attached.iter().filter_map(|(Attachment { caller, service, port }, attached)| {
            Some((caller.as_ref()?, service, *port, &attached.table))
        })
    }

    /// Takes over one route, and notes what that changes.
    fn replace(
        &mut self,
        name: RouteName,
        routes: &BTreeMap<RouteName, Arc<HttpRoute>>,
        clusters: &Clusters,
        changes: &mut BTreeMap<Attachment, Difference>,
    ) {
        let before = self.routes.remove(&name);
        let now = routes.get(&name).map(|source| Route::new(source, before.as_ref(), clusters));
        note(before.as_ref(), now.as_ref(), changes);
        let is_same =
            |now: &Route| before.as_ref().is_some_and(|before| Arc::ptr_eq(&before.source, &now.source));
        if now.as_ref().is_some_and(is_same) {
            // Something that it names became another: what it names is the same.
            self.routes.extend(now.map(|now| (name, now)));
            return;
        }
        if let Some(before) = &before {
            self.unname(before, &name);
        }
        match now {
            Some(now) => {
                for service in now.named() {
                    self.naming.entry(service.clone()).or_default().insert(name.clone());
                }
                self.seen.insert(name.clone(), Arc::clone(&now.source));
                self.routes.insert(name, now);
            }
            None => drop(self.seen.remove(&name)),
        }
    }

    fn unname(&mut self, route: &Route, name: &RouteName) {
        for service in route.named() {
            let Some(routes) = self.naming.get_mut(service) else { continue };
            routes.remove(name);
            if routes.is_empty() {
                self.naming.remove(service);
            }
        }
    }

    fn change(&mut self, attachment: Attachment, difference: Difference) {
        let Difference { fewer, more, fewer_grpc, more_grpc, change } = difference;
        let before = self.attached.remove(&attachment);
        let (routes, grpc) = before.as_ref().map_or((0, 0), |before| (before.routes, before.grpc));
        let (routes, grpc) = (routes + more - fewer, grpc + more_grpc - fewer_grpc);
        if routes == 0 {
            return;
        }
        let table = match before {
            Some(before) => before.table.changed(change),
            None => RouteTable::closed(attachment.port).changed(change),
        };
        let table = table.speaking(if grpc > 0 { AppProtocol::Http2 } else { AppProtocol::Http1 });
        self.attached.insert(attachment, Attached { routes, grpc, table: Arc::new(table) });
    }
}

impl Route {
    fn new(source: &Arc<HttpRoute>, before: Option<&Self>, clusters: &Clusters) -> Self {
        let before = before.filter(|before| Arc::ptr_eq(&before.source, source));
        let found: Vec<_> = rules::targets(source).map(|target| rules::find(target, clusters)).collect();
        let same = before.filter(|before| same_clusters(&before.clusters, &found));
        Self {
            matches: before.map_or_else(|| matches(source), |before| Arc::clone(&before.matches)),
            rules: same.map_or_else(|| rules::compile(source, clusters), |same| Arc::clone(&same.rules)),
            attachments: attachments(source, clusters),
            clusters: found,
            source: Arc::clone(source),
        }
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        let created = self.source.created.unwrap_or(i64::MAX);
        self.matches.iter().zip(0..).filter_map(move |((matcher, rule), position)| {
            let (matcher, rule) = (Arc::clone(matcher), Arc::clone(self.rules.get(*rule)?));
            Some(Entry { matcher, rule, created, position })
        })
    }

    /// Each table that it stands in.
    fn places(&self) -> impl Iterator<Item = (&Self, &Attachment)> {
        self.attachments.iter().map(move |attachment| (self, attachment))
    }

    fn is_grpc(&self) -> bool {
        self.source.name.kind == RouteKind::Grpc
    }

    /// Services that it names, perhaps more than once.
    fn named(&self) -> impl Iterator<Item = &ServiceName> {
        let targets = rules::targets(&self.source).filter_map(|target| match target {
            BackendTarget::Service { service, .. } => Some(service),
            BackendTarget::Invalid(_) => None,
        });
        self.source.parents.iter().map(|parent| &parent.service).chain(targets)
    }
}

fn matches(route: &HttpRoute) -> Arc<[(Arc<Matcher>, usize)]> {
    let of_rule = |(position, rule)| {
        matchers::compile(rule).into_iter().map(move |matcher| (Arc::new(matcher), position))
    };
    route.rules.iter().enumerate().flat_map(of_rule).collect()
}

/// Which tables a route stands in. A port that is declared to be no HTTP has none.
fn attachments(route: &HttpRoute, clusters: &Clusters) -> Vec<Attachment> {
    let mut attachments = Vec::new();
    for parent in &route.parents {
        let Some(ports) = clusters.services().get(&parent.service) else { continue };
        let consumer = parent.service.namespace != route.name.namespace;
        let wanted = ports.clusters.values().filter(|cluster| {
            parent.port.is_none_or(|port| port == cluster.port) && cluster.protocol != AppProtocol::Tcp
        });
        attachments.extend(wanted.map(|cluster| Attachment {
            caller: consumer.then(|| route.name.namespace.clone()),
            service: parent.service.clone(),
            port: cluster.port,
        }));
    }
    attachments.sort();
    attachments.dedup();
    attachments.shrink_to_fit();
    attachments
}

/// Notes what becomes different where a route takes another's place.
fn note(before: Option<&Route>, now: Option<&Route>, changes: &mut BTreeMap<Attachment, Difference>) {
    let both = before.zip(now);
    let same_matches = both.is_some_and(|(before, now)| Arc::ptr_eq(&before.matches, &now.matches));
    let same_rules = both.is_some_and(|(before, now)| Arc::ptr_eq(&before.rules, &now.rules));
    let has = |route: Option<&Route>, attachment: &Attachment| {
        route.is_some_and(|route| route.attachments.binary_search(attachment).is_ok())
    };
    let stays = |attachment: &Attachment| same_matches && has(before, attachment) && has(now, attachment);
    let mut of = |attachment: &Attachment, note: &dyn Fn(&mut Difference)| {
        note(changes.entry(attachment.clone()).or_default());
    };
    for (route, attachment) in before.into_iter().flat_map(Route::places).filter(|(_, at)| !stays(at)) {
        of(attachment, &|difference| {
            difference.fewer += 1;
            difference.fewer_grpc += usize::from(route.is_grpc());
            difference.change.gone.extend(route.entries());
        });
    }
    for (route, attachment) in now.into_iter().flat_map(Route::places) {
        if !stays(attachment) {
            of(attachment, &|difference| {
                difference.more += 1;
                difference.more_grpc += usize::from(route.is_grpc());
                difference.change.new.extend(route.entries());
            });
        } else if !same_rules {
            of(attachment, &|difference| difference.change.renewed.extend(route.entries()));
        }
    }
}

fn same_clusters(one: &[Option<Arc<Cluster>>], other: &[Option<Arc<Cluster>>]) -> bool {
    let same = |(one, other): (&Option<Arc<Cluster>>, &Option<Arc<Cluster>>)| match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}
