//! Ways past the network between two tenants of which one cell's configuration is older than the other's.

use config::{
    model::{LabelSelector, NamespaceFacts, NetworkPolicy},
    name::PolicyName,
};

use super::{
    handoff::{echo, knows_teller, server, teller},
    *,
};
use crate::snapshot::network::PodNetwork;

/// A network in which nobody may reach the server's pod.
fn isolated(network: &Network) -> Arc<Network> {
    let into = NetworkPolicy { ingress: Some(Vec::new()), ..says_nothing("bank") };
    limited(network, teller().pod, PodNetwork { ingress: vec![Arc::new(into)], egress: Vec::new() })
}

/// A network in which the caller's pod may reach nobody.
fn confined(network: &Network) -> Arc<Network> {
    let out = NetworkPolicy { egress: Some(Vec::new()), ..says_nothing("shop") };
    let cart = workload("shop/cart", &own()).pod;
    limited(network, cart, PodNetwork { ingress: Vec::new(), egress: vec![Arc::new(out)] })
}

fn says_nothing(namespace: &str) -> NetworkPolicy {
    NetworkPolicy {
        name: PolicyName::new(namespace.try_into().unwrap(), "p".try_into().unwrap()),
        pods: LabelSelector::default(),
        ingress: None,
        egress: None,
        unreadable: false,
    }
}

fn limited(network: &Network, pod: PodName, policies: PodNetwork) -> Arc<Network> {
    let mut pods = network.pods.clone();
    pods.insert(pod, Arc::new(policies));
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

fn refusals(forest: &ForestDescription, tenant: &str) -> u64 {
    let of_cell = |cell: &CellDescription| cell.usage.refusals.get("network_policy").copied();
    cell(forest, tenant).and_then(of_cell).unwrap_or_default()
}

fn open(forest: &ForestDescription) -> u64 {
    cell(forest, "bank").map_or(0, |cell| cell.usage.connections_open)
}

#[tokio::test]
async fn a_receiver_lets_nothing_past_the_network_that_its_own_policies_are_not_known_to_let_in() {
    let unknown = |network: &Network| {
        let mut pods = network.pods.clone();
        pods.retain(|pod, _| pod.namespace.as_str() == "bank");
        Arc::new(Network { pods, ..Network::default() })
    };
    let same = |network: &Network| Arc::new(Network { pods: network.pods.clone(), ..Network::default() });
    type Knows = fn(&Network) -> Arc<Network>;
    let rows: [(&str, Knows, bool); 4] = [
        ("the receiver is isolated", isolated, false),
        ("the caller is not known yet", unknown, false),
        ("nothing stands against it", same, true),
        ("what the caller's policies say is for the caller's cell to know", confined, true),
    ];
    for (what, bank_knows, is_handed_over) in rows {
        let mut world = World::new();
        let directory = knows_teller(0, AppProtocol::Undeclared);
        // The caller's cell knows of none.
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
        assert_eq!((refusals(&forest, "bank"), open(&forest)), expected, "{what}");
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

#[tokio::test]
async fn a_caller_s_own_policies_are_its_own_cell_s_to_keep_whatever_the_receiver_s_knows() {
    let app = server(|mut stream| {
        let mut asked = [0; 1024];
        while stream.read(&mut asked).is_ok_and(|read| read > 0) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
        }
    });
    let mut world = World::new();
    let directory = knows_teller(app.port(), AppProtocol::Http1);
    let pods = || [workload("shop/cart", &own()), teller()];
    world.apply_workloads(pods(), &directory);
    let forest = until_planted(&world).await;
    let mut opaque = world.connect(&forest, "shop/cart", echo());
    assert!(says(&mut opaque, "handed over"));
    let mut requests = world.connect(&forest, "shop/cart", app);
    assert!(is_answered(&mut requests));
    assert_eq!(open(&world.forest.describe().await), 2, "one is kept for the next request");
    world.apply_each(pods(), &directory, |snapshot| {
        if snapshot.tenant.as_str() == "shop" {
            told(snapshot, confined);
        }
    });
    let end = opaque.read(&mut [0; 8]);
    assert!(end.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset), "{end:?}");
    world.until("what was handed over is cut, in use or not", |forest| open(forest) == 0).await;
    assert!(is_answered(&mut requests), "across the network");
    let mut opaque = world.connect(&forest, "shop/cart", echo());
    assert!(says(&mut opaque, "across the network"));
    let forest = world.forest.describe().await;
    assert_eq!((refusals(&forest, "shop"), refusals(&forest, "bank"), open(&forest)), (1, 0, 0));
}

#[tokio::test]
async fn what_had_to_go_across_the_network_instead_is_logged_so_also_where_it_is_pooled_or_fails() {
    let app = server(|mut stream| {
        let mut asked = [0; 1024];
        while stream.read(&mut asked).is_ok_and(|read| read > 0) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
        }
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    let target = Target::File(file.path().to_owned());
    let mut world = World::logging(OnStop::Open, Duration::from_millis(100), target);
    let directory = knows_teller(app.port(), AppProtocol::Http1);
    world.apply_each([workload("shop/cart", &own()), teller()], &directory, |snapshot| {
        if snapshot.tenant.as_str() == "bank" {
            told(snapshot, isolated);
        }
    });
    let forest = until_planted(&world).await;
    let mut requests = world.connect(&forest, "shop/cart", app);
    assert!(is_answered(&mut requests) && is_answered(&mut requests));
    let mut opaque = world.connect(&forest, "shop/cart", SocketAddr::new(app.ip(), NOBODY));
    assert!(!says(&mut opaque, "nobody listens"));
    let ways = || -> Vec<[serde_json::Value; 3]> {
        let text = std::fs::read_to_string(file.path()).unwrap();
        let whole = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let ours = whole.filter(|line| line["direction"] == "outbound");
        ours.map(|line| ["delivery", "delivery_why", "reason"].map(|field| line[field].clone())).collect()
    };
    world.until("all three have their line", |_| ways().len() == 3).await;
    let (none, refused) = (serde_json::Value::Null, serde_json::Value::from("connect_refused"));
    let way = ["network", "network_policy"].map(serde_json::Value::from);
    let expected = [none.clone(), none, refused].map(|reason| [way[0].clone(), way[1].clone(), reason]);
    assert_eq!(ways(), expected);
}

/// A port of nobody's.
const NOBODY: u16 = 9;

fn is_answered(stream: &mut TcpStream) -> bool {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let (mut answer, mut heard) = ([0; 1024], 0);
    while !answer[..heard].ends_with(b"hi") {
        match stream.read(&mut answer[heard..]) {
            Ok(read) if read > 0 => heard += read,
            _ => return false,
        }
    }
    answer.starts_with(b"HTTP/1.1 200 ")
}
