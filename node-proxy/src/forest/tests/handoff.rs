//! Calls from one tenant's cell to another's, and what becomes of them when the receiver's cell does not live on. The
//! receiver's pod has the machine's other loopback address, so that the board can tell the two apart.

use std::{collections::HashMap, io::ErrorKind, net::Ipv6Addr};

use super::*;
use crate::snapshot::WorkloadEntry;

/// As the others', but released by its own test alone.
pub(super) const SPIN: u16 = 4;
pub(super) static RELEASED: AtomicBool = AtomicBool::new(false);

/// A caller in one tenant and a server in another, whose port speaks this.
async fn two_tenants(port: u16, speaks: AppProtocol) -> (World, ForestDescription) {
    let mut world = World::new();
    let (teller, directory) = (teller(), knows_teller(port, speaks));
    world.apply_workloads([workload("shop/cart", &own()), teller], &directory);
    let forest = world.until("two trees", |forest| trees(forest).len() == 2).await;
    // The last of them may be on the board a moment later.
    thread::sleep(Duration::from_millis(50));
    (world, forest)
}

/// Who has the server's address.
pub(super) fn knows_teller(port: u16, speaks: AppProtocol) -> Arc<Directory> {
    let teller = teller();
    let address = teller.addresses[0];
    let entry = WorkloadEntry {
        workload: Arc::new(teller),
        protocols: HashMap::from([(port, speaks)]),
        answers: Vec::new(),
    };
    let workloads = Arc::new(HashMap::from([(address, Arc::new(entry))]));
    Arc::new(Directory { workloads, ..Directory::default() })
}

pub(super) fn teller() -> Workload {
    Workload { addresses: vec![Ipv6Addr::LOCALHOST.into()], ..workload("bank/teller", &own()) }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::LOCALHOST, port))
}

/// A server that answers what it is sent, at the receiver's address.
pub(super) fn echo() -> SocketAddr {
    server(|mut stream| {
        let mut reader = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut reader, &mut stream);
    })
}

pub(super) fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(at(0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn connections(forest: &ForestDescription, tenant: &str) -> u64 {
    cell(forest, tenant).map_or(0, |cell| cell.usage.connections)
}

/// A request's answer, as far as it comes.
fn ask(stream: &mut TcpStream) -> (String, std::io::Result<usize>) {
    let mut text = Vec::new();
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let end = asked.and_then(|()| stream.read_to_end(&mut text));
    (String::from_utf8_lossy(&text).into_owned(), end)
}

async fn restarted(world: &World) -> ForestDescription {
    world
        .until("bank's cell is another", |forest| {
            cell(forest, "bank").is_some_and(|cell| cell.restarts > 0 && cell.state.starts_with("running"))
        })
        .await
}

#[tokio::test]
async fn a_call_to_another_tenant_is_a_connection_of_both_cells() {
    let (world, forest) = two_tenants(0, AppProtocol::Undeclared).await;
    let mut cart = world.connect(&forest, "shop/cart", echo());
    assert!(says(&mut cart, "hello"));
    let forest = world.forest.describe().await;
    assert_eq!((connections(&forest, "shop"), connections(&forest, "bank")), (1, 1));
    let tree = &cell(&forest, "bank").unwrap().trees[0];
    assert_eq!(tree.connections[0].side, "inbound");
    assert_eq!(tree.connections[0].protocol, "tcp");
}

#[tokio::test]
async fn a_receiver_that_is_stuck_keeps_no_caller_waiting_and_cuts_what_it_had() {
    let (world, forest) = two_tenants(SPIN, AppProtocol::Http1).await;
    let mut earlier = world.connect(&forest, "shop/cart", echo());
    assert!(says(&mut earlier, "hello"));
    // Taken by the cell, which does not come back from connecting.
    let mut taken = world.connect(&forest, "shop/cart", at(SPIN));
    let asking = thread::spawn(move || ask(&mut taken));
    thread::sleep(Duration::from_millis(200));
    // Put into its inbox when it is stuck already.
    let mut waiting = world.connect(&forest, "shop/cart", at(SPIN));
    let waits = thread::spawn(move || ask(&mut waiting));
    // While it spins, and while they are patient: what a connection waits for by itself is far longer.
    for (what, (answer, _)) in [("taken", asking.join().unwrap()), ("waiting", waits.join().unwrap())] {
        assert!(answer.starts_with("HTTP/1.1 503 "), "{what}: {answer}");
        assert!(answer.contains("canopy-refused: cell_restarted"), "{what}: {answer}");
    }
    let end = earlier.read(&mut [0; 8]);
    assert!(end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), "{end:?}");

    let forest = restarted(&world).await;
    let mut later = world.connect(&forest, "shop/cart", echo());
    assert!(says(&mut later, "served by the successor"));
    RELEASED.store(true, Relaxed);
}

#[tokio::test]
async fn a_receiver_that_restarts_before_the_head_is_an_answer_and_after_it_a_cut() {
    // It says how much comes, or that the connection's end is the answer's.
    let app = server(|mut stream| {
        let mut asked = [0; 1024];
        let heard = stream.read(&mut asked).unwrap_or_default();
        let sized = asked[..heard].starts_with(b"GET /sized ");
        let framing = if sized { "content-length: 1000" } else { "connection: close" };
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n{framing}\r\n\r\nsome of it");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let (world, forest) = two_tenants(app.port(), AppProtocol::Http1).await;
    // The last is of a client that has no other way to tell an answer's end than the connection's.
    let asks = ["GET /sized HTTP/1.1", "GET /unsized HTTP/1.1", "GET /unsized HTTP/1.0"];
    let begun = asks.map(|ask| {
        let mut begun = world.connect(&forest, "shop/cart", app);
        write!(begun, "{ask}\r\nhost: a\r\n\r\n").unwrap();
        let mut some = [0; 512];
        let mut heard = 0;
        while !String::from_utf8_lossy(&some[..heard]).contains("some of it") {
            heard += begun.read(&mut some[heard..]).unwrap();
        }
        begun
    });
    for _ in 0..3 {
        assert!(ends(world.connect(&forest, "shop/cart", at(PANIC))));
    }
    for (ask, mut begun) in asks.into_iter().zip(begun) {
        let mut rest = Vec::new();
        let end = begun.read_to_end(&mut rest);
        let rest = String::from_utf8_lossy(&rest);
        assert!(matches!(&*rest, "" | "\r\n"), "{ask}: nothing is made up for what was promised: {rest:?}");
        assert!(
            end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
            "{ask}: {end:?}"
        );
    }
    // Until its successor is there, callers are told so at once; then it serves.
    restarted(&world).await;
    let mut later = world.connect(&forest, "shop/cart", echo());
    assert!(says(&mut later, "served by the successor"));
}

#[tokio::test]
async fn a_receiver_that_is_removed_ends_what_was_handed_to_it() {
    let (mut world, forest) = two_tenants(0, AppProtocol::Undeclared).await;
    let mut cart = world.connect(&forest, "shop/cart", echo());
    assert!(says(&mut cart, "hello"));
    world.apply_workloads([workload("shop/cart", &own())], &Arc::default());
    let end = cart.read(&mut [0; 8]);
    assert!(end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), "{end:?}");
    let forest = world.until("one cell", |forest| forest.cells.len() == 1).await;
    assert_eq!(trees(&forest), ["shop/cart"]);
}

#[tokio::test]
async fn what_a_caller_gives_up_is_given_up_at_the_app() {
    let (told, tells) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let app = server(move |mut stream| {
        let told = told.lock().unwrap();
        told.send(stream.read(&mut [0]).map_err(|error| error.kind())).unwrap();
        told.send(stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())).unwrap();
    });
    let (world, forest) = two_tenants(0, AppProtocol::Undeclared).await;
    let mut cart = world.connect(&forest, "shop/cart", app);
    cart.write_all(b"\0 not all of it").unwrap();
    assert_eq!(tells.recv_timeout(PATIENCE).unwrap(), Ok(1));
    socket2::SockRef::from(&cart).set_linger(Some(Duration::ZERO)).unwrap();
    drop(cart);
    let end = tells.recv_timeout(PATIENCE).unwrap();
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}
