//! Rules of HTTPRoutes to compiled rules: filters, and who the backends are.
//!
//! Must never depend on the table that a rule stands in: it is shared by all of them.

use std::sync::Arc;

use config::model::{BackendTarget, Filter, HttpRoute, Rule};

use super::{clusters::Clusters, edits};
use crate::snapshot::{
    Cluster,
    routes::{CompiledBackend, CompiledMirror, CompiledRule},
};

/// The targets that a route names, in their order.
pub(super) fn targets(route: &HttpRoute) -> impl Iterator<Item = &BackendTarget> {
    route.rules.iter().flat_map(|rule| {
        let of_backends = rule.backends.iter().flat_map(|backend| &backend.filters);
        let mirrors = rule.filters.iter().chain(of_backends).filter_map(|filter| match filter {
            Filter::Mirror(mirror) => Some(&mirror.target),
            _ => None,
        });
        rule.backends.iter().map(|backend| &backend.target).chain(mirrors)
    })
}

/// What a target is now.
pub(super) fn find(target: &BackendTarget, clusters: &Clusters) -> Option<Arc<Cluster>> {
    match target {
        BackendTarget::Service { service, port } => clusters.cluster(service, *port).cloned(),
        BackendTarget::Invalid(_) => None,
    }
}

/// The rules of a route, in their order.
pub(super) fn compile(route: &HttpRoute, clusters: &Clusters) -> Arc<[Arc<CompiledRule>]> {
    let rules = route.rules.iter().enumerate();
    rules.map(|(position, rule)| Arc::new(compile_one(route, position, rule, clusters))).collect()
}

fn compile_one(route: &HttpRoute, position: usize, rule: &Rule, clusters: &Clusters) -> CompiledRule {
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
    CompiledRule {
        route: route.name.clone(),
        name: rule.name.clone().unwrap_or_else(|| position.to_string()),
        edits: edits::compile(&rule.filters),
        redirect: edits::redirect(&rule.filters),
        mirrors: mirrors(&rule.filters, clusters),
        backends,
        total_weight,
        request_timeout: rule.timeouts.request,
        backend_timeout: rule.timeouts.backend_request,
    }
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
