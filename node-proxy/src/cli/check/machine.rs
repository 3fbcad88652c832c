//! What `canopy check` looks at besides the hooks: privileges, descriptors, tools, addresses.
//!
//! Each look is independent: one that fails says so and the others go on. Nothing is changed.

use std::{fs, net::Ipv6Addr, process::Command};

use rustix::process::{Resource, getrlimit};

use super::{Look, State};

/// Looks at the machine. `by_kernel`: whether eBPF can steer, so that iptables need not.
pub(super) fn looks(by_kernel: bool) -> Vec<Look> {
    vec![capabilities(), descriptors(), iptables(by_kernel), ipv6(), memory_lock()]
}

/// Capabilities by name and bit (linux/capability.h), and what each is for.
const CAPABILITIES: [(&str, u32, &str); 5] = [
    ("CAP_NET_ADMIN", 12, "attach hooks, set socket options"),
    ("CAP_SYS_ADMIN", 21, "enter pods' network namespaces"),
    ("CAP_BPF", 39, "load eBPF programs"),
    ("CAP_NET_RAW", 13, "bind deliveries to a pod's interface"),
    ("CAP_DAC_OVERRIDE", 1, "write below /sys/fs/bpf and /run"),
];

fn capabilities() -> Look {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = effective_capabilities(&status);
    let missing: Vec<_> = CAPABILITIES.iter().filter(|(_, bit, _)| effective & (1 << bit) == 0).collect();
    if missing.is_empty() {
        return Look::fine("capabilities", "all that are needed");
    }
    let list: Vec<_> = missing.iter().map(|(name, _, what)| format!("{name} (to {what})")).collect();
    Look {
        name: "capabilities".to_owned(),
        state: State::Missing,
        detail: format!("missing {}", list.join(", ")),
        remedy: Some("run as root, or grant them to the daemon's container".to_owned()),
    }
}

/// `CapEff` of /proc/self/status, as a bit set.
fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn descriptors() -> Look {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if most >= DESCRIPTORS_WANTED {
        return Look::fine("descriptors", format!("up to {most}"));
    }
    Look {
        name: "descriptors".to_owned(),
        state: State::Degraded,
        detail: format!("at most {most}: about {} connections on the whole node", most / 2),
        remedy: Some(format!(
            "raise the hard limit: ulimit -Hn {DESCRIPTORS_WANTED}, or LimitNOFILE= of the unit"
        )),
    }
}

fn iptables(by_kernel: bool) -> Look {
    let version = Command::new("iptables").arg("--version").output();
    match version {
        Ok(output) if output.status.success() => {
            Look::fine("iptables", String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        _ => Look {
            name: "iptables".to_owned(),
            state: if by_kernel { State::Degraded } else { State::Missing },
            detail: "not installed: no other way to steer where the hooks are not to be had".to_owned(),
            remedy: Some("install the package iptables".to_owned()),
        },
    }
}

fn ipv6() -> Look {
    match std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(_) => Look::fine("ipv6", "there"),
        Err(error) => Look {
            name: "ipv6".to_owned(),
            state: State::Degraded,
            detail: format!("not usable here ({error}): pods are steered over IPv4 only"),
            remedy: Some("sysctl net.ipv6.conf.all.disable_ipv6=0, if pods have IPv6 addresses".to_owned()),
        },
    }
}

fn memory_lock() -> Look {
    let limit = getrlimit(Resource::Memlock).current;
    Look::fine(
        "locked memory",
        limit
            .map_or("unlimited".to_owned(), |bytes| format!("{bytes} bytes (matters below Linux 5.11 only)")),
    )
}

/// Two per connection, for some 30,000 connections on a node.
const DESCRIPTORS_WANTED: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_capabilities_are_read_from_the_status_file() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t0000000000201000\n"), 1 << 12 | 1 << 21);
        assert_eq!(effective_capabilities("Name:\tx\n"), 0);
    }
}
