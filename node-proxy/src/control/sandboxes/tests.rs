//! What is known of sandboxes, by whoever told it.

use config::name::{Name, Namespace};

use super::*;

pub(super) fn sandbox(uid: &str, container: &str) -> Sandbox {
    Sandbox {
        uid: uid.to_owned(),
        pod: PodName::new(Namespace::try_from("shop").unwrap(), Name::try_from("cart").unwrap()),
        container: container.to_owned(),
        netns: Some(format!("/run/netns/{container}").into()),
        addresses: vec![address(uid)],
        are_given: true,
        handler: Handler::default(),
    }
}

/// Nobody else's.
fn address(uid: &str) -> IpAddr {
    let [high, low] = uid.parse().unwrap_or(0xff00 | u16::from(uid.as_bytes()[0])).to_be_bytes();
    IpAddr::from([10, 0, high, low])
}

fn container(places: &Places, uid: &str) -> Option<String> {
    places.of(uid).map(|sandbox| sandbox.container.clone())
}

#[test]
fn a_pod_that_is_started_anew_is_where_the_gate_says_before_the_runtime_runs_it() {
    let places = Places::default();
    places.found(vec![Arc::new(sandbox("u", "first"))]);
    assert_eq!(container(&places, "u").as_deref(), Some("first"));
    places.told(sandbox("u", "second")).unwrap();
    assert_eq!(container(&places, "u").as_deref(), Some("second"));
    // The runtime still lists what ends.
    places.found(vec![Arc::new(sandbox("u", "first"))]);
    places.left("first");
    assert_eq!(container(&places, "u").as_deref(), Some("second"), "the end of one is not the other's");
    assert_eq!(places.all().len(), 1);
}

#[test]
fn what_the_gate_told_stays_until_the_runtime_has_listed_it_and_no_longer_does() {
    let places = Places::default();
    places.told(sandbox("u", "c")).unwrap();
    places.found(Vec::new());
    assert!(places.of("u").is_some(), "it is not ready yet");
    places.found(vec![Arc::new(sandbox("u", "c"))]);
    assert!(places.of("u").is_some());
    places.found(Vec::new());
    assert!(places.of("u").is_none(), "its end was not told while the daemon was away");
}

#[test]
fn an_address_is_the_sandboxs_that_got_it_last_and_of_no_pod_but_its_own() {
    let places = Places::default();
    let (cart, own) = (sandbox("a", "1").pod, [address("a")]);
    places.told(sandbox("a", "1")).unwrap();
    places.found(vec![Arc::new(sandbox("b", "2"))]);
    assert!(places.has("a", &cart, &own) && places.has("b", &cart, &[address("b")]));
    for (what, uid, addresses) in [
        ("another's", "a", &[address("b")][..]),
        ("one of its own, and another's", "a", &[address("a"), address("b")]),
        ("none", "a", &[]),
        ("nobody's", "c", &own),
    ] {
        assert!(!places.has(uid, &cart, addresses), "{what}");
    }
    let other = PodName::new(cart.namespace.clone(), Name::try_from("other").unwrap());
    assert!(!places.has("a", &other, &own), "another pod's sandbox");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    places.hear(Arc::new(move |uid| hears.lock().unwrap().push(uid.to_owned())));
    // They have ended, of which nobody has told.
    let addresses = vec![address("a"), address("b")];
    places.told(Sandbox { addresses, ..sandbox("c", "3") }).unwrap();
    assert_eq!(*heard.lock().unwrap(), ["a", "b", "c"]);
    assert!(places.of("a").is_none() && places.of("b").is_none() && places.has("c", &cart, &own));
    // What was only seen on interfaces takes nothing from anybody, and is nobody's word.
    let seen = Sandbox { are_given: false, ..sandbox("d", "4") };
    places.told(Sandbox { addresses: vec![address("a"), address("d")], ..seen.clone() }).unwrap();
    assert!(places.has("c", &cart, &own) && !places.has("d", &cart, &own), "another's address");
    assert!(!places.has("d", &cart, &[address("d")]));
    places.found(vec![Arc::new(sandbox("d", "4"))]);
    assert!(places.has("d", &cart, &[address("d")]) && !places.has("d", &cart, &own), "the runtime knows");
    // What the runtime runs is there all the same.
    places.found(vec![Arc::new(sandbox("b", "2"))]);
    assert!(places.of("b").is_some());
}

#[test]
fn of_a_pod_with_several_networks_the_runtime_knows_which_addresses_are_the_pods() {
    let places = Places::default();
    let cart = sandbox("a", "1").pod;
    places.told(Sandbox { addresses: vec![address("x")], ..sandbox("a", "1") }).unwrap();
    let (former, silent) = (sandbox("a", "0"), Sandbox { addresses: Vec::new(), ..sandbox("a", "1") });
    for sandbox in [former, silent] {
        places.found(vec![Arc::new(sandbox)]);
        assert!(places.has("a", &cart, &[address("x")]), "nobody knows better");
    }
    places.found(vec![Arc::new(sandbox("a", "1"))]);
    assert!(places.has("a", &cart, &[address("a")]) && !places.has("a", &cart, &[address("x")]));
}

#[test]
fn what_is_not_among_all_that_there_are_is_gone() {
    let places = Places::default();
    places.told(sandbox("a", "1")).unwrap();
    places.told(sandbox("b", "2")).unwrap();
    places.only(&["2".to_owned()]);
    assert!(places.of("a").is_none() && places.of("b").is_some());
}

#[test]
fn changes_are_counted_and_what_is_said_twice_is_none() {
    let places = Places::default();
    let mut changes = places.changes();
    let mut has_changed = || {
        let has = changes.has_changed().unwrap();
        changes.mark_unchanged();
        has
    };
    places.told(sandbox("u", "c")).unwrap();
    assert!(has_changed());
    places.told(sandbox("u", "c")).unwrap();
    assert!(!has_changed());
    places.found(vec![Arc::new(sandbox("v", "d"))]);
    assert!(has_changed());
    places.found(vec![Arc::new(sandbox("v", "d"))]);
    assert!(!has_changed());
    places.left("nobody");
    assert!(!has_changed());
    places.left("c");
    assert!(has_changed());
}

#[test]
fn more_sandboxes_than_a_node_can_have_are_refused_once_those_without_a_namespace_are_forgotten() {
    let places = Places::default();
    let lasting =
        |uid: usize| Sandbox { netns: Some("/proc/self/ns/net".into()), ..sandbox(&uid.to_string(), "c") };
    for uid in 0..MOST - 1 {
        places.told(lasting(uid)).unwrap();
    }
    places.told(sandbox("gone", "c")).unwrap();
    places.told(lasting(MOST)).unwrap();
    assert!(places.of("gone").is_none(), "its namespace is nowhere");
    assert!(places.told(lasting(MOST + 1)).is_err());
    assert!(
        places.told(Sandbox { container: "d".to_owned(), ..lasting(0) }).is_ok(),
        "it takes its own place"
    );
}

#[test]
fn of_a_runtimes_two_words_the_one_counts_that_tells_of_a_kernel_of_its_own() {
    for (name, kind, expected) in [
        ("", "", None),
        ("runc", "io.containerd.runc.v2", Some("io.containerd.runc.v2")),
        ("crun", "", Some("crun")),
        ("untrusted", "io.containerd.runsc.v1", Some("io.containerd.runsc.v1")),
        ("kata-qemu", "", Some("kata-qemu")),
        ("gvisor", "io.containerd.runc.v2", Some("gvisor")),
    ] {
        let handler = Handler { name: name.to_owned(), kind: kind.to_owned() };
        assert_eq!(handler.word(), expected, "{name} {kind}");
    }
}
