//! Runs `iptables-restore`, `iptables` and `ip` in the network namespace of the calling thread.
//!
//! Every failure carries what the tool said. Nothing is passed through a shell.

use std::{
    io::{self, Write},
    net::IpAddr,
    process::{Command, Output, Stdio},
};

use super::rules::{self, ANSWER_MARK, JUMPS, MASK};
use crate::RedirectError;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The loopback address as a network.
    pub(super) fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.1/32",
            Self::V6 => "::1/128",
        }
    }

    pub(super) fn holds(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }

    fn iptables(self) -> &'static str {
        match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        }
    }

    fn ip_flag(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }

    fn everything(self) -> &'static str {
        match self {
            Self::V4 => "0.0.0.0/0",
            Self::V6 => "::/0",
        }
    }
}

/// A command that failed.
#[derive(Debug)]
pub(super) struct Failure {
    command: String,
    said: String,
}

impl Failure {
    pub(super) fn explain(self, pod: &str) -> RedirectError {
        RedirectError::Tool { pod: pod.to_owned(), command: self.command, said: self.said }
    }
}

/// What is run, and the package that brings it; `iptables` itself comes with the first.
const TOOLS: [(&str, &str); 3] =
    [("iptables-restore", "iptables"), ("ip6tables-restore", "iptables"), ("ip", "iproute2")];

/// The tools, found.
#[derive(Debug)]
pub(super) struct Tools(());

impl Tools {
    /// Checks that the tools are there.
    pub(super) fn find() -> Result<Self, RedirectError> {
        for (tool, package) in TOOLS {
            let flag = if tool == "ip" { "-V" } else { "--version" };
            if Command::new(tool).arg(flag).stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
                return Err(RedirectError::ToolMissing { tool, package });
            }
        }
        Ok(Self(()))
    }

    /// Puts the rules, the jumps to them and the policy route in place, or replaces the rules.
    pub(super) fn set_up(&self, family: Family, rules: &str) -> Result<(), Failure> {
        restore(family, rules)?;
        for (table, chain, target) in JUMPS {
            let there = ["-w", "-t", table, "-C", chain, "-j", target];
            if run(family.iptables(), &there).is_err() {
                run(family.iptables(), &["-w", "-t", table, "-A", chain, "-j", target])?;
            }
        }
        let mark = format!("0x{ANSWER_MARK:x}/0x{MASK:x}");
        let rule = ["fwmark", mark.as_str(), "pref", RULE_PREFERENCE, "lookup", ROUTE_TABLE];
        if run("ip", &[&[family.ip_flag(), "rule", "show"], &rule[..2]].concat())
            .is_ok_and(|out| out.stdout.is_empty())
        {
            run("ip", &[&[family.ip_flag(), "rule", "add"], &rule[..]].concat())?;
        }
        let route = [
            family.ip_flag(),
            "route",
            "replace",
            "local",
            family.everything(),
            "dev",
            "lo",
            "table",
            ROUTE_TABLE,
        ];
        run("ip", &route).map(drop)
    }

    /// Takes away what captures, in one step.
    pub(super) fn release(&self, family: Family) -> Result<(), Failure> {
        restore(family, rules::RELEASE)
    }

    /// Takes away what captures the pod's own connections.
    pub(super) fn release_outbound(&self, family: Family) -> Result<(), Failure> {
        restore(family, rules::RELEASE_OUTBOUND)
    }

    /// Takes away all of ours. What is not there is no failure.
    pub(super) fn clear(&self, families: &[Family]) {
        for &family in families {
            // One command where nobody has changed anything, a dozen where somebody has: a drain ends with this, pod by pod.
            if restore(family, &rules::removal()).is_err() {
                clear_one_by_one(family);
            }
            let rule = ["rule", "del", "pref", RULE_PREFERENCE, "lookup", ROUTE_TABLE];
            let _ = run("ip", &[&[family.ip_flag()], &rule[..]].concat());
            let _ = run("ip", &[family.ip_flag(), "route", "flush", "table", ROUTE_TABLE]);
        }
    }
}

fn clear_one_by_one(family: Family) {
    for (table, chain, target) in JUMPS {
        for arguments in [&["-D", chain, "-j", target][..], &["-F", target], &["-X", target]] {
            let _ = run(family.iptables(), &[&["-w", "-t", table], arguments].concat());
        }
    }
}

fn restore(family: Family, rules: &str) -> Result<(), Failure> {
    let program = format!("{}-restore", family.iptables());
    let feed = || -> io::Result<Output> {
        let mut child = Command::new(&program)
            .args(["--noflush", "-w"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(rules.as_bytes())?;
        }
        child.wait_with_output()
    };
    check(program.clone(), feed()).map(drop)
}

fn run(program: &str, arguments: &[&str]) -> Result<Output, Failure> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    check(format!("{program} {}", arguments.join(" ")), output)
}

fn check(command: String, output: io::Result<Output>) -> Result<Output, Failure> {
    let failure = |said| Failure { command: command.clone(), said };
    let output = output.map_err(|error| failure(error.to_string()))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(failure(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Of the policy route; below the main table's 32766, as Istio's.
const RULE_PREFERENCE: &str = "32764";
/// Of the policy route, as Istio's.
const ROUTE_TABLE: &str = "100";
