//! The form of the file, from bytes: whole, torn, damaged, and of something else.

use proptest::prelude::*;

use super::*;

fn header() -> Header {
    Header {
        server: "unix:/x".to_owned(),
        cluster: "east".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        node: "node-1".to_owned(),
        on_demand: false,
    }
}

fn set(name: &'static str, version: &'static str) -> Record<'static> {
    let type_url = Kind::Address.type_url();
    Record::Set { type_url, name, version, aliases: vec!["/10.0.0.1"], body: b"body" }
}

fn removed(name: &'static str) -> Record<'static> {
    Record::Removed { type_url: Kind::Address.type_url(), name }
}

fn done(refused: &[&'static str]) -> Record<'static> {
    Record::Done { refused: refused.to_vec() }
}

fn bytes(records: &[Record<'_>]) -> Vec<u8> {
    let mut bytes = header().to_bytes();
    records.iter().for_each(|record| record.write(&mut bytes));
    bytes
}

/// Names with their versions.
fn live(bytes: &[u8]) -> Vec<(String, String)> {
    let log = read(bytes, &header()).unwrap();
    log.live.iter().map(|((_, name), place)| ((*name).to_owned(), place.version.to_owned())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
}

#[test]
fn what_was_written_is_read_and_the_last_word_counts() {
    let all = bytes(&[
        set("a", "1"),
        set("b", "1"),
        done(&[]),
        set("a", "2"),
        removed("b"),
        done(&[]),
        Record::Complete,
    ]);
    let log = read(&all, &header()).unwrap();
    assert_eq!((log.good, log.is_complete), (all.len(), true));
    assert_eq!(live(&all), pairs(&[("a", "2")]));
    let resource = log.live[&(Kind::Address, "a")].resource("a");
    assert_eq!((resource.aliases, resource.body), (vec!["/10.0.0.1".to_owned()], b"body".to_vec()));
}

#[test]
fn what_was_refused_leaves_what_was_before_and_is_kept_where_nothing_was() {
    let all = bytes(&[set("a", "1"), done(&[]), set("a", "2"), set("b", "1"), done(&["a", "b"])]);
    assert_eq!(live(&all), pairs(&[("a", "1"), ("b", "1")]));
    let mut later = all.clone();
    [set("b", "2"), done(&["b"])].iter().for_each(|record| record.write(&mut later));
    assert_eq!(live(&later), pairs(&[("a", "1"), ("b", "2")]), "the newest of what was never good");
    [set("b", "3"), done(&[]), set("b", "4"), done(&["b"])]
        .iter()
        .for_each(|record| record.write(&mut later));
    assert_eq!(live(&later), pairs(&[("a", "1"), ("b", "3")]));
}

#[test]
fn a_batch_that_was_not_written_to_its_end_does_not_count_wherever_it_is_torn() {
    let good = bytes(&[set("a", "1"), done(&[])]);
    let all = bytes(&[set("a", "1"), done(&[]), set("a", "2"), removed("a"), done(&[])]);
    for end in good.len()..all.len() {
        let log = read(&all[..end], &header()).unwrap();
        assert_eq!(log.good, good.len(), "{end}");
        assert_eq!(live(&all[..end]), pairs(&[("a", "1")]), "{end}");
    }
    for end in 0..header().to_bytes().len() {
        assert_eq!(read(&all[..end], &header()), Ok(Log::default()), "{end}");
    }
    let zeros = [good.as_slice(), &[0; 4096]].concat();
    assert_eq!(read(&zeros, &header()).unwrap().good, good.len(), "a machine that stopped");
}

#[test]
fn what_has_changed_in_the_middle_is_not_believed() {
    let all = bytes(&[set("a", "1"), done(&[]), set("b", "1"), done(&[])]);
    let begin = header().to_bytes().len();
    // The first record after the header, its length included.
    for at in begin..begin + 40 {
        let mut damaged = all.clone();
        damaged[at] ^= 1;
        assert_eq!(read(&damaged, &header()), Err(Unusable::Damaged(begin)), "{at}");
    }
}

#[test]
fn a_record_out_of_its_place_is_damage() {
    let begin = header().to_bytes().len();
    let twice = [header().to_bytes(), header().to_bytes()[MAGIC.len()..].to_vec()].concat();
    assert_eq!(read(&twice, &header()), Err(Unusable::Damaged(begin)));
    let mut headless = MAGIC.to_vec();
    done(&[]).write(&mut headless);
    assert_eq!(read(&headless, &header()), Err(Unusable::Damaged(MAGIC.len())));
    let early = bytes(&[set("a", "1"), Record::Complete]);
    assert!(matches!(read(&early, &header()), Err(Unusable::Damaged(_))), "not in the middle of a batch");
}

#[test]
fn a_file_of_something_else_is_not_used() {
    let all = bytes(&[set("a", "1"), done(&[])]);
    let others = [
        Header { server: "unix:/y".to_owned(), ..header() },
        Header { cluster: "west".to_owned(), ..header() },
        Header { trust_domain: "other".to_owned(), ..header() },
        Header { node: "node-2".to_owned(), ..header() },
        Header { on_demand: true, ..header() },
    ];
    for other in others {
        assert_eq!(read(&all, &other), Err(Unusable::Elsewhere), "{other:?}");
    }
    assert_eq!(read(b"canopy discovery 1\n", &header()), Err(Unusable::Format));
    assert_eq!(read(b"something else", &header()), Err(Unusable::Format));
}

#[test]
fn a_type_that_is_not_known_is_left_alone() {
    let strange = Record::Set { type_url: "x/y", name: "a", version: "1", aliases: vec![], body: b"" };
    assert_eq!(live(&bytes(&[strange, set("b", "1"), done(&[])])), pairs(&[("b", "1")]));
}

proptest! {
    #[test]
    fn no_bytes_are_too_much_for_it(tail in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..300, byte: u8) {
        let mut all = bytes(&[set("a", "1"), removed("b"), done(&["c"]), Record::Complete]);
        all.extend(&tail);
        let at = at % all.len();
        all[at] = byte;
        if let Ok(log) = read(&all, &header()) {
            prop_assert!(log.good <= all.len());
        }
    }

    /// As the one above, past the checksum.
    #[test]
    fn no_record_is_too_much_for_it(payload in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut all = header().to_bytes();
        all.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
        all.extend(checksum(&payload).to_le_bytes());
        all.extend(&payload);
        let _ = read(&all, &header());
    }
}
