//! Which names are looked up when, what their answers open, and that no tenant's names keep another's waiting.

use std::collections::HashMap;

use config::{
    model::{Audience, Budget, Egress, Isolation, Tenant},
    name::{EntryName, Namespace},
};

use super::{
    schedule::{ADDRESSES, TURN},
    *,
};

const PACE: Pace = Pace { every: Duration::from_secs(30), keep: Duration::from_secs(300) };

fn key(tenant: &str, host: &str) -> Key {
    (TenantId::Tenant(tenant.try_into().unwrap()), host.try_into().unwrap())
}

fn keys(keys: &[(&str, &str)]) -> BTreeSet<Key> {
    keys.iter().map(|(tenant, host)| key(tenant, host)).collect()
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_address_stays_for_its_time_after_an_answer_had_it_last() {
    let start = Instant::now();
    let mut schedule = Schedule::new(PACE);
    let pay = key("shop", "pay.example");
    schedule.want(&keys(&[("shop", "pay.example")]), start);
    let mut answer =
        |at, found: &[&str]| schedule.answered(&pay, Some(&addresses(found)), start + seconds(at));
    assert_eq!(answer(0, &["203.0.113.1"]), Some(News::Changed));
    assert_eq!(answer(30, &["203.0.113.1"]), None, "nothing new");
    assert_eq!(answer(60, &["203.0.113.2"]), Some(News::Changed), "answers rotate");
    let rest = |schedule: &Schedule| schedule.answers().remove(&pay).unwrap_or_default();
    assert_eq!(rest(&schedule), addresses(&["203.0.113.1", "203.0.113.2"]));
    assert!(!schedule.expire(start + seconds(330)));
    assert!(schedule.expire(start + seconds(331)), "the first was seen last at 30");
    assert_eq!(rest(&schedule), addresses(&["203.0.113.2"]));
    assert_eq!(
        schedule.answered(&pay, Some(&[]), start + seconds(340)),
        None,
        "an empty answer closes nothing yet"
    );
    assert!(schedule.expire(start + seconds(361)));
    assert!(rest(&schedule).is_empty());
}

#[test]
fn a_name_that_is_not_wanted_any_more_loses_its_addresses_at_once() {
    let now = Instant::now();
    let mut schedule = Schedule::new(PACE);
    let (pay, wanted) = (key("shop", "pay.example"), keys(&[("shop", "pay.example")]));
    schedule.want(&wanted, now);
    schedule.answered(&pay, Some(&addresses(&["203.0.113.1"])), now);
    assert!(!schedule.want(&wanted, now), "nothing goes while it is wanted");
    assert!(schedule.want(&BTreeSet::new(), now));
    assert!(schedule.answers().is_empty());
    // What is still under way finds nobody.
    assert_eq!(schedule.answered(&pay, Some(&addresses(&["203.0.113.1"])), now), None);
    assert!(schedule.answers().is_empty());
}

#[test]
fn a_name_that_fails_keeps_what_it_had_and_is_asked_for_ever_more_seldom() {
    let start = Instant::now();
    let mut schedule = Schedule::new(PACE);
    let pay = key("shop", "pay.example");
    schedule.want(&keys(&[("shop", "pay.example")]), start);
    schedule.answered(&pay, Some(&addresses(&["203.0.113.1"])), start);
    let mut now = start + seconds(30);
    let mut waited = Vec::new();
    for failure in 0..4 {
        let news = schedule.answered(&pay, None, now);
        assert_eq!(news, (failure == 0).then_some(News::Failed), "it is told once");
        let mut wait = seconds(1);
        while schedule.take(now + wait).is_none() {
            wait += seconds(1);
        }
        schedule.is_back(&pay.0);
        waited.push(wait.as_secs());
        now += wait;
    }
    assert_eq!(waited, [60, 75, 75, 75], "a quarter of what it is kept for at most");
    assert!(!schedule.answers().is_empty());
}

#[test]
fn a_name_has_so_many_addresses_at_most_and_those_seen_last_stay() {
    let now = Instant::now();
    let mut schedule = Schedule::new(PACE);
    let pay = key("shop", "pay.example");
    schedule.want(&keys(&[("shop", "pay.example")]), now);
    let old: Vec<IpAddr> = (0..200).map(|last| IpAddr::from([203, 0, 113, last])).collect();
    schedule.answered(&pay, Some(&old), now);
    assert_eq!(schedule.answers()[&pay], old[..ADDRESSES], "the lowest of those seen together");
    let new = addresses(&["198.51.100.1", "203.0.114.1"]);
    schedule.answered(&pay, Some(&new), now + seconds(30));
    let known = &schedule.answers()[&pay];
    assert_eq!(known.len(), ADDRESSES);
    assert!(new.iter().all(|address| known.contains(address)), "{known:?}");
}

#[test]
fn turns_go_round_by_tenant_each_has_one_at_a_time_and_none_is_long() {
    let now = Instant::now();
    let mut schedule = Schedule::new(PACE);
    let many: Vec<String> = (0..3 * TURN).map(|number| format!("h{number}.example")).collect();
    let mut wanted: BTreeSet<Key> = many.iter().map(|host| key("a-flood", host)).collect();
    wanted.extend(keys(&[("shop", "pay.example"), ("bank", "swift.example")]));
    schedule.want(&wanted, now);
    let (flood, first) = schedule.take(now).unwrap();
    assert_eq!((flood.as_str(), first.len()), ("a-flood", TURN));
    // While its turn is under way, however long that takes, the others have theirs.
    let mut others: Vec<String> = Vec::new();
    while let Some((tenant, hosts)) = schedule.take(now) {
        assert_eq!(hosts.len(), 1);
        others.push(tenant.to_string());
    }
    assert_eq!(others, ["bank", "shop"]);
    for host in first {
        schedule.answered(&(flood.clone(), host), None, now);
    }
    schedule.is_back(&flood);
    for other in &others {
        schedule.is_back(&TenantId::Tenant(other.as_str().try_into().unwrap()));
    }
    // Who was not answered is asked for again, in its turn.
    let mut round = Vec::new();
    while let Some((tenant, _)) = schedule.take(now) {
        round.push(tenant.to_string());
    }
    assert_eq!(round, ["a-flood", "bank", "shop"]);
}

/// Knows what it is told to; blocks on what it is not told of, until its other end goes.
#[derive(Debug)]
struct Fake {
    known: HashMap<HostName, Vec<IpAddr>>,
    asked: SyncSender<HostName>,
}

impl Resolve for Fake {
    fn resolve(&self, host: &HostName) -> io::Result<Vec<IpAddr>> {
        self.asked.send(host.clone()).ok();
        if host.as_str() == "panic.example" {
            panic!("a resolver that breaks");
        }
        self.known.get(host).cloned().ok_or_else(|| io::Error::other("no such host"))
    }
}

fn names(known: &[(&str, &[&str])]) -> (Names, Receiver<HostName>) {
    let known = known.iter().map(|(host, found)| ((*host).try_into().unwrap(), addresses(found))).collect();
    let (asked, seen) = sync_channel(64);
    let node: Arc<[IpAddr]> = addresses(&["192.0.2.1"]).into();
    (Names::new(Arc::new(Fake { known, asked }), PACE, node), seen)
}

/// A mesh of these tenants, each with a namespace of its name, and entries: namespace, host, whether it is for all.
fn mesh(tenants: &[(&str, Egress)], entries: &[(&str, &str, bool)]) -> Mesh {
    let mut mesh = Mesh::default();
    for (name, egress) in tenants {
        let id = TenantId::Tenant((*name).try_into().unwrap());
        let namespace = Namespace::try_from(*name).unwrap();
        mesh.membership.insert(namespace.clone(), id.clone());
        let tenant = Tenant {
            id: id.clone(),
            namespaces: vec![namespace],
            isolation: Isolation::default(),
            egress: *egress,
            budget: Budget::default(),
            owner: None,
            left_out: 0,
        };
        mesh.tenants.insert(id, Arc::new(tenant));
    }
    for (number, (namespace, host, every_tenant)) in entries.iter().enumerate() {
        let name = format!("e{number}");
        let name = EntryName::new((*namespace).try_into().unwrap(), name.as_str().try_into().unwrap());
        let entry = ServiceEntry {
            name: name.clone(),
            addresses: Vec::new(),
            ports: vec![443],
            endpoints: Vec::new(),
            hosts: vec![(*host).try_into().unwrap()],
            audience: Audience { every_tenant: *every_tenant, namespaces: None },
        };
        mesh.service_entries.insert(name, Arc::new(entry));
    }
    mesh
}

/// Turns until something changes.
fn until_changed(names: &mut Names) {
    for _ in 0..6000 {
        if names.turn() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("nothing changed: {names:?}");
}

#[test]
fn only_names_for_tenants_that_are_kept_to_the_mesh_are_looked_up() {
    let tenants = [("shop", Egress::Mesh), ("bank", Egress::Any), ("root", Egress::Any)];
    let entries = [("shop", "a.example", false), ("bank", "b.example", false), ("root", "c.example", true)];
    assert_eq!(wanted(&mesh(&tenants, &entries)), keys(&[("shop", "a.example"), ("root", "c.example")]));
    let free = tenants.map(|(name, _)| (name, Egress::Any));
    assert!(wanted(&mesh(&free, &entries)).is_empty());
}

#[test]
fn what_is_found_is_opened_but_for_what_means_the_node_or_nobody() {
    let found: &[&str] = &[
        "203.0.113.7",
        "2001:db8::7",
        "10.1.2.3",
        "::ffff:203.0.113.9",
        "192.0.2.1",
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "169.254.169.254",
        "fe80::1",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:127.0.0.1",
    ];
    let (mut names, _asked) = names(&[("pay.example", found)]);
    let mesh = mesh(&[("shop", Egress::Mesh)], &[("shop", "pay.example", false)]);
    names.want(&mesh);
    until_changed(&mut names);
    let answers = names.answers();
    let opened = addresses(&["10.1.2.3", "203.0.113.7", "203.0.113.9", "2001:db8::7"]);
    assert_eq!(answers[&key("shop", "pay.example")], opened);
    let entry = mesh.service_entries.values().next().unwrap();
    assert_eq!(super::found(&answers, &key("shop", "x").0, entry), opened);
    assert!(
        super::found(&answers, &key("bank", "x").0, entry).is_empty(),
        "one tenant's answers are not another's"
    );
}

#[test]
fn a_resolver_that_panics_or_knows_nothing_ends_its_turn_and_no_other() {
    let (mut names, asked) = names(&[("ok.example", &["203.0.113.7"])]);
    let tenants = [("bad", Egress::Mesh), ("none", Egress::Mesh), ("shop", Egress::Mesh)];
    let entries =
        [("bad", "panic.example", false), ("none", "no.example", false), ("shop", "ok.example", false)];
    names.want(&mesh(&tenants, &entries));
    until_changed(&mut names);
    assert_eq!(names.answers().len(), 1);
    // The one that broke is not counted as under way for ever: it is asked for again.
    let panics = |host: &HostName| host.as_str() == "panic.example";
    let mut seen = 0;
    for _ in 0..6000 {
        names.turn();
        seen += asked.try_iter().filter(panics).count();
        if seen > 1 {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("asked {seen} times: {names:?}");
}
