//! What a client sends to hurt, frame by frame, and how much one that stops reading holds up.

use std::{cell::Cell, rc::Rc, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use config::model::AppProtocol;
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{sleep, timeout},
};

use super::support::{At, Bench, Endpoint1, local, say};
use crate::{
    accept::Protocol,
    sys::hyper_io::HyperIo,
    upstream::{pool::http2::MOST_STREAMS, rt::LocalExecutor},
};

pub(super) const HEADERS: u8 = 1;
const RESET: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// `GET http://a/` in HPACK, mostly from its static table.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 1, b'a'];

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// An HTTP/2 client that says what it likes.
async fn client(bench: &Bench) -> (OwnedReadHalf, OwnedWriteHalf) {
    let (read, mut write) = bench.connect(Protocol::Http2).await.into_split();
    write.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    write.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    (read, write)
}

/// The next frame's kind and payload; `None` at the end of the connection.
async fn next(read: &mut OwnedReadHalf) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    read.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    read.read_exact(&mut payload).await.ok()?;
    Some((head[3], payload))
}

/// The code of the GOAWAY that comes.
async fn goaway(read: &mut OwnedReadHalf) -> Option<u32> {
    while let Some((kind, payload)) = next(read).await {
        if kind == GOAWAY {
            return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
    None
}

/// Writes pieces until the connection is gone; says how many bytes were taken.
fn flood(mut write: OwnedWriteHalf, pieces: impl Iterator<Item = Vec<u8>> + 'static) -> Rc<Cell<usize>> {
    let taken = Rc::<Cell<usize>>::default();
    let counted = Rc::clone(&taken);
    tokio::task::spawn_local(async move {
        for piece in pieces {
            if write.write_all(&piece).await.is_err() {
                return;
            }
            counted.set(counted.get() + piece.len());
        }
        // Open, so that what ends the connection is the other side.
        std::future::pending::<()>().await;
    });
    taken
}

async fn silent() -> Endpoint1 {
    Endpoint1::scripted(
        |mut stream, _| async move { while let Ok(1..) = stream.read(&mut [0; 4096]).await {} },
    )
    .await
}

#[tokio::test]
async fn a_flood_of_streams_that_are_reset_at_once_ends_the_connection() {
    local(async {
        let endpoint = silent().await;
        let bench = Bench::new(&[endpoint.at()]);
        let (mut read, write) = client(&bench).await;
        // In bursts, so that the kernel does not decide how many are seen together.
        let bursts = (0..1000_u32).map(|burst| {
            let streams = (0..100).map(move |nth| (burst * 100 + nth) * 2 + 1);
            let pair = |stream| {
                let mut pair = frame(HEADERS, END_STREAM | END_HEADERS, stream, GET);
                pair.extend(frame(RESET, 0, stream, &8_u32.to_be_bytes()));
                pair
            };
            streams.flat_map(pair).collect()
        });
        let _taken = flood(write, bursts);
        assert_eq!(goaway(&mut read).await, Some(ENHANCE_YOUR_CALM));
        drop(read);
        let ledger = &bench.cell.ledger;
        while ledger.requests_in_flight.load(Relaxed) > 0 || !bench.cell.live.is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(ledger.requests.load(Relaxed) < 1000, "{} of 100000", ledger.requests.load(Relaxed));
    })
    .await;
}

#[tokio::test]
async fn a_head_without_an_end_ends_the_connection() {
    local(async {
        let field = [&[0, 1, b'a', 126][..], &[b'b'; 126]].concat();
        for (name, payload) in [("large", field.repeat(120)), ("small", field), ("empty", Vec::new())] {
            let bench = Bench::new(&[]);
            let (mut read, write) = client(&bench).await;
            let first = frame(HEADERS, END_STREAM, 1, GET);
            let more = frame(CONTINUATION, 0, 1, &payload);
            let (offered, piece) = (256 * 1024 * 1024, more.repeat(64 * 1024 / more.len() + 1));
            let pieces = offered / piece.len();
            let taken = flood(write, std::iter::once(first).chain(std::iter::repeat_n(piece, pieces)));
            assert_eq!(goaway(&mut read).await, Some(ENHANCE_YOUR_CALM), "{name}");
            drop(read);
            while !bench.cell.live.is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
            assert!(taken.get() < 16 * 1024 * 1024, "{name}: {} of {offered} bytes", taken.get());
            assert_eq!(bench.cell.ledger.requests.load(Relaxed), 0, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn no_more_streams_are_served_at_a_time_than_were_allowed() {
    local(async {
        let endpoint = silent().await;
        let bench = Bench::new(&[endpoint.at()]);
        let (mut read, mut write) = client(&bench).await;
        let streams = (0..300).flat_map(|nth| frame(HEADERS, END_STREAM | END_HEADERS, nth * 2 + 1, GET));
        write.write_all(&streams.collect::<Vec<_>>()).await.unwrap();
        let (mut allowed, mut refused) = (None, 0);
        // All that have to come, however late; then none for a while.
        let patience = |refused| if refused < 300 - MOST_STREAMS as usize { 30_000 } else { 300 };
        let wait = |refused| Duration::from_millis(patience(refused));
        while let Ok(Some((kind, payload))) = timeout(wait(refused), next(&mut read)).await {
            if kind == 4 {
                let setting = payload.chunks(6).find(|setting| setting[..2] == [0, 3]);
                allowed = allowed.or(setting.map(|setting| setting[2..6].to_vec()));
            }
            refused += usize::from(kind == RESET && payload == REFUSED_STREAM.to_be_bytes());
        }
        assert_eq!(allowed, Some(MOST_STREAMS.to_be_bytes().to_vec()));
        assert_eq!(refused, 300 - MOST_STREAMS as usize);
        assert_eq!(bench.cell.ledger.requests_in_flight.load(Relaxed), u64::from(MOST_STREAMS));
    })
    .await;
}

/// An endpoint that sends as much as is taken, and how much that is.
async fn fountain() -> (Endpoint1, Rc<Cell<usize>>) {
    let sent = Rc::<Cell<usize>>::default();
    let counted = Rc::clone(&sent);
    let endpoint = Endpoint1::scripted(move |mut stream, _| {
        let sent = Rc::clone(&counted);
        async move {
            let chunk = vec![7; 64 * 1024];
            let _request = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await.unwrap();
            while let Ok(written) = stream.write(&chunk).await {
                sent.set(sent.get() + written);
            }
        }
    })
    .await;
    (endpoint, sent)
}

/// What an endpoint could send until nothing moved any more.
async fn stalled(sent: &Cell<usize>) -> usize {
    let mut before = usize::MAX;
    while before != sent.get() {
        before = sent.get();
        assert!(before < HELD, "{before} bytes, and nothing stops the endpoint");
        sleep(Duration::from_millis(300)).await;
    }
    before
}

#[tokio::test]
async fn an_http1_client_that_stops_reading_stops_its_endpoint() {
    local(async {
        let (endpoint, sent) = fountain().await;
        let bench = Bench::new(&[endpoint.at()]);
        let mut client: TcpStream = bench.connect(Protocol::Http1).await;
        say(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let before = stalled(&sent).await;
        let mut left = 2 * HELD;
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            left = left.saturating_sub(client.read(&mut buffer).await.unwrap());
        }
        assert!(sent.get() > before + HELD / 2, "it goes on when the client does");
    })
    .await;
}

#[tokio::test]
async fn an_http2_stream_that_is_not_read_stops_its_endpoint() {
    local(async {
        let (endpoint, sent) = fountain().await;
        let bench = Bench::new(&[At { address: endpoint.address, protocol: AppProtocol::Http1 }]);
        let stream = bench.connect(Protocol::Http2).await;
        let builder = hyper::client::conn::http2::Builder::new(LocalExecutor);
        let (mut send, connection) = builder.handshake(HyperIo(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        let request = Request::get("http://cart.shop/").body(Empty::<Bytes>::new()).unwrap();
        let mut body = send.send_request(request).await.unwrap().into_body();
        let before = stalled(&sent).await;
        let mut left = 2 * HELD;
        while left > 0 {
            left = left.saturating_sub(body.frame().await.unwrap().unwrap().into_data().unwrap().len());
        }
        assert!(sent.get() > before + HELD / 2, "it goes on when the client does");
    })
    .await;
}

/// More than the four socket buffers on the way hold (6 MB to receive and 4 MB to send at most, by Linux's defaults),
/// and all that HTTP/2's windows allow.
const HELD: usize = 32 * 1024 * 1024;
