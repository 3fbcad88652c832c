//! What `canopy check` looks at besides the hooks: privileges, descriptors, tools, addresses.
//!
//! Each look is independent: one that fails says so and the others go on. Nothing is changed.

use std::{fs, net::Ipv6Addr, process::Command};

use ebpf_redirect::RedirectError;
use rustix::process::{Resource, getrlimit};

use super::{Look, State};

/// Looks at the machine. `by_kernel`: whether eBPF can steer, so that iptables need not.
pub(super) fn looks(by_kernel: bool) -> Vec<Look> {
    vec![capabilities(), descriptors(), iptables(by_kernel), ipv6(), memory_lock()]
}

/// Capabilities by name and bit (linux/capability.h), and what each is for. `CAP_BPF` is none of them: all that it permits,
/// `CAP_SYS_ADMIN` does too (`bpf_capable` in the kernel), and before Linux 5.8 nobody has it.
const CAPABILITIES: [(&str, u32, &str); 4] = [
    ("CAP_NET_ADMIN", 12, "attach hooks, set socket options"),
    ("CAP_SYS_ADMIN", 21, "enter pods' network namespaces, load eBPF programs"),
    ("CAP_NET_RAW", 13, "bind deliveries to a pod's interface"),
    ("CAP_DAC_OVERRIDE", 1, "write below /sys/fs/bpf and /run"),
];

fn capabilities() -> Look {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    judge_capabilities(effective_capabilities(&status))
}

fn judge_capabilities(effective: u64) -> Look {
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
    judge_tools(ebpf_redirect::iptables::find_tools(), by_kernel)
        .unwrap_or_else(|| Look::fine("iptables", version().unwrap_or_else(|| "there".to_owned())))
}

/// For the reader alone: that the tools are there is known.
fn version() -> Option<String> {
    let output = Command::new("iptables-restore").arg("--version").output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(|line| line.trim().to_owned())
}

/// What is wrong with the tools, if anything is.
fn judge_tools(found: Result<(), RedirectError>, by_kernel: bool) -> Option<Look> {
    let (lacks, remedy) = match found.err()? {
        RedirectError::ToolMissing { tool, package } => {
            (format!("{tool} is not installed"), format!("install the package {package}"))
        }
        other => (other.to_string(), "install the packages iptables and iproute2".to_owned()),
    };
    Some(Look {
        name: "iptables".to_owned(),
        state: if by_kernel { State::Degraded } else { State::Missing },
        detail: format!("{lacks}: no other way to steer where the hooks are not to be had"),
        remedy: Some(remedy),
    })
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

    #[test]
    fn who_may_administer_the_system_needs_no_capability_of_its_own_for_ebpf() {
        let without_bpf = !(1 << 39);
        assert_eq!(judge_capabilities(without_bpf).state, State::Fine);
        let look = judge_capabilities(without_bpf & !(1 << 21));
        assert_eq!(look.state, State::Missing);
        assert!(look.detail.starts_with("missing CAP_SYS_ADMIN (to "), "{}", look.detail);
    }

    #[test]
    fn a_tool_that_is_missing_is_named_with_its_package_and_matters_where_it_is_the_only_way() {
        let missing = || Err(RedirectError::ToolMissing { tool: "ip", package: "iproute2" });
        let look = judge_tools(missing(), false).unwrap();
        assert_eq!(
            (look.state, look.remedy.as_deref()),
            (State::Missing, Some("install the package iproute2"))
        );
        assert!(look.detail.starts_with("ip is not installed: "), "{}", look.detail);
        assert_eq!(judge_tools(missing(), true).unwrap().state, State::Degraded);
        assert!(judge_tools(Ok(()), false).is_none());
    }
}
