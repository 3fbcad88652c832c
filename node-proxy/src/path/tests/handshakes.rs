//! Who dials a pod's port for tunnels and does not go on keeps nobody else out, from however many addresses.

use std::net::{IpAddr, Ipv4Addr};

use super::{tunnels::Pair, *};
use crate::cell::Bound;

/// More than there are places for.
const MANY: u8 = 40;

/// Connections to the callee's port for tunnels, each from the address that its number has, with these first bytes. One that
/// finds no place may be reset before it is there.
async fn flood(pair: &Pair, from: impl Fn(u8) -> u8, says: &[u8]) -> Vec<Option<TcpStream>> {
    let mut all = Vec::new();
    for number in 0..MANY {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        let address = Ipv4Addr::new(127, 0, 1, from(number));
        socket.bind(SocketAddr::new(IpAddr::V4(address), 0)).unwrap();
        let mut stream = socket.connect(SocketAddr::new(pair.address.ip(), hbone::PORT)).await.ok();
        if let Some(stream) = &mut stream {
            let _ = stream.write_all(says).await;
        }
        all.push(stream);
    }
    all
}

/// How many of them are left, once no more than `most` are.
async fn left(pair: &Pair, most: u64) -> u64 {
    let left = || u64::from(MANY) - pair.callee.cell.ledger.refusals(Reason::HandshakeLimit);
    while left() > most {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // One too many would go now.
    tokio::time::sleep(Duration::from_millis(50)).await;
    left()
}

async fn pair() -> Pair {
    Pair::with(|limits| limits.handshakes = Bound { all: 16, each: 8 }).await
}

async fn is_served(pair: &Pair) {
    let (mut client, mut server) = timeout(Duration::from_secs(30), pair.connect()).await.unwrap();
    flows(&mut client, &mut server).await;
}

#[test]
fn an_address_that_begins_many_handshakes_and_goes_on_with_none_has_half_a_pods_places() {
    on_a_cell(async {
        let pair = pair().await;
        // The beginning of a record, so that each has said something.
        let _all = flood(&pair, |_| 1, b"\x16\x03").await;
        assert_eq!(left(&pair, 4).await, 4);
        is_served(&pair).await;
        assert_eq!(left(&pair, 4).await, 4, "and who had a place keeps it");
    });
}

#[test]
fn silence_from_many_addresses_makes_room_for_who_speaks() {
    on_a_cell(async {
        let pair = pair().await;
        let mut all = flood(&pair, |number| 1 + number, b"").await;
        assert_eq!(left(&pair, 8).await, 8);
        is_served(&pair).await;
        assert_eq!(left(&pair, 7).await, 7, "the oldest that was left made room");
        assert!(reads_reset(all[0].as_mut().unwrap()).await);
    });
}
