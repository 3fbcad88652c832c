//! From sources to snapshots: watch, lower, compile per tenant, swap; and the status of every object.
//!
//! Runs on the control thread, never on a cell. A tenant's bad configuration must never delay or fail another's.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, SystemTime},
};

use config::store::{Basis, Outcome, Rejected};

use self::{compile::Compiler, names::Names};
use crate::forest::{Configuration, ForestHandle};

pub use self::{
    files::FileSource,
    status::{InForce, Status},
};

pub mod capacity;
pub mod compile;
mod differences;
pub mod directory;
pub mod discovery;
mod files;
pub mod gate;
pub mod inject;
pub mod kubernetes;
pub mod names;
pub mod sandboxes;
mod standings;
mod status;

/// Where configuration comes from. One of the six seams.
pub trait ConfigSource: Send + fmt::Debug {
    /// What the configuration has become; `None` if nothing changed within `patience`. The first call gives what is
    /// there.
    fn next(&mut self, patience: Duration) -> Option<Outcome>;
}

impl<S: ConfigSource + ?Sized> ConfigSource for Box<S> {
    fn next(&mut self, patience: Duration) -> Option<Outcome> {
        (**self).next(patience)
    }
}

/// The control thread. Dropping it tells the thread to end and does not wait for it: a source may hang, as a directory on
/// a dead server does, and that must never hold up the daemon's end.
#[derive(Debug)]
pub struct Control {
    stop: Arc<AtomicBool>,
}

/// How long the thread looks at its source before it looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(200);

impl Control {
    /// Starts to bring what `source` says to the forest, with what `names` finds, and what there is to say about it to
    /// `status`. `compiler` is the node's.
    pub fn start(
        mut source: Box<dyn ConfigSource>,
        forest: ForestHandle,
        status: Arc<Status>,
        mut compiler: Compiler,
        mut names: Names,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name("control".to_owned()).spawn(move || {
            let (mut mesh, mut rejected, mut basis) = (None, Rejected::default(), Basis::default());
            while !stopped.load(Relaxed) {
                let outcome = source.next(PATIENCE);
                let mut changed = outcome.is_some();
                if let Some(outcome) = outcome {
                    forest.tell(status.take(&outcome, SystemTime::now()));
                    names.want(&outcome.mesh);
                    (mesh, rejected, basis) = (Some(outcome.mesh), outcome.rejected, outcome.basis);
                }
                if names.turn() {
                    changed = true;
                }
                if let Some(mesh) = mesh.as_ref().filter(|_| changed) {
                    compiler.know(names.answers());
                    let snapshots = compiler.compile(mesh);
                    let (mesh, rejected) = (mesh.clone(), rejected.clone());
                    let (told, basis) = (snapshots.clone(), basis.clone());
                    status.tell(InForce { mesh: Arc::clone(&mesh), snapshots: told, basis });
                    // Before anybody is told: how soon a change is obeyed is counted from here.
                    tracing::info!(version = mesh.version, "configuration compiled");
                    forest.apply(Configuration { mesh, snapshots, rejected });
                }
            }
        })?;
        Ok(Self { stop })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, sync::mpsc};

    use super::*;
    use crate::{
        cell::Limits,
        forest::Settings,
        telemetry::access::{Target, Writer},
        upstream::connect::Kernel,
    };

    /// A source that hangs until its other end goes.
    #[derive(Debug)]
    struct Hung(mpsc::Receiver<()>, mpsc::Sender<()>);

    impl ConfigSource for Hung {
        fn next(&mut self, _patience: Duration) -> Option<Outcome> {
            self.1.send(()).ok()?;
            self.0.recv().ok()?;
            None
        }
    }

    #[test]
    fn a_source_that_hangs_does_not_hold_up_the_end() {
        let forest = ForestHandle::start(Settings {
            instance: "test".to_owned(),
            redirect: Arc::new(ebpf_redirect::fake::FakeRedirect::default()),
            limits: Limits::default(),
            site: Arc::default(),
            descriptors: 0,
            access_log: Arc::new(Writer::start(Target::Off).unwrap()),
            connect: || Rc::new(Kernel),
            identity: crate::identity::testing::no_sources(),
            find: None,
            grace: Duration::ZERO,
            on_stop: crate::forest::OnStop::Open,
            budgets: false,
            lanes: crate::forest::Lanes::of_cpus(1),
        });
        let (release, hung) = mpsc::channel();
        let (asked, hangs) = mpsc::channel();
        let pace = names::Pace { every: PATIENCE, keep: PATIENCE };
        let names = Names::new(Arc::new(names::System), pace, Arc::default());
        let control = Control::start(
            Box::new(Hung(hung, asked)),
            forest.unwrap(),
            Arc::default(),
            Compiler::new(),
            names,
        )
        .unwrap();
        hangs.recv().unwrap();
        let (done, dropped) = mpsc::channel();
        thread::spawn(move || {
            drop(control);
            done.send(())
        });
        dropped.recv_timeout(Duration::from_secs(5)).expect("dropping waits for nothing");
        drop(release);
    }
}
