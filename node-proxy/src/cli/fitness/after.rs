//! From what an installed Canopy says, and the cluster says of it, to whether it works.

use std::collections::{BTreeMap, BTreeSet};

use config::opt_in::{self, Asked, Decision, Kept, Runtime};
use serde_json::Value;

use super::{Finding, facts::Fact};

/// What each node's daemon says of its forest, or why it says nothing.
type Trees = [(String, Result<Value, String>)];

/// Whether each role is there, and ready everywhere.
pub(super) fn roles(roles: &[(&'static str, Fact<Value>)]) -> Vec<Finding> {
    let one = |(name, fact): &(&'static str, Fact<Value>)| {
        let object = match fact {
            Ok(Some(object)) => object,
            Ok(None) => {
                return Finding::fail(
                    name,
                    "not there",
                    "install it: kubectl apply -k deploy/daemonset/base",
                );
            }
            Err(why) => return Finding::unknown(name, why.clone()),
        };
        let status = &object["status"];
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let (ready, wanted) = if name.starts_with("DaemonSet") {
            (number(&status["numberReady"]), number(&status["desiredNumberScheduled"]))
        } else if name.starts_with("Deployment") {
            (number(&status["readyReplicas"]), number(&object["spec"]["replicas"]))
        } else {
            return Finding::ok(name, "there");
        };
        let found = format!("{ready} of {wanted} ready");
        if ready < wanted || wanted == 0 {
            return Finding::fail(name, found, "look at its pods: kubectl describe, kubectl logs");
        }
        Finding::ok(name, found)
    };
    roles.iter().map(one).collect()
}

/// Whether each daemon answers, of which version it is, and how its certificates are.
pub(super) fn daemons(trees: &Trees, own: &str, now: u64) -> Vec<Finding> {
    let one = |(node, said): &(String, Result<Value, String>)| {
        let what = format!("daemon of {node}");
        let said = match said {
            Ok(said) => said,
            Err(why) => {
                return Finding::fail(
                    &what,
                    format!("does not answer: {why}"),
                    "look at its log: kubectl logs",
                );
            }
        };
        let version = said["canopy_version"].as_str().unwrap_or_default();
        let certificates = pods(said).filter(|tree| !tree["certificate"].is_null());
        let bad: Vec<String> = certificates.filter_map(|tree| ill(tree, now)).collect();
        if !bad.is_empty() {
            return Finding::fail(
                &what,
                bad.join("; "),
                "ask the authority that they are from: canopy check --ca",
            );
        }
        let soon: Vec<String> = pods(said).filter_map(|tree| ends_soon(tree, now)).collect();
        if !soon.is_empty() {
            return Finding::warn(
                &what,
                soon.join("; "),
                "a certificate is renewed at half of its life: canopy tree says why it was not",
            );
        }
        if version != own {
            return Finding::warn(
                &what,
                format!("is {version}, and this program {own}"),
                "finish the upgrade: one minor apart is supported",
            );
        }
        Finding::ok(&what, format!("answers, {version}, {} pods, certificates valid", pods(said).count()))
    };
    trees.iter().map(one).collect()
}

fn pods(said: &Value) -> impl Iterator<Item = &Value> {
    let cells = said["cells"].as_array().into_iter().flatten();
    cells.flat_map(|cell| cell["trees"].as_array().into_iter().flatten())
}

/// What is wrong with a pod's certificate.
fn ill(tree: &Value, now: u64) -> Option<String> {
    let pod = name_of(&tree["pod"]);
    if tree["certificate"]["not_after"].as_u64().is_some_and(|end| end <= now) {
        return Some(format!("{pod}: its certificate has expired"));
    }
    tree["certificate"]["problem"].as_str().map(|problem| format!("{pod}: {problem}"))
}

/// Which certificate is in the last quarter of its life, in which none is that could be renewed.
fn ends_soon(tree: &Value, now: u64) -> Option<String> {
    let at = |name: &str| tree["certificate"][name].as_u64();
    let (begin, end) = (at("not_before")?, at("not_after")?);
    let left = end.saturating_sub(now);
    (left < end.saturating_sub(begin) / 4)
        .then(|| format!("{}: its certificate ends in {} min", name_of(&tree["pod"]), left / 60))
}

fn name_of(object: &Value) -> String {
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

/// Running pods that the daemon is to carry, by labels, by the Tenants that keep theirs to the mesh, and by what each is.
pub(super) fn opted_in(namespaces: &[Value], tenants: &[Value], pods: Vec<Value>) -> Vec<Value> {
    fn mode(object: &Value) -> Option<&str> {
        object["metadata"]["labels"][opt_in::MODE].as_str()
    }
    fn named(namespace: &Value) -> Option<(&str, &str)> {
        Some((namespace["metadata"]["name"].as_str()?, mode(namespace)?))
    }
    let modes: BTreeMap<&str, &str> = namespaces.iter().filter_map(named).collect();
    let keepers = tenants.iter().filter(|tenant| tenant["spec"]["egress"] == "mesh");
    let kept: BTreeSet<&str> = keepers
        .flat_map(|tenant| tenant["spec"]["namespaces"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    let is_in = |pod: &Value| {
        let namespace = pod["metadata"]["namespace"].as_str();
        let is_kept = namespace.is_some_and(|name| kept.contains(name));
        let spec = &pod["spec"];
        let runtime = Runtime {
            class: spec["runtimeClassName"].as_str(),
            overhead: !spec["overhead"].is_null(),
            ..Runtime::default()
        };
        let asked = Asked {
            namespace: namespace.and_then(|name| modes.get(name).copied()),
            pod: mode(pod),
            sidecar: has_sidecar(spec),
            host_network: spec["hostNetwork"] == true,
            runtime,
            kept: if is_kept { Kept::Yes } else { Kept::No },
            ..Asked::default()
        };
        pod["status"]["phase"] == "Running" && opt_in::decide(&asked) == Decision::Node
    };
    pods.into_iter().filter(is_in).collect()
}

/// Whether it has the container of a sidecar.
fn has_sidecar(spec: &Value) -> bool {
    let mut init = spec["initContainers"].as_array().into_iter().flatten();
    init.any(|container| opt_in::is_sidecar(container["name"].as_str(), container["restartPolicy"].as_str()))
}

/// Whether all that is opted in is captured.
pub(super) fn captured(opted: &Fact<Vec<Value>>, trees: &Trees) -> Finding {
    const WHAT: &str = "opted-in pods";
    let opted = match opted {
        Ok(opted) => opted.as_deref().unwrap_or_default(),
        Err(why) => return Finding::unknown(WHAT, why.clone()),
    };
    let said = || trees.iter().filter_map(|(_, said)| said.as_ref().ok());
    let enrolled: BTreeSet<String> = said().flat_map(pods).map(|tree| name_of(&tree["pod"])).collect();
    let waiting = || said().flat_map(|said| said["waiting"].as_array().into_iter().flatten());
    let why = |name: &str| {
        let problem = waiting().find(|it| name_of(&it["pod"]) == name);
        problem.and_then(|it| it["problem"].as_str()).unwrap_or("its node's daemon does not know it")
    };
    let silent: BTreeSet<&str> =
        trees.iter().filter(|(_, said)| said.is_err()).map(|(node, _)| node.as_str()).collect();
    let is_asked = |pod: &&Value| !pod["spec"]["nodeName"].as_str().is_some_and(|node| silent.contains(node));
    let (asked, unknown): (Vec<&Value>, Vec<&Value>) = opted.iter().partition(is_asked);
    let names = asked.iter().map(|pod| name_of(&pod["metadata"]));
    let missing: Vec<String> = names.filter(|name| !enrolled.contains(name)).collect();
    if missing.is_empty() && unknown.is_empty() {
        return Finding::ok(WHAT, format!("{} of {} captured", opted.len(), opted.len()));
    }
    if missing.is_empty() {
        let (all, unknown) = (asked.len(), unknown.len());
        return Finding::unknown(
            WHAT,
            format!("{all} captured; of {unknown} it is not known, as their nodes' daemons do not answer"),
        );
    }
    let list: Vec<String> = missing.iter().map(|name| format!("{name} ({})", why(name))).collect();
    Finding::fail(
        WHAT,
        format!("not captured: {}", list.join(", ")),
        "docs/operations/troubleshooting.md has the causes",
    )
}

/// Kind, name and reason of an object that is not accepted: by its own conditions, or by those of a parent.
pub(super) fn refusal(object: &Value) -> Option<String> {
    let own = object["status"]["conditions"].as_array().into_iter().flatten();
    let parents = object["status"]["parents"].as_array().into_iter().flatten();
    // Gateways' controllers write parents of the same route; theirs is theirs to tell.
    let ours = parents.filter(|parent| {
        parent["controllerName"].as_str().is_some_and(|name| name.starts_with("canopy.mesh/"))
    });
    let all = own.chain(ours.flat_map(|parent| parent["conditions"].as_array().into_iter().flatten()));
    let refused = all.into_iter().find(|it| it["type"] == "Accepted" && it["status"] == "False")?;
    let reason = refused["reason"].as_str().unwrap_or_default();
    Some(format!("{} ({reason})", name_of(&object["metadata"]).trim_start_matches('/')))
}

pub(super) fn accepted(refused: &Fact<Vec<String>>) -> Finding {
    const WHAT: &str = "objects";
    match refused {
        Ok(refused) => match refused.as_deref().unwrap_or_default() {
            [] => Finding::ok(WHAT, "none says Accepted=False"),
            some => Finding::warn(
                WHAT,
                format!("Accepted=False: {}", some.join(", ")),
                "its status says why: kubectl describe",
            ),
        },
        Err(why) => Finding::unknown(WHAT, why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use config::opt_in::MODE;
    use serde_json::json;

    use super::{super::Grade, *};

    fn pod(namespace: &str, name: &str, mode: Option<&str>, host: bool) -> Value {
        json!({
            "metadata": { "namespace": namespace, "name": name, "labels": { MODE: mode } },
            "spec": { "hostNetwork": host }, "status": { "phase": "Running" },
        })
    }

    fn tree(end: u64) -> Value {
        let pod = json!({ "namespace": "shop", "name": "cart" });
        let waits =
            json!({ "pod": { "namespace": "shop", "name": "late" }, "problem": "no network namespace" });
        json!({
            "canopy_version": "0.1.0", "waiting": [waits],
            "cells": [{ "trees": [{ "pod": pod, "certificate": { "not_after": end, "problem": null } }] }],
        })
    }

    #[test]
    fn who_is_opted_in_is_what_the_daemon_decides_by_labels_and_by_what_a_pod_is() {
        let namespaces = [json!({ "metadata": { "name": "shop", "labels": { MODE: "node" } } })];
        let mut sandboxed = pod("shop", "h", None, false);
        sandboxed["spec"]["runtimeClassName"] = "gvisor".into();
        let mut carried = pod("shop", "f", Some("sidecar"), false);
        carried["spec"]["initContainers"] = json!([{ "name": "canopy-sidecar", "restartPolicy": "Always" }]);
        let pods = vec![
            pod("shop", "a", None, false),
            pod("shop", "b", Some("off"), false),
            pod("other", "c", Some("node"), false),
            pod("other", "d", None, false),
            pod("shop", "e", None, true),
            carried,
            pod("shop", "i", Some("sidecar"), false),
            pod("shop", "g", Some("nod"), false),
            sandboxed,
        ];
        let names: Vec<String> =
            opted_in(&namespaces, &[], pods).iter().map(|it| name_of(&it["metadata"])).collect();
        let node = ["shop/a", "other/c", "shop/i", "shop/g"];
        assert_eq!(
            names, node,
            "what is no word leaves it to the namespace, and who has no sidecar is the node's"
        );
    }

    #[test]
    fn a_tenant_that_keeps_its_pods_to_the_mesh_opts_them_in_whatever_their_labels_say() {
        let tenant = |egress: &str| json!({ "spec": { "namespaces": ["bank"], "egress": egress } });
        let pods = || vec![pod("bank", "till", Some("off"), false), pod("shop", "cart", None, false)];
        let names = |tenants: &[Value]| -> Vec<String> {
            opted_in(&[], tenants, pods()).iter().map(|it| name_of(&it["metadata"])).collect()
        };
        assert_eq!(names(&[tenant("mesh")]), ["bank/till"]);
        assert!(names(&[tenant("any")]).is_empty());
    }

    #[test]
    fn of_the_pods_of_a_node_that_does_not_answer_it_is_not_known_whether_they_are_captured() {
        let on = |node: &str, name: &str| {
            let mut pod = pod("shop", name, None, false);
            pod["spec"]["nodeName"] = node.into();
            pod
        };
        let trees = [("one".to_owned(), Ok(tree(10))), ("two".to_owned(), Err("away".to_owned()))];
        let found = |pods: Vec<Value>| captured(&Ok(Some(pods)), &trees);
        let unknown = found(vec![on("one", "cart"), on("two", "web")]);
        assert_eq!(unknown.grade, Grade::Unknown);
        assert!(unknown.found.starts_with("1 captured; of 1 it is not known"), "{unknown:?}");
        let failed = found(vec![on("one", "late"), on("two", "web")]);
        assert_eq!((failed.grade, failed.found.contains("web")), (Grade::Fail, false));
    }

    #[test]
    fn a_certificate_that_was_not_renewed_in_time_is_told_before_it_ends() {
        let certificate = json!({ "not_before": 0, "not_after": 4000, "problem": null });
        let pod = json!({ "namespace": "shop", "name": "cart" });
        let said = json!({ "canopy_version": "0.1.0", "cells": [{ "trees": [{ "pod": pod, "certificate": certificate }] }] });
        let at = |now: u64| daemons(&[("one".to_owned(), Ok(said.clone()))], "0.1.0", now).remove(0);
        assert_eq!(at(3000).grade, Grade::Ok);
        assert_eq!((at(3001).grade, at(4000).grade), (Grade::Warn, Grade::Fail));
        assert_eq!(at(3001).found, "shop/cart: its certificate ends in 16 min");
    }

    #[test]
    fn who_is_opted_in_and_not_captured_is_named_with_the_reason() {
        let trees = [("one".to_owned(), Ok(tree(10)))];
        let found = |names: &[&str]| {
            let pods = names.iter().map(|name| pod("shop", name, None, false)).collect();
            captured(&Ok(Some(pods)), &trees)
        };
        assert_eq!(found(&["cart"]).grade, Grade::Ok);
        assert_eq!(found(&["cart", "late"]).found, "not captured: shop/late (no network namespace)");
        assert!(found(&["new"]).found.contains("does not know it"));
    }

    #[test]
    fn a_daemon_is_fine_that_answers_in_this_version_with_certificates_that_are_valid() {
        let grade = |said: Result<Value, String>, own: &str, now: u64| {
            daemons(&[("one".to_owned(), said)], own, now)[0].grade
        };
        assert_eq!(grade(Ok(tree(10)), "0.1.0", 9), Grade::Ok);
        assert_eq!(grade(Ok(tree(10)), "0.2.0", 9), Grade::Warn);
        assert_eq!(grade(Ok(tree(10)), "0.1.0", 10), Grade::Fail);
        assert_eq!(grade(Err("away".to_owned()), "0.1.0", 9), Grade::Fail);
    }

    #[test]
    fn a_role_is_ready_when_all_of_its_pods_are() {
        let set = |ready: u64| json!({ "status": { "numberReady": ready, "desiredNumberScheduled": 2 } });
        let grade = |fact: Fact<Value>| roles(&[("DaemonSet canopy-node", fact)])[0].grade;
        assert_eq!((grade(Ok(Some(set(2)))), grade(Ok(Some(set(1))))), (Grade::Ok, Grade::Fail));
        assert_eq!((grade(Ok(None)), grade(Err(String::new()))), (Grade::Fail, Grade::Unknown));
    }

    #[test]
    fn an_object_that_is_not_accepted_by_us_is_told_with_its_reason() {
        let route = |controller: &str| {
            json!({
                "metadata": { "namespace": "shop", "name": "cart" },
                "status": { "parents": [{ "controllerName": controller,
                    "conditions": [{ "type": "Accepted", "status": "False", "reason": "NoMatchingParent" }] }] },
            })
        };
        assert_eq!(
            refusal(&route("canopy.mesh/controller")).as_deref(),
            Some("shop/cart (NoMatchingParent)")
        );
        assert_eq!(refusal(&route("example.org/gateway")), None);
    }
}
