//! Reading what is shipped: files, documents, and values inside of them. It must never repair what it reads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// The repository's own path.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of a file of the repository.
pub(crate) fn text(path: &str) -> String {
    let at = repository().join(path);
    fs::read_to_string(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()))
}

/// The documents of a text of YAML.
pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    let parts = yaml.split("\n---\n").filter(|part| part.lines().any(is_content));
    parts
        .map(|part| serde_yaml::from_str(part).unwrap_or_else(|error| panic!("{error}, in:\n{part}")))
        .collect()
}

fn is_content(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#') && line != "---"
}

/// The names of the files that a kustomization lists as its resources.
pub(crate) fn resources(folder: &str) -> Vec<String> {
    let kustomization = &documents(&text(&format!("{folder}/kustomization.yaml")))[0];
    strings(&kustomization["resources"])
}

/// Every object of the base, with the file that it is in.
pub(crate) fn base() -> Vec<(String, Value)> {
    let files = resources(BASE).into_iter();
    files
        .flat_map(|file| {
            let objects = documents(&text(&format!("{BASE}/{file}")));
            objects.into_iter().map(move |object| (file.clone(), object))
        })
        .collect()
}

/// The object of that kind and name in the base.
pub(crate) fn object(kind: &str, name: &str) -> Value {
    let found = base().into_iter().find(|(_, object)| is(object, kind, name));
    found.unwrap_or_else(|| panic!("the base has no {kind} {name}")).1
}

pub(crate) fn is(object: &Value, kind: &str, name: &str) -> bool {
    object["kind"] == kind && object["metadata"]["name"] == name
}

/// The texts of a list; none for what is no list.
pub(crate) fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// The items of a list; none for what is no list.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The files of a folder and of those in it, as paths from the repository's root.
pub(crate) fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(repository().join(folder)).expect("a folder of the repository").flatten() {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

pub(crate) const BASE: &str = "deploy/daemonset/base";
