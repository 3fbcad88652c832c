//! What a subscription puts into one response.

use config::{
    discovery::Site,
    model::{Mesh, NamespaceFacts},
};

use super::*;

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
    assert!(!all.is_full() && all.is_pending());
    assert_eq!(all.answered("1").unwrap().len(), 1);
    assert_eq!(all.look_up(&shelf, &Reader::default(), 10, &mut encoded), 0);
    assert_eq!((all.take_draft("2").unwrap().resources.len(), encoded), (2, 3));
}
