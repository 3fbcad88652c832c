//! The rules of one pod and family as text for `iptables-restore`: a pure function.
//!
//! After Istio's published in-pod redirection (istio-cni, ambient mode). Every rule is in a chain of ours, which the
//! built-in chains jump to once.

use std::fmt::Write;

use super::commands::Family;
use crate::Exclusions;

/// Mark of the proxy's own packets (0x539, which is 1337), and its mask.
pub(crate) const PROXY_MARK: u32 = 0x539;
/// Mark of the packets that answer them, which the policy route looks for.
pub(crate) const ANSWER_MARK: u32 = 0x111;
/// Both are compared under this mask.
pub(crate) const MASK: u32 = 0xfff;

/// The ports of a pod's listeners in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) outbound: u16,
    pub(super) inbound: u16,
}

/// What the rules are made of.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) family: Family,
    pub(super) ports: Ports,
    pub(super) exclusions: &'a Exclusions,
}

impl Rules<'_> {
    /// Text for `iptables-restore --noflush`: naming a chain of ours empties it, so this sets up as well as replaces.
    pub(super) fn render(&self) -> String {
        let (proxy, answer) =
            (format!("0x{PROXY_MARK:x}/0x{MASK:x}"), format!("0x{ANSWER_MARK:x}/0x{MASK:x}"));
        let mut text = String::from("*mangle\n:CANOPY_PRERT - [0:0]\n:CANOPY_OUTPUT - [0:0]\n");
        // What the proxy sends to the app is remembered, so that the answer can be told from what the app begins.
        line(
            &mut text,
            format_args!("-A CANOPY_PRERT -m mark --mark {proxy} -j CONNMARK --set-xmark {answer}"),
        );
        line(
            &mut text,
            format_args!("-A CANOPY_OUTPUT -m connmark --mark {answer} -j CONNMARK --restore-mark"),
        );
        text.push_str("COMMIT\n*nat\n:CANOPY_PRERT - [0:0]\n:CANOPY_OUTPUT - [0:0]\n");
        self.inbound(&mut text, &proxy);
        self.outbound(&mut text, &proxy, &answer);
        text.push_str("COMMIT\n");
        text
    }

    fn inbound(&self, text: &mut String, proxy: &str) {
        for port in &self.exclusions.inbound_ports {
            line(text, format_args!("-A CANOPY_PRERT -p tcp --dport {port} -j ACCEPT"));
        }
        let (loopback, port) = (self.family.loopback(), self.ports.inbound);
        line(
            text,
            format_args!(
                "-A CANOPY_PRERT ! -d {loopback} -p tcp -m mark ! --mark {proxy} -j REDIRECT --to-ports {port}"
            ),
        );
    }

    fn outbound(&self, text: &mut String, proxy: &str, answer: &str) {
        let (loopback, port) = (self.family.loopback(), self.ports.outbound);
        line(text, format_args!("-A CANOPY_OUTPUT -p tcp -m mark --mark {answer} -j ACCEPT"));
        line(text, format_args!("-A CANOPY_OUTPUT ! -d {loopback} -o lo -j ACCEPT"));
        for port in &self.exclusions.outbound_ports {
            line(text, format_args!("-A CANOPY_OUTPUT -p tcp --dport {port} -j ACCEPT"));
        }
        for network in
            self.exclusions.outbound_cidrs.iter().filter(|network| self.family.holds(network.addr()))
        {
            line(text, format_args!("-A CANOPY_OUTPUT -d {network} -j ACCEPT"));
        }
        line(
            text,
            format_args!(
                "-A CANOPY_OUTPUT ! -d {loopback} -p tcp -m mark ! --mark {proxy} -j REDIRECT --to-ports {port}"
            ),
        );
    }
}

/// Text that empties the chains which capture. What answers to callers whose address was shown need stays: it is in `mangle`.
pub(super) const RELEASE: &str = "*nat\n:CANOPY_PRERT - [0:0]\n:CANOPY_OUTPUT - [0:0]\nCOMMIT\n";

/// Text that empties the chain which captures what the pod begins.
pub(super) const RELEASE_OUTBOUND: &str = "*nat\n:CANOPY_OUTPUT - [0:0]\nCOMMIT\n";

/// Text that takes away all of ours, in one go where all of it is there.
pub(super) fn removal() -> String {
    let mut text = String::new();
    for table in ["mangle", "nat"] {
        let jumps = || JUMPS.iter().filter(|(its, ..)| *its == table);
        line(&mut text, format_args!("*{table}"));
        jumps().for_each(|(_, _, target)| line(&mut text, format_args!(":{target} - [0:0]")));
        jumps().for_each(|(_, chain, target)| line(&mut text, format_args!("-D {chain} -j {target}")));
        jumps().for_each(|(_, _, target)| line(&mut text, format_args!("-X {target}")));
        text.push_str("COMMIT\n");
    }
    text
}

/// Jumps from the built-in chains; set up once, as `--noflush` would add them again.
pub(super) const JUMPS: [(&str, &str, &str); 4] = [
    ("mangle", "PREROUTING", "CANOPY_PRERT"),
    ("mangle", "OUTPUT", "CANOPY_OUTPUT"),
    ("nat", "PREROUTING", "CANOPY_PRERT"),
    ("nat", "OUTPUT", "CANOPY_OUTPUT"),
];

fn line(text: &mut String, rule: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{rule}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(family: Family) -> String {
        let exclusions = Exclusions {
            outbound_ports: vec![5432],
            outbound_cidrs: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            inbound_ports: vec![9090],
        };
        Rules { family, ports: Ports { outbound: 15001, inbound: 15006 }, exclusions: &exclusions }.render()
    }

    fn position(text: &str, part: &str) -> usize {
        text.find(part).unwrap_or_else(|| panic!("{part} is not in\n{text}"))
    }

    #[test]
    fn exclusions_come_before_the_redirects() {
        let text = render(Family::V4);
        assert!(position(&text, "--dport 5432 -j ACCEPT") < position(&text, "--to-ports 15001"));
        assert!(position(&text, "-d 192.0.2.0/24 -j ACCEPT") < position(&text, "--to-ports 15001"));
        assert!(position(&text, "--dport 9090 -j ACCEPT") < position(&text, "--to-ports 15006"));
    }

    #[test]
    fn each_family_has_its_own_networks_and_loopback() {
        let (v4, v6) = (render(Family::V4), render(Family::V6));
        assert!(v4.contains("127.0.0.1/32") && !v4.contains("2001:db8"));
        assert!(v6.contains("::1/128") && v6.contains("2001:db8::/32") && !v6.contains("192.0.2"));
    }
}
