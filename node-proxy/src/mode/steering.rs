//! Which way of steering this daemon uses: by eBPF where the kernel can, by iptables otherwise.
//!
//! The fall-back is taken only where the kernel or the build lacks something. It must never hide a mistake of the operator's, such as
//! a second daemon of the same name.

use std::{path::PathBuf, sync::Arc};

use ebpf_redirect::{
    FenceChoice, Redirect, RedirectError,
    iptables::{self, IptablesRedirect},
    kernel::{self, Filter, KernelRedirect, Trace},
};

use super::node::RedirectChoice;

/// The way of steering that was chosen.
#[derive(Debug, Clone)]
pub enum Steering {
    /// By eBPF.
    Kernel(Arc<KernelRedirect>),
    /// By iptables.
    Iptables(Arc<IptablesRedirect>),
}

impl Steering {
    /// Opens the way of steering that was asked for.
    pub fn open(choice: RedirectChoice, fence: FenceChoice, instance: &str) -> Result<Self, RedirectError> {
        match choice {
            RedirectChoice::Ebpf => by_kernel(fence, instance),
            RedirectChoice::Iptables => by_iptables(fence, instance),
            RedirectChoice::Auto => match by_kernel(fence, instance) {
                Err(error) if is_lack_of_the_machine(&error) => {
                    tracing::warn!(%error, "steering by eBPF is not to be had here: iptables it is; see `canopy check`");
                    by_iptables(fence, instance)
                }
                opened => opened,
            },
        }
    }

    /// As the cells use it.
    pub fn redirect(&self) -> Arc<dyn Redirect> {
        match self {
            Self::Kernel(kernel) => Arc::clone(kernel) as Arc<dyn Redirect>,
            Self::Iptables(iptables) => Arc::clone(iptables) as Arc<dyn Redirect>,
        }
    }

    /// Stops steering pods that a dead daemon left and that are not of this node any more.
    pub fn release_unclaimed(&self) {
        // By iptables, what was left is cleared at start.
        let Self::Kernel(kernel) = self else { return };
        match kernel.release_unclaimed() {
            Ok(0) => {}
            Ok(pods) => tracing::info!(pods, "pods that an earlier daemon left are no longer steered"),
            Err(error) => tracing::warn!(%error, "pods that an earlier daemon left are still steered"),
        }
    }

    /// Follows single decisions, of one pod (`NAMESPACE/NAME`) or of all. The error is for the operator.
    pub fn trace(&self, pod: Option<String>) -> Result<Trace, String> {
        match self {
            Self::Kernel(kernel) => kernel.trace(Filter { pod }).map_err(|error| error.to_string()),
            Self::Iptables(_) => Err(
                "steering is by iptables, whose decisions cannot be followed: `iptables-save -c` counts them"
                    .into(),
            ),
        }
    }
}

fn by_kernel(fence: FenceChoice, instance: &str) -> Result<Steering, RedirectError> {
    let options = kernel::Options { instance: instance.to_owned(), fence, ..kernel::Options::default() };
    Ok(Steering::Kernel(Arc::new(KernelRedirect::open(options)?)))
}

/// iptables marks packets, not sockets, and so has nothing that a fence could go by.
fn by_iptables(fence: FenceChoice, instance: &str) -> Result<Steering, RedirectError> {
    match fence {
        FenceChoice::Off => {}
        FenceChoice::Required => {
            let why = "steering is by iptables, and the fence needs eBPF".to_owned();
            return Err(RedirectError::NoFence { pod: "every pod".to_owned(), why });
        }
        FenceChoice::Auto | FenceChoice::Observe => {
            tracing::warn!("steering by iptables is without a fence: raw sockets of pods get around it");
        }
    }
    let options = iptables::Options { state: PathBuf::from(format!("/run/canopy/{instance}.iptables")) };
    Ok(Steering::Iptables(Arc::new(IptablesRedirect::open(options)?)))
}

/// Whether another way of steering may work where this one does not.
fn is_lack_of_the_machine(error: &RedirectError) -> bool {
    matches!(
        error,
        RedirectError::Hook { .. }
            | RedirectError::Object { .. }
            | RedirectError::NoCgroup2
            | RedirectError::NoBpffs { .. }
            | RedirectError::NoPrograms
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fall_back_is_taken_for_lacks_of_the_machine_only() {
        assert!(is_lack_of_the_machine(&RedirectError::NoCgroup2));
        assert!(!is_lack_of_the_machine(&RedirectError::InstanceInUse { name: "default".to_owned() }));
        assert!(!is_lack_of_the_machine(&RedirectError::Permission { what: "load" }));
    }
}
