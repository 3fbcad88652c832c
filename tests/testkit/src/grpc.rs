//! A gRPC application: an echo service with one unary and three streaming methods, server and client. What a
//! request asks for (an error status, a delay, a number of replies) the server does, so that a test of a proxy
//! can make every ending of a call happen. It is tonic on both sides: nothing of Canopy is in it.

pub use client::{CallError, Client, connect, say};
pub use server::{EchoServer, serve};

mod client;
mod server;

/// What a client says, and what it wants done.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Words {
    /// Said back.
    #[prost(string, tag = "1")]
    pub text: String,
    /// For `Expand`: how many replies.
    #[prost(uint32, tag = "2")]
    pub replies: u32,
    /// The gRPC status to end with, after the replies; 0 is success.
    #[prost(int32, tag = "3")]
    pub status: i32,
    /// Wait so long before each reply.
    #[prost(uint32, tag = "4")]
    pub delay_ms: u32,
}

/// What the server says.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Reply {
    /// What it was told; for `Collect`, all of it with spaces between.
    #[prost(string, tag = "1")]
    pub text: String,
    /// The server's name.
    #[prost(string, tag = "2")]
    pub server: String,
    /// Which reply of its call this is, from 0; for `Collect`, how many words were heard.
    #[prost(uint32, tag = "3")]
    pub index: u32,
    /// The caller's address as the server's socket has it.
    #[prost(string, tag = "4")]
    pub peer: String,
}

/// The trailer that the server adds to a status other than success; its value is the server's name.
pub const TRAILER: &str = "x-ended-by";

mod generated {
    #![allow(
        missing_docs,
        missing_debug_implementations,
        unreachable_pub,
        unused_qualifications,
        rust_2018_idioms,
        clippy::all,
        clippy::too_many_lines,
        clippy::allow_attributes_without_reason,
        reason = "written by tonic-build"
    )]
    include!(concat!(env!("OUT_DIR"), "/canopy.testkit.Echo.rs"));
}
