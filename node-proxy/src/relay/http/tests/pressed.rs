//! Who does not take what it is sent, in a cell that holds more memory than it is to: nothing more is taken for it, until it has
//! taken what there is.

use std::{cell::Cell, rc::Rc, time::Duration};

use config::model::AppProtocol;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::sleep,
};

use super::{
    floods::{END_HEADERS, END_STREAM, HEADERS, frame},
    http2::{client, request},
    stalls::{Endless, Endpoint},
    support::{At, Bench, Endpoint1, local, say},
};
use crate::{accept::Protocol, tenancy::memory::Pressure};

/// The largest window there is (RFC 9113, 6.9.1).
const LARGEST: u32 = (1 << 31) - 1;
/// `GET http://a/flood` in HPACK.
const FLOOD: &[u8] = b"\x82\x86\x04\x06/flood\x01\x01a";
const STREAMS: u32 = 100;
const MEBIBYTE: u64 = 1 << 20;

/// SETTINGS and WINDOW_UPDATE of an end that promises to take everything.
fn boundless() -> Vec<u8> {
    let settings = [&[0, 4][..], &LARGEST.to_be_bytes()].concat();
    let window = (LARGEST - 65_535).to_be_bytes();
    [frame(4, 0, 0, &settings), frame(8, 0, 0, &window)].concat()
}

/// A client that asks for endless answers and promises to take them.
async fn greedy(bench: &Bench) -> TcpStream {
    let mut stream = bench.connect(Protocol::Http2).await;
    let asked = (0..STREAMS).flat_map(|nth| frame(HEADERS, END_STREAM | END_HEADERS, 2 * nth + 1, FLOOD));
    let said = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), boundless(), asked.collect()].concat();
    stream.write_all(&said).await.unwrap();
    stream
}

/// What a count has come to when it does not move any more.
async fn settled(count: impl Fn() -> u64) -> u64 {
    let (mut before, mut quiet) = (0, 0);
    while quiet < 3 {
        sleep(Duration::from_millis(150)).await;
        let now = count();
        quiet = if now == before && now > 0 { quiet + 1 } else { 0 };
        before = now;
    }
    before
}

async fn take(stream: &mut TcpStream, bytes: u64) {
    let (mut left, mut buffer) = (bytes, vec![0; 64 * 1024]);
    while left > 0 {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "it ended, and {left} bytes were to come");
        left = left.saturating_sub(read as u64);
    }
}

fn sent(bench: &Bench) -> u64 {
    bench.cell.ledger.bytes_sent.load(std::sync::atomic::Ordering::Relaxed)
}

fn received(bench: &Bench) -> u64 {
    bench.cell.ledger.bytes_received.load(std::sync::atomic::Ordering::Relaxed)
}

fn paused(bench: &Bench) -> u64 {
    bench.cell.ledger.readers_paused.load(std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test]
async fn for_an_http2_client_that_takes_nothing_nothing_more_is_taken_until_it_does() {
    local(async {
        let endpoint = Endpoint::new().await;
        let bench = endpoint.bench();
        let _unread = greedy(&bench).await;
        let without = settled(|| sent(&bench)).await;
        assert!(without > 30 * MEBIBYTE, "{without} bytes: it could hold more than this test sees");
        assert_eq!(paused(&bench), 0);

        let bench = endpoint.bench();
        bench.cell.press(Pressure::Soft);
        let mut client = greedy(&bench).await;
        let held = settled(|| sent(&bench)).await;
        assert!(held < 12 * MEBIBYTE, "{held} bytes were taken for it, without pressure {without}");
        assert!(paused(&bench) > 0);
        take(&mut client, held + 16 * MEBIBYTE).await;
        assert!(sent(&bench) > held + 12 * MEBIBYTE, "it goes on as it is taken");
    })
    .await;
}

#[tokio::test]
async fn for_an_http1_client_that_takes_nothing_nothing_more_is_taken_until_it_does() {
    const BYTES: u64 = 64 * MEBIBYTE;
    local(async {
        let endpoint = Endpoint1::scripted(|mut stream, _| async move {
            let _request = stream.read(&mut [0; 4096]).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
            let chunk = vec![7; MEBIBYTE as usize];
            stream.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..BYTES / MEBIBYTE {
                stream.write_all(&chunk).await.unwrap();
            }
        })
        .await;
        let bench = Bench::new(&[endpoint.at()]);
        bench.cell.press(Pressure::Soft);
        let mut client = bench.connect(Protocol::Http1).await;
        say(&mut client, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let held = settled(|| sent(&bench)).await;
        assert!(paused(&bench) > 0);
        take(&mut client, BYTES).await;
        assert_eq!(sent(&bench), BYTES, "and {held} before it took any");
    })
    .await;
}

#[tokio::test]
async fn for_an_endpoint_that_takes_nothing_nothing_more_is_taken_until_it_does() {
    local(async {
        let mut came = Vec::new();
        for pressure in [Pressure::None, Pressure::Soft] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = At { address: listener.local_addr().unwrap(), protocol: AppProtocol::Http2 };
            let (reads, read) = (Rc::<Notify>::default(), Rc::<Cell<u64>>::default());
            let (may_read, counted) = (Rc::clone(&reads), Rc::clone(&read));
            tokio::task::spawn_local(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(&boundless()).await.unwrap();
                may_read.notified().await;
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    counted.set(counted.get() + buffer.len() as u64);
                }
            });
            let bench = Bench::new(&[at]);
            bench.cell.press(pressure);
            let send = client(&bench).await;
            let ask = || send.clone().send_request(request("/", Endless::default().boxed_unsync()));
            let asked: Vec<_> = (0..STREAMS).map(|_| tokio::task::spawn_local(ask())).collect();
            let held = settled(|| received(&bench)).await;
            assert_eq!(paused(&bench) > 0, pressure == Pressure::Soft);
            reads.notify_one();
            while received(&bench) < held + 16 * MEBIBYTE {
                sleep(Duration::from_millis(1)).await;
            }
            asked.iter().for_each(tokio::task::JoinHandle::abort);
            came.push(held);
        }
        assert!(came[0] > 40 * MEBIBYTE && came[1] < 12 * MEBIBYTE, "{came:?}");
    })
    .await;
}
