//! Handoffs into a process, out of one, and from one to another; what a cell may not say.

use std::{collections::BTreeSet, net::SocketAddr, os::unix::net::UnixStream, time::Duration};

use config::{
    model::Workload,
    name::{Namespace, PodName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::handoff::Line;

const PATIENCE: Duration = Duration::from_secs(60);

fn tenant(name: &str) -> TenantId {
    TenantId::Namespace(Namespace::try_from(name).unwrap())
}

fn workload(namespace: &str, pod: &str, address: &str) -> Arc<Workload> {
    let namespace = Namespace::try_from(namespace).unwrap();
    Arc::new(Workload {
        pod: PodName::new(namespace.clone(), pod.try_into().unwrap()),
        tenant: TenantId::Namespace(namespace),
        addresses: vec![address.parse().unwrap()],
        ..crate::handoff::tests::workload()
    })
}

fn web() -> Arc<Workload> {
    workload("shop", "web", "10.0.0.1")
}

fn vault() -> Arc<Workload> {
    workload("bank", "vault", "10.0.0.2")
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Calls the vault, as its caller's cell does.
fn call(inbox: &Inbox, source: Arc<Workload>, client: &str) -> Result<End, Reason> {
    let (near, far) = inbox.connection().map_err(|turned| turned.reason)?;
    let opening = Opening { pipe: far, source, client: at(client), destination: at("10.0.0.2:80"), tree: 2 };
    inbox.offer(opening).map_err(|turned| turned.reason)?;
    Ok(near)
}

/// The daemon's board: the web shop's pod and the bank's, whose cells' inboxes these are.
fn board(web_inbox: &Arc<Inbox>, vault_inbox: &Arc<Inbox>) -> Arc<Board> {
    let line = |workload, tree, inbox: &Arc<Inbox>| Line { workload, tree, inbox: Arc::clone(inbox) };
    let lines = vec![line(web(), 1, web_inbox), line(vault(), 2, vault_inbox)];
    Arc::new(Board::new(1, lines, BTreeSet::new()))
}

/// A tenant's cell in a process of its own: what the daemon sends to, what the cell sends with, and what comes to it.
struct There {
    from_daemon: Arc<Inbox>,
    to_daemon: Arc<Inbox>,
    own: Arc<Inbox>,
    daemons: Arc<OwnedFd>,
    cells: Arc<OwnedFd>,
}

fn there() -> There {
    let (daemons, cells) = socket().unwrap();
    let (daemons, cells) = (Arc::new(daemons), Arc::new(cells));
    let own = Arc::<Inbox>::default();
    tokio::spawn(receive(Arc::clone(&cells), Arc::clone(&own)));
    There {
        from_daemon: Arc::new(Inbox::elsewhere(Courier::to_a_cell(Arc::clone(&daemons)))),
        to_daemon: Arc::new(Inbox::elsewhere(Courier::to_the_daemon(Arc::clone(&cells)))),
        own,
        daemons,
        cells,
    }
}

fn serve(there: &There, whose: &str, board: Arc<Board>) -> JoinHandle<io::Error> {
    let (socket, tenant) = (Arc::clone(&there.daemons), tenant(whose));
    tokio::spawn(async move { forward(socket, &tenant, || Arc::clone(&board)).await })
}

/// Both ends speak, and the receiver knows who calls.
async fn assert_served(mut near: End, inbox: &Arc<Inbox>) {
    let mut opening = timeout(PATIENCE, inbox.next()).await.unwrap();
    assert_eq!((&opening.source, opening.client), (&web(), at("10.0.0.1:4000")));
    assert_eq!((opening.destination, opening.tree), (at("10.0.0.2:80"), 2));
    inbox.admit(&mut opening.pipe);
    opening.pipe.accept().unwrap();
    near.answered().await.unwrap();
    near.write_all(b"there").await.unwrap();
    near.shutdown().await.unwrap();
    let mut read = Vec::new();
    opening.pipe.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"there");
    opening.pipe.write_all(b"back").await.unwrap();
    drop(opening);
    let mut read = Vec::new();
    near.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"back");
}

#[tokio::test]
async fn a_call_comes_into_a_process() {
    let bank = there();
    let near = call(&bank.from_daemon, web(), "10.0.0.1:4000").unwrap();
    assert_served(near, &bank.own).await;
}

#[tokio::test]
async fn a_call_comes_out_of_a_process() {
    let (shop, bank) = (there(), Arc::<Inbox>::default());
    let _daemon = serve(&shop, "shop", board(&shop.from_daemon, &bank));
    let near = call(&shop.to_daemon, web(), "10.0.0.1:4000").unwrap();
    assert_served(near, &bank).await;
}

#[tokio::test]
async fn a_call_goes_from_one_process_to_another_and_the_daemon_holds_nothing_of_it() {
    let (shop, bank) = (there(), there());
    let daemon = serve(&shop, "shop", board(&shop.from_daemon, &bank.from_daemon));
    let near = call(&shop.to_daemon, web(), "10.0.0.1:4000").unwrap();
    let mut opening = timeout(PATIENCE, bank.own.next()).await.unwrap();
    // Whatever becomes of the one who passed it on.
    daemon.abort();
    bank.own.admit(&mut opening.pipe);
    opening.pipe.accept().unwrap();
    near.answered().await.unwrap();
    drop(opening);
    let mut near = near;
    assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_the_source_is_comes_from_the_daemon_and_not_from_the_cell_that_calls() {
    let (shop, bank) = (there(), Arc::<Inbox>::default());
    let _daemon = serve(&shop, "shop", board(&shop.from_daemon, &bank));
    let mut lied = (*web()).clone();
    lied.identity.service_account = "root".try_into().unwrap();
    lied.labels.insert("role".to_owned(), "admin".to_owned());
    let _near = call(&shop.to_daemon, Arc::new(lied), "10.0.0.1:4000").unwrap();
    let opening = timeout(PATIENCE, bank.next()).await.unwrap();
    assert_eq!(opening.source, web());
}

#[tokio::test]
async fn a_call_that_is_not_the_cells_to_make_is_refused_and_says_why() {
    let (shop, bank) = (there(), Arc::<Inbox>::default());
    let daemon = serve(&shop, "shop", board(&shop.from_daemon, &bank));
    for (source, client, reason) in [
        (vault(), "10.0.0.2:4000", Reason::IdentityMismatch),
        (web(), "10.0.0.2:4000", Reason::IdentityMismatch),
        (workload("shop", "gone", "10.0.0.1"), "10.0.0.1:4000", Reason::EndpointGone),
    ] {
        let near = call(&shop.to_daemon, source, client).unwrap();
        assert_eq!(timeout(PATIENCE, near.answered()).await.unwrap(), Err(reason));
    }
    assert_eq!(bank.waiting(), 0);
    assert!(!daemon.is_finished(), "a refusal ends nothing else");
}

#[tokio::test]
async fn a_cell_that_says_what_cannot_be_read_is_listened_to_no_more() {
    let good = good();
    for letter in [&b"garbage"[..], &[0; 600][..], &good[..]] {
        let shop = there();
        let daemon = serve(&shop, "shop", board(&shop.from_daemon, &Arc::default()));
        let no_end = UnixStream::pair().unwrap().0;
        send(shop.cells.as_fd(), letter, no_end.as_fd()).unwrap();
        let error = timeout(PATIENCE, daemon).await.unwrap().unwrap();
        assert_ne!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    }
}

/// A letter that could be read; it comes with what is no socket of a handoff.
fn good() -> Vec<u8> {
    let way = Way { client: at("10.0.0.1:4000"), destination: at("10.0.0.2:80"), tree: 2 };
    letter::encode(&Call { source: web().pod.clone(), way }).unwrap()
}

#[tokio::test]
async fn a_process_that_takes_nothing_turns_callers_away_at_once() {
    let (daemons, cells) = socket().unwrap();
    let inbox = Inbox::elsewhere(Courier::to_a_cell(Arc::new(daemons)));
    let mut callers = Vec::new();
    let refused = loop {
        match call(&inbox, web(), "10.0.0.1:4000") {
            Ok(near) => callers.push(near),
            Err(reason) => break reason,
        }
        assert!(callers.len() < 10_000);
    };
    assert_eq!(refused, Reason::HandoffFull);
    assert!(callers.len() >= 64, "{}: as many as one cell may have waiting", callers.len());
    // It dies: whoever waited is told, and so is who comes now.
    drop(cells);
    for near in callers {
        assert_eq!(timeout(PATIENCE, near.answered()).await.unwrap(), Err(Reason::CellRestarted));
    }
    assert_eq!(call(&inbox, web(), "10.0.0.1:4000").unwrap_err(), Reason::CellRestarted);
}

#[tokio::test]
async fn an_inbox_of_a_process_that_was_closed_sends_nobody_there() {
    let bank = there();
    bank.from_daemon.close(Reason::CellRestarted);
    assert_eq!(call(&bank.from_daemon, web(), "10.0.0.1:4000").unwrap_err(), Reason::CellRestarted);
    assert_eq!(bank.own.waiting(), 0);
}

#[tokio::test]
async fn a_full_inbox_in_the_process_says_so_to_who_called() {
    let bank = there();
    let mut callers = Vec::new();
    for _ in 0..300 {
        callers.push(call(&bank.from_daemon, web(), "10.0.0.1:4000").unwrap());
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    let last = callers.pop().unwrap();
    assert_eq!(timeout(PATIENCE, last.answered()).await.unwrap(), Err(Reason::HandoffFull));
    assert_eq!(bank.own.waiting(), 256);
}
