//! The options of `canopy run` about tunnels to and from pods of other nodes.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::mode::node;

/// Tunnels between nodes.
#[derive(Debug, Args)]
pub(super) struct Tunnels {
    /// Who shares the tunnels to pods of other nodes.
    #[arg(long = "tunnels", value_enum, default_value_t = Sharing::Shared, env = "CANOPY_TUNNELS")]
    sharing: Sharing,
    /// Tunnels that each tenant may have open, each way; with one peer's address, a quarter of them.
    #[arg(long, value_name = "NUMBER", default_value_t = 8192, env = "CANOPY_TUNNEL_LIMIT",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tunnel_limit: u32,
    /// How long a tunnel is kept that carries nothing; one that was accepted, twice as long.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, env = "CANOPY_TUNNEL_IDLE",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    tunnel_idle: u64,
    /// How often a tunnel's other end is asked whether it is there; without an answer in twice that time, the tunnel ends.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, env = "CANOPY_TUNNEL_KEEPALIVE",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    tunnel_keepalive: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sharing {
    /// All connections of one pod to another.
    Shared,
    /// Nobody: each connection has its own. None waits for what another lost on the way, and each costs a handshake.
    Own,
}

impl Tunnels {
    /// As the daemon takes it.
    pub(super) fn choice(&self) -> node::Tunnels {
        node::Tunnels {
            shared: self.sharing == Sharing::Shared,
            most: self.tunnel_limit as usize,
            idle: Duration::from_secs(self.tunnel_idle),
            keepalive: Duration::from_secs(self.tunnel_keepalive),
        }
    }
}
