//! In whatever order, and in however many parts, resources come: the mesh is the same, and so is what is told.

use std::net::IpAddr;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::discovery::messages::{Action, AppProtocol, Scope};

/// Resources of all kinds of relations, good and bad: versions of each under one name.
fn universe() -> Vec<(Kind, Vec<Resource>)> {
    let named = |name: &str, address: &str, policies: &[&str]| {
        let authorization_policies = policies.iter().map(|name| (*name).to_owned()).collect();
        behind(
            messages::Workload { authorization_policies, ..workload(name, address) },
            "shop/cart",
            &[(80, 8080)],
        )
    };
    let far = |address| messages::Workload {
        uid: "a//Pod/shop/a".to_owned(),
        ..named("shop/a", address, &["shop/p"])
    };
    let service = |port| of_service(service("shop/cart", "10.96.0.9", &[(port, 0, AppProtocol::Tcp)]));
    let policy = |name: &str, scope, port| {
        let rule = only(Match { destination_ports: vec![port], ..Match::default() });
        of_authorization(&authorization(name, scope, Action::Deny, vec![rule]))
    };
    let own =
        |name: &str, listed: &[&str], egress| facts(&format!("tenant/{name}"), &tenant(name, listed, egress));
    let bad = |name: &str| resource(name, vec![0xff]);
    let peers = |mode: &str| {
        facts(
            "shop/m",
            &serde_json::json!({"name": {"namespace": "shop", "name": "m"}, "created": null,
            "scope": {"namespace": "shop"}, "mode": mode, "ports": [], "unreadable": false}),
        )
    };
    vec![
        (
            Kind::Address,
            vec![
                of_workload(named("shop/a", "10.1.0.1", &["shop/p"])),
                of_workload(named("shop/a", "10.1.0.2", &[])),
            ],
        ),
        (Kind::Address, vec![of_workload(far("10.2.0.1")), of_workload(far("10.2.0.2"))]),
        (Kind::Address, vec![of_workload(named("bank/b", "10.1.0.3", &["shop/p", "root/made_up"]))]),
        (Kind::Address, vec![of_workload(workload("other/c", "10.1.0.4"))]),
        (Kind::Address, vec![service(80), service(81)]),
        (
            Kind::Authorization,
            vec![policy("shop/p", Scope::WorkloadSelector, 1), policy("shop/p", Scope::Namespace, 2)],
        ),
        (Kind::Authorization, vec![policy("root/made_up", Scope::WorkloadSelector, 1)]),
        (Kind::Authorization, vec![bad("shop/bad")]),
        (Kind::PeerAuthentication, vec![peers("strict"), peers("permissive")]),
        (Kind::NetworkPolicy, vec![bad("nowhere")]),
        (Kind::Tenant, vec![own("x", &["shop", "bank"], "mesh"), own("x", &["bank"], "any")]),
        (Kind::Tenant, vec![own("y", &["shop"], "any"), own("y", &["shop", "other"], "mesh")]),
        (Kind::Tenant, vec![bad("tenant/z")]),
    ]
}

/// What is done to one of them.
#[derive(Debug, Clone)]
enum Step {
    Set(Index, Index),
    Remove(Index),
    Place(Here),
    Make,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<Index>(), any::<Index>()).prop_map(|(which, version)| Step::Set(which, version)),
        2 => any::<Index>().prop_map(Step::Remove),
        1 => here().prop_map(Step::Place),
        3 => Just(Step::Make),
    ]
}

/// What the machine knows of one of its pods.
#[derive(Debug, Clone, Copy, Default)]
struct Here {
    is_here: bool,
    has_passed_the_gate: bool,
    is_vouched: bool,
}

fn here() -> impl Strategy<Value = Here> {
    any::<[bool; 3]>().prop_map(|[is_here, has_passed_the_gate, is_vouched]| Here {
        is_here,
        has_passed_the_gate,
        is_vouched,
    })
}

impl Here {
    fn tell(self, assembly: &mut Assembly) {
        let mut all = if self.is_here { local(&["shop/a", "other/c"]) } else { local(&["other/c"]) };
        for workload in all.values_mut() {
            let workload = Arc::make_mut(workload);
            workload.exclusions.inbound_ports = vec![9090];
            workload.addresses = vec!["10.1.0.2".parse().unwrap()];
        }
        let one = |is: bool| if is { BTreeSet::from([pod("shop/a")]) } else { BTreeSet::new() };
        assembly.place(all);
        assembly.expect(one(self.has_passed_the_gate));
        assembly.vouch(one(self.is_vouched));
    }
}

/// What somebody who follows it sees of it.
fn seen(made: &Made) -> (Mesh, Rejected, Vec<Finding>, Vec<Arc<Standing>>) {
    (mesh(made), made.rejected.clone(), made.findings.clone(), made.standings.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_order_and_the_parts_in_which_resources_come_make_no_difference(
        order in Just((0..13).collect::<Vec<usize>>()).prop_shuffle(),
        makes in vec(any::<bool>(), 13),
        versions in vec(any::<Index>(), 13),
        here in here(),
    ) {
        let universe = universe();
        let one = |index: usize| (universe[index].0, versions[index].get(&universe[index].1).clone());
        let (mut at_once, mut in_parts) = (assembly(), assembly());
        here.tell(&mut at_once);
        for index in 0..universe.len() {
            at_once.take(one(index).0, vec![one(index).1], &[]);
        }
        for (index, is_made) in order.into_iter().zip(makes) {
            in_parts.take(one(index).0, vec![one(index).1], &[]);
            if is_made {
                in_parts.make();
            }
        }
        here.tell(&mut in_parts);
        prop_assert_eq!(seen(&in_parts.make()), seen(&at_once.make()));
    }

    #[test]
    fn what_is_made_in_steps_is_what_is_made_at_once_of_what_is_left(steps in vec(step(), 1..60)) {
        let universe = universe();
        let mut left: BTreeMap<(Kind, String), Resource> = BTreeMap::new();
        let (mut in_steps, mut placed) = (assembly(), Here::default());
        placed.tell(&mut in_steps);
        let mut before = in_steps.make();
        for step in &steps {
            match step {
                Step::Set(which, version) => {
                    let (kind, versions) = which.get(&universe);
                    let resource = version.get(versions).clone();
                    left.insert((*kind, resource.name.clone()), resource.clone());
                    in_steps.take(*kind, vec![resource], &[]);
                }
                Step::Remove(which) => {
                    let (kind, versions) = which.get(&universe);
                    left.remove(&(*kind, versions[0].name.clone()));
                    in_steps.take(*kind, Vec::new(), &[versions[0].name.clone()]);
                }
                Step::Place(here) => {
                    placed = *here;
                    placed.tell(&mut in_steps);
                }
                Step::Make => {
                    let made = in_steps.make();
                    check_changes(&before, &made)?;
                    before = made;
                }
            }
        }
        let mut at_once = assembly();
        placed.tell(&mut at_once);
        for ((kind, _), resource) in left {
            at_once.take(kind, vec![resource], &[]);
        }
        prop_assert_eq!(seen(&in_steps.make()), seen(&at_once.make()));
    }
}

proptest! {
    #[test]
    fn of_pods_of_one_name_in_several_clusters_this_ones_counts_in_whatever_order_they_come_and_go(
        order in Just(CLUSTERS.to_vec()).prop_shuffle(),
        leave in vec(any::<bool>(), CLUSTERS.len()),
        here in any::<Index>(),
    ) {
        let address = |cluster: &str| format!("10.{}.0.1", CLUSTERS.iter().position(|one| *one == cluster).unwrap());
        let here = *here.get(&CLUSTERS);
        let mut assembly = assembly().in_cluster(here);
        for cluster in &order {
            let uid = format!("{cluster}//Pod/shop/a");
            let said = messages::Workload { uid, ..workload("shop/a", &address(cluster)) };
            assembly.take(Kind::Address, vec![of_workload(said)], &[]);
            assembly.make();
        }
        let mut left: BTreeSet<&str> = order.iter().copied().collect();
        for (cluster, _) in order.iter().zip(leave).filter(|(_, leaves)| *leaves) {
            assembly.take(Kind::Address, Vec::new(), &[format!("{cluster}//Pod/shop/a")]);
            left.remove(cluster);
        }
        let made = assembly.make();
        let first = left.get(here).or(left.first()).copied();
        let counts = made.mesh.workloads.get(&pod("shop/a")).map(|workload| workload.addresses.clone());
        prop_assert_eq!(counts, first.map(|first| vec![address(first).parse().unwrap()]));
        let others = left.iter().filter(|cluster| Some(**cluster) != first);
        let others: BTreeSet<IpAddr> = others.map(|cluster| address(cluster).parse().unwrap()).collect();
        prop_assert_eq!(&made.mesh.guarded, &others, "they are somebody's");
    }
}

/// Names of clusters, the one that the tests' resources are of among them.
const CLUSTERS: [&str; 4] = ["Kubernetes", "East", "a", "kubernetes"];

/// What is named as changed differs, and nothing else does: by the very objects.
fn check_changes(before: &Made, after: &Made) -> Result<(), TestCaseError> {
    fn differing<K: Ord + Clone, V: PartialEq>(
        before: &BTreeMap<K, Arc<V>>,
        after: &BTreeMap<K, Arc<V>>,
    ) -> (Vec<K>, Vec<K>) {
        let keys: BTreeSet<&K> = before.keys().chain(after.keys()).collect();
        let by = |same: &dyn Fn(&Arc<V>, &Arc<V>) -> bool| -> Vec<K> {
            let differs = |key: &&&K| match (before.get(**key), after.get(**key)) {
                (Some(one), Some(other)) => !same(one, other),
                _ => true,
            };
            keys.iter().filter(differs).map(|key| (*key).clone()).collect()
        };
        (by(&|one, other| Arc::ptr_eq(one, other)), by(&|one, other| **one == **other))
    }
    macro_rules! check {
        ($field:ident) => {
            let (by_object, by_value) = differing(&before.mesh.$field, &after.mesh.$field);
            prop_assert_eq!(&by_object, &by_value);
            let mut named = after.changes.$field.clone();
            named.sort();
            prop_assert_eq!(&named, &by_value);
        };
    }
    check!(tenants);
    check!(namespaces);
    check!(workloads);
    check!(services);
    check!(authorization);
    check!(peer_authentication);
    check!(network_policies);
    let differs = !after.changes.is_empty() || after.mesh.guarded != before.mesh.guarded;
    prop_assert_eq!(after.mesh.version, before.mesh.version + u64::from(differs));
    Ok(())
}
