//! Ways past the network between two tenants of which one cell's configuration is older than the other's.

use config::{
    model::{LabelSelector, NamespaceFacts, NetworkPolicy},
    name::PolicyName,
};

use super::{
    handoff::{echo, knows_teller, teller},
    *,
};
use crate::snapshot::network::PodNetwork;

/// A network in which nobody may reach the server's pod.
fn isolated(network: &Network) -> Arc<Network> {
    let teller = teller().pod;
    let policy = NetworkPolicy {
        name: PolicyName::new(teller.namespace.clone(), teller.name.clone()),
        pods: LabelSelector::default(),
        ingress: Some(Vec::new()),
        egress: None,
        unreadable: false,
    };
    let mut pods = network.pods.clone();
    pods.insert(teller, Arc::new(PodNetwork { ingress: vec![Arc::new(policy)], egress: Vec::new() }));
    let facts = |name: &str| {
        let name = Namespace::try_from(name).unwrap();
        (name.clone(), Arc::new(NamespaceFacts { name, labels: Labels::new() }))
    };
    Arc::new(Network { pods, namespaces: ["shop", "bank"].map(facts).into() })
}

/// Changes what one tenant knows of the network.
fn told(snapshot: &mut Snapshot, change: impl FnOnce(&Network) -> Arc<Network>) {
    let network = change(&snapshot.directory.network);
    snapshot.directory = Arc::new(Directory { network, ..Directory::clone(&snapshot.directory) });
}

async fn until_planted(world: &World) -> ForestDescription {
    let forest = world.until("two trees", |forest| trees(forest).len() == 2).await;
    // The last of them may be on the board a moment later.
    thread::sleep(Duration::from_millis(50));
    forest
}

fn refusals(forest: &ForestDescription) -> u64 {
    let of_bank = |cell: &CellDescription| cell.usage.refusals.get("network_policy").copied();
    cell(forest, "bank").and_then(of_bank).unwrap_or_default()
}

fn open(forest: &ForestDescription) -> u64 {
    cell(forest, "bank").map_or(0, |cell| cell.usage.connections_open)
}

#[tokio::test]
async fn a_receiver_lets_nothing_past_the_network_that_it_does_not_know_to_be_allowed_itself() {
    let unknown = |network: &Network| {
        let mut pods = network.pods.clone();
        pods.retain(|pod, _| pod.namespace.as_str() == "bank");
        Arc::new(Network { pods, ..Network::default() })
    };
    let same = |network: &Network| Arc::new(Network { pods: network.pods.clone(), ..Network::default() });
    type Knows = fn(&Network) -> Arc<Network>;
    let rows: [(&str, Knows, bool); 3] = [
        ("the receiver is isolated", isolated, false),
        ("the caller is not known yet", unknown, false),
        ("nothing stands against it", same, true),
    ];
    for (what, bank_knows, is_handed_over) in rows {
        let mut world = World::new();
        let directory = knows_teller(0, AppProtocol::Undeclared);
        // The caller's cell knows of no policy.
        world.apply_each([workload("shop/cart", &own()), teller()], &directory, |snapshot| {
            if snapshot.tenant.as_str() == "bank" {
                told(snapshot, bank_knows);
            }
        });
        let forest = until_planted(&world).await;
        let mut cart = world.connect(&forest, "shop/cart", echo());
        assert!(says(&mut cart, "by hand or across the network"), "{what}");
        let forest = world.forest.describe().await;
        let expected = if is_handed_over { (0, 1) } else { (1, 0) };
        assert_eq!((refusals(&forest), open(&forest)), expected, "{what}");
    }
}

#[tokio::test]
async fn a_caller_that_is_behind_keeps_nothing_that_its_receiver_s_cell_knows_to_be_forbidden_by_now() {
    let mut world = World::new();
    let directory = knows_teller(0, AppProtocol::Undeclared);
    let pods = || [workload("shop/cart", &own()), teller()];
    world.apply_workloads(pods(), &directory);
    let forest = until_planted(&world).await;
    let mut cart = world.connect(&forest, "shop/cart", echo());
    assert!(says(&mut cart, "handed over"));
    world.apply_each(pods(), &directory, |snapshot| {
        if snapshot.tenant.as_str() == "bank" {
            told(snapshot, isolated);
        }
    });
    let end = cart.read(&mut [0; 8]);
    assert!(end.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset), "{end:?}");
    let mut cart = world.connect(&forest, "shop/cart", echo());
    assert!(says(&mut cart, "across the network"));
}
