//! Tells owners in the cluster what became of their objects: conditions in the statuses of routes and Tenants, and an Event of each object
//! that is refused from now on, whatever its kind.
//!
//! Of several control planes one writes, all serve. It must never hold up who serves, and never be needed for it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use config::{condition::Standing, finding::ObjectRef, store::Outcome};
use http::Method;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use self::{
    lease::{Candidate, Step},
    turns::Turns,
};
use super::{
    KubernetesError, access,
    access::Access,
    api::{Api, ApiError, JSON, MERGE_PATCH},
    events::{self, Notes, Reporter},
    kinds,
};
use crate::{
    control::ConfigSource,
    telemetry::{access::rfc3339, events::LeftOut},
};

mod lease;
mod patch;
mod turns;

type Standings = Arc<[Arc<Standing>]>;

/// A source, of which the cluster is told what became of its objects.
#[derive(Debug)]
pub struct Reported<S> {
    source: S,
    told: watch::Sender<Standings>,
    left_out: Arc<LeftOut>,
}

/// Who writes.
struct Writer {
    api: Api,
    candidate: Candidate,
    /// The path of Leases of our own namespace.
    leases: String,
    told: watch::Receiver<Standings>,
    /// What was told of each object last.
    done: BTreeMap<ObjectRef, Arc<Standing>>,
    /// Which of them are refused, and who has their owners told.
    turns: Turns,
    notes: Notes,
    /// Of what goes wrong, the last that was said.
    said: Option<String>,
}

impl<S: ConfigSource> Reported<S> {
    /// Starts to tell the cluster. Not to be called within an event loop.
    pub fn start(source: S, access: &Access) -> Result<Self, KubernetesError> {
        Self::start_every(source, access, lease::EVERY)
    }

    fn start_every(source: S, access: &Access, every: Duration) -> Result<Self, KubernetesError> {
        let (told, hears) = watch::channel(Standings::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (client, namespace) = runtime.block_on(async {
            let config = access.find().await?;
            let namespace = config.default_namespace.clone();
            Ok::<_, KubernetesError>((access::client(config)?, namespace))
        })?;
        let (api, identity) = (Api::new(client, MOST_BYTES), identity());
        let reporter = Reporter { controller: CONTROLLER, instance: identity.clone() };
        let left_out = Arc::<LeftOut>::default();
        let (notes, scribe) = Notes::new(api.clone(), reporter, Arc::clone(&left_out));
        let writer = Writer {
            api,
            candidate: Candidate::new(identity),
            leases: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
            told: hears,
            done: BTreeMap::new(),
            turns: Turns::default(),
            notes,
            said: None,
        };
        // Ends with the writer, who has the notes.
        let run =
            move || runtime.block_on(async { tokio::join!(writer.run(every), scribe.run(events::PAUSE)) });
        thread::Builder::new().name("statuses".to_owned()).stack_size(STACK_BYTES).spawn(run)?;
        Ok(Self { source, told, left_out })
    }

    /// Events that it does not write.
    pub fn left_out(&self) -> Arc<LeftOut> {
        Arc::clone(&self.left_out)
    }
}

impl<S: ConfigSource> ConfigSource for Reported<S> {
    fn next(&mut self, patience: Duration) -> Option<Outcome> {
        let outcome = self.source.next(patience)?;
        self.told.send_replace(Arc::clone(&outcome.standings));
        Some(outcome)
    }
}

impl Writer {
    /// Until nobody tells it anything any more.
    async fn run(mut self, every: Duration) {
        let mut renew = interval(every);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = renew.tick() => {
                    let led = self.candidate.may_write(Instant::now());
                    let result = self.stand().await;
                    self.say(result);
                    let leads = self.candidate.may_write(Instant::now());
                    if leads != led {
                        // Another may have written meanwhile.
                        self.done.clear();
                        self.turns.forget();
                        tracing::info!(leads, "whether this control plane writes statuses");
                    }
                }
                changed = self.told.changed() => if changed.is_err() { return },
            }
            if self.candidate.may_write(Instant::now()) {
                let result = self.write().await;
                self.say(result);
            }
        }
    }

    /// Takes the Lease, keeps it, or waits for it.
    async fn stand(&mut self) -> Result<(), ApiError> {
        let path = format!("{}/{}", self.leases, lease::NAME);
        let lease = match self.api.exchange(Method::GET, &path, None).await {
            Ok(lease) => Some(lease),
            Err(ApiError::NotInstalled) => None,
            Err(error) => return Err(error),
        };
        let begun = Instant::now();
        let taken = match self.candidate.step(lease.as_ref(), begun, &micro(SystemTime::now())) {
            Step::Wait => return Ok(()),
            Step::Create(lease) => self.api.exchange(Method::POST, &self.leases, Some((JSON, &lease))).await,
            Step::Update(lease) => self.api.exchange(Method::PUT, &path, Some((JSON, &lease))).await,
        };
        match taken {
            Ok(_) => self.candidate.holds(begun),
            // Another was quicker.
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes what is not written yet, one after the other, as long as it may.
    async fn write(&mut self) -> Result<(), ApiError> {
        let told = Arc::clone(&self.told.borrow_and_update());
        for object in self.notes.unwritten() {
            self.turns.missed(object, true);
        }
        for note in self.turns.take(&told) {
            let (object, is_perhaps_known) = (note.regarding.object.clone(), note.is_perhaps_known);
            if !self.notes.offer(note) {
                self.turns.missed(object, is_perhaps_known);
            }
        }
        let mut before = std::mem::take(&mut self.done);
        let written = told.iter().filter(|standing| is_ours(&standing.object));
        let mut rest = Vec::new();
        for standing in written {
            match before.remove(&standing.object) {
                Some(done) if done == *standing => drop(self.done.insert(standing.object.clone(), done)),
                _ => rest.push(standing),
            }
        }
        for standing in rest {
            if !self.candidate.may_write(Instant::now()) {
                return Ok(());
            }
            match self.tell(standing).await {
                Ok(()) => drop(self.done.insert(standing.object.clone(), Arc::clone(standing))),
                // Its new version is on its way to us.
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn tell(&self, standing: &Standing) -> Result<(), ApiError> {
        let Some(path) = path(&standing.object) else { return Ok(()) };
        let object = match self.api.exchange(Method::GET, &path, None).await {
            // It is gone.
            Err(ApiError::NotInstalled) => return Ok(()),
            object => object?,
        };
        let now = rfc3339(seconds(SystemTime::now()));
        let Some(patch) = patch::of(&object, standing, &now) else { return Ok(()) };
        let path = format!("{path}/status?fieldManager=canopy");
        match self.api.exchange(Method::PATCH, &path, Some((MERGE_PATCH, &patch))).await {
            Err(ApiError::NotInstalled) => Ok(()),
            told => told.map(drop),
        }
    }

    /// What goes wrong, once.
    fn say(&mut self, result: Result<(), ApiError>) {
        let Err(error) = result else { return };
        let error = error.to_string();
        if self.said.as_ref() != Some(&error) {
            tracing::warn!(error, "statuses are not written; it is tried again");
            self.said = Some(error);
        }
    }
}

/// Whether an object's status is ours to write.
fn is_ours(object: &ObjectRef) -> bool {
    WRITTEN.contains(&&*object.kind)
}

/// Where an object is whose status is ours to write.
fn path(object: &ObjectRef) -> Option<String> {
    let resource = kinds::resource(&object.kind).filter(|_| is_ours(object))?;
    Some(resource.object(object.namespace.as_deref(), &object.name))
}

/// Nobody else's: pods of one Deployment have names of their own, and what is started again is another.
fn identity() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}_{:016x}", fastrand::u64(..))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// As `meta/v1` MicroTime is written.
pub(super) fn micro(time: SystemTime) -> String {
    rfc3339(seconds(time)).replace('Z', ".000000Z")
}

/// The kinds whose statuses are written: routes, as Gateway API asks for it, and our own.
const WRITTEN: [&str; 3] = ["GRPCRoute", "HTTPRoute", "Tenant"];
/// Who tells, as Events have it.
const CONTROLLER: &str = "canopy.mesh/control";
/// Of an object that is answered.
const MOST_BYTES: usize = 8 << 20;
const STACK_BYTES: usize = 2 << 20;

#[cfg(test)]
pub(super) mod tests;
