//! Which way of steering this daemon uses: by eBPF where the kernel can, by iptables otherwise.
//!
//! The fall-back is taken only where the kernel or the build lacks something. It must never hide a mistake of the operator's, such as
//! a second daemon of the same name. What a daemon of this name that has ended left is taken over or cleared whichever way is taken.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use ebpf_redirect::{
    FenceChoice, Redirect, RedirectError,
    iptables::{self, IptablesRedirect},
    kernel::{self, Filter, KernelRedirect, Trace},
    nftables::NftablesRedirect,
    remains::{self, Dead, Places, Remains},
};

use super::{node::RedirectChoice, sidecar::CaptureChoice};

/// The way of steering that was chosen.
#[derive(Debug)]
pub struct Steering {
    way: Way,
    /// Whether nothing of a dead daemon's is in the way any more.
    settled: AtomicBool,
    // The last field: the name is free when all else is gone.
    remains: Remains,
}

#[derive(Debug)]
enum Way {
    Kernel(Arc<KernelRedirect>),
    Iptables(Arc<IptablesRedirect>),
    Nftables(Arc<NftablesRedirect>),
}

impl Steering {
    /// Opens the way of steering that was asked for.
    pub fn open(choice: RedirectChoice, fence: FenceChoice, instance: &str) -> Result<Self, RedirectError> {
        let places = Places::default();
        for dead in remains::dead(&places).iter().filter(|dead| dead.instance != instance) {
            tracing::warn!("{}: {}", died(dead), how_to_clear(dead));
        }
        let remains = Remains::hold(places.clone(), instance)?;
        let way =
            choose(choice, || by_kernel(fence, instance, false), || by_iptables(fence, &places, instance))?;
        Ok(Self { way, settled: AtomicBool::new(false), remains })
    }

    /// Opens the way in which a sidecar captures. Where it `dials` before it can capture, what a former start left by hooks is let go
    /// first: they would refuse that, too.
    pub fn within(choice: CaptureChoice, instance: &str, dials: bool) -> Result<Self, RedirectError> {
        let places = Places::default();
        let remains = Remains::hold(places.clone(), instance)?;
        if dials {
            remains.release()?;
        }
        let way = capture(
            choice,
            // Without a fence, which stands at the host's end of the pod's link.
            || by_kernel(FenceChoice::Off, instance, true),
            || Ok(Way::Nftables(Arc::new(NftablesRedirect::open()?))),
        )?;
        Ok(Self { way, settled: AtomicBool::new(false), remains })
    }

    /// As the cells use it.
    pub fn redirect(&self) -> Arc<dyn Redirect> {
        match &self.way {
            Way::Kernel(kernel) => Arc::clone(kernel) as Arc<dyn Redirect>,
            Way::Iptables(iptables) => Arc::clone(iptables) as Arc<dyn Redirect>,
            Way::Nftables(nftables) => Arc::clone(nftables) as Arc<dyn Redirect>,
        }
    }

    /// Clears what a daemon that has ended left by another mechanism or in another layout. To be called once the pods of the
    /// first configuration are enrolled.
    pub fn settle(&self) {
        self.remains.clear(self.redirect().mechanism());
        self.settled.store(true, Relaxed);
    }

    /// Whether that is done: until then pods may still be refused.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Relaxed)
    }

    /// Follows single decisions, of one pod (`NAMESPACE/NAME`) or of all. The error is for the operator.
    pub fn trace(&self, pod: Option<String>) -> Result<Trace, String> {
        match &self.way {
            Way::Kernel(kernel) => kernel.trace(Filter { pod }).map_err(|error| error.to_string()),
            Way::Iptables(_) => Err(
                "steering is by iptables, whose decisions cannot be followed: `iptables-save -c` counts them"
                    .into(),
            ),
            Way::Nftables(_) => {
                Err("steering is by nftables, whose decisions cannot be followed: `nft list ruleset` tells the rules".into())
            }
        }
    }
}

/// Lets the pods go of an instance that does not run; says what of it was there.
pub fn let_go(instance: &str) -> Result<Vec<Dead>, RedirectError> {
    Remains::hold(Places::default(), instance)?.release()
}

/// That a daemon has ended, and what of it is left.
pub fn died(dead: &Dead) -> String {
    let Dead { instance, pods, at } = dead;
    let at = at.display();
    format!(
        "no daemon of the name {instance} runs, but one has; of the {pods} pods that it left, those that live are refused: {at}"
    )
}

/// What to do about it.
pub fn how_to_clear(dead: &Dead) -> String {
    format!(
        "start it again with `canopy run --instance {0} --config DIR`, or let its pods go with `canopy release --instance {0}`",
        dead.instance
    )
}

/// The way that was asked for, or with `Auto` the one that can be had.
fn choose<T>(
    choice: RedirectChoice,
    by_kernel: impl FnOnce() -> Result<T, RedirectError>,
    by_iptables: impl FnOnce() -> Result<T, RedirectError>,
) -> Result<T, RedirectError> {
    match choice {
        RedirectChoice::Ebpf => by_kernel(),
        RedirectChoice::Iptables => by_iptables(),
        RedirectChoice::Auto => match by_kernel() {
            Err(error) if is_lack_of_the_machine(&error) => {
                tracing::warn!(%error, "steering by eBPF is not to be had here: iptables it is; see `canopy check`");
                by_iptables()
            }
            opened => opened,
        },
    }
}

/// The same for a sidecar, which says what it took and why. It has few rights, mostly, and needs none of the hooks'.
fn capture<T>(
    choice: CaptureChoice,
    by_kernel: impl FnOnce() -> Result<T, RedirectError>,
    by_nftables: impl FnOnce() -> Result<T, RedirectError>,
) -> Result<T, RedirectError> {
    match choice {
        CaptureChoice::Ebpf => by_kernel(),
        CaptureChoice::Nftables => by_nftables(),
        CaptureChoice::Auto => match by_kernel() {
            Err(error)
                if is_lack_of_the_machine(&error) || matches!(error, RedirectError::Permission { .. }) =>
            {
                tracing::info!(why = %error, "capture is by nftables: eBPF is not to be had in this pod");
                by_nftables()
            }
            Ok(opened) => {
                tracing::info!("capture is by eBPF: the hooks are to be had in this pod");
                Ok(opened)
            }
            refused => refused,
        },
    }
}

fn by_kernel(fence: FenceChoice, instance: &str, own_netns: bool) -> Result<Way, RedirectError> {
    let options =
        kernel::Options { instance: instance.to_owned(), fence, own_netns, ..kernel::Options::default() };
    Ok(Way::Kernel(Arc::new(KernelRedirect::open(options)?)))
}

/// iptables marks packets, not sockets, and so has nothing that a fence could go by.
fn by_iptables(fence: FenceChoice, places: &Places, instance: &str) -> Result<Way, RedirectError> {
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
    let options = iptables::Options { state: places.notes(instance) };
    Ok(Way::Iptables(Arc::new(IptablesRedirect::open(options)?)))
}

/// Whether another way of steering may work where this one does not.
fn is_lack_of_the_machine(error: &RedirectError) -> bool {
    matches!(
        error,
        RedirectError::Hook { .. }
            | RedirectError::Object { .. }
            | RedirectError::NoCgroup2
            | RedirectError::PartOfCgroup2 { .. }
            | RedirectError::NoBpffs { .. }
            | RedirectError::NoPrograms
    )
}

#[cfg(test)]
mod tests;
