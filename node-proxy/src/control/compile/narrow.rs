//! Which endpoints of a Service callers of this node go to: a pure decision, as kube-proxy makes it (pkg/proxy/topology.go of Kubernetes).
//!
//! Made when a Service is compiled, so that a pick knows nothing of it. Must never lead off the node where the Service is for callers
//! on the endpoint's own.

use std::sync::Arc;

use config::model::{Endpoint, Here, Reach, Topology};

use crate::snapshot::{Narrowed, Narrowing};

/// Those of `endpoints` that callers who are `here` go to; `None` where these are all that are ready.
///
/// Each address family is decided about by itself, as its callers never go to the other's where it has any.
pub(super) fn narrow(endpoints: &[Arc<Endpoint>], reach: Reach, here: &Here) -> Option<Narrowed> {
    let of_family = |is_v4: bool| -> Vec<&Arc<Endpoint>> {
        endpoints.iter().filter(|endpoint| endpoint.address.is_ipv4() == is_v4).collect()
    };
    let families = [true, false].map(|is_v4| {
        let all = of_family(is_v4);
        let choice = match reach {
            Reach::Node => Some((Narrowing::Reach, on_node(&all, here))),
            Reach::Cluster => preferred(&all, here),
        };
        (all, choice)
    });
    let by = families.iter().find_map(|(_, choice)| choice.as_ref().map(|(by, _)| *by))?;
    let to = families.into_iter().flat_map(|(all, choice)| match choice {
        Some((_, chosen)) => chosen,
        None => all.into_iter().filter(|endpoint| endpoint.ready).collect(),
    });
    Some(Narrowed { to: to.map(Arc::clone).collect::<Vec<_>>().into(), by })
}

/// Those on this node: what is ready, else what ends and still serves. A node without a name has none.
fn on_node<'a>(all: &[&'a Arc<Endpoint>], here: &Here) -> Vec<&'a Arc<Endpoint>> {
    let is_here = |endpoint: &Endpoint| {
        let on = endpoint.topology.as_deref().and_then(|topology| topology.node.as_ref());
        on.is_some() && on == here.node.as_ref()
    };
    let those = |wanted: fn(&Endpoint) -> bool| {
        all.iter().copied().filter(|endpoint| wanted(endpoint) && is_here(endpoint)).collect::<Vec<_>>()
    };
    let ready = those(|endpoint| endpoint.ready);
    if ready.is_empty() { those(|endpoint| endpoint.draining) } else { ready }
}

/// Those that are meant for this node or its zone, where all that are ready say for whom they are; where none is ready, those that
/// end and still serve. `None` if it is all that are ready.
fn preferred<'a>(all: &[&'a Arc<Endpoint>], here: &Here) -> Option<(Narrowing, Vec<&'a Arc<Endpoint>>)> {
    let ready = || all.iter().copied().filter(|endpoint| endpoint.ready);
    if ready().next().is_none() {
        let draining: Vec<_> = all.iter().copied().filter(|endpoint| endpoint.draining).collect();
        return (!draining.is_empty()).then_some((Narrowing::Draining, draining));
    }
    // Nearly all Services end here, at their first endpoint.
    let hinted = |has: &dyn Fn(&Topology) -> bool| {
        ready().all(|endpoint| endpoint.topology.as_deref().is_some_and(has))
    };
    let meant = |by, is_meant: &dyn Fn(&Topology) -> bool| {
        let is_meant = |endpoint: &&Arc<Endpoint>| endpoint.topology.as_deref().is_some_and(is_meant);
        let meant: Vec<_> = ready().filter(is_meant).collect();
        (!meant.is_empty()).then_some((by, meant))
    };
    let by_node = here.node.as_ref().filter(|_| hinted(&|topology| !topology.for_nodes.is_empty()));
    let by_node =
        by_node.and_then(|node| meant(Narrowing::NodeHints, &|topology| topology.for_nodes.contains(node)));
    by_node.or_else(|| {
        let zone = here.zone.as_ref().filter(|_| hinted(&|topology| !topology.for_zones.is_empty()))?;
        meant(Narrowing::ZoneHints, &|topology| topology.for_zones.contains(zone))
    })
}

#[cfg(test)]
mod tests;
