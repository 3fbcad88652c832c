//! HTTP/2 as both ends of a tunnel speak it.
//!
//! Windows as other implementations have them: a stalled stream holds a quarter of its connection's window at most, so the
//! others go on. What a peer may make this side keep is bounded by the connection's window.

use h2::{client, server};

/// Bytes of one stream on their way, unread.
const STREAM_WINDOW: u32 = 4 << 20;
/// Bytes of all streams of a connection on their way, unread.
const CONNECTION_WINDOW: u32 = 16 << 20;
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
/// Streams that a client may have open.
const ACCEPTED_STREAMS: u32 = 200;

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
