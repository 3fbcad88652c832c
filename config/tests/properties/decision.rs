//! Who is let in to a namespace's pods, by the model's words alone; and what of a mesh is a namespace's. Written apart from what
//! decides in the daemon, so that one does not follow the other's slips.

use std::collections::BTreeSet;

use config::model::{Action, AuthorizationPolicy, ConnectionMatch, Mesh, Peers, Scope, TextMatch, Workload};

/// A connection that is let in: to which pod and port, and who calls (`None` in the clear).
pub(crate) type Admitted = (String, u16, Option<&'static str>);

/// Who calls: a namespace and its account, or nobody who says so.
const CALLERS: [Option<&str>; 5] = [
    None,
    Some("cluster.local/ns/shop/sa/web"),
    Some("cluster.local/ns/annex/sa/side"),
    Some("cluster.local/ns/annex/sa/default"),
    Some("cluster.local/ns/bank/sa/teller"),
];
const PORTS: [u16; 3] = [22, 8080, 9090];

/// All that is let in of what is tried.
pub(crate) fn admitted(mesh: &Mesh, namespace: &str) -> BTreeSet<Admitted> {
    let peers = Peers::of(&mesh.peer_authentication);
    let mut all = BTreeSet::new();
    for workload in mesh.workloads.values().filter(|workload| workload.pod.namespace.as_str() == namespace) {
        for port in PORTS {
            for caller in CALLERS {
                let in_the_clear = caller.is_none() && peers.rule(workload).strict_at(port).is_some();
                if !in_the_clear && is_authorized(mesh, workload, port, caller) {
                    all.insert((workload.pod.to_string(), port, caller));
                }
            }
        }
    }
    all
}

fn is_authorized(mesh: &Mesh, workload: &Workload, port: u16, caller: Option<&str>) -> bool {
    let about = || mesh.authorization.values().filter(|policy| is_about(&policy.scope, workload));
    let of = |action| about().filter(move |policy| policy.action == action);
    let matches = |policy: &AuthorizationPolicy| {
        let deny = policy.action == Action::Deny;
        policy.rules.iter().any(|rule| {
            rule.clauses.iter().all(|clause| clause.any.iter().any(|one| is_like(one, port, caller, deny)))
        })
    };
    let mut allowing = of(Action::Allow).peekable();
    of(Action::Unreadable).next().is_none()
        && !of(Action::Deny).any(|policy| matches(policy))
        && (allowing.peek().is_none() || allowing.any(|policy| matches(policy)))
}

fn is_about(scope: &Scope, workload: &Workload) -> bool {
    match scope {
        Scope::Mesh => true,
        Scope::Namespace(namespace) => *namespace == workload.pod.namespace,
        Scope::Selected { namespace, labels } => {
            namespace.as_ref().is_none_or(|namespace| *namespace == workload.pod.namespace)
                && labels.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
        }
        Scope::Services(services) => {
            services.iter().any(|service| service.namespace == workload.pod.namespace)
        }
        Scope::Pods(pods) => pods.contains(&workload.pod),
    }
}

/// Whether a connection is like a match; of what it does not show, whichever refuses.
fn is_like(wanted: &ConnectionMatch, port: u16, caller: Option<&str>, deny: bool) -> bool {
    let parts: Vec<&str> = caller.unwrap_or_default().split('/').collect();
    let (namespace, account) = (parts.get(2).copied(), parts.get(4).copied());
    let text = |wanted: &TextMatch, is: Option<&str>| match (wanted, is) {
        (_, None) => false,
        (TextMatch::Present, Some(_)) => true,
        (TextMatch::Exact(text), Some(is)) => is == text,
        (TextMatch::Prefix(text), Some(is)) => is.starts_with(text.as_str()),
        (TextMatch::Suffix(text), Some(is)) => is.ends_with(text.as_str()),
    };
    let any = |all: &[TextMatch], is| all.iter().any(|wanted| text(wanted, is));
    let accounts = |all: &[(config::name::Namespace, config::name::ServiceAccount)]| {
        all.iter().any(|(of, name)| Some(of.as_str()) == namespace && Some(name.as_str()) == account)
    };
    let said = |is_empty: bool, holds: bool| is_empty || holds;
    // No addresses are tried: what asks for them is taken as it refuses.
    let shows_all = wanted.source_ips.is_empty()
        && wanted.not_source_ips.is_empty()
        && wanted.destination_ips.is_empty()
        && wanted.not_destination_ips.is_empty()
        && !wanted.unenforceable;
    (shows_all || deny)
        && said(wanted.principals.is_empty(), any(&wanted.principals, caller))
        && !any(&wanted.not_principals, caller)
        && said(wanted.namespaces.is_empty(), any(&wanted.namespaces, namespace))
        && !any(&wanted.not_namespaces, namespace)
        && said(wanted.service_accounts.is_empty(), accounts(&wanted.service_accounts))
        && !accounts(&wanted.not_service_accounts)
        && said(wanted.ports.is_empty(), wanted.ports.contains(&port))
        && !wanted.not_ports.contains(&port)
}

/// All that a mesh has of a namespace.
pub(crate) fn belongings(mesh: &Mesh, namespace: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let tenants = mesh.tenants.iter().filter(|(id, _)| id.as_str() == namespace);
    all.extend(tenants.map(|(_, tenant)| format!("{tenant:?}")));
    let facts = mesh.namespaces.iter().filter(|(name, _)| name.as_str() == namespace);
    all.extend(facts.map(|(name, facts)| format!("{facts:?} {:?}", mesh.membership.get(name))));
    macro_rules! add_all {
        ($($map:ident)*) => {$(
            let own = mesh.$map.iter().filter(|(name, _)| name.namespace.as_str() == namespace);
            all.extend(own.map(|(_, value)| format!("{value:?}")));
        )*};
    }
    add_all!(workloads services routes authorization peer_authentication network_policies service_entries);
    all
}
