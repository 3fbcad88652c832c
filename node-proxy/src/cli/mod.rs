//! The command line: one file per verb, each a set of arguments and what it does with them.
//!
//! Only here is anything printed. Exit codes: 0 done, 1 a finding or a failure, 2 the command line itself was wrong.

use std::{
    error::Error,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, CommandFactory, Parser, Subcommand};
use config::{finding::visible, model::Zone, name::NodeName};

use crate::admin;

mod carrying;
mod cell;
mod certificate;
mod certificates;
mod check;
mod cni;
mod completions;
mod control;
mod diff;
mod discovery;
mod events;
mod explain;
mod fitness;
mod kubectl;
mod log;
mod manifests;
mod names;
mod offline;
mod release;
mod root;
mod run;
mod showback;
mod sidecar;
mod status;
mod style;
mod top;
mod trace;
mod tree;
mod tunnels;
mod validate;

/// A shared proxy for the pods of one node, that keeps its tenants apart.
#[derive(Debug, Parser)]
#[command(name = "canopy", version, propagate_version = true, max_term_width = 110, after_help = FIRST_STEPS)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const FIRST_STEPS: &str = "\
First steps:
  canopy check                       can this machine run it, and if not, what is missing
  canopy validate examples/two-tenants
                                     is the configuration right, and what of it is not obeyed
  canopy run --config examples/two-tenants
                                     run the daemon in the foreground
  canopy tree                        who is carried now: tenant, identity, listeners, connections
  canopy explain --from shop/frontend --to cart.shop:80
                                     which objects of whom decide such a request, and what becomes of it
  canopy diff DIR                    what would change, for whom, if the configuration became DIR
  canopy top                         what each tenant uses, beside what it may

Exit codes: 0 done, 1 a finding or a failure, 2 the command line was wrong. `canopy diff` has its own, as `diff` and `kubectl diff` do.";

#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::Check),
    Validate(validate::Validate),
    Run(Box<run::Run>),
    Sidecar(Box<sidecar::Sidecar>),
    Control(control::Control),
    Tree(tree::Tree),
    Explain(explain::Explain),
    Diff(diff::Diff),
    Top(top::Top),
    Status(status::Status),
    Events(events::Events),
    Showback(showback::Showback),
    Trace(trace::Trace),
    Release(release::Release),
    Certificate(certificate::Certificate),
    Root(root::Root),
    Cni(cni::Cni),
    Kubectl(kubectl::Kubectl),
    Completions(completions::Completions),
    Cell(cell::Cell),
}

/// The option `--node`, as the daemon takes it.
fn node(name: Option<String>) -> Result<Option<NodeName>, String> {
    name.map(|name| NodeName::try_from(name).map_err(|error| format!("--node: {error}"))).transpose()
}

/// The option `--zone`. A pod without the label has an empty variable of it.
fn zone(name: Option<String>) -> Result<Option<Zone>, String> {
    let name = name.filter(|name| !name.is_empty());
    name.map(|name| Zone::try_from(name).map_err(|error| format!("--zone: {error}"))).transpose()
}

/// What a verb ends with: an exit code, or an error that is printed with its causes.
type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Parses the command line and runs the verb.
pub fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    // The runtime calls its plugins by their file's name, and says nothing on their command line.
    if crate::cni::is_called(&arguments) {
        arguments.push("cni".into());
    }
    // As does kubectl with its plugins, which have their verbs on it.
    if kubectl::is_called(&arguments) {
        arguments.insert(1, "kubectl".into());
    }
    let outcome = match Cli::parse_from(arguments).verb {
        Verb::Check(verb) => verb.run(),
        Verb::Validate(verb) => verb.run(),
        Verb::Run(verb) => verb.run(),
        Verb::Sidecar(verb) => verb.run(),
        Verb::Control(verb) => verb.run(),
        Verb::Tree(verb) => verb.run(),
        Verb::Explain(verb) => verb.run(),
        Verb::Diff(verb) => verb.run(),
        Verb::Top(verb) => verb.run(),
        Verb::Status(verb) => verb.run(),
        Verb::Events(verb) => verb.run(),
        Verb::Showback(verb) => verb.run(),
        Verb::Trace(verb) => verb.run(),
        Verb::Release(verb) => verb.run(),
        Verb::Certificate(verb) => verb.run(),
        Verb::Root(verb) => verb.run(),
        Verb::Cni(verb) => verb.run(),
        Verb::Kubectl(verb) => verb.run(),
        Verb::Completions(verb) => verb.run(&mut Cli::command()),
        Verb::Cell(verb) => verb.run(),
    };
    outcome.unwrap_or_else(|error| {
        if is_broken_pipe(&*error) {
            return ExitCode::SUCCESS;
        }
        complain(&with_causes(&*error));
        ExitCode::FAILURE
    })
}

/// Says why a verb does not do what it was asked to, in one line. What it repeats may be anybody's.
fn complain(why: &str) {
    // With standard error gone there is nobody to tell.
    let _ = writeln!(io::stderr(), "canopy: {}", visible(why));
}

/// An error and its causes in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

/// Whether standard output was closed by its reader, as `canopy tree | head` does.
fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Which daemon a verb talks to.
#[derive(Debug, Args)]
struct Daemon {
    /// Name of the daemon's instance.
    #[arg(long, value_name = "NAME", default_value = "default", env = "CANOPY_INSTANCE")]
    instance: String,
    /// Its admin socket [default: /run/canopy/INSTANCE.sock].
    #[arg(long, value_name = "PATH", env = "CANOPY_ADMIN_SOCKET")]
    admin_socket: Option<PathBuf>,
}

impl Daemon {
    fn socket(&self) -> PathBuf {
        self.admin_socket.clone().unwrap_or_else(|| admin::default_socket(&self.instance))
    }
}

/// A runtime for the verbs that ask a daemon.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Option, variable and default, as operations.md has them; the rows about certificates name no variable.
    fn documented() -> Vec<Vec<&'static str>> {
        let page = include_str!("../../../docs/operations.md");
        let options = page.split("\n## ").find(|section| section.starts_with("Options")).unwrap();
        let (_, certificates) = page.split_once("\n| option | default | meaning |\n").unwrap();
        let certificates = certificates.split("\n\n").next().unwrap();
        let rows = |text: &'static str, columns| {
            let rows = text.lines().filter(|line| line.starts_with("| `--"));
            rows.map(move |row| {
                row.split('|').skip(1).map(|cell| cell.trim_matches([' ', '`'])).take(columns).collect()
            })
        };
        rows(options, 3).chain(rows(certificates, 2)).collect()
    }

    #[test]
    fn every_option_of_the_daemon_is_documented_with_its_variable_and_its_default() {
        let documented = documented();
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        let options: Vec<_> = run.get_arguments().filter(|option| option.get_id() != "help").collect();
        for option in &options {
            let name = format!("--{}", option.get_long().unwrap());
            let variable = option.get_env().expect("a variable for every option").to_str().unwrap();
            let default = option.get_default_values().first().map(|default| default.to_str().unwrap());
            let is_it = |row: &Vec<&str>| match row[..] {
                [of, by, without] => of == name && by == variable && without == default.unwrap_or("–"),
                [of, without] => of == name && default.is_none_or(|default| without == default),
                _ => false,
            };
            let found = documented.iter().filter(|row| is_it(row)).count();
            assert_eq!(found, 1, "docs/operations.md has no {name} | {variable} | {default:?}");
        }
        assert_eq!(
            documented.len(),
            options.len(),
            "docs/operations.md has an option that is none: {documented:?}"
        );
    }

    #[test]
    fn every_verb_teaches_with_an_example() {
        for verb in Cli::command().get_subcommands().filter(|verb| verb.get_name() != "help") {
            let example = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.contains(&format!("canopy {}", verb.get_name())), "{}", verb.get_name());
        }
    }
}
