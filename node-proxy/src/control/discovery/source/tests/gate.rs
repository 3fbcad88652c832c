//! Pods that wait at the gate, of which the control plane knows nothing yet, or what is true no more.

use super::*;
use crate::control::sandboxes::{Handler, Sandbox};

fn sandbox(netns: &str, addresses: &[IpAddr]) -> Sandbox {
    Sandbox {
        uid: "u".to_owned(),
        pod: name("a"),
        container: "c".to_owned(),
        netns: Some(netns.into()),
        addresses: addresses.to_vec(),
        are_given: true,
        handler: Handler::default(),
    }
}

#[test]
fn a_pod_that_waits_at_the_gate_is_enrolled_before_the_control_plane_can_know_it() {
    let places = Places::default();
    let setup = Setup::new(|_| {});
    let mut setup = Setup { source: setup.source.with_gate(places.clone()), ..setup };
    let stream = setup.plane.accept();
    stream.opened();
    for kind in Kind::ALL {
        stream.say(response(kind, "first", &[], &[]));
    }
    let netns = |outcome: &Outcome| outcome.mesh.workloads.get(&name("a")).and_then(|it| it.netns.clone());
    assert_eq!(netns(&next(&mut setup.source)), None, "nobody has told of it");
    places.told(sandbox("/run/netns/a", &[])).unwrap();
    setup.files.send(outcome(&POD.replace("namespace: shop,", "namespace: shop, uid: u,"))).unwrap();
    let early = next(&mut setup.source);
    assert_eq!(netns(&early).as_deref(), Some(Path::new("/run/netns/a")));
    assert_eq!(early.mesh.authorization.len(), 1, "it takes no connection yet");
    stream.say(response(Kind::Address, "n", &[pod("a", [10, 0, 0, 1])], &[]));
    let known = next(&mut setup.source);
    assert_eq!(netns(&known), netns(&early));
    assert!(known.mesh.authorization.is_empty());
}

#[test]
fn a_pod_is_served_where_its_sandbox_is_made_anew_before_the_control_plane_has_heard_of_its_address() {
    let places = Places::default();
    let setup = Setup::new(|_| {});
    let mut setup = Setup { source: setup.source.with_gate(places.clone()), ..setup };
    let stream = setup.plane.accept();
    stream.opened();
    stream.say(response(Kind::Address, "1", &[pod("a", [10, 0, 0, 1])], &[]));
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Address) {
        stream.say(response(kind, "first", &[], &[]));
    }
    let addresses = |outcome: &Outcome| outcome.mesh.workloads[&name("a")].addresses.clone();
    let [former, now] = [1, 2].map(|last| vec![IpAddr::from([10, 0, 0, last])]);
    assert_eq!(addresses(&next(&mut setup.source)), former);
    // That the file of a pod says an address is no proof that its sandbox has it.
    let text = POD.replace("namespace: shop,", "namespace: shop, uid: u,").replace("10.0.0.1", "10.0.0.2");
    setup.files.send(outcome(&text)).unwrap();
    assert!(is_quiet(&mut setup.source));
    places.told(sandbox("/run/netns/b", &now)).unwrap();
    let text = text.replace("/run/netns/a", "/run/netns/b");
    setup.files.send(outcome(&text)).unwrap();
    let anew = next(&mut setup.source);
    assert_eq!(addresses(&anew), now);
    assert_eq!(anew.mesh.workloads[&name("a")].netns.as_deref(), Some(Path::new("/run/netns/b")));
}
