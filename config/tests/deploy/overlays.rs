//! Kustomizations hold together: what they list is there, what is there is listed, and what they patch is in the base.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::manifests::{BASE, base, documents, files, is, items, repository, strings, text};

const OVERLAYS: &str = "deploy/daemonset/overlays";
const REMOVAL: &str = "deploy/daemonset/removal";

fn overlays() -> Vec<String> {
    let folder = repository().join(OVERLAYS);
    let names = fs::read_dir(folder).expect("overlays").flatten().map(|entry| entry.file_name());
    names.map(|name| format!("{OVERLAYS}/{}", name.to_string_lossy())).collect()
}

#[test]
fn every_file_of_a_kustomization_is_there_and_every_file_there_is_of_one() {
    let mut folders = overlays();
    assert!(folders.len() >= 5, "{folders:?}");
    folders.extend([BASE, REMOVAL, "deploy/monitoring"].map(str::to_owned));
    for folder in folders {
        let kustomization = &documents(&text(&format!("{folder}/kustomization.yaml")))[0];
        let mut listed: BTreeSet<String> = strings(&kustomization["resources"]).into_iter().collect();
        listed.extend(
            items(&kustomization["patches"]).filter_map(|patch| patch["path"].as_str().map(str::to_owned)),
        );
        listed.extend(items(&kustomization["configMapGenerator"]).flat_map(|map| strings(&map["files"])));
        assert!(!listed.contains("../../base") || folder.starts_with(OVERLAYS));
        listed.remove("../../base");
        listed.insert("kustomization.yaml".to_owned());
        let there = files(&folder);
        let there: BTreeSet<String> =
            there.iter().map(|path| path.replace(&format!("{folder}/"), "")).collect();
        assert_eq!(listed, there, "{folder}");
    }
}

/// The patches of an overlay, from files and from its own text.
fn patches(folder: &str) -> Vec<Value> {
    let kustomization = &documents(&text(&format!("{folder}/kustomization.yaml")))[0];
    items(&kustomization["patches"])
        .flat_map(|patch| match patch["path"].as_str() {
            Some(path) => documents(&text(&format!("{folder}/{path}"))),
            None => documents(patch["patch"].as_str().expect("a patch is a file or a text")),
        })
        .collect()
}

/// Variables that an overlay adds.
const ADDED: [&str; 3] = ["CANOPY_WEBHOOK", "CANOPY_WEBHOOK_IMAGE", "CANOPY_CONTROL_NODE_TOKENS"];

#[test]
fn what_is_patched_is_in_the_base_down_to_its_containers_volumes_and_variables() {
    let base = base();
    let mut seen = 0;
    for folder in overlays() {
        for patch in patches(&folder) {
            let (kind, name) = (patch["kind"].as_str().unwrap(), patch["metadata"]["name"].as_str().unwrap());
            let target = base.iter().find(|(_, object)| is(object, kind, name));
            let (_, target) = target.unwrap_or_else(|| panic!("{folder}: the base has no {kind} {name}"));
            assert_eq!(target["metadata"]["namespace"], patch["metadata"]["namespace"], "{folder}");
            seen += 1;
            let (target, patch) = (&target["spec"]["template"]["spec"], &patch["spec"]["template"]["spec"]);
            for container in items(&patch["containers"]) {
                let of = items(&target["containers"]).find(|other| other["name"] == container["name"]);
                let of = of.unwrap_or_else(|| {
                    panic!("{folder}: {kind} {name} has no container {}", container["name"])
                });
                for variable in items(&container["env"]) {
                    let is_known = |name: &Value| ADDED.iter().any(|added| name == added);
                    let there = items(&of["env"]).any(|other| other["name"] == variable["name"])
                        || is_known(&variable["name"]);
                    assert!(
                        there,
                        "{folder}: {} is not in the base: an addition, or a slip?",
                        variable["name"]
                    );
                }
                let mounted = items(&container["volumeMounts"]).map(|mount| &mount["name"]);
                for name in mounted {
                    let volumes = items(&target["volumes"]).chain(items(&patch["volumes"]));
                    assert!(
                        volumes.into_iter().any(|volume| volume["name"] == *name),
                        "{folder}: no volume {name}"
                    );
                }
            }
        }
    }
    assert!(seen >= 8, "{seen} patches were looked at");
}

#[test]
fn the_example_is_opted_in_and_its_tenant_lists_it() {
    let folder = format!("{OVERLAYS}/opt-in-example");
    let object = |file: &str| documents(&text(&format!("{folder}/{file}"))).remove(0);
    let namespace = object("namespace.yaml");
    assert_eq!(namespace["metadata"]["labels"]["canopy.mesh/mode"], "node");
    assert_eq!(
        strings(&object("tenant.yaml")["spec"]["namespaces"]),
        [namespace["metadata"]["name"].as_str().unwrap()]
    );
    let workloads = documents(&text(&format!("{folder}/workloads.yaml")));
    assert_eq!(workloads.iter().filter(|object| object["kind"] == "Deployment").count(), 2);
    for object in workloads {
        assert_eq!(object["metadata"]["namespace"], namespace["metadata"]["name"]);
    }
}

/// What takes it all away is not of the base, but has the base's places, and no more rights than who put it there.
#[test]
fn what_removes_canopy_from_a_node_looks_where_it_was_put_and_has_no_right_besides() {
    let removal = &documents(&text(&format!("{REMOVAL}/removal.yaml")))[0]["spec"]["template"]["spec"];
    assert_eq!(removal["automountServiceAccountToken"], false);
    assert!(removal["hostPID"] != true && removal["hostIPC"] != true);
    let places = |pod: &Value| -> BTreeSet<String> {
        items(&pod["volumes"])
            .filter_map(|volume| volume["hostPath"]["path"].as_str().map(str::to_owned))
            .collect()
    };
    let base = base();
    let (mut known, mut rights) = (BTreeSet::new(), BTreeSet::new());
    for name in ["canopy-node", "canopy-cni"] {
        let (_, part) = base.iter().find(|(_, object)| is(object, "DaemonSet", name)).unwrap();
        let pod = &part["spec"]["template"]["spec"];
        known.extend(places(pod));
        rights.extend(
            items(&pod["containers"]).flat_map(|one| strings(&one["securityContext"]["capabilities"]["add"])),
        );
    }
    assert!(places(removal).is_subset(&known), "{:?} of {known:?}", places(removal));
    for kept in ["/opt/cni/bin", "/etc/cni/net.d", "/var/lib/canopy", "/run/canopy", "/sys/fs/bpf"] {
        assert!(places(removal).contains(kept), "{kept}");
    }
    let containers: Vec<&Value> =
        items(&removal["initContainers"]).chain(items(&removal["containers"])).collect();
    assert_eq!(containers.len(), 4);
    for container in containers {
        let context = &container["securityContext"];
        assert_eq!(
            (&context["privileged"], &context["readOnlyRootFilesystem"]),
            (&false.into(), &true.into())
        );
        assert_eq!(strings(&context["capabilities"]["drop"]), ["ALL"]);
        assert!(strings(&context["capabilities"]["add"]).iter().all(|right| rights.contains(right)));
    }
}
