//! The cache on a disk: what the next start finds.

use std::{collections::BTreeMap, os::unix::fs::symlink};

use super::*;
use crate::control::discovery::testing::resource;

fn header() -> Header {
    Header {
        server: "unix:/x".to_owned(),
        cluster: "east".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        node: "node-1".to_owned(),
        on_demand: false,
    }
}

/// What the next start finds: names with their versions, and whether that is all.
fn found(directory: &Path) -> (BTreeMap<String, String>, bool) {
    let (_, stored) = Cache::open(directory, header());
    let resources = stored.batches(&header()).flat_map(|(_, set)| set);
    (resources.map(|resource| (resource.name, resource.version)).collect(), stored.is_complete)
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
}

fn file(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

#[test]
fn the_next_start_finds_what_was_taken_in_and_what_went_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (mut cache, stored) = Cache::open(directory.path(), header());
    assert!(!stored.is_complete && stored.batches(&header()).next().is_none());
    cache.write(Kind::Address, &[resource("a", &["/10.0.0.1"], "1")], &[]);
    cache.settle(&[]);
    cache.write(Kind::Address, &[resource("a", &["/10.0.0.9"], "2")], &[]);
    cache.settle(&["a"]);
    cache.write(Kind::Route, &[resource("r", &[], "1")], &[]);
    cache.settle(&[]);
    cache.complete();
    cache.write(Kind::Route, &[resource("s", &[], "1")], &["r".to_owned()]);
    cache.settle(&[]);
    cache.write(Kind::Route, &[resource("half", &[], "1")], &["s".to_owned()]);
    drop(cache);
    assert_eq!(found(directory.path()), (pairs(&[("a", "1"), ("s", "1")]), true));
    let (_, stored) = Cache::open(directory.path(), header());
    let address = stored.batches(&header()).next().unwrap();
    assert_eq!(address, (Kind::Address, vec![resource("a", &["/10.0.0.1"], "1")]));
    let mode = fs::metadata(file(directory.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_is_written_after_a_torn_tail_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (mut cache, _) = Cache::open(directory.path(), header());
    cache.write(Kind::Route, &[resource("a", &[], "1")], &[]);
    cache.settle(&[]);
    // What is left of it would be read as a record.
    let long = Resource { body: [vec![0; 1000], vec![1]].concat(), ..resource("a", &[], "2") };
    cache.write(Kind::Route, &[long], &[]);
    drop(cache);
    let (mut cache, _) = Cache::open(directory.path(), header());
    cache.write(Kind::Route, &[resource("b", &[], "1")], &[]);
    cache.settle(&[]);
    drop(cache);
    assert_eq!(found(directory.path()), (pairs(&[("a", "1"), ("b", "1")]), false));
}

#[test]
fn a_damaged_file_is_moved_aside_and_a_new_one_begun() {
    let directory = tempfile::tempdir().unwrap();
    let (mut cache, _) = Cache::open(directory.path(), header());
    for name in ["a", "b"] {
        cache.write(Kind::Route, &[resource(name, &[], "1")], &[]);
        cache.settle(&[]);
    }
    drop(cache);
    let mut bytes = fs::read(file(directory.path())).unwrap();
    let middle = header().to_bytes().len() + 20;
    bytes[middle] ^= 1;
    fs::write(file(directory.path()), &bytes).unwrap();
    assert_eq!(found(directory.path()), (pairs(&[]), false));
    assert_eq!(fs::read(directory.path().join("discovery.unusable")).unwrap(), bytes);
    let (mut cache, _) = Cache::open(directory.path(), header());
    cache.write(Kind::Route, &[resource("c", &[], "1")], &[]);
    cache.settle(&[]);
    drop(cache);
    assert_eq!(found(directory.path()).0, pairs(&[("c", "1")]));
}

#[test]
fn a_file_of_another_control_plane_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let other = Header { server: "unix:/y".to_owned(), ..header() };
    let (mut cache, _) = Cache::open(directory.path(), other.clone());
    cache.write(Kind::Route, &[resource("a", &[], "1")], &[]);
    cache.settle(&[]);
    cache.complete();
    drop(cache);
    assert_eq!(found(directory.path()), (pairs(&[]), false));
    let (_, stored) = Cache::open(directory.path(), other);
    assert!(!stored.is_complete, "nor is it there for the other any more");
}

#[test]
fn what_is_dead_is_left_behind_when_it_is_more_than_what_lives() {
    let directory = tempfile::tempdir().unwrap();
    let (mut cache, _) = Cache::open(directory.path(), header());
    let large = |version: &str| Resource { body: vec![7; 100_000], ..resource("a", &["/10.0.0.1"], version) };
    cache.write(Kind::Route, &[resource("r", &[], "1")], &[]);
    cache.settle(&[]);
    cache.complete();
    // Refused, and of a name that another type has, too.
    cache.write(Kind::Tenant, &[resource("a", &[], "bad")], &[]);
    cache.settle(&["a"]);
    for version in 0..100 {
        cache.write(Kind::Address, &[large(&version.to_string())], &[]);
        cache.settle(&[]);
    }
    assert!(fs::metadata(file(directory.path())).unwrap().len() < 2 * SMALLEST);
    cache.write(Kind::Route, &[resource("s", &[], "1")], &[]);
    cache.settle(&[]);
    cache.write(Kind::Address, &[resource("a", &[], "refused")], &[]);
    cache.settle(&["a"]);
    cache.write(Kind::Tenant, &[resource("a", &[], "worse")], &[]);
    cache.settle(&["a"]);
    drop(cache);
    let (_, stored) = Cache::open(directory.path(), header());
    let resources = stored.batches(&header()).flat_map(|(_, set)| set);
    let versions: Vec<String> = resources.map(|resource| resource.version).collect();
    assert_eq!(versions, ["worse", "99", "1", "1"]);
    assert!(stored.is_complete);
    let mode = fs::metadata(file(directory.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_disk_that_cannot_be_written_takes_the_cache_away_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (mut cache, _) = Cache::open(directory.path(), header());
    cache.write(Kind::Route, &[resource("a", &[], "1")], &[]);
    cache.settle(&[]);
    // A file that can only be read stands for a disk that is full.
    cache.file.as_mut().unwrap().file = File::open(file(directory.path())).unwrap();
    cache.write(Kind::Route, &[resource("b", &[], "1")], &[]);
    assert!(cache.file.is_none());
    cache.settle(&[]);
    cache.complete();
    drop(cache);
    assert!(found(directory.path()).0.is_empty(), "what does not go on is not believed at the next start");
    let (cache, stored) = Cache::open(&file(directory.path()), header());
    assert!(cache.file.is_none() && !stored.is_complete, "no directory");
}

#[test]
fn a_directory_has_one_daemon_and_no_link_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (first, _) = Cache::open(directory.path(), header());
    let (second, _) = Cache::open(directory.path(), header());
    assert!(first.file.is_some() && second.file.is_none());
    drop((first, second));
    let (elsewhere, linked) = (directory.path().join("elsewhere"), directory.path().join("linked"));
    fs::write(&elsewhere, "").unwrap();
    fs::create_dir(&linked).unwrap();
    symlink(&elsewhere, file(&linked)).unwrap();
    assert!(Cache::open(&linked, header()).0.file.is_none());
    assert_eq!(fs::read(&elsewhere).unwrap(), b"");
}
