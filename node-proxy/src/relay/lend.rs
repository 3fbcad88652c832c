//! Bulk between a socket and a tunnel: what was read is handed on as it is, where `tcp.rs` would copy it once more.
//!
//! It must never hold room in a tunnel's window, nor memory, for a socket that has nothing to say.

use std::{
    future::Future,
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{hbone::Tunnel, stream::Stream};

/// Bytes below which copying is cheaper: what is handed on keeps the whole buffer alive that it is a part of.
pub(super) const LEAST: usize = 16 * 1024;

/// What a tunnel has received already, where it is bulk: at most `most` bytes, of one frame. `None` where it is for a read.
pub(super) fn received(source: &mut Stream, cx: &mut Context<'_>, most: usize) -> Option<Bytes> {
    match source {
        Stream::Tunnel(tunnel) => tunnel.take_chunk(cx, LEAST..=most),
        Stream::Tcp(..) | Stream::Handoff(..) => None,
    }
}

/// Where the bytes of a socket go as they are: the socket, and the tunnel.
pub(super) fn lane<'a>(
    source: &'a mut Stream,
    sink: &'a mut Stream,
) -> Option<(&'a mut TcpStream, &'a mut Tunnel)> {
    match (source, sink) {
        (Stream::Tcp(socket, _), Stream::Tunnel(tunnel)) => Some((socket, tunnel)),
        _ => None,
    }
}

/// Which end failed.
pub(super) enum Failed {
    Socket(io::Error),
    Tunnel(io::Error),
}

/// Reads as much as the tunnel may send now, at most `most` bytes, and sends it. 0 at the socket's end.
pub(super) fn poll_send(
    cx: &mut Context<'_>,
    (socket, tunnel): (&mut TcpStream, &mut Tunnel),
    most: usize,
) -> Poll<Result<usize, Failed>> {
    ready!(socket.poll_read_ready(cx)).map_err(Failed::Socket)?;
    let reserved = ready!(tunnel.poll_room(cx)).map_err(Failed::Tunnel)?;
    let room = reserved.min(most);
    let mut bytes = BytesMut::with_capacity(room);
    let read = pin!(socket.read_buf(&mut (&mut bytes).limit(room))).poll(cx);
    let read = match read {
        Poll::Ready(read) => read.map_err(Failed::Socket)?,
        Poll::Pending => {
            tunnel.forgo_room();
            return Poll::Pending;
        }
    };
    if read > 0 {
        // What is queued counts by its length: none may hold more than twice as much.
        let is_most = read >= LEAST.max(room / 2);
        let bytes = if is_most { bytes.freeze() } else { Bytes::copy_from_slice(&bytes) };
        tunnel.send(bytes).map_err(Failed::Tunnel)?;
    }
    if read < reserved {
        tunnel.forgo_room();
    }
    Poll::Ready(Ok(read))
}

#[cfg(test)]
mod tests;
