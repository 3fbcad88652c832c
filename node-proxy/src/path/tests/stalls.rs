//! Streams of a tunnel that nobody reads, at one end or the other: its other streams go on.

use ::http::Request;
use bytes::Bytes;
use futures_util::future::join_all;

use super::{tunnels::Pair, *};
use crate::{
    hbone::settings::{MOST_STREAMS, STREAM_WINDOW},
    tenancy::memory::Pressure,
};

/// All that a tunnel of ours has, but one.
const STALLED: usize = MOST_STREAMS - 1;
/// What a socket of a test keeps by itself, about.
const OWN: usize = 16 * 1024;

/// Who writes: the caller, or the app.
#[derive(Debug, Clone, Copy)]
enum Way {
    Up,
    Down,
}

impl Way {
    fn writer(self, (client, server): &mut (TcpStream, TcpStream)) -> &mut TcpStream {
        match self {
            Self::Up => client,
            Self::Down => server,
        }
    }
}

async fn connect(pair: &Pair) -> (TcpStream, TcpStream) {
    let both = pair.connect().await;
    for end in [&both.0, &both.1] {
        let socket = socket2::SockRef::from(end);
        socket.set_recv_buffer_size(OWN).unwrap();
        socket.set_send_buffer_size(OWN).unwrap();
    }
    both
}

/// Writes until nothing has moved for a while: then every buffer on the way is full.
async fn fill(stream: &mut TcpStream) -> usize {
    let chunk = vec![7; 64 * 1024];
    let mut sent = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), stream.write(&chunk)).await {
        sent += written.unwrap();
    }
    sent
}

/// More than a stream's window.
async fn flows_freely(from: &mut TcpStream, to: &mut TcpStream) {
    let bytes = vec![7; 2 * STREAM_WINDOW as usize];
    let mut come = vec![0; bytes.len()];
    let (sent, read) = tokio::join!(from.write_all(&bytes), to.read_exact(&mut come));
    sent.unwrap();
    assert_eq!(read.unwrap(), bytes.len());
}

fn streams_that_nobody_reads_hold_up_no_other(way: Way) {
    on_a_cell(async {
        let pair = Pair::new().await;
        let mut stalled = Vec::new();
        for _ in 0..STALLED {
            stalled.push(connect(&pair).await);
        }
        let sent = join_all(stalled.iter_mut().map(|both| fill(way.writer(both)))).await;
        let all: usize = sent.iter().sum();
        assert!(all > STALLED * STREAM_WINDOW as usize, "each has its window: {all}");
        let (mut client, mut server) = connect(&pair).await;
        flows_freely(&mut client, &mut server).await;
        flows_freely(&mut server, &mut client).await;
        assert_eq!(pair.tunnels(), 1, "all of them in one tunnel");
    });
}

#[test]
fn apps_that_read_nothing_hold_up_no_other_stream_of_their_tunnel() {
    streams_that_nobody_reads_hold_up_no_other(Way::Up);
}

#[test]
fn callers_that_read_nothing_hold_up_no_other_stream_of_their_tunnel() {
    streams_that_nobody_reads_hold_up_no_other(Way::Down);
}

/// How much is taken from apps for a tunnel whose peer promises to take all, and takes nothing.
async fn taken_for_a_deaf_tunnel(pressure: Pressure) -> u64 {
    let pair = Pair::new().await;
    let ledger = &pair.callee.cell.ledger;
    let socket = TcpStream::connect((pair.address.ip(), hbone::PORT)).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(i32::MAX as u32).initial_connection_window_size(i32::MAX as u32);
    let (mut send, mut connection) = builder.handshake::<_, Bytes>(pair.tls(socket).await).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..50 {
        let request = Request::connect(pair.address.to_string()).body(()).unwrap();
        let (answer, mut sending) = send.send_request(request, false).unwrap();
        sending.reserve_capacity(1);
        let answer = tokio::select! {
            answer = answer => answer.unwrap(),
            ended = &mut connection => panic!("the tunnel ended: {ended:?}"),
        };
        held.push((answer, sending, pair.app.accept().await.unwrap().0));
    }
    pair.callee.cell.press(pressure);
    let apps = join_all(held.iter_mut().map(|(_, _, app)| fill(app)));
    assert!(apps.await.iter().all(|written| *written > 0));
    let before = ledger.bytes_sent.load(Relaxed);
    assert_eq!(ledger.readers_paused.load(Relaxed) > 0, pressure == Pressure::Soft);
    // Who takes again, gets more.
    while ledger.bytes_sent.load(Relaxed) < before + 8 * u64::from(STREAM_WINDOW) {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
            ended = &mut connection => panic!("the tunnel ended: {ended:?}"),
        }
        for (answer, _, app) in &mut held {
            drop(app.try_write(&[7; 64 * 1024]));
            let received = answer.body_mut();
            let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
            while let Poll::Ready(Some(Ok(bytes))) = received.poll_data(&mut nobody) {
                received.flow_control().release_capacity(bytes.len()).unwrap();
            }
        }
    }
    before
}

#[test]
fn for_a_tunnel_whose_peer_takes_nothing_nothing_more_is_taken_until_it_does() {
    on_a_cell(async {
        let without = taken_for_a_deaf_tunnel(Pressure::None).await;
        let held = taken_for_a_deaf_tunnel(Pressure::Soft).await;
        assert!(held < without / 2, "{held} bytes, without pressure {without}");
    });
}
