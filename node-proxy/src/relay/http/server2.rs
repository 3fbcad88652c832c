//! The client's HTTP/2 connection: hyper's server, one task per stream.
//!
//! Bounded against floods of streams, resets and fields; a client that does not answer pings is closed, and soon where it has no
//! request and is to let go. More streams than a connection has room for wait at the client.

use std::{pin::Pin, rc::Rc};

use futures_util::FutureExt;
use hyper::{server::conn::http2, service::service_fn};

use super::{
    Client,
    answer::answer,
    deadline::Streams,
    heard::{Heard, Hearing},
    session::Session,
};
use crate::{
    stream::farewell::{Served, Signs},
    sys::hyper_io::HyperIo,
    upstream::{
        pool::http2::{CONNECTION_WINDOW, MOST_STREAMS, PING_EVERY, PING_TIMEOUT, STREAM_WINDOW},
        rt::TokioTimer,
    },
};

/// Serves a connection to its end.
pub(super) async fn serve(session: Rc<Session>, client: Client) {
    let limits = &session.cell.limits;
    // From when hyper has read a request on: its task runs only after the connection's turn.
    let under_way: Rc<()> = Rc::default();
    let service = {
        let (session, under_way) = (Rc::clone(&session), Rc::clone(&under_way));
        service_fn(move |request| {
            let held = Rc::clone(&under_way);
            answer(Rc::clone(&session), request, None).inspect(move |_| drop(held))
        })
    };
    let hearing = Rc::new(Hearing::of(Rc::clone(&session.live)));
    let connection = http2::Builder::new(Streams(Rc::clone(&session)))
        .timer(TokioTimer)
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MOST_STREAMS)
        // Beyond it h2 answers by itself and tells nobody; up to it, a head too large is refused, counted and logged here.
        .max_header_list_size(u32::try_from(2 * limits.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(OUR_RESETS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(HyperIo(Heard { io: client, hearing: Rc::clone(&hearing) }), service);
    // The service has one, too.
    let is_asked = || Rc::strong_count(&under_way) > 2;
    let is_busy = || is_asked() || session.requests.get() > 0 || hearing.is_stalled();
    let served = Served {
        connection,
        ask: |connection: Pin<&mut http2::Connection<_, _, _>>| connection.graceful_shutdown(),
        is_to_end: || session.is_ending(),
        signs: || Signs { busy: is_busy(), heard: hearing.often() },
    };
    if let Some(Err(error)) = served.run(limits.patience()).await {
        tracing::debug!(%error, "a client's HTTP/2 connection ended");
    }
}

/// Streams that a client may open and reset before they are looked at (rapid reset, CVE-2023-44487).
const PENDING_RESETS: usize = 32;

/// Streams that we reset for the client's errors before the connection is ended (CVE-2025-8671).
const OUR_RESETS: usize = 256;
