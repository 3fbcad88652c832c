//! HTTP/2 as both ends of a tunnel speak it.
//!
//! A connection's window has room for all that its streams may leave unread: those that nobody reads never hold up the others,
//! which may be of other clients. What a peer may make this side keep is bounded by the stream's window for each stream, which
//! counts as a connection, and by the connection's for each tunnel.

use h2::{client, server};

/// Bytes of one stream on their way, unread: enough for a full pipe at 8 Gbit/s and 1 ms.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes of one frame.
const FRAME: u32 = 1 << 20;
/// Bytes of headers that a server may answer with.
const ANSWER_HEADERS: u32 = 16 << 10;
/// Bytes of headers that a client may ask with.
const REQUEST_HEADERS: u32 = 64 << 10;
/// Bytes that one stream may have waiting to be sent: enough for a full pipe, small enough for thousands of streams.
const SEND_BUFFER: usize = 400 << 10;
/// Streams that one connection carries, whatever the peer allows.
pub const MOST_STREAMS: usize = 100;
/// Streams that a client may have open: some more than ours open, since a stream may have ended at one end and not yet at the other.
const ACCEPTED_STREAMS: u32 = 128;
/// Bytes of all streams of a connection on their way, unread: as many as either end may have, each with a window of its own. With
/// less, the streams that fill it stop all others.
const CONNECTION_WINDOW: u32 = ACCEPTED_STREAMS * STREAM_WINDOW;

/// Who opens streams.
pub fn client() -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(ANSWER_HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .initial_max_send_streams(MOST_STREAMS)
        .enable_push(false);
    builder
}

/// Who accepts streams.
pub fn server() -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(REQUEST_HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(ACCEPTED_STREAMS);
    builder
}
