//! Which denials the kernel can take over: those of DENY rules that ask for nothing but networks of callers and ports.
//!
//! An early form of what is decided anyway. It may leave out what it cannot express; it must never deny what the decision would allow.

use config::model::{Action, AuthorizationPolicy, AuthorizationRule, ConnectionMatch};
use ebpf_redirect::Denial;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The denials in these policies that need no identity.
pub fn denials<'a>(policies: impl IntoIterator<Item = &'a AuthorizationPolicy>) -> Vec<Denial> {
    let denying = policies.into_iter().filter(|policy| policy.action == Action::Deny);
    denying.flat_map(|policy| &policy.rules).flat_map(of_rule).collect()
}

/// Callers' networks and ports; empty means all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Area {
    networks: Vec<IpNet>,
    ports: Vec<u16>,
}

/// All of the clauses have to hold, so each narrows what those before it left. Of a clause, only the matches count that can be
/// expressed: the others would deny more.
fn of_rule(rule: &AuthorizationRule) -> Vec<Denial> {
    let mut areas = vec![Area::default()];
    for clause in &rule.clauses {
        let matches: Vec<Area> = clause.any.iter().filter_map(area).collect();
        areas = areas.iter().flat_map(|one| matches.iter().filter_map(|other| one.within(other))).collect();
        if areas.len() > AREAS_MAX {
            return Vec::new();
        }
    }
    areas.into_iter().flat_map(Area::denials).collect()
}

/// What a match asks for, if that is networks and ports alone.
fn area(one: &ConnectionMatch) -> Option<Area> {
    let area = Area { networks: one.source_ips.clone(), ports: one.ports.clone() };
    let plain = ConnectionMatch {
        source_ips: area.networks.clone(),
        ports: area.ports.clone(),
        ..Default::default()
    };
    (*one == plain).then_some(area)
}

impl Area {
    /// What is in both, if anything.
    fn within(&self, other: &Self) -> Option<Self> {
        let networks = both(&self.networks, &other.networks, |one, other| match () {
            () if one.contains(other) => Some(*other),
            () if other.contains(one) => Some(*one),
            () => None,
        })?;
        let ports = both(&self.ports, &other.ports, |one, other| (one == other).then_some(*one))?;
        Some(Self { networks, ports })
    }

    fn denials(self) -> Vec<Denial> {
        let all = || vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        let networks = if self.networks.is_empty() { all() } else { self.networks };
        networks.into_iter().map(|cidr| Denial { cidr, ports: self.ports.clone() }).collect()
    }
}

/// The common part of two lists of which an empty one means everything; `None` if there is none.
fn both<T: Copy>(one: &[T], other: &[T], common: impl Fn(&T, &T) -> Option<T>) -> Option<Vec<T>> {
    if one.is_empty() || other.is_empty() {
        return Some(if one.is_empty() { other.to_vec() } else { one.to_vec() });
    }
    let found: Vec<T> = one.iter().flat_map(|a| other.iter().filter_map(|b| common(a, b))).collect();
    (!found.is_empty()).then_some(found)
}

/// A rule of more combinations is left to the decision.
const AREAS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use config::{
        model::{Clause, Scope, TextMatch},
        name::{Name, Namespace, PolicyName},
    };

    use super::*;

    fn from(cidrs: &[&str]) -> ConnectionMatch {
        let source_ips = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        ConnectionMatch { source_ips, ..ConnectionMatch::default() }
    }

    fn to(ports: &[u16]) -> ConnectionMatch {
        ConnectionMatch { ports: ports.to_vec(), ..ConnectionMatch::default() }
    }

    fn policy(action: Action, clauses: Vec<Vec<ConnectionMatch>>) -> AuthorizationPolicy {
        let namespace = Namespace::try_from("shop").unwrap();
        AuthorizationPolicy {
            name: PolicyName::new(namespace.clone(), Name::try_from("deny").unwrap()),
            scope: Scope::Namespace(namespace),
            action,
            rules: vec![AuthorizationRule {
                clauses: clauses.into_iter().map(|any| Clause { any }).collect(),
            }],
        }
    }

    fn denied(clauses: Vec<Vec<ConnectionMatch>>) -> Vec<(String, Vec<u16>)> {
        let found = denials([&policy(Action::Deny, clauses)]);
        found.into_iter().map(|denial| (denial.cidr.to_string(), denial.ports)).collect()
    }

    #[test]
    fn networks_and_ports_are_taken_over() {
        let found = denied(vec![vec![from(&["10.0.0.0/8", "fd00::/8"])], vec![to(&[80, 443])]]);
        assert_eq!(found, [("10.0.0.0/8".to_owned(), vec![80, 443]), ("fd00::/8".to_owned(), vec![80, 443])]);
        let everywhere = ["0.0.0.0/0", "::/0"].map(|cidr| (cidr.to_owned(), vec![22]));
        assert_eq!(denied(vec![vec![to(&[22])]]), everywhere);
        assert_eq!(denied(vec![]), ["0.0.0.0/0", "::/0"].map(|cidr| (cidr.to_owned(), vec![])));
    }

    #[test]
    fn clauses_narrow_one_another() {
        let found = denied(vec![vec![from(&["10.0.0.0/8"])], vec![from(&["10.1.0.0/16", "11.0.0.0/8"])]]);
        assert_eq!(found, [("10.1.0.0/16".to_owned(), vec![])]);
        assert!(denied(vec![vec![to(&[1])], vec![to(&[2])]]).is_empty());
    }

    #[test]
    fn what_asks_for_anything_else_is_left_to_the_decision() {
        let with = |change: fn(&mut ConnectionMatch)| {
            let mut one = from(&["10.0.0.0/8"]);
            change(&mut one);
            denied(vec![vec![one]])
        };
        assert!(with(|one| one.namespaces.push(TextMatch::Present)).is_empty());
        assert!(with(|one| one.not_principals.push(TextMatch::Present)).is_empty());
        assert!(with(|one| one.not_source_ips.push("10.1.0.0/16".parse().unwrap())).is_empty());
        assert!(with(|one| one.not_ports.push(1)).is_empty());
        assert!(with(|one| one.destination_ips.push("10.0.0.1/32".parse().unwrap())).is_empty());
        assert!(with(|one| one.unenforceable = true).is_empty());
        let mixed = vec![vec![ConnectionMatch { unenforceable: true, ..to(&[1]) }, to(&[2])]];
        assert_eq!(denied(mixed), ["0.0.0.0/0", "::/0"].map(|cidr| (cidr.to_owned(), vec![2])));
    }

    #[test]
    fn only_what_denies_is_taken_over() {
        for action in [Action::Allow, Action::Unreadable] {
            assert!(denials([&policy(action, vec![vec![from(&["10.0.0.0/8"])]])]).is_empty());
        }
    }
}
