//! The client's HTTP/1.1 connection: hyper's server, without a task or an allocation per request.
//!
//! A client that closes its sending side is taken for gone, as every HTTP/1.1 proxy does: otherwise one that is gone would hold its
//! request until the endpoint has answered it.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use hyper::{server::conn::http1, service::service_fn};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    answer::answer,
    refusal,
    session::Session,
    watch::{Watch, Watched},
};
use crate::{sys::hyper_io::HyperIo, telemetry::Reason};

/// How a connection came to its end.
#[derive(Debug)]
enum End {
    /// By itself; or upgraded.
    Done,
    /// Hyper could not go on.
    Broken(hyper::Error),
    /// A head did not arrive in time.
    Slow,
}

/// Serves a connection to its end.
pub(super) async fn serve<IO>(session: Rc<Session>, io: IO)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = &session.cell.limits;
    let watch = Rc::new(Watch::default());
    let service = service_fn(|request| answer(Rc::clone(&session), request, Some(watch.request())));
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .half_close(false)
        .max_buf_size(limits.head_bytes.max(SMALLEST_BUFFER))
        .pipeline_flush(true)
        .serve_connection(HyperIo(Watched { io, watch: Rc::clone(&watch) }), service);
    let mut connection = Box::pin(connection);
    let mut draining = pin!(session.draining());
    let mut asked_to_drain = false;
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let mut finishing = false;
    let end = poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended.map_or_else(End::Broken, |()| End::Done));
            }
            // Asked once for its waker, then told by the flags: a waker that is always the same need not be registered
            // at every request.
            if !std::mem::replace(&mut asked_to_drain, true) {
                let _already = draining.as_mut().poll(context);
            }
            if session.is_ending() && !std::mem::replace(&mut finishing, true) {
                connection.as_mut().graceful_shutdown();
                continue;
            }
            if !watch.is_waiting_for_head() {
                timer = None;
                return Poll::Pending;
            }
            let after = || Box::pin(sleep_until(Instant::now() + session.cell.limits.head));
            return timer.get_or_insert_with(after).as_mut().poll(context).map(|()| End::Slow);
        }
    })
    .await;
    let parts = Pin::into_inner(connection).into_parts();
    finish(&session, end, parts.io.0.io, parts.read_buf).await;
}

async fn finish<IO>(session: &Rc<Session>, end: End, mut io: IO, read: bytes::Bytes)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(tunnel) = session.tunnel.take() {
        if let Err(error) = tunnel.run(io, read).await {
            tracing::debug!(%error, "an upgraded connection broke off");
        }
        return;
    }
    match end {
        End::Done => {}
        End::Broken(error) => {
            tracing::debug!(%error, "a client's connection ended");
            if let Some(reason) = fault(&error) {
                session.cell.ledger.refused(reason);
            }
        }
        End::Slow => {
            session.cell.ledger.refused(Reason::HeadTimeout);
            // A client that is this slow may be gone.
            let _gone = io.write_all(&refusal::closing(Reason::HeadTimeout)).await;
        }
    }
    // It may be closed already, which is what is wanted.
    let _closed = io.shutdown().await;
}

/// What the client did wrong; `None` where it only went away.
fn fault(error: &hyper::Error) -> Option<Reason> {
    if error.is_parse_too_large() {
        Some(Reason::HeadTooLarge)
    } else if error.is_parse() {
        Some(Reason::ProtocolError)
    } else {
        None
    }
}

/// The least that hyper takes as the bound of its buffers.
const SMALLEST_BUFFER: usize = 8192;
