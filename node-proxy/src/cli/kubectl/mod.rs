//! `canopy kubectl`, and `kubectl canopy`: the daemons of a cluster, asked from wherever its API server can be reached.
//!
//! Each node's daemon is asked by its own program, run in its pod, so that no port is opened for it. Nothing is changed.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand};
use config::finding::visible;
use serde_json::{Value, json};

use self::nodes::{Answer, Daemons};
use super::{Outcome, fitness, runtime, style};
use crate::control::kubernetes::{Access, Asking};

mod nodes;
mod tables;

/// Ask the daemons of a whole cluster; as `kubectl canopy` where this program is on the PATH as kubectl-canopy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy kubectl status
  ln -s \"$(command -v canopy)\" /usr/local/bin/kubectl-canopy    and from then on:
  kubectl canopy status                 each node's configuration, and what is rejected
  kubectl canopy tree -n shop frontend  one pod, asked of its node's daemon alone
  kubectl canopy top --once             what each tenant uses on each node
  kubectl canopy explain --from shop/frontend --to cart.shop:80
  kubectl canopy check --pre            is this cluster fit, before anything is installed

Exit codes: 0 done, 1 a finding, or a node that does not answer, 2 the command line was wrong; of check, 2 it could not be found out.")]
pub(super) struct Kubectl {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Each node's configuration: version, objects, findings, control plane.
    Status(All),
    /// Who is carried on each node; or one pod.
    Tree(Tree),
    /// What tenants use on each node: again every two seconds, or once.
    Top(Top),
    /// Which objects decide a request, asked of the daemon of its pod's node.
    Explain(Explain),
    /// Whether the cluster is fit (--pre), or whether what is installed works.
    Check(Check),
}

/// Which cluster, and where in it.
#[derive(Debug, Clone, Args)]
pub(super) struct Reach {
    /// The kubeconfig; several, separated by colons, are merged.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<OsString>,
    /// The context in it; without this, its current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace that Canopy is installed in.
    #[arg(long, value_name = "NAMESPACE", default_value = "canopy-system", env = "CANOPY_NAMESPACE")]
    canopy_namespace: String,
}

impl Reach {
    /// As kubectl does, files of a list that are not there are passed over.
    fn access(&self) -> Access {
        let given: Vec<PathBuf> = self.kubeconfig.iter().flat_map(env::split_paths).collect();
        let is_list = given.len() > 1;
        let kept = |path: &PathBuf| !path.as_os_str().is_empty() && (!is_list || path.exists());
        Access { kubeconfig: given.into_iter().filter(kept).collect(), context: self.context.clone() }
    }

    pub(super) async fn ask(&self) -> Result<(Asking, String), crate::control::kubernetes::AskError> {
        Asking::of(&self.access()).await
    }

    pub(super) fn canopy_namespace(&self) -> &str {
        &self.canopy_namespace
    }
}

#[derive(Debug, Args)]
struct All {
    #[command(flatten)]
    reach: Reach,
    /// Print JSON instead: one entry for each node.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Tree {
    #[command(flatten)]
    all: All,
    /// The pod's namespace; without this, the context's.
    #[arg(short, long, value_name = "NAMESPACE", requires = "pod")]
    namespace: Option<String>,
    /// Only this pod.
    pod: Option<String>,
}

#[derive(Debug, Args)]
struct Top {
    #[command(flatten)]
    all: All,
    /// Print one table and end.
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Args)]
struct Explain {
    #[command(flatten)]
    reach: Reach,
    /// The pod that calls.
    #[arg(long, value_name = "NS/POD")]
    from: String,
    /// Where to.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// Print JSON instead.
    #[arg(long)]
    json: bool,
    /// Further options of `canopy explain`, after `--`.
    #[arg(last = true, value_name = "OPTION")]
    more: Vec<String>,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    all: All,
    /// Before anything is installed.
    #[arg(long)]
    pre: bool,
}

/// Whether this program was called by kubectl, which calls its plugins by their file's name.
pub(super) fn is_called(arguments: &[OsString]) -> bool {
    let program = arguments.first().map(Path::new).and_then(Path::file_name);
    program.is_some_and(|name| name == "kubectl-canopy")
}

impl Kubectl {
    pub(super) fn run(self) -> Outcome {
        match self.verb {
            Verb::Status(verb) => verb.status(),
            Verb::Tree(verb) => verb.run(),
            Verb::Top(verb) => verb.run(),
            Verb::Explain(verb) => verb.run(),
            Verb::Check(Check { all, pre: true }) => fitness::before(&all.reach, all.json),
            Verb::Check(Check { all, pre: false }) => fitness::after(&all.reach, all.json),
        }
    }
}

/// What all daemons answer to this command.
pub(super) async fn every(
    reach: &Reach,
    asking: &Asking,
    command: &[&str],
) -> Result<Vec<Answer>, crate::control::kubernetes::AskError> {
    Ok(Daemons::find(asking, reach.canopy_namespace()).await?.ask(asking, command).await)
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn code(is_fine: bool) -> ExitCode {
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Answers as JSON: what was said, or why nothing was.
fn as_json(answers: &[Answer]) -> Result<String, serde_json::Error> {
    let entry = |answer: &Answer| match answer.json() {
        Ok(said) => json!({ "node": answer.node, "pod": answer.pod, "answer": said }),
        Err(error) => json!({ "node": answer.node, "pod": answer.pod, "error": error }),
    };
    style::json(&answers.iter().map(entry).collect::<Vec<Value>>())
}

impl All {
    fn status(self) -> Outcome {
        let answers = runtime()?.block_on(async {
            let (asking, _) = self.reach.ask().await?;
            every(&self.reach, &asking, &["status", "--json"]).await
        })?;
        let (text, is_fine) = tables::status(&answers);
        print(&if self.json { as_json(&answers)? } else { text })?;
        Ok(code(is_fine))
    }
}

impl Tree {
    fn run(self) -> Outcome {
        let Self { all, namespace, pod } = self;
        let form: &[&str] = if all.json || pod.is_some() { &["tree", "--json"] } else { &["tree"] };
        let (answers, pod) = runtime()?.block_on(async {
            let (asking, own) = all.reach.ask().await?;
            let mut daemons = Daemons::find(&asking, all.reach.canopy_namespace()).await?;
            let pod = pod.map(|pod| (namespace.unwrap_or(own), pod));
            if let Some((namespace, name)) = &pod {
                daemons.keep_node_of(&asking, namespace, name).await?;
            }
            Ok::<_, Box<dyn std::error::Error>>((daemons.ask(&asking, form).await, pod))
        })?;
        if all.json {
            print(&as_json(&answers)?)?;
            return Ok(code(answers.iter().all(|answer| answer.json().is_ok())));
        }
        let (text, is_fine) = match &pod {
            Some((namespace, name)) => tables::pod(&answers, namespace, name),
            None => tables::blocks(&answers),
        };
        print(&text)?;
        Ok(code(is_fine))
    }
}

impl Top {
    fn run(self) -> Outcome {
        runtime()?.block_on(async {
            let (asking, _) = self.all.reach.ask().await?;
            loop {
                let answers = every(&self.all.reach, &asking, &["top", "--json", "--once"]).await?;
                let (text, is_fine) = tables::top(&answers);
                let text = if self.all.json { as_json(&answers)? } else { text };
                if self.once {
                    print(&text)?;
                    return Ok(code(is_fine));
                }
                // Home and clear to the end of the screen.
                print(&if self.all.json { text } else { format!("\x1b[H\x1b[2J{text}") })?;
                tokio::time::sleep(PAUSE).await;
            }
        })
    }
}

impl Explain {
    fn run(self) -> Outcome {
        let Some((namespace, name)) = self.from.split_once('/') else {
            return Err(format!("--from {}: say NAMESPACE/POD", self.from).into());
        };
        let mut command = vec!["explain", "--from", self.from.as_str(), "--to", self.to.as_str()];
        command.extend(self.json.then_some("--json"));
        command.extend(self.more.iter().map(String::as_str));
        let answers = runtime()?.block_on(async {
            let (asking, _) = self.reach.ask().await?;
            let mut daemons = Daemons::find(&asking, self.reach.canopy_namespace()).await?;
            daemons.keep_node_of(&asking, namespace, name).await?;
            Ok::<_, Box<dyn std::error::Error>>(daemons.ask(&asking, &command).await)
        })?;
        let Some(answer) = answers.first() else { return Err("no daemon answers".into()) };
        let said = answer.said.as_ref().map_err(|error| format!("node {}: {error}", answer.node))?;
        for line in said.out.lines() {
            print(&(visible(line) + "\n"))?;
        }
        if !said.complaint.is_empty() {
            super::complain(said.complaint.trim());
        }
        Ok(code(said.is_success))
    }
}

/// Between two tables of `top`; each takes another second, which its rates are over.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kubectls_plugin_by_the_name_of_its_file_alone() {
        let called = |program: &str| is_called(&[OsString::from(program), "status".into()]);
        assert!(called("/usr/local/bin/kubectl-canopy"));
        assert!(called("kubectl-canopy"));
        assert!(!called("/kubectl-canopy/canopy"));
        assert!(!called("canopy"));
        assert!(!is_called(&[]));
    }

    #[test]
    fn of_several_kubeconfigs_those_that_are_not_there_are_passed_over_and_a_single_one_never_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let access = |list: String| {
            let reach = Reach {
                kubeconfig: Some(list.into()),
                context: None,
                canopy_namespace: "canopy-system".to_owned(),
            };
            reach.access().kubeconfig
        };
        let there = file.path().display();
        assert_eq!(access(format!("/not/there:{there}")), [file.path()]);
        assert_eq!(access("/not/there".to_owned()), [Path::new("/not/there")]);
    }
}
