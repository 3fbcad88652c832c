//! What the machine can do, asked of the kernel itself.

use ebpf_redirect::probe::{State, probe};

use super::support::need_root;

#[test]
fn this_machine_has_every_hook_and_says_since_when_kernels_do() {
    need_root();
    let features = probe();
    for feature in &features {
        assert_eq!(feature.state, State::Available, "{feature:?}");
        assert!(!feature.needed_for.is_empty());
    }
    for hook in ["connect4", "connect6", "getpeername4", "getsockname6", "sock_ops", "sk_lookup"] {
        let feature = features.iter().find(|feature| feature.name == hook).unwrap();
        assert!(feature.minimum_kernel.starts_with("5."), "{feature:?}");
    }
}
