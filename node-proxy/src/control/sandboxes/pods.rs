//! Where the pods of a cluster are: what sandboxes tell the source `kubernetes`, which knows pods and not where they are.
//!
//! A sandbox is a pod's by its UID and its name. No annotation is asked.

use super::{Places, spelt};
use crate::control::kubernetes::{Hear, Placed, Sandboxed, Sandboxes};

impl Sandboxes for Places {
    fn of(&self, pod: &Sandboxed<'_>) -> Option<Placed> {
        let sandbox = Places::of(self, pod.uid)?;
        let is_its = sandbox.pod.namespace.as_str() == pod.namespace && sandbox.pod.name.as_str() == pod.name;
        is_its.then(|| Placed {
            netns: sandbox.netns.as_deref().map(spelt),
            addresses: sandbox.addresses.clone(),
            are_given: sandbox.are_given,
            handler: sandbox.handler.word().map(str::to_owned),
        })
    }

    fn is_whole(&self) -> bool {
        Places::is_whole(self)
    }

    fn changes(&mut self, hear: Hear) {
        self.hear(hear);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::{super::tests::sandbox, *};
    use crate::control::sandboxes::{Handler, Sandbox};

    fn asked<'a>(uid: &'a str, name: &'a str) -> Sandboxed<'a> {
        Sandboxed { namespace: "shop", name, uid, annotation: Some("/proc/1/ns/net") }
    }

    #[test]
    fn a_pod_is_where_its_sandbox_is_and_not_where_it_says_itself() {
        let places = Places::default();
        let ask = |pod| Sandboxes::of(&places, &pod);
        assert_eq!(ask(asked("u", "cart")), None, "it is waited for");
        let handler = Handler { name: "kata".to_owned(), kind: "io.containerd.runc.v2".to_owned() };
        let told = Sandbox { netns: Some("/var/run/netns/c".into()), handler, ..sandbox("u", "c") };
        places.told(told).unwrap();
        let placed = ask(asked("u", "cart")).unwrap();
        assert_eq!(placed.netns.as_deref(), Some(std::path::Path::new("/run/netns/c")));
        assert_eq!((placed.addresses.len(), placed.handler.as_deref()), (1, Some("kata")));
        assert_eq!(ask(asked("u", "other")), None, "another pod's sandbox");
    }

    #[test]
    fn it_is_heard_at_once_which_pods_have_come_gone_or_changed_and_no_others() {
        let places = Places::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        places.hear(Arc::new(move |uid| hears.lock().unwrap().push(uid.to_owned())));
        let heard = || std::mem::take(&mut *heard.lock().unwrap());
        let found = |uid: &str, container: &str| Arc::new(sandbox(uid, container));
        assert!(!Sandboxes::is_whole(&places));
        places.found(vec![found("a", "1"), found("b", "2")]);
        assert!(Sandboxes::is_whole(&places));
        assert_eq!(heard(), ["a", "b"]);
        places.found(vec![found("a", "1"), found("b", "3")]);
        assert_eq!(heard(), ["b"]);
        places.told(sandbox("c", "4")).unwrap();
        assert_eq!(heard(), ["c"]);
        places.left("1");
        places.only(&[]);
        assert_eq!(heard(), ["a", "c"]);
    }

    #[test]
    fn what_runs_a_pod_that_the_gate_told_of_is_the_runtimes_to_say() {
        let places = Places::default();
        places.told(sandbox("u", "c")).unwrap();
        let handler = Handler { name: "gvisor".to_owned(), kind: String::new() };
        places.found(vec![Arc::new(Sandbox { handler, ..sandbox("u", "c") })]);
        let placed = Sandboxes::of(&places, &asked("u", "cart")).unwrap();
        assert_eq!(placed.handler.as_deref(), Some("gvisor"));
        assert!(places.is_told("u"));
    }
}
