//! More bytes than a relay copies: they go from socket to socket through pipes, and through tunnels as they were read.

use super::{tunnels::Pair, *};
use crate::relay::splice::{pipes, take_all};

const BYTES: usize = 24 * 1024 * 1024;

/// No part of it is like another, so that nothing can be lost, doubled or moved unseen.
fn pattern() -> Vec<u8> {
    (0..BYTES / 4)
        .flat_map(|word| u32::try_from(word).unwrap().wrapping_mul(0x9e37_79b1).to_ne_bytes())
        .collect()
}

/// A connection to a server, both ends.
async fn connected(world: &World) -> (TcpStream, TcpStream) {
    let server = world.server(AppProtocol::Tcp).await;
    let client = world.dial(server.vip).await;
    (client, server.listener.accept().await.unwrap().0)
}

/// Reads to the end, now and then not at all.
async fn read_haltingly(stream: &mut TcpStream) -> Vec<u8> {
    let (mut read, mut chunk) = (Vec::new(), vec![0; 300_000]);
    loop {
        match stream.read(&mut chunk).await.unwrap() {
            0 => return read,
            some => read.extend_from_slice(&chunk[..some]),
        }
        if read.len() % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn goes_whole(from: &mut TcpStream, to: &mut TcpStream) {
    let bytes = pattern();
    let send = async {
        from.write_all(&bytes).await.unwrap();
        from.shutdown().await.unwrap();
    };
    let ((), read) = tokio::join!(send, read_haltingly(to));
    assert!(read == bytes, "{} bytes of {}, or others", read.len(), bytes.len());
}

/// Writes until nothing has moved for a while: then every buffer on the way is full.
async fn fill(stream: &mut TcpStream) {
    let chunk = vec![7; 256 * 1024];
    while let Ok(written) = timeout(Duration::from_millis(100), stream.write(&chunk)).await {
        written.unwrap();
    }
}

/// Reads only what fits before the reset is noticed.
async fn ends_in_a_reset(stream: &mut TcpStream) {
    let mut read = vec![0; 64 * 1024];
    let cut = loop {
        match stream.read(&mut read).await {
            Ok(0) => break false,
            Ok(_) => {}
            Err(_reset) => break true,
        }
    };
    assert!(cut, "what was cut short looks complete");
}

#[test]
fn bulk_goes_through_pipes_both_ways_whole_in_order_and_with_its_end() {
    on_a_cell(async {
        let world = World::new();
        let (mut client, mut server) = connected(&world).await;
        goes_whole(&mut client, &mut server).await;
        assert!(pipes().0 > 0, "nothing went through a pipe");
        goes_whole(&mut server, &mut client).await;
        world.emptied(1).await;
        let ledger = &world.cell.ledger;
        let carried = (ledger.bytes_received.load(Relaxed), ledger.bytes_sent.load(Relaxed));
        assert_eq!(carried, (BYTES as u64, BYTES as u64));
    });
}

#[test]
fn bulk_goes_through_a_tunnel_both_ways_whole_in_order_and_with_its_end() {
    on_a_cell(async {
        let pair = Pair::new().await;
        let (mut client, mut server) = pair.connect().await;
        goes_whole(&mut client, &mut server).await;
        goes_whole(&mut server, &mut client).await;
        pair.caller.emptied(1).await;
        for ledger in [&pair.caller.cell.ledger, &pair.callee.cell.ledger] {
            let carried = (ledger.bytes_received.load(Relaxed), ledger.bytes_sent.load(Relaxed));
            assert_eq!(carried, (BYTES as u64, BYTES as u64));
        }
    });
}

#[test]
fn bulk_through_a_tunnel_that_is_cut_short_ends_in_a_reset() {
    on_a_cell(async {
        let pair = Pair::new().await;
        for from_client in [true, false] {
            let (mut from, mut to) = pair.connect().await;
            if !from_client {
                std::mem::swap(&mut from, &mut to);
            }
            fill(&mut from).await;
            socket::reset(&from);
            drop(from);
            ends_in_a_reset(&mut to).await;
        }
    });
}

#[test]
fn where_no_pipe_can_be_had_bulk_is_copied_and_counted() {
    on_a_cell(async {
        let world = World::new();
        let (mut client, mut server) = connected(&world).await;
        let all = take_all();
        goes_whole(&mut client, &mut server).await;
        drop(all);
        let copied = world.cell.ledger.bulk_copied.load(Relaxed);
        assert!(copied > 0 && copied <= BYTES as u64, "{copied}");
        goes_whole(&mut server, &mut client).await;
        assert_eq!(world.cell.ledger.bulk_copied.load(Relaxed), copied, "which went through pipes");
    });
}

#[test]
fn peers_that_stop_reading_leave_a_pipe_to_those_that_read() {
    on_a_cell(async {
        let world = World::new();
        let ledger = &world.cell.ledger;
        let mut stuck = Vec::new();
        while ledger.bulk_copied.load(Relaxed) == 0 {
            let (mut client, server) = connected(&world).await;
            fill(&mut client).await;
            stuck.push((client, server));
            assert!(stuck.len() < 20, "{:?}", pipes());
        }
        assert_eq!(pipes(), (8, 1), "what the last of them would not take is copied out");
        let standing = ledger.piped.load(Relaxed);
        assert!(standing > 0 && standing <= 7 * 256 * 1024, "{standing}");
        let before = ledger.bulk_copied.load(Relaxed);
        let (mut client, mut server) = connected(&world).await;
        goes_whole(&mut client, &mut server).await;
        let copied = ledger.bulk_copied.load(Relaxed) - before;
        assert!(copied < BYTES as u64 / 2, "{copied} bytes of {BYTES}");
        // The stuck ones have lost nothing either, and give their pipes back.
        for (client, server) in &mut stuck {
            client.shutdown().await.unwrap();
            assert!(read_all(server).await.iter().all(|byte| *byte == 7));
        }
        let (made, free) = pipes();
        assert_eq!((made, ledger.piped.load(Relaxed)), (free, 0), "who waits holds none");
    });
}

#[test]
fn a_connection_between_two_bursts_holds_no_pipe() {
    on_a_cell(async {
        let world = World::new();
        let (mut client, mut server) = connected(&world).await;
        let bytes = vec![7; BYTES];
        for _ in 0..2 {
            let mut read = vec![0; BYTES];
            let (sent, come) = tokio::join!(client.write_all(&bytes), server.read_exact(&mut read));
            sent.unwrap();
            assert_eq!(come.unwrap(), BYTES);
            flows(&mut server, &mut client).await;
            let (made, free) = pipes();
            assert!(made > 0 && made == free, "{made} {free}");
        }
    });
}

#[test]
fn bulk_that_is_cut_short_ends_in_a_reset_and_leaves_no_pipe() {
    on_a_cell(async {
        let world = World::new();
        let (mut client, mut server) = connected(&world).await;
        fill(&mut client).await;
        assert_eq!(pipes(), (1, 0), "it is stuck with bytes in a pipe");
        socket::reset(&client);
        drop(client);
        ends_in_a_reset(&mut server).await;
        world.emptied(1).await;
        let (made, free) = pipes();
        assert_eq!(made, free);
    });
}
