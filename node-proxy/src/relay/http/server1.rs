//! The client's HTTP/1.1 connection: hyper's server, without a task or an allocation per request.
//!
//! Where the connection is to end, a head that has begun is still given its time, as long as more of it comes: what is accepted is to
//! be served. One of which nothing more comes for as long as a silent client is waited for is none that could be. HTTP/1.1 says that
//! a connection ends in an answer alone: who sends a request while an idle one is closed loses it. So an idle one is kept for a
//! moment, and a client that uses it all the time is told in its next answer.
//!
//! A client that closes its sending side is taken for gone, as every HTTP/1.1 proxy does: otherwise one that is gone would hold its
//! request until the endpoint has answered it.

use std::{future::poll_fn, io, pin::Pin, rc::Rc, task::Poll, time::Duration};

use http::StatusCode;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{HttpService, service_fn},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};

use super::{
    Client,
    answer::answer,
    deadline,
    download::Outgoing,
    refusal::Refusal,
    session::Session,
    unread,
    watch::{Watch, Watched},
};
use crate::{
    stream::farewell::{Farewell, Signs},
    sys::hyper_io::HyperIo,
    telemetry::Reason,
    upstream::pool::BodyError,
};

/// How a connection came to its end.
#[derive(Debug)]
enum End {
    /// By itself; or upgraded.
    Done,
    /// Hyper could not go on.
    Broken(hyper::Error),
    /// What came is no request, or none that is allowed; the client was not answered yet.
    Refused(Refusal),
}

/// Serves a connection to its end.
pub(super) async fn serve(session: Rc<Session>, io: Client) {
    let limits = &session.cell.limits;
    let watch = Rc::new(Watch::of(Rc::clone(&session.live)));
    let service = service_fn(|request| answer(Rc::clone(&session), request, Some(watch.request())));
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .half_close(false)
        .max_buf_size(limits.head_bytes.max(SMALLEST_BUFFER))
        .serve_connection(HyperIo(Watched { io, watch: Rc::clone(&watch) }), service);
    let mut served = Served { connection: Some(Box::new(connection)), watch: Rc::clone(&watch) };
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let mut farewell: Option<Farewell> = None;
    let mut lull: Option<Pin<Box<Sleep>>> = None;
    let mut finishing = false;
    let mut deadline = deadline::Current::default();
    let end = poll_fn(|context| {
        loop {
            let Some(connection) = &mut served.connection else { return Poll::Ready(End::Done) };
            let mut connection = Pin::new(&mut **connection);
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended.map_or_else(End::Broken, |()| End::Done));
            }
            if deadline.poll(&session, context).is_ready() {
                // In the middle of an answer, which is what it looks like to the client.
                return Poll::Ready(End::Done);
            }
            // `Live` has this task's waker: whoever asks the connection to end wakes it.
            let is_ending = session.is_ending();
            if !watch.is_waiting_for_head() {
                (timer, farewell) = (None, None);
                if !is_ending || finishing {
                    return Poll::Pending;
                }
                let lull = lull.get_or_insert_with(|| Box::pin(sleep(LULL)));
                finishing = watch.is_busy() || lull.as_mut().poll(context).is_ready();
                if finishing {
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                return Poll::Pending;
            }
            // Not asked to end yet: hyper would drop what there is of a head on a connection that it has kept.
            let after = || Box::pin(sleep_until(Instant::now() + limits.head));
            let mut over = timer.get_or_insert_with(after).as_mut().poll(context);
            if is_ending {
                let signs = Signs { busy: false, heard: watch.heard() };
                let begin = || Farewell::begin(limits.patience(), signs);
                let stands_still = farewell.get_or_insert_with(begin).poll(signs, context);
                over = if over.is_ready() { over } else { stands_still };
            }
            return over.map(|()| End::Refused(Reason::HeadTimeout.into()));
        }
    })
    .await;
    let Some((io, read)) = served.end() else { return };
    let end = match end {
        End::Broken(error) => broken(&watch, error),
        end => end,
    };
    let begun = timer.map_or_else(Instant::now, |timer| timer.deadline() - session.cell.limits.head);
    if let Some(tunnel) = session.tunnel.take() {
        tunnel.run(&session, io, read).await;
        return;
    }
    if let End::Refused(refusal) = end {
        unread::report(&session, refusal, begun.elapsed());
    }
    finish(end, io, watch.is_cut_short()).await;
}

async fn finish(end: End, mut io: Client, is_cut_short: bool) {
    match end {
        _ if is_cut_short => io.get_ref().reset(),
        // A client that sends such things may be gone.
        End::Refused(refusal) => drop(timeout(LINGER, say_and_listen(&mut io, refusal)).await),
        // It may be closed already, which is what is wanted.
        End::Done | End::Broken(_) => drop(io.shutdown().await),
    }
}

/// Hyper's side of a connection. Dropped in the middle of an answer, by whom and why ever, it ends in a reset.
struct Served<S: HttpService<Incoming, ResBody = Outgoing, Error = BodyError>> {
    connection: Option<Box<http1::Connection<HyperIo<Watched<Client>>, S>>>,
    watch: Rc<Watch>,
}

impl<S: HttpService<Incoming, ResBody = Outgoing, Error = BodyError>> Served<S> {
    /// The client's end, and what was read of it and not used.
    fn end(&mut self) -> Option<(Client, bytes::Bytes)> {
        let parts = self.connection.take()?.into_parts();
        Some((parts.io.0.io, parts.read_buf))
    }
}

impl<S: HttpService<Incoming, ResBody = Outgoing, Error = BodyError>> Drop for Served<S> {
    fn drop(&mut self) {
        if let Some((io, _read)) = self.end()
            && self.watch.is_cut_short()
        {
            io.get_ref().reset();
        }
    }
}

/// Answers, and takes what the client still sends: closing a socket with unread bytes resets it, and the answer with it.
async fn say_and_listen(io: &mut Client, refusal: Refusal) -> io::Result<()> {
    io.write_all(&refusal.closing()).await?;
    io.shutdown().await?;
    let mut unread = [0; 1024];
    while io.read(&mut unread).await? > 0 {}
    Ok(())
}

/// What hyper would have answered by itself, with a reason.
fn broken(watch: &Watch, error: hyper::Error) -> End {
    tracing::debug!(%error, "a client's connection ended");
    let Some(status) = watch.withheld() else { return End::Broken(error) };
    if status != StatusCode::BAD_REQUEST {
        return End::Refused(Refusal::with(Reason::HeadTooLarge, status));
    }
    // Hyper does not tell its kinds of parse errors apart but in its message.
    let message = error.to_string();
    let framing = ["content-length", "transfer-encoding"].iter().any(|field| message.contains(field));
    End::Refused(if framing { Reason::AmbiguousFraming } else { Reason::ProtocolError }.into())
}

/// How long a refused client may take to stop sending.
const LINGER: Duration = Duration::from_secs(1);

/// How long an idle connection is kept that is to end, for a request that may be on its way.
const LULL: Duration = Duration::from_millis(500);

/// The least that hyper takes as the bound of its buffers.
const SMALLEST_BUFFER: usize = 8192;
