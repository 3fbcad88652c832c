//! What the pool keeps, for how long, and what it lets go: over real connections on loopback.

use std::{cell::Cell, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::upstream::{UpstreamError, connect::Connected};

const CHOICE: Choice = Choice { delivery: Delivery::Network, why: crate::upstream::choice::Why::NotMeshed };
const IDLE: Duration = Duration::from_secs(60);

/// A pool, and a server that answers every request with nothing and counts its open connections.
struct World {
    pool: Rc<Pool>,
    address: SocketAddr,
    open: Rc<Cell<usize>>,
}

impl World {
    async fn new(most_idle: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Rc::<Cell<usize>>::default();
        let counted = Rc::clone(&open);
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.set(counted.get() + 1);
                tokio::task::spawn_local(answer(stream, Rc::clone(&counted)));
            }
        });
        Self { pool: Pool::new(Settings { idle: IDLE, most_idle, head_bytes: 8192 }), address, open }
    }

    /// Keys that differ in the client's address.
    fn key(&self, client: u8, protocol: Protocol) -> Key {
        let client = Ipv4Addr::new(10, 0, 0, client).into();
        Key {
            address: self.address,
            client,
            tree: 1,
            side: Side::Outbound,
            protocol,
            delivery: CHOICE.delivery,
        }
    }

    async fn lease(&self, key: Key) -> Lease {
        self.pool.bucket(key).lease(|| connect(self.address)).await.unwrap()
    }

    /// One request, whose connection is given back.
    async fn ask(&self, client: u8) {
        let mut lease = self.lease(self.key(client, Protocol::Http1)).await;
        ask_on(&mut lease).await;
        let Lease::Http1(lease) = lease else { unreachable!("the key says HTTP/1.1") };
        lease.settle();
    }

    fn has(&self, client: u8, protocol: Protocol) -> bool {
        self.pool.bucket(self.key(client, protocol)).ready().is_some()
    }
}

async fn answer(mut stream: TcpStream, open: Rc<Cell<usize>>) {
    let mut buffer = vec![0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if buffer[..read].starts_with(b"GET") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    }
    open.set(open.get() - 1);
}

async fn connect(address: SocketAddr) -> Result<Connected, UpstreamError> {
    let stream = TcpStream::connect(address).await.unwrap();
    Ok(Connected { stream: stream.into(), choice: CHOICE, took: Duration::ZERO, shortcut: None })
}

async fn ask_on(lease: &mut Lease) {
    let request = Request::get("/").header("host", "a").body(Upload::Empty).unwrap();
    assert_eq!(lease.send(request).await.unwrap().status(), 200);
}

/// Waits for what follows; a busy machine takes its time.
async fn until(done: impl Fn() -> bool) {
    for _ in 0..6000 {
        if done() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("it never was");
}

async fn on_a_cell(test: impl Future<Output = ()>) {
    timeout(Duration::from_secs(3600), LocalSet::new().run_until(test)).await.expect("the test hangs");
}

#[tokio::test]
async fn no_more_are_idle_than_the_cell_may_keep_and_the_oldest_go_first() {
    on_a_cell(async {
        let world = World::new(8).await;
        for client in 0..12 {
            world.ask(client).await;
            assert!(world.pool.connections() <= 8, "{} after {client}", world.pool.connections());
        }
        let kept: Vec<u8> = (0..12).filter(|client| world.has(*client, Protocol::Http1)).collect();
        assert_eq!(kept, (4..12).collect::<Vec<_>>());
        // `has` took and dropped them, trimming the rest.
        until(|| world.open.get() == 0).await;
    })
    .await;
}

#[tokio::test]
async fn idle_http2_connections_count_too_and_busy_ones_stay() {
    on_a_cell(async {
        let world = World::new(8).await;
        let busy = world.lease(world.key(0, Protocol::Http2)).await;
        for client in 1..20 {
            drop(world.lease(world.key(client, Protocol::Http2)).await);
        }
        sleep(2 * SWEEP_EVERY).await;
        assert_eq!(world.pool.connections(), 9);
        assert!(world.has(0, Protocol::Http2) && !world.has(11, Protocol::Http2));
        drop(busy);
    })
    .await;
}

#[tokio::test]
async fn what_is_idle_for_too_long_is_swept() {
    on_a_cell(async {
        let world = World::new(8).await;
        world.ask(1).await;
        world.ask(2).await;
        // From here on, time passes only when everybody waits.
        tokio::time::pause();
        let begun = Instant::now();
        sleep(IDLE - 3 * SWEEP_EVERY).await;
        assert_eq!(world.pool.connections(), 2, "{:?}", begun.elapsed());
        sleep(5 * SWEEP_EVERY).await;
        assert_eq!(world.pool.connections(), 0);
        assert!(world.pool.buckets.borrow().is_empty(), "nor are their keys kept");
    })
    .await;
}

#[tokio::test]
async fn a_connection_the_endpoint_closes_is_swept_at_once() {
    on_a_cell(async {
        let world = World::new(8).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = Key { address, ..world.key(1, Protocol::Http1) };
        let mut lease = world.pool.bucket(key).lease(|| connect(address)).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let serve = async {
            let _request = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        };
        tokio::join!(ask_on(&mut lease), serve);
        let Lease::Http1(lease) = lease else { unreachable!("the key says HTTP/1.1") };
        lease.settle();
        assert_eq!(world.pool.connections(), 1);
        drop(stream);
        let begun = Instant::now();
        until(|| world.pool.connections() == 0).await;
        assert!(begun.elapsed() < IDLE / 2, "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test]
async fn what_led_to_a_pod_that_is_gone_is_never_lent_again() {
    on_a_cell(async {
        let world = World::new(8).await;
        world.ask(1).await;
        drop(world.lease(world.key(2, Protocol::Http2)).await);
        let mut in_use = world.lease(world.key(3, Protocol::Http1)).await;
        let stream = world.lease(world.key(4, Protocol::Http2)).await;
        // Whoever holds a bucket goes on with it.
        let held = world.pool.bucket(world.key(3, Protocol::Http1));
        let late = world.pool.bucket(world.key(5, Protocol::Http1));
        let address = world.address;
        let connecting = late.lease(|| async {
            sleep(Duration::from_millis(50)).await;
            connect(address).await
        });
        let retiring = async {
            sleep(Duration::from_millis(20)).await;
            world.pool.retire(|key| key.address == world.address);
        };
        let (late, ()) = tokio::join!(connecting, retiring);
        assert_eq!(world.pool.connections(), 0);
        assert!(!world.has(4, Protocol::Http2), "a stream goes on, but no new one is opened beside it");
        ask_on(&mut in_use).await;
        for lease in [in_use, late.unwrap()] {
            if let Lease::Http1(lease) = lease {
                lease.settle();
            }
        }
        drop(stream);
        assert_eq!(world.pool.connections(), 0);
        assert!(held.ready().is_none());
        until(|| world.open.get() == 0).await;
        world.ask(3).await;
        assert_eq!(world.pool.connections(), 1, "new ones are kept");
    })
    .await;
}
