//! Which workloads may reach which, before and after a change: what it revokes and what it grants.
//!
//! Both are decided by `policy::decide_inbound`, for every pair of workloads that is there before and after and of which one has
//! changed, at the ports that anything is known of and at one that stands for all others. At most so many decisions are made: a change
//! for everybody in a large mesh is told in part, and that is said.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use config::{
    model::{AuthorizationPolicy, Mesh, Workload},
    name::{PodName, TenantId},
};
use ebpf_redirect::Origin;
use serde::Serialize;

use crate::{
    control::compile::Protections,
    policy::{Denied, Inbound, decide_inbound},
    snapshot::policies::InboundPolicy,
};

/// Decisions that are compared at most: some tenths of a second's work.
pub const COMPARED: usize = 200_000;

/// What a change does to permissions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// What it revokes and grants.
    pub changes: Vec<PermissionChange>,
    /// How many decisions were compared.
    pub compared: usize,
    /// Whether those were all.
    pub is_complete: bool,
}

/// A permission that is revoked or granted, of all pods with the same two service accounts alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PermissionChange {
    /// Whether it is granted.
    pub granted: bool,
    /// Who calls: a SPIFFE ID, or `plaintext` from nobody who is known.
    pub caller: String,
    /// Whose pods these are.
    #[serde(skip)]
    pub caller_owner: Option<TenantId>,
    /// Who is called: a SPIFFE ID.
    pub receiver: String,
    /// Whose pods these are.
    #[serde(skip)]
    pub receiver_owner: TenantId,
    /// At which of the receiver's ports.
    pub ports: BTreeSet<u16>,
    /// And at all of which nothing is known.
    pub other_ports: bool,
    /// The policy by which it is refused, before or after.
    pub by: Option<String>,
    /// For which reason.
    pub reason: &'static str,
    /// How many pairs of pods it is about.
    pub pairs: usize,
}

/// Compares all that is decided alike before and after.
pub fn between(before: &Mesh, after: &Mesh) -> Permissions {
    let mut comparing = Comparing {
        before: Protections::of(before),
        after: Protections::of(after),
        known: ports(before, ports(after, BTreeMap::new())),
        pairs: BTreeMap::new(),
        left: COMPARED,
    };
    let callers = callers(before, after);
    let both = after.workloads.iter().filter_map(|(pod, is)| Some((before.workloads.get(pod)?, is)));
    let is_complete = both.into_iter().all(|(was, is)| comparing.receiver((was, is), &callers).is_some());
    Permissions { changes: comparing.changes(), compared: COMPARED - comparing.left, is_complete }
}

/// Somebody who calls, before and after.
#[derive(Debug)]
struct Caller<'a> {
    /// `None` for plaintext.
    workloads: Option<(&'a Workload, &'a Workload)>,
    has_changed: bool,
}

/// Everybody who is there before and after, and nobody in particular.
fn callers<'a>(before: &'a Mesh, after: &'a Mesh) -> Vec<Caller<'a>> {
    let both = after.workloads.iter().filter_map(|(pod, is)| Some((&**before.workloads.get(pod)?, &**is)));
    let workloads = both.map(|(was, is)| Caller {
        workloads: Some((was, is)),
        has_changed: was.identity != is.identity || was.addresses != is.addresses,
    });
    let plaintext = Caller { workloads: None, has_changed: false };
    std::iter::once(plaintext).chain(workloads).collect()
}

/// The ports of each pod that containers declare or Services lead to.
fn ports(mesh: &Mesh, mut known: BTreeMap<PodName, BTreeSet<u16>>) -> BTreeMap<PodName, BTreeSet<u16>> {
    for workload in mesh.workloads.values() {
        let ports = known.entry(workload.pod.clone()).or_default();
        ports.extend(workload.ports.iter().map(|port| port.number));
    }
    let endpoints =
        mesh.services.values().flat_map(|service| &service.ports).flat_map(|port| &port.endpoints);
    for endpoint in endpoints {
        if let Some(pod) = &endpoint.workload {
            known.entry(pod.clone()).or_default().insert(endpoint.address.port());
        }
    }
    known
}

/// Who, whom, what became of it, by what.
type Key = (String, String, bool, Option<String>, &'static str);

/// Of one pair of service accounts.
#[derive(Debug, Default)]
struct Pairs {
    owners: Option<(Option<TenantId>, TenantId)>,
    pods: BTreeSet<(Option<PodName>, PodName)>,
    ports: BTreeSet<u16>,
    other_ports: bool,
}

struct Comparing<'a> {
    before: Protections<'a>,
    after: Protections<'a>,
    known: BTreeMap<PodName, BTreeSet<u16>>,
    pairs: BTreeMap<Key, Pairs>,
    /// Decisions that may still be compared.
    left: usize,
}

impl Comparing<'_> {
    /// Compares what all callers may at one receiver; `None` when it would be more than may be compared.
    fn receiver(
        &mut self,
        (was, is): (&Arc<Workload>, &Arc<Workload>),
        callers: &[Caller<'_>],
    ) -> Option<()> {
        let policies = (self.before.inbound(was), self.after.inbound(is));
        let has_changed = policies.0 != policies.1 || was.addresses != is.addresses;
        let ports = self.known.get(&is.pod).cloned().unwrap_or_default();
        let other = other_port(&ports, &policies);
        for caller in callers.iter().filter(|caller| has_changed || caller.has_changed) {
            for port in ports.iter().copied().chain([other]) {
                self.left = self.left.checked_sub(1)?;
                let decided = (
                    decide(&policies.0, was, caller, port, true),
                    decide(&policies.1, is, caller, port, false),
                );
                let (granted, denied) = match decided {
                    (Ok(()), Err(denied)) => (false, denied),
                    (Err(denied), Ok(())) => (true, denied),
                    _ => continue,
                };
                self.note(caller, is, (granted, &denied), (port != other).then_some(port));
            }
        }
        Some(())
    }

    fn note(&mut self, caller: &Caller<'_>, receiver: &Workload, what: (bool, &Denied), port: Option<u16>) {
        let (granted, denied) = what;
        let kind = if matches!(denied, Denied::PlaintextRefused { .. }) {
            "PeerAuthentication"
        } else {
            "AuthorizationPolicy"
        };
        let by = denied.policy().map(|policy| format!("{kind} {policy}"));
        let calls = caller.workloads.map(|(_, is)| is);
        let who = calls.map_or_else(|| PLAINTEXT.to_owned(), |calls| calls.identity.to_string());
        let key = (who, receiver.identity.to_string(), granted, by, denied.reason().as_str());
        let pairs = self.pairs.entry(key).or_default();
        pairs.owners = Some((calls.map(|calls| calls.tenant.clone()), receiver.tenant.clone()));
        pairs.pods.insert((calls.map(|calls| calls.pod.clone()), receiver.pod.clone()));
        match port {
            Some(port) => drop(pairs.ports.insert(port)),
            None => pairs.other_ports = true,
        }
    }

    fn changes(&self) -> Vec<PermissionChange> {
        let change = |(key, pairs): (&Key, &Pairs)| {
            let (caller, receiver, granted, by, reason) = key;
            let (caller_owner, receiver_owner) = pairs.owners.clone()?;
            Some(PermissionChange {
                granted: *granted,
                caller: caller.clone(),
                caller_owner,
                receiver: receiver.clone(),
                receiver_owner,
                ports: pairs.ports.clone(),
                other_ports: pairs.other_ports,
                by: by.clone(),
                reason,
                pairs: pairs.pods.len(),
            })
        };
        self.pairs.iter().filter_map(change).collect()
    }
}

fn decide(
    policy: &InboundPolicy,
    receiver: &Workload,
    caller: &Caller<'_>,
    port: u16,
    before: bool,
) -> Result<(), Denied> {
    let calls = caller.workloads.map(|(was, is)| if before { was } else { is });
    let at = receiver.addresses.first().copied().unwrap_or(STRANGER);
    let own = calls.map(|calls| calls.addresses.iter().find(|own| own.is_ipv4() == at.is_ipv4()));
    let client = own.flatten().copied().unwrap_or(STRANGER);
    let ends = Origin { destination: SocketAddr::new(at, port), client: SocketAddr::new(client, 0) };
    decide_inbound(policy, &Inbound::new(calls.map(|calls| &calls.identity), ends))
}

/// A port that stands for all that nothing says anything of.
fn other_port(known: &BTreeSet<u16>, policies: &(InboundPolicy, InboundPolicy)) -> u16 {
    let named = |policy: &InboundPolicy| {
        let lists = policy.deny.iter().chain(&policy.allow).chain(&policy.doubtful);
        let ports =
            lists.flat_map(|policy| ports_of(policy)).chain(policy.peers.ports.iter().map(|(port, _)| *port));
        ports.collect::<BTreeSet<u16>>()
    };
    let (before, after) = (named(&policies.0), named(&policies.1));
    let is_free = |port: &u16| !known.contains(port) && !before.contains(port) && !after.contains(port);
    (1..=u16::MAX).find(is_free).unwrap_or(u16::MAX)
}

fn ports_of(policy: &AuthorizationPolicy) -> impl Iterator<Item = u16> {
    let matches = policy.rules.iter().flat_map(|rule| &rule.clauses).flat_map(|clause| &clause.any);
    matches.flat_map(|one| one.ports.iter().chain(&one.not_ports)).copied()
}

/// As whom nobody is known who calls without a proxy.
pub const PLAINTEXT: &str = "plaintext";
/// An address that nobody has (RFC 5737).
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use config::store::{FileText, Options, Store};

    use super::*;

    fn pods(names: &[&str]) -> String {
        let pod = |(at, name): (usize, &&str)| {
            let (namespace, name) = name.split_once('/').unwrap();
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}\n\
                 spec: {{serviceAccountName: {name}, containers: [{{name: c, ports: [{{containerPort: 8080}}]}}]}}\n\
                 status: {{podIP: 10.0.0.{}}}\n",
                at + 1
            )
        };
        names.iter().enumerate().map(pod).collect()
    }

    fn mesh(text: &str) -> Arc<Mesh> {
        let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text))]);
        Store::new(Options::default()).apply(&files).mesh
    }

    fn policy(spec: &str) -> String {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: callers, namespace: bank}}\nspec: {spec}\n"
        )
    }

    fn told(permissions: &Permissions) -> Vec<String> {
        let line = |change: &PermissionChange| {
            let what = if change.granted { "granted" } else { "revoked" };
            let account = |id: &str| id.replace("spiffe://cluster.local/ns/", "").replace("/sa/", "/");
            let ports: Vec<String> = change.ports.iter().map(ToString::to_string).collect();
            let others = if change.other_ports { " and others" } else { "" };
            let (caller, receiver) = (account(&change.caller), account(&change.receiver));
            format!(
                "{what} {caller} → {receiver} at {}{others} ({}, {})",
                ports.join(","),
                change.reason,
                change.pairs
            )
        };
        permissions.changes.iter().map(line).collect()
    }

    #[test]
    fn a_policy_that_comes_revokes_for_those_whom_it_denies_and_grants_nothing() {
        let pods = pods(&["shop/web", "bank/ledger", "bank/vault"]);
        let after = pods.clone()
            + &policy(
                "{selector: {matchLabels: {app: ledger}}, action: DENY, rules: [{from: [{source: {namespaces: [shop]}}]}]}",
            );
        let permissions = between(&mesh(&pods), &mesh(&after));
        assert_eq!(
            told(&permissions),
            ["revoked shop/web → bank/ledger at 8080 and others (policy_denied, 1)"]
        );
        assert!(permissions.is_complete);
        let back = between(&mesh(&after), &mesh(&pods));
        assert_eq!(told(&back), ["granted shop/web → bank/ledger at 8080 and others (policy_denied, 1)"]);
    }

    #[test]
    fn a_port_that_a_policy_names_is_told_apart_from_all_others() {
        let pods = pods(&["shop/web", "bank/ledger"]);
        let after = pods.clone()
            + &policy(
                "{selector: {matchLabels: {app: ledger}}, action: DENY, rules: [{to: [{operation: {ports: ['8080']}}]}]}",
            );
        let told = told(&between(&mesh(&pods), &mesh(&after)));
        let expected = [
            "revoked plaintext → bank/ledger at 8080 (policy_denied, 1)",
            "revoked bank/ledger → bank/ledger at 8080 (policy_denied, 1)",
            "revoked shop/web → bank/ledger at 8080 (policy_denied, 1)",
        ];
        assert_eq!(
            BTreeSet::from_iter(told),
            expected.map(str::to_owned).into_iter().collect::<BTreeSet<_>>()
        );
    }

    #[test]
    fn strict_revokes_for_plaintext_alone() {
        let pods = pods(&["shop/web", "bank/ledger"]);
        let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict, namespace: bank}\n\
            spec: {mtls: {mode: STRICT}}\n";
        let told = told(&between(&mesh(&pods), &mesh(&(pods.clone() + strict))));
        assert_eq!(told, ["revoked plaintext → bank/ledger at 8080 and others (plaintext_refused, 1)"]);
    }

    #[test]
    fn a_caller_that_becomes_another_loses_what_it_was_allowed_though_no_policy_changed() {
        let allow = policy(
            "{action: ALLOW, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]}",
        );
        let before = pods(&["shop/web", "bank/ledger"]) + &allow;
        let after = before.replace("serviceAccountName: web", "serviceAccountName: other");
        let told = told(&between(&mesh(&before), &mesh(&after)));
        assert_eq!(told, ["revoked shop/other → bank/ledger at 8080 and others (no_policy_allows, 1)"]);
        let moved = before.replace("podIP: 10.0.0.1", "podIP: 10.0.0.9");
        assert_eq!(between(&mesh(&before), &mesh(&moved)).changes, []);
    }

    #[test]
    fn what_has_not_changed_is_not_compared_and_what_is_too_much_is_said() {
        let pods = pods(&["shop/web", "bank/ledger"]);
        let same = mesh(&pods);
        assert_eq!(between(&same, &same), Permissions { is_complete: true, ..Permissions::default() });
        let names: Vec<String> = (0..250).map(|at| format!("many/p{at}")).collect();
        let many: Vec<&str> = names.iter().map(String::as_str).collect();
        // 250 callers and plaintext, at two ports of 250 receivers, are 125,500; at four, too many.
        let many = self::pods(&many).replace(
            "{containerPort: 8080}",
            "{containerPort: 8080}, {containerPort: 1}, {containerPort: 2}",
        );
        let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: s, namespace: many}\n\
            spec: {mtls: {mode: STRICT}}\n";
        let permissions = between(&mesh(&many), &mesh(&(many.clone() + strict)));
        assert_eq!((permissions.is_complete, permissions.compared), (false, COMPARED));
        assert!(!permissions.changes.is_empty(), "what was compared is told");
    }
}
