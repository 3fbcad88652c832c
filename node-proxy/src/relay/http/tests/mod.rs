//! The HTTP relay over pipes to clients and real sockets to endpoints: bytes in, bytes out.

mod http1;
mod http2;
mod routes;
mod support;
