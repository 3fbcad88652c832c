//! The daemons of a cluster: which pods they are, and what each of them answers. Bounded in number at once and in time.
//!
//! A node that does not answer is an answer too: it must never keep the others from being shown.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::control::kubernetes::{AskError, Asking, Said};

/// A node's daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Daemon {
    node: String,
    pod: String,
    /// Why it cannot be asked.
    away: Option<String>,
}

/// The daemons of a cluster, by node.
#[derive(Debug)]
pub(super) struct Daemons {
    namespace: String,
    all: Vec<Daemon>,
}

/// What a node's daemon said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) node: String,
    pub(crate) pod: String,
    pub(crate) said: Result<Said, String>,
}

impl Answer {
    /// What it said, as JSON. An exit code of 1 with an answer is one: that there are findings.
    pub(crate) fn json(&self) -> Result<Value, String> {
        let said = self.said.as_ref().map_err(Clone::clone)?;
        serde_json::from_str(&said.out).map_err(|_| match said.complaint.trim() {
            "" => "it answers with something that is no JSON".to_owned(),
            complaint => complaint.to_owned(),
        })
    }
}

impl Daemons {
    /// All of them.
    pub(super) async fn find(asking: &Asking, namespace: &str) -> Result<Self, AskError> {
        let pods = asking.list(&format!("/api/v1/namespaces/{namespace}/pods"), Some(LABEL)).await?;
        let all = daemons(&pods);
        if all.is_empty() {
            let why = format!(
                "no pod of the daemon ({LABEL}) in the namespace {namespace}: is Canopy installed elsewhere (--canopy-namespace)?"
            );
            return Err(AskError::Failed(why));
        }
        Ok(Self { namespace: namespace.to_owned(), all })
    }

    /// Leaves that of the node which a pod is on.
    pub(super) async fn keep_node_of(
        &mut self,
        asking: &Asking,
        namespace: &str,
        name: &str,
    ) -> Result<(), String> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let pod = asking.get(&path).await.map_err(|error| format!("pod {namespace}/{name}: {error}"))?;
        let node = pod["spec"]["nodeName"].as_str();
        let node = node.ok_or_else(|| format!("pod {namespace}/{name} is on no node yet"))?;
        self.all.retain(|daemon| daemon.node == node);
        if self.all.is_empty() {
            return Err(format!("no daemon runs on the node {node}, which {namespace}/{name} is on"));
        }
        Ok(())
    }

    /// What they answer to `canopy COMMAND`, in the order of nodes.
    pub(super) async fn ask(&self, asking: &Asking, command: &[&str]) -> Vec<Answer> {
        let whole = std::iter::once(PROGRAM).chain(command.iter().copied());
        let whole: Vec<String> = whole.map(str::to_owned).collect();
        let asked = self.all.iter().map(|daemon| {
            let whole = &whole;
            async move {
                let said = match &daemon.away {
                    Some(why) => Err(why.clone()),
                    None => asking
                        .run((&self.namespace, &daemon.pod, CONTAINER), whole, LONGEST)
                        .await
                        .map_err(|error| error.to_string()),
                };
                Answer { node: daemon.node.clone(), pod: daemon.pod.clone(), said }
            }
        });
        stream::iter(asked).buffered(AT_ONCE).collect().await
    }
}

/// Of a node with several, as in a rollout, the one that runs.
fn daemons(pods: &[Value]) -> Vec<Daemon> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |pod: &Value| {
        let phase = text(&pod["status"]["phase"]);
        let is_ending = pod["metadata"]["deletionTimestamp"].is_string();
        let away = match phase.as_str() {
            _ if is_ending => Some("its pod is ending".to_owned()),
            "Running" => None,
            _ => Some(format!("its pod is {phase}")),
        };
        Daemon { node: text(&pod["spec"]["nodeName"]), pod: text(&pod["metadata"]["name"]), away }
    };
    let mut all: Vec<Daemon> = pods.iter().map(one).filter(|daemon| !daemon.node.is_empty()).collect();
    all.sort_by(|a, b| (&a.node, a.away.is_some(), &a.pod).cmp(&(&b.node, b.away.is_some(), &b.pod)));
    all.dedup_by(|later, former| later.node == former.node);
    all
}

const LABEL: &str = "app.kubernetes.io/name=canopy-node";
const CONTAINER: &str = "node";
const PROGRAM: &str = "/usr/bin/canopy";
const AT_ONCE: usize = 8;
const LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str, phase: &str, ending: bool) -> Value {
        let ends = if ending { json!("2026-01-01T00:00:00Z") } else { Value::Null };
        json!({
            "metadata": { "name": name, "deletionTimestamp": ends },
            "spec": { "nodeName": node }, "status": { "phase": phase },
        })
    }

    #[test]
    fn each_node_has_one_daemon_and_one_that_ends_only_if_there_is_no_other() {
        let pods = [
            pod("c", "two", "Pending", false),
            pod("a", "one", "Running", true),
            pod("b", "one", "Running", false),
        ];
        let shown: Vec<_> =
            daemons(&pods).into_iter().map(|daemon| (daemon.node, daemon.pod, daemon.away)).collect();
        let row = |node: &str, pod: &str, away: Option<&str>| {
            (node.to_owned(), pod.to_owned(), away.map(str::to_owned))
        };
        assert_eq!(shown, [row("one", "b", None), row("two", "c", Some("its pod is Pending"))]);
    }

    #[test]
    fn an_answer_with_findings_is_an_answer_and_a_complaint_is_not() {
        let answer = |out: &str, complaint: &str| Answer {
            node: "one".to_owned(),
            pod: "a".to_owned(),
            said: Ok(Said { out: out.to_owned(), complaint: complaint.to_owned(), is_success: false }),
        };
        assert_eq!(answer("{\"a\":1}", "").json(), Ok(json!({ "a": 1 })));
        assert_eq!(answer("", "canopy: no daemon\n").json(), Err("canopy: no daemon".to_owned()));
    }
}
