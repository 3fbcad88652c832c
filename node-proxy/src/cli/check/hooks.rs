//! What `canopy check` asks of steering: each hook by itself, and what it means where one is not there.

use ebpf_redirect::probe::{self, Feature};

use super::{Look, State};

/// Looks at everything that steering by eBPF needs.
pub(super) fn looks() -> Vec<Look> {
    probe::probe().into_iter().map(look).collect()
}

/// A hook that is missing costs the kernel's way of steering, not all: iptables remains.
fn look(feature: Feature) -> Look {
    let Feature { name, needed_for, minimum_kernel, state } = feature;
    match state {
        probe::State::Available => Look::fine(name, format!("for {needed_for} (Linux {minimum_kernel})")),
        probe::State::Missing { why, remedy } => Look {
            name: name.to_owned(),
            state: State::Degraded,
            detail: format!("for {needed_for}, needs Linux {minimum_kernel}: {}", why.trim()),
            remedy: Some(remedy.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_hook_names_what_is_lost_and_the_kernel_that_has_it() {
        let state = probe::State::Missing { why: "EINVAL\n".to_owned(), remedy: "update the kernel" };
        let feature = Feature { name: "sk_lookup", needed_for: "inbound", minimum_kernel: "5.9", state };
        let look = look(feature);
        assert_eq!(look.detail, "for inbound, needs Linux 5.9: EINVAL");
        assert_eq!(look.remedy.as_deref(), Some("update the kernel"));
    }
}
