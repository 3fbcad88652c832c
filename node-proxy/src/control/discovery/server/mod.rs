//! The server of a control plane: the mesh as resources, to nodes, over delta streams.
//!
//! One thread reads the configuration and puts it on the shelf, another serves. A node that reads slowly, or not at all, must never
//! hold up another, nor cost more than a set of names and one response of each type.

pub(crate) use self::tls::Tls;
pub use self::{
    feed::{Feed, FeedError},
    figures::{Figures, Held},
    listen::{Listen, ListenError},
    serve::{ServeError, Server},
    streams::Streams,
    tls::{Certificates, TlsError, TlsFiles},
};

mod activity;
mod awaited;
mod certify;
mod change;
mod feed;
mod figures;
mod listen;
mod nacks;
mod prove;
mod serve;
mod session;
mod stream;
mod streams;
mod subscription;
mod tls;
mod version;
