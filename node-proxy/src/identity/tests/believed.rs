//! Chains that were verified before: the same bytes at a good time, and nothing else.

use super::support::{Anything, NOW, Odd, at, cart};
use crate::identity::believed::Believed;

#[test]
fn only_the_very_same_certificates_are_believed_again() {
    let ours = Anything::new("ours");
    let (leaf, _) = ours.sign(&Odd::default());
    let believed = Believed::default();
    assert_eq!(believed.find(std::slice::from_ref(&leaf), at(NOW)), None, "never seen");
    believed.keep(std::slice::from_ref(&leaf), &cart());
    assert_eq!(believed.find(std::slice::from_ref(&leaf), at(NOW)), Some(cart()));
    let again = ours.sign(&Odd { serial: 8, ..Odd::default() }).0;
    assert_eq!(believed.find(std::slice::from_ref(&again), at(NOW)), None, "another of the same identity");
    assert_eq!(believed.find(&[leaf.clone(), again], at(NOW)), None, "with another behind it");
    assert_eq!(believed.find(&[], at(NOW)), None);
}

#[test]
fn what_is_not_valid_now_is_verified_again() {
    let ours = Anything::new("ours");
    let chain = [ours.sign(&Odd { from: NOW - 10, until: NOW + 10, ..Odd::default() }).0];
    let believed = Believed::default();
    for (when, expected) in
        [(NOW - 10, Some(cart())), (NOW + 10, Some(cart())), (NOW + 11, None), (NOW - 11, None)]
    {
        believed.keep(&chain, &cart());
        assert_eq!(believed.find(&chain, at(when)), expected, "{}", when as i64 - NOW as i64);
    }
    // The shortest of a chain decides.
    let longer = [ours.sign(&Odd { from: NOW - 99, until: NOW + 99, ..Odd::default() }).0, chain[0].clone()];
    believed.keep(&longer, &cart());
    assert_eq!(
        (believed.find(&longer, at(NOW + 11)), believed.find(&longer, at(NOW))),
        (None, None),
        "and is forgotten"
    );
}

#[test]
fn few_are_remembered_and_those_in_use_longest() {
    let ours = Anything::new("ours");
    let believed = Believed::default();
    let chains: Vec<_> = (1..=40).map(|serial| [ours.sign(&Odd { serial, ..Odd::default() }).0]).collect();
    for chain in &chains {
        believed.keep(chain, &cart());
        assert_eq!(believed.find(&chains[0], at(NOW)), Some(cart()), "asked for all the time");
    }
    let known = chains.iter().filter(|chain| believed.find(*chain, at(NOW)).is_some()).count();
    assert_eq!(known, 32);
}
