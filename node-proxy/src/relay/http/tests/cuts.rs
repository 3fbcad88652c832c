//! Answers that are cut in the middle: whoever cuts them, the client must not take what it has for the whole.

use std::rc::Rc;

use config::model::Egress;
use ebpf_redirect::{Origin, Side};
use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpStream,
    task::LocalSet,
};

use super::{
    super::watch::{Watch, Watched},
    support::{Bench, Endpoint1, VIP, hear, local, say},
};
use crate::{
    accept::Protocol,
    cell::{Limits, Live},
    sys::socket,
    telemetry::Reason,
};

/// A client that knows no chunks: its answer has no end but the connection's.
const OLD: &str = "GET / HTTP/1.0\r\nhost: cart.shop\r\n\r\n";
const NEW: &str = "GET / HTTP/1.1\r\nhost: cart.shop\r\n\r\n";

/// Answers with the first half of a body that ends with the connection, then does as it is told.
async fn half<F: Future<Output = ()> + 'static>(
    then: impl Fn(TcpStream) -> F + Clone + 'static,
) -> Endpoint1 {
    Endpoint1::scripted(move |mut stream, _| {
        let then = then.clone();
        async move {
            let _request = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf").await.unwrap();
            then(stream).await;
        }
    })
    .await
}

async fn wait(mut stream: TcpStream) {
    let _until_closed = stream.read(&mut [0; 8]).await;
}

/// A client that has the first half of its answer.
async fn halfway(bench: &Bench, request: &str) -> TcpStream {
    let mut client = bench.connect(Protocol::Http1).await;
    say(&mut client, request).await;
    let answer = hear(&mut client).await;
    assert!(answer.starts_with("HTTP/1.") && answer.contains("half") && !answer.contains('<'), "{answer}");
    client
}

#[tokio::test]
async fn an_answer_that_canopy_cuts_ends_in_a_reset_whoever_cuts_it() {
    type Cut = fn(&Bench);
    let cuts: [(&str, Cut); 3] = [
        ("a permission is taken away", |bench| {
            bench.remove_service("cart");
            bench.egress(Egress::Mesh);
            bench.publish();
        }),
        ("the pod's grace is over", |bench| bench.cell.live.close_tree(bench.tree.id, Reason::Draining)),
        ("the daemon's is", |bench| bench.cell.live.close_all(Reason::Draining)),
    ];
    for (what, cut) in cuts {
        local(async move {
            let endpoint = half(wait).await;
            let bench = Bench::new(&[endpoint.at()]);
            for request in [OLD, NEW] {
                let mut client = halfway(&bench, request).await;
                cut(&bench);
                assert_eq!(hear(&mut client).await, "<reset>", "{what}, {request}");
                if bench.cell.snapshot().egress == Egress::Mesh {
                    break;
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_cell_ends_in_a_reset() {
    let tasks = LocalSet::new();
    let begun = tasks.run_until(async {
        let endpoint = half(wait).await;
        let bench = Bench::new(&[endpoint.at()]);
        let client = halfway(&bench, OLD).await;
        (bench, client)
    });
    let (bench, mut client) = begun.await;
    drop((tasks, bench));
    assert_eq!(hear(&mut client).await, "<reset>");
}

#[tokio::test]
async fn an_answer_that_its_endpoint_breaks_off_is_broken_off_at_the_client() {
    local(async {
        let endpoint = half(|stream| async move {
            // The half is on its way by then.
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            socket::reset(&stream);
        })
        .await;
        let (bench, log) = Bench::logging(&[endpoint.at()], Limits::default());
        for request in [OLD, NEW] {
            let mut client = halfway(&bench, request).await;
            assert_eq!(hear(&mut client).await, "<reset>", "{request}");
        }
        let lines = log.lines(&bench);
        assert!(lines.iter().all(|line| line["reason"] == "upstream_reset"), "{lines:#?}");
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_ends_where_its_endpoint_ends_it_is_whole() {
    local(async {
        let endpoint = half(|_ends| async {}).await;
        let bench = Bench::new(&[endpoint.at()]);
        let answer = bench.exchange(OLD).await;
        assert!(answer.ends_with("half<closed>"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_cut_short_until_the_last_of_its_bytes_was_taken() {
    let (near, mut far) = duplex(4);
    let bench = Bench::new(&[]);
    let origin = Origin { destination: VIP.parse().unwrap(), client: "127.0.0.1:40000".parse().unwrap() };
    let live = Live::new(Rc::clone(&bench.tree), Side::Outbound, origin, None);
    let watch = Rc::new(Watch::of(Rc::new(live)));
    let mut watched = Watched { io: near, watch: Rc::clone(&watch) };
    let busy = watch.request();
    assert!(watch.is_cut_short(), "it is being answered");
    let mut writing = Box::pin(watched.write_all(b"answer"));
    assert!((&mut writing).now_or_never().is_none());
    drop(busy);
    assert!(watch.is_cut_short(), "not all of it was taken");
    far.read_exact(&mut [0; 4]).await.unwrap();
    writing.await.unwrap();
    assert!(!watch.is_cut_short(), "all of it was");
    watch.request().cut_short();
    assert!(watch.is_cut_short(), "it never will be complete");
}
