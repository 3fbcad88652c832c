//! Streams of a tunnel that nobody reads, at one end or the other: its other streams go on.

use futures_util::future::join_all;

use super::{tunnels::Pair, *};
use crate::hbone::settings::{MOST_STREAMS, STREAM_WINDOW};

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
