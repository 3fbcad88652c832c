//! Which denials the kernel can take over: those of DENY rules that ask for nothing but networks of callers and ports.
//!
//! An early form of what is decided anyway. It may leave out what it cannot express; it must never deny what the decision would allow.

use config::model::{Action, AuthorizationPolicy, AuthorizationRule, ConnectionMatch};
use ebpf_redirect::Denial;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What of some policies the kernel can take over.
#[derive(Debug, Default)]
pub struct Early {
    /// The denials that need no identity.
    pub denials: Vec<Denial>,
    /// How many rules were left to the decision because they, with those before them, are too many networks and ports.
    pub left_out: usize,
    /// What it took: values compared and copied.
    pub effort: usize,
}

/// The denials in these policies that need no identity.
pub fn denials<'a>(policies: impl IntoIterator<Item = &'a AuthorizationPolicy>) -> Early {
    let denying = policies.into_iter().filter(|policy| policy.action == Action::Deny);
    let (mut early, mut effort) = (Early::default(), Effort(EFFORT));
    for rule in denying.flat_map(|policy| &policy.rules) {
        match effort.spend(1).and_then(|()| of_rule(rule, &mut effort)) {
            Some(denials) => early.denials.extend(denials),
            None => early.left_out += 1,
        }
    }
    early.effort = EFFORT - effort.0;
    early
}

/// What may still be compared and copied. Clauses multiply, and this is done for every pod, by the thread that looks after
/// everybody's.
struct Effort(usize);

impl Effort {
    /// `None` if it is more than is left; then it must not be done.
    fn spend(&mut self, values: usize) -> Option<()> {
        self.0 = self.0.checked_sub(values)?;
        Some(())
    }
}

/// Callers' networks and ports; empty means all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Area {
    networks: Vec<IpNet>,
    ports: Vec<u16>,
}

/// All of the clauses have to hold, so each narrows what those before it left. Of a clause, only the matches count that can be
/// expressed: the others would deny more. `None` if it is too much.
fn of_rule(rule: &AuthorizationRule, effort: &mut Effort) -> Option<Vec<Denial>> {
    let mut areas = vec![Area::default()];
    for clause in &rule.clauses {
        effort.spend(clause.any.len())?;
        effort.spend(clause.any.iter().map(|one| one.source_ips.len() + one.ports.len()).sum())?;
        let matches: Vec<Area> = clause.any.iter().filter_map(area).collect();
        effort.spend(combinations(&areas, &matches))?;
        areas = areas.iter().flat_map(|one| matches.iter().filter_map(|other| one.within(other))).collect();
    }
    effort.spend(areas.iter().map(Area::rows).sum())?;
    Some(areas.into_iter().flat_map(Area::denials).collect())
}

/// How many pairs of networks, and of ports, there are.
fn combinations(some: &[Area], others: &[Area]) -> usize {
    let pairs = |count: fn(&Area) -> usize| {
        let all = |areas: &[Area]| areas.iter().map(|area| count(area).max(1)).sum::<usize>();
        all(some).saturating_mul(all(others))
    };
    pairs(|area| area.networks.len()).saturating_add(pairs(|area| area.ports.len()))
}

/// What a match asks for, if that is networks and ports alone.
fn area(one: &ConnectionMatch) -> Option<Area> {
    let plain = ConnectionMatch {
        source_ips: one.source_ips.clone(),
        ports: one.ports.clone(),
        ..Default::default()
    };
    (*one == plain)
        .then(|| Area { networks: once(plain.source_ips.iter().map(IpNet::trunc)), ports: once(plain.ports) })
}

/// Each value once.
fn once<T: Ord>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    values.dedup();
    values
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

    /// What its denials take: each has the ports to itself, but ports are copied by the line.
    fn rows(&self) -> usize {
        self.networks.len().max(2) * (1 + self.ports.len() / 32)
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

/// Enough for as many networks as the kernel takes for a pod, be each in a rule of its own.
const EFFORT: usize = 32_768;

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
        let found = denials([&policy(Action::Deny, clauses)]).denials;
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
            assert!(denials([&policy(action, vec![vec![from(&["10.0.0.0/8"])]])]).denials.is_empty());
        }
    }

    fn many(count: u32) -> Vec<IpNet> {
        (0..count).map(|n| IpNet::V4(Ipv4Net::new_assert((0x0a00_0000 + n).into(), 32))).collect()
    }

    fn clause(source_ips: Vec<IpNet>, ports: Vec<u16>) -> Vec<ConnectionMatch> {
        vec![ConnectionMatch { source_ips, ports, ..ConnectionMatch::default() }]
    }

    #[test]
    fn a_network_that_is_written_a_thousand_times_is_one() {
        let everywhere = || clause(vec!["1.2.3.4/0".parse().unwrap(); 1000], vec![22; 1000]);
        assert_eq!(denied(vec![everywhere(), everywhere()]), [("0.0.0.0/0".to_owned(), vec![22])]);
    }

    #[test]
    fn a_rule_that_multiplies_to_more_than_the_kernel_takes_is_left_to_the_decision_at_once() {
        let everywhere = |count| clause(vec!["0.0.0.0/0".parse().unwrap(); count], Vec::new());
        let ports = || clause(Vec::new(), (0..45_000).collect());
        for (what, clauses) in [
            ("one network, again and again", vec![everywhere(49_000), everywhere(45_000)]),
            ("many by many", vec![clause(many(1000), Vec::new()), clause(many(1000), Vec::new())]),
            ("more than one pod may have", vec![clause(many(49_000), Vec::new())]),
            ("many networks with many ports", vec![clause(many(4000), (0..1000).collect())]),
            ("ports in every network", vec![clause(many(4000), Vec::new()), ports()]),
            ("many matches", vec![vec![from(&["10.0.0.0/8"]); 50_000]; 2]),
            ("many by many matches", vec![vec![from(&["10.0.0.0/8"]); 1000]; 2]),
        ] {
            let small = policy(Action::Deny, vec![clause(many(1), Vec::new())]);
            let early = denials([&policy(Action::Deny, clauses), &small]);
            assert_eq!(
                (early.denials.len(), early.left_out),
                (1, 1),
                "{what}: the others still are taken over"
            );
        }
    }

    #[test]
    fn what_all_rules_take_together_is_bounded() {
        for rule in [clause(many(1), Vec::new()), clause(Vec::new(), Vec::new())] {
            let mut all = policy(Action::Deny, vec![rule]);
            all.rules = vec![all.rules[0].clone(); 100_000];
            let early = denials([&all]);
            assert!(early.effort <= EFFORT && early.denials.len() > 4096 && early.left_out > 50_000);
        }
        let all_of_them = denials([&policy(Action::Deny, vec![clause(many(4096), Vec::new())])]);
        assert_eq!(
            (all_of_them.denials.len(), all_of_them.left_out),
            (4096, 0),
            "what the kernel takes is given to it"
        );
    }
}
