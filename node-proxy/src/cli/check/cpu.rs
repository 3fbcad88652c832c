//! What `canopy check` says of CPU: by what means tenants are held to their shares and caps here.
//!
//! Tries each; leaves nothing.

use super::{Look, State};
use crate::tenancy::cpu::means::{self, Found};

/// Looks at shares and caps.
pub(super) fn looks() -> Vec<Look> {
    judge(&means::probe())
}

fn judge(found: &Found) -> Vec<Look> {
    let mut looks = vec![shares(found), caps(found)];
    if !found.waits {
        looks.push(Look {
            name: "cpu waits".to_owned(),
            state: State::Degraded,
            detail:
                "the kernel does not say how long a thread has waited for a CPU: a share that is not had is \
                     seen later"
                    .to_owned(),
            remedy: Some("a kernel with CONFIG_SCHED_INFO, as all distributions build it".to_owned()),
        });
    }
    looks
}

fn shares(found: &Found) -> Look {
    let problem = match &found.weights {
        Ok((version, path)) => {
            return Look::fine(SHARES, format!("by weights below {} ({version:?})", path.display()));
        }
        Err(problem) => problem,
    };
    let instead = if found.classes {
        "cells over their share get the idle scheduling class"
    } else {
        "cells over their share pause by themselves, and nothing holds back what runs outside of the daemon"
    };
    Look {
        name: SHARES.to_owned(),
        state: State::Degraded,
        detail: format!("{instead}, since there are no weights: {problem}"),
        remedy: Some(REMEDY.to_owned()),
    }
}

fn caps(found: &Found) -> Look {
    match found.weights {
        Ok(_) => Look::fine(CAPS, "by quotas of 10 ms"),
        Err(_) => Look {
            name: CAPS.to_owned(),
            state: State::Degraded,
            detail: "cells that have a cap pause by themselves".to_owned(),
            remedy: Some(REMEDY.to_owned()),
        },
    }
}

const SHARES: &str = "cpu shares";
const CAPS: &str = "cpu caps";
const REMEDY: &str = "let the daemon write to its control group: mount /sys/fs/cgroup writable into its container, with \
                      the cpu controller";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::cpu::layout::Version;

    #[test]
    fn each_means_is_named_with_what_is_lost_without_a_better_one() {
        let there = Found { weights: Ok((Version::V1, "/cg".into())), classes: true, waits: true };
        let looks = judge(&there);
        assert!(looks.iter().all(|look| look.state == State::Fine), "{looks:?}");
        assert_eq!(looks[0].detail, "by weights below /cg (V1)");
        let none = Found { weights: Err("read-only".to_owned()), classes: false, waits: false };
        let looks = judge(&none);
        assert_eq!(looks.len(), 3);
        assert!(looks.iter().all(|look| look.state == State::Degraded && look.remedy.is_some()));
        assert!(looks[0].detail.contains("pause by themselves") && looks[0].detail.ends_with("read-only"));
        let classes = Found { weights: Err(String::new()), classes: true, waits: true };
        assert!(judge(&classes)[0].detail.contains("idle scheduling class"));
    }
}
