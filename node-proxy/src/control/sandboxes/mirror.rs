//! By which UID a container runtime knows a pod: its own, but for a static pod.
//!
//! The kubelet runs a static pod from a file, under a UID made of that file, and shows it to the API server as a mirror pod, which has
//! another. Pure.

use std::collections::BTreeMap;

/// The UID by which a pod's sandbox is called, as the API server's words for the pod have it.
///
/// Only a kubelet may make a mirror pod (Kubernetes' admission plugin NodeRestriction, `ServiceAccount`), and it says the same twice. Who
/// says so of another pod is believed no further than its name and namespace, which a sandbox has, too.
pub fn uid_of_sandbox<'a>(uid: &'a str, annotations: &'a BTreeMap<String, String>) -> &'a str {
    let said = |key| annotations.get(key).filter(|said| !said.is_empty());
    match (said(MIRROR), said(HASH)) {
        (Some(mirror), Some(hash)) if mirror == hash => hash,
        _ => uid,
    }
}

/// What makes a pod a mirror.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Which version of a file a static pod is: its UID.
const HASH: &str = "kubernetes.io/config.hash";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_pods_sandbox_is_called_by_its_file_and_any_others_by_its_pod() {
        let of = |said: &[(&str, &str)]| {
            let said = said.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            uid_of_sandbox("u", &said).to_owned()
        };
        assert_eq!(of(&[(MIRROR, "4f"), (HASH, "4f")]), "4f");
        for said in [
            &[][..],
            &[(HASH, "4f")],
            &[(MIRROR, "4f")],
            &[(MIRROR, "4f"), (HASH, "a0")],
            &[(MIRROR, ""), (HASH, "")],
        ] {
            assert_eq!(of(said), "u", "{said:?}");
        }
    }
}
