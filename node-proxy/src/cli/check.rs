//! `canopy check`: what this kernel and machine allow, and what to do about what they don't.
//!
//! Looks and tells; changes nothing.

use std::{
    ffi::OsString,
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use config::identity::TrustDomain;
use serde::Serialize;

use super::{Outcome, certificates::Certificates, fitness, kubectl::Reach, style::Palette};

mod authority;
mod cpu;
mod dead;
mod hooks;
mod machine;

/// Tell whether this machine can run the daemon, and what to do about what is missing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy check
  canopy check --ca spire:/run/spire/private/admin.sock --trust-domain example.org
  canopy check --pre                   is the cluster of the kubeconfig fit, before anything is installed
  canopy check --kubeconfig FILE       does what is installed on that cluster work (as kubectl canopy check)
  canopy check --json | jq '.[] | select(.state != \"fine\")'

Exit code 0: `canopy run` would work here, if with less than it could have; 1: it would not; of a cluster, 2: it could not be found out.")]
pub(super) struct Check {
    /// Print JSON instead.
    #[arg(long)]
    json: bool,
    /// Look at a cluster instead of this machine: is it fit, before anything is installed.
    #[arg(long)]
    pre: bool,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    certificates: Certificates,
    /// The trust domain of identities.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", env = "CANOPY_TRUST_DOMAIN")]
    trust_domain: String,
}

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Fine,
    /// Not there; Canopy works with less.
    Degraded,
    /// Not there; Canopy does not work.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Look {
    name: String,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Look {
    fn fine(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Fine, detail: detail.into(), remedy: None }
    }
}

impl Check {
    pub(super) fn run(self) -> Outcome {
        if self.pre {
            return fitness::before(&self.reach, self.json);
        }
        // By the environment a kubeconfig is named for many programs; whoever names it here means that cluster.
        if is_cluster_named(std::env::args_os()) {
            return fitness::after(&self.reach, self.json);
        }
        let mut looks = hooks::looks();
        // Without every hook, iptables has to do.
        let by_kernel = looks.iter().all(|look| look.state == State::Fine);
        looks.extend(machine::looks(by_kernel));
        looks.extend(cpu::looks());
        let trust_domain = TrustDomain::try_from(self.trust_domain)?;
        looks.extend(dead::looks());
        looks.extend(authority::look(self.certificates.choice(), trust_domain)?);
        let text = if self.json {
            serde_json::to_string_pretty(&looks)? + "\n"
        } else {
            render(&looks, Palette::of_stdout())
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        let can_run = looks.iter().all(|look| look.state != State::Missing);
        Ok(if can_run { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Whether a command line names a cluster.
fn is_cluster_named(arguments: impl Iterator<Item = OsString>) -> bool {
    let is_named = |argument: &str, option: &str| {
        argument.strip_prefix(option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let mut arguments = arguments.filter_map(|argument| argument.into_string().ok());
    arguments.any(|argument| ["--kubeconfig", "--context"].iter().any(|option| is_named(&argument, option)))
}

fn render(looks: &[Look], palette: Palette) -> String {
    let mut out = String::new();
    let width = looks.iter().map(|look| look.name.chars().count()).max().unwrap_or(0);
    for look in looks {
        let state = match look.state {
            State::Fine => palette.green("fine    "),
            State::Degraded => palette.yellow("degraded"),
            State::Missing => palette.red("missing "),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:<width$}  {state}  {}", look.name, look.detail);
        if let Some(remedy) = &look.remedy {
            let _ = writeln!(out, "{:<width$}            → {}", "", palette.bold(remedy));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_looked_at_where_the_command_line_names_it() {
        let named = |line: &str| is_cluster_named(line.split(' ').map(OsString::from));
        assert!(named("canopy check --kubeconfig /k") && named("canopy check --context=east"));
        assert!(!named("canopy check --ca files:/context") && !named("canopy check --kubeconfigs"));
    }

    #[test]
    fn what_is_missing_is_shown_with_its_remedy_below() {
        let missing = Look {
            name: "sk_lookup".to_owned(),
            state: State::Missing,
            detail: "needs Linux 5.9".to_owned(),
            remedy: Some("update the kernel".to_owned()),
        };
        let text = render(&[Look::fine("ipv6", "there"), missing], Palette::plain());
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "ipv6       fine      there");
        assert_eq!(lines[1], "sk_lookup  missing   needs Linux 5.9");
        assert_eq!(lines[2].trim(), "→ update the kernel");
    }
}
