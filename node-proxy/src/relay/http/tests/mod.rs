//! The HTTP relay over real sockets on loopback: bytes in, bytes out.

mod budgets;
mod cuts;
mod deadlines;
mod deliveries;
mod endings;
mod farewell;
mod floods;
mod framing;
mod grpc_routes;
mod http1;
mod http2;
mod pressed;
mod routes;
mod sockets;
mod stalls;
mod support;
mod targets;
mod tries;
