//! HTTPRoutes to route tables: which routes a Service port has, for whom, in which order of precedence.
//!
//! A route in the Service's namespace is the producer's and meant for all callers; any other is a consumer's and must never
//! touch callers outside its own namespace (Gateway API, GAMMA).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use config::{
    model::{AppProtocol, BackendTarget, Filter, HttpRoute, Rule},
    name::{Namespace, RouteName, ServiceName},
};

use super::{
    clusters::Clusters,
    edits,
    matchers::{self, Rank},
};
use crate::snapshot::{
    Cluster, RouteTable,
    routes::{CompiledBackend, CompiledMirror, CompiledRule, Entry, Matcher},
};

/// All route tables of a mesh, other than the default ones.
#[derive(Debug, Default)]
pub(super) struct Tables {
    routes: BTreeMap<RouteName, Arc<Compiled>>,
    linked: HashMap<Attachment, Linked>,
}

/// The part of a route that does not depend on anything else.
#[derive(Debug)]
struct Compiled {
    source: Arc<HttpRoute>,
    /// Rank, condition and rule, by position.
    matches: Vec<(Rank, Arc<Matcher>, usize)>,
}

/// Whose table it is: all callers' (`None`) or one namespace's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Attachment {
    caller: Option<Namespace>,
    service: ServiceName,
    port: u16,
}

/// A table and what it was made from.
#[derive(Debug)]
struct Linked {
    routes: Vec<Arc<Compiled>>,
    clusters: Vec<Option<Arc<Cluster>>>,
    table: Arc<RouteTable>,
}

impl Tables {
    /// Takes over the routes of a mesh.
    pub(super) fn update(&mut self, routes: &BTreeMap<RouteName, Arc<HttpRoute>>, clusters: &Clusters) {
        let compile = |(name, source): (&RouteName, &Arc<HttpRoute>)| {
            let before = self.routes.get(name).filter(|before| Arc::ptr_eq(&before.source, source));
            (name.clone(), before.map_or_else(|| Arc::new(Compiled::new(source)), Arc::clone))
        };
        self.routes = routes.iter().map(compile).collect();
        let linked = attach(&self.routes, clusters).into_iter().map(|(attachment, routes)| {
            let linked = match self.linked.remove(&attachment) {
                Some(before) if before.is_current(&routes, clusters) => before,
                _ => Linked::new(attachment.port, routes, clusters),
            };
            (attachment, linked)
        });
        self.linked = linked.collect();
    }

    /// The producer's table of a Service port, if any route is attached to it.
    pub(super) fn producer(&self, service: &ServiceName, port: u16) -> Option<&Arc<RouteTable>> {
        let attachment = Attachment { caller: None, service: service.clone(), port };
        self.linked.get(&attachment).map(|linked| &linked.table)
    }

    /// Every consumer's table: for callers of which namespace, of which Service port.
    pub(super) fn consumers(
        &self,
    ) -> impl Iterator<Item = (&Namespace, &ServiceName, u16, &Arc<RouteTable>)> {
        self.linked.iter().filter_map(|(Attachment { caller, service, port }, linked)| {
            Some((caller.as_ref()?, service, *port, &linked.table))
        })
    }
}

impl Compiled {
    fn new(source: &Arc<HttpRoute>) -> Self {
        let matches = source.rules.iter().enumerate().flat_map(|(position, rule)| {
            matchers::compile(rule)
                .into_iter()
                .map(move |(rank, matcher)| (rank, Arc::new(matcher), position))
        });
        Self { source: Arc::clone(source), matches: matches.collect() }
    }
}

/// Which routes each Service port has, oldest first, then by name. A port that is declared to be no HTTP has none.
fn attach(
    routes: &BTreeMap<RouteName, Arc<Compiled>>,
    clusters: &Clusters,
) -> HashMap<Attachment, Vec<Arc<Compiled>>> {
    let mut attached: HashMap<Attachment, Vec<Arc<Compiled>>> = HashMap::new();
    for (name, route) in routes {
        for parent in &route.source.parents {
            let Some(ports) = clusters.services().get(&parent.service) else { continue };
            let consumer = parent.service.namespace != name.namespace;
            let caller = consumer.then(|| name.namespace.clone());
            let wanted = ports.clusters.values().filter(|cluster| {
                parent.port.is_none_or(|port| port == cluster.port) && cluster.protocol != AppProtocol::Tcp
            });
            for cluster in wanted {
                let (caller, service) = (caller.clone(), parent.service.clone());
                let there = attached.entry(Attachment { caller, service, port: cluster.port }).or_default();
                // Two parentRefs of one route may name the same port, once with and once without its number.
                if !there.last().is_some_and(|last| Arc::ptr_eq(last, route)) {
                    there.push(Arc::clone(route));
                }
            }
        }
    }
    for routes in attached.values_mut() {
        // Stable: routes of one age stay in the order of their names. Unknown age counts as the youngest.
        routes.sort_by_key(|route| route.source.created.unwrap_or(i64::MAX));
    }
    attached
}

impl Linked {
    fn new(port: u16, routes: Vec<Arc<Compiled>>, clusters: &Clusters) -> Self {
        let mut ranked: Vec<(&Rank, Entry)> = Vec::new();
        for route in &routes {
            let rules: Vec<_> = route
                .source
                .rules
                .iter()
                .enumerate()
                .map(|(at, rule)| link(route, at, rule, clusters))
                .collect();
            for (rank, matcher, position) in &route.matches {
                let entry = Entry { matcher: Arc::clone(matcher), rule: Arc::clone(&rules[*position]) };
                ranked.push((rank, entry));
            }
        }
        // Stable: equal ranks stay in the order of age, name and position.
        ranked.sort_by(|one, other| one.0.cmp(other.0));
        let entries = ranked.into_iter().map(|(_, entry)| entry).collect();
        let table = Arc::new(RouteTable { port, default: None, entries });
        Self { clusters: resolve(&routes, clusters).collect(), routes, table }
    }

    fn is_current(&self, routes: &[Arc<Compiled>], clusters: &Clusters) -> bool {
        let same_cluster = |(one, other): (&Option<Arc<Cluster>>, Option<Arc<Cluster>>)| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, &other),
            (None, None) => true,
            _ => false,
        };
        self.routes.len() == routes.len()
            && self.routes.iter().zip(routes).all(|(one, other)| Arc::ptr_eq(one, other))
            && self.clusters.iter().zip(resolve(routes, clusters)).all(same_cluster)
    }
}

/// The clusters that routes name, in their order.
fn resolve<'a>(
    routes: &'a [Arc<Compiled>],
    clusters: &'a Clusters,
) -> impl Iterator<Item = Option<Arc<Cluster>>> + 'a {
    let rules = routes.iter().flat_map(|route| &route.source.rules);
    let targets = rules.flat_map(|rule| {
        let of_backends = rule.backends.iter().flat_map(|backend| &backend.filters);
        let mirrors = rule.filters.iter().chain(of_backends).filter_map(|filter| match filter {
            Filter::Mirror(mirror) => Some(&mirror.target),
            _ => None,
        });
        rule.backends.iter().map(|backend| &backend.target).chain(mirrors)
    });
    targets.map(|target| find(target, clusters))
}

fn find(target: &BackendTarget, clusters: &Clusters) -> Option<Arc<Cluster>> {
    match target {
        BackendTarget::Service { service, port } => clusters.cluster(service, *port).cloned(),
        BackendTarget::Invalid(_) => None,
    }
}

fn link(route: &Compiled, position: usize, rule: &Rule, clusters: &Clusters) -> Arc<CompiledRule> {
    let mut total_weight = 0_u32;
    let mut backends = Vec::with_capacity(rule.backends.len());
    for backend in rule.backends.iter().filter(|backend| backend.weight > 0) {
        total_weight = total_weight.saturating_add(backend.weight);
        backends.push(CompiledBackend {
            cumulative_weight: total_weight,
            cluster: find(&backend.target, clusters),
            edits: edits::compile(&backend.filters),
            mirrors: mirrors(&backend.filters, clusters),
        });
    }
    Arc::new(CompiledRule {
        route: route.source.name.clone(),
        name: rule.name.clone().unwrap_or_else(|| position.to_string()),
        edits: edits::compile(&rule.filters),
        redirect: edits::redirect(&rule.filters),
        mirrors: mirrors(&rule.filters, clusters),
        backends,
        total_weight,
        request_timeout: rule.timeouts.request,
        backend_timeout: rule.timeouts.backend_request,
    })
}

/// A mirror to nowhere is left out: its answers are ignored anyway, and the request itself is served.
fn mirrors(filters: &[Filter], clusters: &Clusters) -> Vec<CompiledMirror> {
    let mirrors = filters.iter().filter_map(|filter| match filter {
        Filter::Mirror(mirror) => Some(CompiledMirror {
            cluster: find(&mirror.target, clusters)?,
            numerator: mirror.numerator,
            denominator: mirror.denominator.max(1),
        }),
        _ => None,
    });
    mirrors.collect()
}
