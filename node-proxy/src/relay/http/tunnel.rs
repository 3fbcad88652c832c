//! What is left of HTTP after a 101: bytes both ways, each direction closed by itself.
//!
//! It must never look into them, and never lose those that came together with the heads.

use std::{future::poll_fn, io, rc::Rc};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};

use super::{exchange::Exchange, plan::Target};
use crate::upstream::pool::http1::Lease;

/// An upgraded connection to an endpoint, until the client's side is free.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) lease: Lease,
    /// Counts as load as long as the tunnel stands.
    pub(super) target: Target,
    pub(super) exchange: Rc<Exchange>,
}

impl Tunnel {
    /// Copies until both sides have ended. `read` is what the client sent right after its request.
    pub(super) async fn run<IO>(self, mut client: IO, read: Bytes) -> io::Result<()>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { mut lease, target, exchange } = self;
        // Hyper ends at the upgrade; nothing is waited for.
        poll_fn(|context| lease.drive(context)).await.map_err(io::Error::other)?;
        let (mut endpoint, answered) = lease.into_io();
        endpoint.write_all(&read).await?;
        client.write_all(&answered).await?;
        let copied = copy_bidirectional(&mut client, &mut endpoint).await;
        let (up, down) = copied.as_ref().copied().unwrap_or_default();
        exchange.received(read.len() + usize::try_from(up).unwrap_or(usize::MAX));
        exchange.sent(answered.len() + usize::try_from(down).unwrap_or(usize::MAX));
        exchange.complete();
        drop(target);
        copied.map(drop)
    }
}
