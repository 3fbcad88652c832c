//! What `canopy check` says of daemons that have ended and left their pods refused, until somebody starts them again or lets them go.
//!
//! Only looks; a daemon that lives is none of its business.

use ebpf_redirect::remains::{self, Dead, Places};

use super::{Look, State};
use crate::mode::steering::{died, how_to_clear};

/// Looks for what they left, under any name.
pub(super) fn looks() -> Vec<Look> {
    remains::dead(&Places::default()).iter().map(look).collect()
}

fn look(dead: &Dead) -> Look {
    Look {
        name: format!("instance {}", dead.instance),
        state: State::Degraded,
        detail: died(dead),
        remedy: Some(how_to_clear(dead)),
    }
}
