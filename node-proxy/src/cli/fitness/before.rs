//! From facts of a cluster to whether Canopy can be installed on it.

use serde_json::Value;

use super::{
    Finding,
    facts::{Before, Fact},
};

pub(super) fn judge(facts: &Before) -> Vec<Finding> {
    let mut found = vec![version(&facts.version), permissions(&facts.forbidden), routes(&facts.routes)];
    found.extend(meshes(&facts.daemon_sets));
    found.extend(cilium(&facts.cilium));
    found.push(namespace(&facts.namespace));
    match &facts.nodes {
        Ok(Some(nodes)) if !nodes.is_empty() => found.extend(nodes.iter().map(node)),
        Ok(_) => found.push(Finding::fail("nodes", "the cluster has none", "add a node that runs Linux")),
        Err(why) => found.push(Finding::unknown("nodes", why.clone())),
    }
    found
}

fn version(fact: &Fact<Value>) -> Finding {
    const WHAT: &str = "API server";
    let said = match fact {
        Ok(Some(said)) => said,
        Ok(None) => return Finding::unknown(WHAT, "it does not say its version"),
        Err(why) => return Finding::unknown(WHAT, why.clone()),
    };
    let number = |name: &str| leading(said[name].as_str().unwrap_or_default());
    let text = said["gitVersion"].as_str().unwrap_or_default().to_owned();
    match (number("major"), number("minor")) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => Finding::ok(WHAT, text),
        (Some(_), Some(_)) => Finding::fail(WHAT, text, "update to Kubernetes 1.30 or newer"),
        _ => Finding::unknown(WHAT, "its version cannot be read"),
    }
}

/// The number that a text begins with: clouds say `30+`.
fn leading(text: &str) -> Option<u32> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

fn permissions(fact: &Fact<Vec<String>>) -> Finding {
    const WHAT: &str = "your permissions";
    match fact {
        Ok(Some(none)) if none.is_empty() => Finding::ok(WHAT, "you may create all that deploy/ has"),
        Ok(Some(some)) => Finding::fail(
            WHAT,
            format!("you may not create {}", some.join(", ")),
            "install as a cluster administrator (cluster-admin)",
        ),
        Ok(None) => Finding::unknown(WHAT, "the cluster does not answer to access reviews"),
        Err(why) => Finding::unknown(WHAT, why.clone()),
    }
}

fn routes(fact: &Fact<Value>) -> Finding {
    const WHAT: &str = "Gateway API";
    match fact {
        Ok(Some(definition)) => {
            let version =
                definition["metadata"]["annotations"]["gateway.networking.k8s.io/bundle-version"].as_str();
            Finding::ok(WHAT, version.unwrap_or("installed, of a version that it does not say"))
        }
        Ok(None) => Finding::warn(
            WHAT,
            "not installed: no HTTPRoute, no GRPCRoute",
            "install its standard definitions, if you use routes",
        ),
        Err(why) => Finding::unknown(WHAT, why.clone()),
    }
}

fn meshes(fact: &Fact<Vec<String>>) -> Vec<Finding> {
    const WHAT: &str = "other meshes";
    const KNOWN: [(&str, &str); 4] = [
        ("ztunnel", "Istio ambient"),
        ("istio-cni-node", "Istio's CNI plugin"),
        ("linkerd-cni", "Linkerd's CNI plugin"),
        ("cilium-envoy", "Cilium's Envoy"),
    ];
    let sets = match fact {
        Ok(sets) => sets.as_deref().unwrap_or_default(),
        Err(why) => return vec![Finding::unknown(WHAT, why.clone())],
    };
    let there = KNOWN.iter().filter(|(name, _)| sets.iter().any(|set| set == name));
    let mut found: Vec<Finding> = there
        .map(|(name, of)| {
            let remedy = "a namespace is in one mesh at a time: take its labels away before you opt it in (docs/operations/moving.md)";
            Finding::warn(WHAT, format!("{of} (DaemonSet {name})"), remedy)
        })
        .collect();
    if found.is_empty() {
        found.push(Finding::ok(WHAT, "none found"));
    }
    found
}

fn cilium(fact: &Fact<Value>) -> Vec<Finding> {
    const WHAT: &str = "Cilium";
    let data = match fact {
        Ok(Some(data)) => data,
        Ok(None) => return Vec::new(),
        Err(why) => return vec![Finding::unknown(WHAT, why.clone())],
    };
    let is = |key: &str| data[key] == "true";
    let mut found = Vec::new();
    let replaces = is("kube-proxy-replacement") || is("bpf-lb-sock");
    if replaces && !is("bpf-lb-sock-hostns-only") {
        let said =
            "chooses the Service's endpoint when a pod connects, before Canopy sees which Service it is";
        found.push(Finding::warn(WHAT, said, "set socketLB.hostNamespaceOnly=true"));
    }
    // Its default is true.
    if data["cni-exclusive"] != "false" {
        let said = "moves other plugins' configuration out of the CNI directory (cni-exclusive)";
        found.push(Finding::warn(WHAT, said, "set cni.exclusive=false, or install the overlay no-cni"));
    }
    if found.is_empty() {
        found.push(Finding::ok(WHAT, "set so that Canopy sees Services and keeps its plugin"));
    }
    found
}

fn namespace(fact: &Fact<Value>) -> Finding {
    const WHAT: &str = "pod security";
    match fact {
        Ok(None) => {
            Finding::ok(WHAT, "the namespace is not there yet; deploy/ makes it with the level privileged")
        }
        Ok(Some(namespace)) => {
            match namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"].as_str() {
                Some("privileged") => Finding::ok(WHAT, "the namespace's level is privileged"),
                None => Finding::warn(
                    WHAT,
                    "the namespace names no level; the cluster's default may refuse the daemon",
                    "label it pod-security.kubernetes.io/enforce=privileged",
                ),
                Some(level) => Finding::fail(
                    WHAT,
                    format!(
                        "the namespace's level is {level}, which refuses the daemon's hostNetwork and hostPath"
                    ),
                    "label it pod-security.kubernetes.io/enforce=privileged",
                ),
            }
        }
        Err(why) => Finding::unknown(WHAT, why.clone()),
    }
}

/// A node: the worst of what there is to say of it.
fn node(node: &Value) -> Finding {
    let what = format!("node {}", node["metadata"]["name"].as_str().unwrap_or_default());
    let info = &node["status"]["nodeInfo"];
    let text = |name: &str| info[name].as_str().unwrap_or_default();
    let (kernel, runtime, machine) =
        (text("kernelVersion"), text("containerRuntimeVersion"), text("architecture"));
    let found = format!("{}, Linux {kernel}, {runtime}, {machine}", text("osImage"));
    if text("operatingSystem") != "linux" {
        return Finding::warn(&what, found, "Canopy runs on Linux alone: this node's pods are not carried");
    }
    let mut parts = kernel.split(['.', '-']);
    let mut next = || parts.next().and_then(leading);
    let (Some(major), Some(minor)) = (next(), next()) else {
        return Finding::unknown(&what, format!("{found}: its kernel's version cannot be read"));
    };
    if !matches!(machine, "amd64" | "arm64") {
        return Finding::fail(
            &what,
            found,
            "there is no image for this architecture: keep the DaemonSet off it",
        );
    }
    if (major, minor) < OLDEST_KERNEL {
        return Finding::fail(&what, found, "steering by eBPF needs Linux 5.15: update the node");
    }
    if !["containerd://", "cri-o://"].iter().any(|known| runtime.starts_with(known)) {
        return Finding::warn(
            &what,
            found,
            "only containerd and CRI-O are known to keep network namespaces in /run/netns",
        );
    }
    if (major, minor) < FENCE_KERNEL {
        return Finding::warn(&what, found, "the fence needs Linux 6.6: pods of this node run without it");
    }
    if machine == "arm64" {
        return Finding::warn(&what, found, "arm64 is built and was never tried: try it on one node first");
    }
    Finding::ok(&what, found)
}

/// ValidatingAdmissionPolicy is of 1.30.
const OLDEST: (u32, u32) = (1, 30);
const OLDEST_KERNEL: (u32, u32) = (5, 15);
const FENCE_KERNEL: (u32, u32) = (6, 6);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::Grade, *};

    #[test]
    fn a_node_is_as_fit_as_its_kernel_its_runtime_and_its_architecture() {
        let grade = |kernel: &str, runtime: &str, machine: &str| {
            let info = json!({
                "operatingSystem": "linux", "kernelVersion": kernel,
                "containerRuntimeVersion": runtime, "architecture": machine,
            });
            node(&json!({ "metadata": { "name": "a" }, "status": { "nodeInfo": info } })).grade
        };
        assert_eq!(grade("6.6.1-x", "containerd://1.7", "amd64"), Grade::Ok);
        assert_eq!(grade("6.12.0+deb", "cri-o://1.30", "amd64"), Grade::Ok);
        assert_eq!(grade("6.5.0", "containerd://1.7", "amd64"), Grade::Warn);
        assert_eq!(grade("5.14.0", "containerd://1.7", "amd64"), Grade::Fail);
        assert_eq!(grade("6.6.1", "docker://25", "amd64"), Grade::Warn);
        assert_eq!(grade("6.6.1", "containerd://1.7", "arm64"), Grade::Warn);
        assert_eq!(grade("6.6.1", "containerd://1.7", "s390x"), Grade::Fail);
        assert_eq!(grade("", "containerd://1.7", "amd64"), Grade::Unknown);
    }

    #[test]
    fn the_api_server_is_of_1_30_or_newer_however_a_cloud_writes_it() {
        let grade = |minor: &str| version(&Ok(Some(json!({ "major": "1", "minor": minor })))).grade;
        assert_eq!((grade("29"), grade("30+"), grade("34")), (Grade::Fail, Grade::Ok, Grade::Ok));
        assert_eq!(version(&Err("away".to_owned())).grade, Grade::Unknown);
    }

    #[test]
    fn what_may_not_be_created_and_which_meshes_are_there_is_named() {
        let found = permissions(&Ok(Some(vec!["clusterroles".to_owned()])));
        assert_eq!((found.grade, found.found.as_str()), (Grade::Fail, "you may not create clusterroles"));
        let found = meshes(&Ok(Some(vec!["ztunnel".to_owned(), "kube-proxy".to_owned()])));
        assert_eq!((found.len(), found[0].found.as_str()), (1, "Istio ambient (DaemonSet ztunnel)"));
        assert_eq!(routes(&Ok(None)).grade, Grade::Warn);
    }

    #[test]
    fn cilium_has_to_leave_services_and_plugins_to_others() {
        let grades = |data: Value| cilium(&Ok(Some(data))).iter().map(|it| it.grade).collect::<Vec<_>>();
        assert_eq!(grades(json!({ "kube-proxy-replacement": "true" })), [Grade::Warn, Grade::Warn]);
        let good = json!({ "kube-proxy-replacement": "true", "bpf-lb-sock-hostns-only": "true", "cni-exclusive": "false" });
        assert_eq!(grades(good), [Grade::Ok]);
        assert!(cilium(&Ok(None)).is_empty());
    }

    #[test]
    fn a_level_of_pod_security_that_refuses_the_daemon_is_a_failure() {
        let grade = |labels: Value| namespace(&Ok(Some(json!({ "metadata": { "labels": labels } })))).grade;
        assert_eq!(grade(json!({ "pod-security.kubernetes.io/enforce": "baseline" })), Grade::Fail);
        assert_eq!(grade(json!({ "pod-security.kubernetes.io/enforce": "privileged" })), Grade::Ok);
        assert_eq!(grade(json!({})), Grade::Warn);
    }
}
