//! Which rule a request meets, of whose routes, and which were tried before it.
//!
//! What is decided is decided by `route::decide`, asked once for each backend that it may choose.

use std::{net::SocketAddr, sync::Arc};

use config::{
    model::{BackendTarget, InvalidBackend, Rule},
    name::{Namespace, RouteKind, ServiceName},
};
use http::Method;

use super::{
    Telling,
    delivery::Arrival,
    few, matchers, short,
    told::{Detail, Name, Object},
    verdict::{Fate, Refusal, Share},
};
use crate::{
    route::{self, Decision, First},
    snapshot::{
        RouteTable, ServiceEntry,
        routes::{CompiledRule, Entry},
    },
    telemetry::Reason,
};

/// Matches that were tried in vain and are told.
const TRIED: usize = 20;

/// The routes that a caller has for a Service port, and whose they are.
#[derive(Clone, Copy)]
struct Routes<'a> {
    table: &'a Arc<RouteTable>,
    service: &'a ServiceName,
    /// The namespace of the caller, where it has routes of its own.
    consumer: Option<&'a Namespace>,
}

impl Telling<'_> {
    /// A request to a Service, by its rules.
    pub(super) fn routed(
        &mut self,
        to: SocketAddr,
        entry: &ServiceEntry,
        table: &Arc<RouteTable>,
    ) -> Vec<Share> {
        if let Some(cluster) = &table.default {
            let says = format!("no route is attached to port {} of Service {}", entry.port, entry.service);
            self.stage(Name::Route, says, None);
            return self.any_of(cluster, to);
        }
        let caller = self.caller;
        let consumer = (!Arc::ptr_eq(table, &entry.routes)).then_some(&caller.pod.namespace);
        let routes = Routes { table, service: &entry.service, consumer };
        let Some(first) = route::first(table, &self.question.request) else {
            return vec![Share::whole(self.no_route(routes))];
        };
        let rule = &first.entry.rule;
        let says = format!("{}: {}", self.rule(rule), matchers::describe(&first.entry.matcher));
        let object = self.route(rule);
        self.stage(Name::Route, says, Some(object));
        self.whose(routes);
        self.no_call(rule.route.kind);
        let entries = table.entries();
        let before = entries.iter().take_while(|entry| !std::ptr::eq(**entry, first.entry)).count();
        self.tried(&entries[..before]);
        self.filters(rule, first.matched_prefix);
        self.decided(routes, first, to)
    }

    fn decided(&mut self, routes: Routes<'_>, first: First<'_>, to: SocketAddr) -> Vec<Share> {
        let request = &self.question.request;
        let rule = &first.entry.rule;
        if let Decision::Redirect { status, location, .. } = route::decide(routes.table, request, |_| 0) {
            let location = short(&String::from_utf8_lossy(location.as_bytes()));
            let with = format!("{} to {location}, by {}", status.as_u16(), self.rule(rule));
            return vec![Share::whole(Fate::Answered { with })];
        }
        if rule.total_weight == 0 {
            let why = "it has no backend, or none with a weight";
            return vec![Share::whole(self.unusable(rule, why))];
        }
        let mut shares = Vec::new();
        let mut before = 0;
        for (position, backend) in rule.backends.iter().enumerate() {
            let weight = backend.cumulative_weight - before;
            let ticket = before;
            before = backend.cumulative_weight;
            let part = format!("{weight} of {} requests", rule.total_weight);
            let of = if weight == rule.total_weight { "all requests" } else { &part };
            let of_backend = match route::decide(routes.table, &self.question.request, |_| ticket) {
                Decision::Forward(forward) => {
                    let cluster = forward.cluster;
                    let service = &cluster.service;
                    let object = self.world.object("Service", &service.namespace, &service.name);
                    let says = format!("{of}: Service {service} port {}", cluster.port);
                    self.stage(Name::Backend, says, Some(object));
                    self.backend_filters(backend);
                    self.reached(cluster, to, Arrival::Steered)
                }
                Decision::Redirect { .. } | Decision::NoRoute | Decision::InvalidBackend { .. } => {
                    let why = self.why_unusable(rule, position);
                    self.stage(Name::Backend, format!("{of}: {why}"), Some(self.route(rule)));
                    vec![Share::whole(self.unusable(rule, &why))]
                }
            };
            let is_all = weight == rule.total_weight;
            shares.extend(of_backend.into_iter().map(|share| if is_all { share } else { share.of(&part) }));
        }
        shares
    }

    /// Whether the routes are the Service's owner's, for all, or the caller's own.
    fn whose(&mut self, routes: Routes<'_>) {
        let service = routes.service;
        let says = match routes.consumer {
            Some(namespace) => format!(
                "a consumer's: for callers of namespace {namespace} alone, whose routes take the place of those of Service {service}'s owner"
            ),
            None => format!("the producer's: Service {service}'s own namespace routes all its callers"),
        };
        self.detail(says, None);
    }

    /// What was asked about is no call of gRPC, whose routes it meets.
    fn no_call(&mut self, kind: RouteKind) {
        if kind == RouteKind::Grpc && self.question.request.method != Method::POST {
            let says =
                "these are routes of gRPC, a call of which is a POST to /SERVICE/METHOD: ask with --grpc";
            self.detail(says, None);
        }
    }

    fn no_route(&mut self, routes: Routes<'_>) -> Fate {
        let Routes { table, service, consumer } = routes;
        let (port, entries) = (table.port, table.entries());
        let says = format!(
            "none of {} matches of the routes of Service {service} port {port} is met",
            entries.len()
        );
        let object = entries.first().map(|entry| self.route(&entry.rule));
        self.stage(Name::Route, says.clone(), object.clone());
        self.whose(routes);
        self.no_call(entries.first().map_or(RouteKind::Http, |entry| entry.rule.route.kind));
        self.tried(&entries);
        let mut names: Vec<String> = entries.iter().map(|entry| entry.rule.route.to_string()).collect();
        names.dedup();
        names.truncate(super::FEW);
        names.sort();
        names.dedup();
        let owner = self.world.owner(consumer.unwrap_or(&service.namespace));
        let kind = entries.first().map_or(RouteKind::Http, |entry| entry.rule.route.kind);
        Fate::Refused(Refusal {
            reason: Reason::NoRoute,
            says,
            by: object,
            remedy: format!("{owner} would have to have a rule that matches in {kind} {}", few(names)),
        })
    }

    /// Those that come before the one that is met, and why each is not.
    fn tried(&mut self, vain: &[&Entry]) {
        let request = &self.question.request;
        let told = vain.iter().take(TRIED).filter_map(|entry| {
            let miss = route::compare(&entry.matcher, request).err()?;
            let says = format!(
                "tried before, not met: {}: {}",
                self.rule(&entry.rule),
                matchers::missed(miss, &entry.matcher, request)
            );
            Some(Detail { says, object: Some(self.route(&entry.rule)) })
        });
        let mut told: Vec<Detail> = told.collect();
        if vain.len() > TRIED {
            let says = format!("and {} more, not met either", vain.len() - TRIED);
            told.push(Detail { says, object: None });
        }
        if let Some(stage) = self.stages.last_mut() {
            stage.details.extend(told);
        }
    }

    fn unusable(&self, rule: &CompiledRule, why: &str) -> Fate {
        Fate::Refused(Refusal {
            reason: Reason::InvalidBackend,
            says: format!("{} leads nowhere: {why}", self.rule(rule)),
            by: Some(self.route(rule)),
            remedy: format!(
                "{} would have to name a port of a Service that is there in backendRefs of {} {}",
                self.world.owner(&rule.route.namespace),
                rule.route.kind,
                rule.route
            ),
        })
    }

    /// As the configuration has it: what is compiled says only that it is unusable.
    fn why_unusable(&self, rule: &CompiledRule, position: usize) -> String {
        let weighty = |rule: &Rule| -> Option<InvalidBackend> {
            let backends = rule.backends.iter().filter(|backend| backend.weight > 0);
            match backends.map(|backend| &backend.target).nth(position)? {
                BackendTarget::Invalid(why) => Some(*why),
                BackendTarget::Service { .. } => None,
            }
        };
        let route = self.world.mesh.routes.get(&rule.route);
        let mut rules = route.into_iter().flat_map(|route| route.rules.iter().enumerate());
        let own = rules.find(|(at, known)| match &known.name {
            Some(name) => *name == rule.name,
            None => at.to_string() == rule.name,
        });
        match own.and_then(|(_, own)| weighty(own)) {
            Some(InvalidBackend::InvalidKind) => "a backend that is no Service (InvalidKind)".to_owned(),
            Some(InvalidBackend::RefNotPermitted) => {
                "a backend of another namespace without permission (RefNotPermitted)".to_owned()
            }
            Some(InvalidBackend::FilterNotApplied) => {
                "a backend with a filter that cannot be applied".to_owned()
            }
            Some(InvalidBackend::BackendNotFound) | None => {
                "a backend that is not there (BackendNotFound)".to_owned()
            }
        }
    }

    /// A rule, by its name or its number.
    fn rule(&self, rule: &CompiledRule) -> String {
        let is_number = rule.name.bytes().all(|byte| byte.is_ascii_digit());
        let name =
            if is_number { format!("rules[{}]", rule.name) } else { format!("rule {}", short(&rule.name)) };
        format!("{name} of {} {}", rule.route.kind, rule.route)
    }

    fn route(&self, rule: &CompiledRule) -> Object {
        self.world.object(rule.route.kind.as_str(), &rule.route.namespace, &rule.route.name)
    }
}
