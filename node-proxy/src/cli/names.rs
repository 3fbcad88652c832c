//! The options of `canopy run` about hosts of ServiceEntries.

use std::time::Duration;

use clap::Args;

use crate::control::names::Pace;

/// Looking up hosts.
#[derive(Debug, Args)]
pub(super) struct Names {
    /// How often a host of a ServiceEntry is looked up.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, env = "CANOPY_RESOLVE_EVERY",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    resolve_every: u64,
    /// How long an address stays open after an answer named it last; at least as long as --resolve-every.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, env = "CANOPY_RESOLVE_KEEP",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    resolve_keep: u64,
}

impl Names {
    /// As the daemon takes it.
    pub(super) fn pace(&self) -> Result<Pace, String> {
        if self.resolve_keep < self.resolve_every {
            let (keep, every) = (self.resolve_keep, self.resolve_every);
            return Err(format!(
                "--resolve-keep {keep}: addresses would close between two look-ups, which are {every} s apart"
            ));
        }
        Ok(Pace {
            every: Duration::from_secs(self.resolve_every),
            keep: Duration::from_secs(self.resolve_keep),
        })
    }
}
