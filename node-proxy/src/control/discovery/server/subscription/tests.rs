//! What a subscription puts into one response.

use config::{
    discovery::Site,
    model::{Mesh, NamespaceFacts},
};

use super::*;

fn facts(name: &str, label: &str) -> Arc<NamespaceFacts> {
    let labels = BTreeMap::from([("of".to_owned(), label.to_owned())]);
    Arc::new(NamespaceFacts { name: name.try_into().unwrap(), labels })
}

#[test]
fn what_changes_or_goes_before_it_is_sent_counts_once_or_not_at_all() {
    let mut shelf = Shelf::new(Site { domain: "cluster.local".try_into().unwrap(), cluster: "c".to_owned() });
    let mut mesh = Mesh { version: 1, ..Mesh::default() };
    let name: config::name::Namespace = "a".try_into().unwrap();
    mesh.namespaces.insert(name.clone(), facts("a", "x"));
    shelf.stock(&Arc::new(mesh.clone()));
    let mut all = Subscription::begin(Kind::Namespace, &Request::default(), &shelf);
    let (mut encoded, reader) = (0, Reader::default());
    all.look_up(&shelf, &reader, 10, &mut encoded);
    let once = all.draft_bytes;
    assert!(once > 0);
    let mut draft = |mesh: &Mesh, all: &mut Subscription| {
        shelf.stock(&Arc::new(mesh.clone()));
        all.pending.insert(Arc::from("a"));
        all.look_up(&shelf, &reader, 10, &mut encoded);
        all.draft_bytes
    };
    mesh.version += 1;
    mesh.namespaces.insert(name.clone(), facts("a", "y"));
    assert_eq!(draft(&mesh, &mut all), once);
    mesh.version += 1;
    mesh.namespaces.remove(&name);
    assert_eq!(draft(&mesh, &mut all), 0);
}

#[test]
fn what_is_too_much_for_one_response_comes_in_the_next() {
    let mut shelf = Shelf::new(Site { domain: "cluster.local".try_into().unwrap(), cluster: "c".to_owned() });
    let mut mesh = Mesh { version: 1, ..Mesh::default() };
    for name in ["a", "b", "c"] {
        let facts = NamespaceFacts { name: name.try_into().unwrap(), labels: BTreeMap::new() };
        mesh.namespaces.insert(facts.name.clone(), Arc::new(facts));
    }
    shelf.stock(&Arc::new(mesh));
    let mut all = Subscription::begin(Kind::Namespace, &Request::default(), &shelf);
    let mut encoded = 0;
    assert_eq!(all.look_up(&shelf, &Reader::default(), 1, &mut encoded), 2);
    assert!(!all.is_full());
    all.draft_bytes += LARGEST_DRAFT;
    assert_eq!(all.look_up(&shelf, &Reader::default(), 10, &mut encoded), 2);
    assert!(all.is_full());
    assert_eq!(all.take_draft("1").unwrap().resources.len(), 1);
    assert!(!all.is_full() && all.is_pending() && !all.has_said_all());
    assert_eq!(all.answered("1").unwrap().len(), 1);
    assert_eq!(all.look_up(&shelf, &Reader::default(), 10, &mut encoded), 0);
    assert_eq!((all.take_draft("2").unwrap().resources.len(), encoded), (2, 3));
    assert!(all.has_said_all(), "it was the last");
}
