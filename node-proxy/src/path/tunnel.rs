//! A tunnel that came to a pod: its handshake, and a connection of its own for each of its streams.
//!
//! Each stream takes a seat, has its own entry among the live connections and its own line of the log. A stream must never outlive
//! its tunnel, and never count for less than a connection.

use std::{future::poll_fn, net::SocketAddr, rc::Rc, sync::Arc};

use ebpf_redirect::{Origin, Side};
use http::Response;

use super::{End, listener, report};
use crate::{
    accept::{
        Protocol,
        hbone::{self as accept, Asked, ConnectRequest, Connection, Here},
    },
    capture::{Arrival, Captured, Delivered, Tree},
    cell::{Cell, Live},
    hbone::{
        Streams, Tunnel,
        fields::{self, Said, TraceId},
    },
    identity::Caller,
    stream::Stream,
    telemetry::Reason,
};

/// Serves a tunnel to its end.
pub(super) async fn serve(cell: &Rc<Cell>, captured: Captured, live: &Rc<Live>) -> End {
    live.protocol.set(Some(Protocol::Hbone));
    let Captured { stream, tree, .. } = captured;
    let Some(_place) = cell.arrival(live.origin.client.ip()) else {
        stream.refuse(Reason::TunnelLimit);
        return End::Because(Reason::TunnelLimit);
    };
    let Some(handshake) = cell.handshake(&tree, live.origin.client.ip()) else {
        stream.refuse(Reason::HandshakeLimit);
        return End::Because(Reason::HandshakeLimit);
    };
    let Stream::Tcp(socket, _) = stream else { return End::Because(Reason::ProtocolError) };
    // Boxed, so that a tunnel does not hold the room that its handshake needed.
    let own = &tree.workload.identity;
    let accepted = Box::pin(accept::accept(cell, socket, (own, live), handshake)).await;
    let mut connection = match accepted {
        Ok(connection) => connection,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::debug!(%error, cause, client = %live.origin.client, "a tunnel was not accepted");
            return error.reason().map_or(End::Told, End::Because);
        }
    };
    let caller = Caller { identity: Some(connection.peer.clone()), pod: live.source.clone() };
    drop(live.caller.set(Arc::new(caller)));
    loop {
        let next = poll_fn(|cx| {
            if live.is_finishing() {
                connection.finish();
            }
            connection.poll_next(cx)
        });
        match next.await {
            Some(Ok(asked)) => begin(cell, &connection, asked, Ends { tree: &tree, live }),
            Some(Err(error)) => {
                tracing::debug!(%error, client = %live.origin.client, "a tunnel broke off");
                return error.reason().map_or(End::Told, End::Because);
            }
            None => return End::Told,
        }
    }
}

/// Whose tunnel it is.
struct Ends<'a> {
    tree: &'a Rc<Tree>,
    live: &'a Live,
}

/// Makes a connection of one stream.
fn begin(cell: &Rc<Cell>, connection: &Connection, (request, mut respond): Asked, ends: Ends<'_>) {
    ends.live.request();
    let (head, received) = request.into_parts();
    let workload = &ends.tree.workload;
    let (snapshot, reached) = (cell.snapshot(), ends.live.origin.destination.ip());
    let answer =
        |name: &str, namespace: &str, port: u16| snapshot.answer(workload, reached, (name, namespace, port));
    let here = Here { addresses: &workload.addresses, answer: &answer };
    let request = match accept::read(&head, here) {
        Ok(request) => request,
        Err(error) => {
            tracing::debug!(%error, client = %ends.live.origin.client, "a tunnel's stream was refused");
            let mut answer = Response::new(());
            *answer.status_mut() = crate::hbone::status(error.reason());
            // Who asked may be gone.
            drop(respond.send_response(answer, true));
            return report::refused_stream(cell, ends.live, &head, error.reason());
        }
    };
    let mut answer = Response::new(());
    if let Ok(baggage) = fields::baggage(&cell.site, snapshot.now(workload)).try_into() {
        answer.headers_mut().insert("baggage", baggage);
    }
    let stream = Tunnel::asked(respond, answer, received, Streams::open(&connection.streams));
    let origin = origin(ends.live, &request);
    let answers = |name: &str, namespace: &str| {
        snapshot.answers_at(workload, request.destination, (name, namespace)).cloned()
    };
    let said = if cell.access_log.is_on() { Said::of(&head, answers) } else { None };
    let delivered = Delivered {
        origin,
        identity: connection.peer.clone(),
        pod: ends.live.source.clone(),
        unseen_from: None,
        // Where none was said, or none that can be read, it begins here.
        trace: Some(TraceId::of(&head.headers).unwrap_or_else(|| TraceId::new(fastrand::u128(..)))),
        said,
    };
    let captured = Captured {
        stream: stream.into(),
        accept_addr: origin.client,
        side: Side::Inbound,
        tree: Rc::clone(ends.tree),
        arrival: Arrival::Delivered(Box::new(delivered)),
    };
    listener::begin(cell, captured);
}

/// The client's address is the one the tunnel came from, which the network vouches for. Only its port, which the tunnel hides, is
/// taken from what the peer's proxy says.
fn origin(live: &Live, request: &ConnectRequest) -> Origin {
    let from = live.origin.client;
    let port = request.client.filter(|client| client.ip().to_canonical() == from.ip());
    let client = SocketAddr::new(from.ip(), port.map_or(from.port(), |client| client.port()));
    Origin { destination: request.destination, client }
}
