//! The rules of the pod's table: a pure function of ports and exclusions.
//!
//! After Istio's published in-pod redirection, as the rules for iptables are; what the kernel is told is `batch`'s.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::expression::Rule;
use crate::{
    Exclusions,
    iptables::{ANSWER_MARK, MASK, PROXY_MARK},
};

/// The ports of a side's listeners; `None` where the pod has none of the family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) v4: Option<u16>,
    pub(super) v6: Option<u16>,
}

/// What the rules are made of. The chain of a side that is not captured is empty, but there: without a chain for NAT the kernel would
/// translate no packet, also none of the connections that live.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) outbound: Option<Ports>,
    pub(super) inbound: Option<Ports>,
    pub(super) exclusions: &'a Exclusions,
    pub(super) group: Option<u32>,
}

/// A chain, and where it hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) hook: u32,
    pub(super) priority: i32,
    pub(super) rules: Vec<Rule>,
}

impl Rules<'_> {
    /// In the order in which they are made.
    pub(super) fn chains(&self) -> Vec<Chain> {
        // What the proxy sends to the app is remembered, so that the answer can be told from what the app begins.
        let remember = Rule::default().marked(PROXY_MARK, MASK).mark_connection(ANSWER_MARK);
        let recall = Rule::default().of_marked(ANSWER_MARK, MASK).mark(ANSWER_MARK);
        let inbound = self.inbound.map(|ports| self.inbound(ports)).unwrap_or_default();
        let outbound = self.outbound.map(|ports| self.outbound(ports)).unwrap_or_default();
        vec![
            chain("remember", "filter", PREROUTING, MANGLE, vec![remember]),
            chain("recall", "route", OUTPUT, MANGLE, vec![recall]),
            chain("inbound", "nat", PREROUTING, DSTNAT, inbound),
            chain("outbound", "nat", OUTPUT, DSTNAT, outbound),
        ]
    }

    /// What comes by loopback is the pod's own, or the proxy's delivery to it.
    fn inbound(&self, ports: Ports) -> Vec<Rule> {
        let mut rules =
            vec![Rule::default().of_others().accept(), Rule::default().by_loopback(false).accept()];
        rules.extend(
            self.exclusions.inbound_ports.iter().map(|port| Rule::default().of_tcp().at_port(*port).accept()),
        );
        rules.extend(redirects(ports));
        rules
    }

    fn outbound(&self, ports: Ports) -> Vec<Rule> {
        let mut rules = vec![
            Rule::default().of_others().accept(),
            Rule::default().marked(PROXY_MARK, MASK).accept(),
            Rule::default().by_loopback(true).accept(),
        ];
        rules.extend(self.group.map(|group| Rule::default().of_group(group).accept()));
        rules.extend(left_alone().iter().map(|network| Rule::default().goes_to(network).accept()));
        let excluded = &self.exclusions;
        rules.extend(
            excluded.outbound_ports.iter().map(|port| Rule::default().of_tcp().at_port(*port).accept()),
        );
        rules.extend(excluded.outbound_cidrs.iter().map(|network| Rule::default().goes_to(network).accept()));
        rules.extend(redirects(ports));
        rules
    }
}

fn redirects(ports: Ports) -> impl Iterator<Item = Rule> {
    let of =
        |v4: bool, port: Option<u16>| port.map(|port| Rule::default().of_family(v4).of_tcp().redirect(port));
    of(true, ports.v4).into_iter().chain(of(false, ports.v6))
}

/// Loopback, and what no other link is asked for.
fn left_alone() -> [IpNet; 3] {
    [
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)),
    ]
}

fn chain(name: &'static str, kind: &'static str, hook: u32, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { name, kind, hook, priority, rules }
}

// linux/netfilter.h, linux/netfilter_ipv4.h.
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const MANGLE: i32 = -150;
const DSTNAT: i32 = -100;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(chains: &[Chain]) -> Vec<(&'static str, usize)> {
        chains.iter().map(|chain| (chain.name, chain.rules.len())).collect()
    }

    fn rules(exclusions: &Exclusions) -> Rules<'_> {
        let ports = Some(Ports { v4: Some(4001), v6: Some(4002) });
        Rules { outbound: ports, inbound: ports, exclusions, group: Some(1337) }
    }

    #[test]
    fn exclusions_come_before_the_redirects_and_each_has_a_rule() {
        let none = Exclusions::default();
        assert_eq!(
            names(&rules(&none).chains()),
            [("remember", 1), ("recall", 1), ("inbound", 4), ("outbound", 9)]
        );
        let some = Exclusions {
            outbound_ports: vec![5432],
            outbound_cidrs: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            inbound_ports: vec![9090],
        };
        let chains = rules(&some).chains();
        assert_eq!(names(&chains), [("remember", 1), ("recall", 1), ("inbound", 5), ("outbound", 12)]);
        let excluded = Rule::default().of_tcp().at_port(5432).accept();
        let redirect = Rule::default().of_family(true).of_tcp().redirect(4001);
        let at = |rule: &Rule| chains[3].rules.iter().position(|one| one == rule).unwrap();
        assert!(at(&excluded) < at(&redirect));
    }

    #[test]
    fn a_family_without_a_listener_is_not_redirected_and_the_chain_of_a_side_that_is_not_captured_is_empty() {
        let none = Exclusions::default();
        let v4_only = Some(Ports { v4: Some(4001), v6: None });
        let rules = Rules { outbound: None, inbound: v4_only, exclusions: &none, group: None };
        assert_eq!(names(&rules.chains()), [("remember", 1), ("recall", 1), ("inbound", 3), ("outbound", 0)]);
    }
}
