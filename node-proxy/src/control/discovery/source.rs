//! The source `discovery`: what a control plane says, and of the node's own files its Pods.
//!
//! A node that knows nothing yet serves nothing: there is no configuration before all is here that is had as a whole, or a cache
//! of it. From then on nothing goes but what the control plane says is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use config::{
    condition::{About, Standing},
    discovery::{Assembly, Kind, Made, Rejection},
    finding::Finding,
    model::{Mesh, Workload},
    name::{ClusterDomain, PodName},
    store::{Basis, Options, Outcome, Rejected},
};
use tokio::time::Instant;

use self::{answers::Answers, files::Files};
use super::client::{self, Answer, Batch, Client, Demand, Event, Taken, label};
use crate::control::{ConfigSource, sandboxes::Places};

mod answers;
mod files;
mod needs;

/// What a control plane says.
#[derive(Debug)]
pub struct DiscoverySource {
    events: Receiver<Event>,
    client: Client,
    files: Arc<Files>,
    assembly: Assembly,
    /// What of this node's own files counts; `None` before they were read.
    local: Option<Outcome>,
    /// The pods in them that are on this machine.
    pods: BTreeMap<PodName, Arc<Workload>>,
    /// Who knows which of them wait at the gate, where there is one.
    places: Option<Places>,
    progress: Progress,
    /// What was told last.
    told: Option<Told>,
    /// Answers that count when what they are about is in force.
    answers: Answers,
    domain: ClusterDomain,
    /// Services that are asked for since what is known refers to them.
    needed: BTreeSet<String>,
}

#[derive(Debug)]
struct Told {
    mesh: Arc<Mesh>,
    findings: Vec<Finding>,
    standings: Arc<[Arc<Standing>]>,
    rejected: Rejected,
}

/// How far the beginning has come.
#[derive(Debug)]
struct Progress {
    /// Types of which nothing has come yet.
    waits_for: BTreeSet<Kind>,
    wildcards: BTreeSet<Kind>,
    is_serving: bool,
    /// When the first response came.
    since: Option<Instant>,
    say_at: Instant,
    pause: Duration,
}

impl DiscoverySource {
    /// Starts to follow a control plane, and `files`.
    pub fn start(
        client: client::Options,
        files: Box<dyn ConfigSource>,
        reading: Options,
        domain: ClusterDomain,
    ) -> io::Result<Self> {
        let (sender, events) = mpsc::channel();
        let assembly = Assembly::new(reading, domain.clone()).on_network(&client.introduction.network);
        let assembly = assembly.in_cluster(&client.introduction.cluster);
        let progress = Progress::new(client.wildcards().collect(), Instant::now());
        let files = Files::follow(files, sender.clone())?;
        let client = Client::start(client, sender)?;
        client.standing().waits(progress.waits_for.iter().copied().collect(), false);
        Ok(Self {
            events,
            client,
            files,
            assembly,
            domain,
            needed: BTreeSet::new(),
            local: None,
            pods: BTreeMap::new(),
            places: None,
            progress,
            told: None,
            answers: Answers::default(),
        })
    }

    /// Has pods enrolled that wait at the gate, of which no control plane can tell before they have passed it.
    #[must_use]
    pub fn with_gate(self, places: Places) -> Self {
        Self { places: Some(places), ..self }
    }

    /// How it stands with the control plane.
    pub fn standing(&self) -> Arc<client::Standing> {
        self.client.standing()
    }

    /// By which addresses are asked for, where they are one by one.
    pub fn demand(&self) -> Option<Demand> {
        self.client.demand()
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Batch(batch, taken) => {
                let kind = batch.kind;
                let rejections = self.take_in(batch);
                if let Some(taken) = taken {
                    self.progress.answered(kind, Instant::now());
                    let is_complete = self.progress.waits_for.is_empty();
                    // Its thread may have ended.
                    let _ = taken.send(Taken { rejections, is_complete });
                }
            }
            Event::Stored(batch, taken) => {
                let rejections = self.take_in(batch);
                let _ = taken.send(Taken { rejections, is_complete: false });
            }
            Event::Cached(is_complete) => {
                if is_complete {
                    tracing::info!(
                        "this node begins with what the control plane said last, until it says more"
                    );
                }
                self.progress.is_serving |= is_complete;
            }
            Event::Files => {
                let Some(local) = self.files.take() else { return };
                self.pods = files::pods(&local);
                self.assembly.place(self.pods.clone());
                if let Some(places) = &self.places {
                    self.assembly.expect(files::those(&self.pods, |_, uid| places.is_told(uid)));
                    let has_them = |pod: &Workload, uid: &str| places.has(uid, &pod.pod, &pod.addresses);
                    self.assembly.vouch(files::those(&self.pods, has_them));
                }
                self.local = Some(local);
            }
        }
        let waits_for = self.progress.waits_for.iter().copied().collect();
        self.client.standing().waits(waits_for, self.progress.is_serving);
    }

    fn take_in(&mut self, batch: Batch) -> Vec<Rejection> {
        let Batch { kind, set, removed, answers } = batch;
        let rejections = self.assembly.take(kind, set, &removed);
        for client::Answered { wanted, resource } in answers {
            let is_refused = |name: &String| rejections.iter().any(|rejection| rejection.name == *name);
            let answer = match &resource {
                None => Answer::Absent,
                Some(resource) if is_refused(resource) => Answer::Refused,
                Some(_) => Answer::Present,
            };
            self.answers.push(wanted, answer);
        }
        rejections
    }

    /// Takes in what comes close behind, so that it is compiled once.
    fn drain(&mut self) {
        let longest = Instant::now() + BURST;
        while Instant::now() < longest {
            match self.events.recv_timeout(CLOSE) {
                Ok(event) => self.take(event),
                Err(_) => return,
            }
        }
    }

    /// What is to be compiled, if that is anything new.
    fn outcome(&mut self) -> Option<Outcome> {
        let local = self.local.as_ref().filter(|_| self.progress.is_serving)?;
        let Made { mesh, changes, mut rejected, mut findings, standings } = self.assembly.make();
        findings.extend(files::findings(local));
        rejected.netns.extend(local.rejected.netns.iter().cloned());
        rejected.may_be_more |= local.rejected.may_be_more;
        let told = Told { mesh, findings, standings, rejected };
        if let Some(demand) = self.client.demand() {
            let here = self.pods.keys().map(|pod| &pod.namespace).collect();
            self.needed = needs::services(&told.mesh, &here, &self.domain);
            self.ask(&demand);
        }
        if self.told.as_ref().is_some_and(|before| before.says_the_same(&told)) {
            return None;
        }
        // Pods that were taken have no standing.
        let pods = told.mesh.workloads.len();
        let others = told.standings.iter().filter(|standing| !files::is_pod(&standing.object));
        let is_accepted =
            |standing: &&Arc<Standing>| standing.of(About::Accepted).is_some_and(|accepted| accepted.status);
        let outcome = Outcome {
            mesh: Arc::clone(&told.mesh),
            findings: told.findings.clone(),
            changes,
            basis: Basis::default(),
            rejected: told.rejected.clone(),
            files: local.files,
            objects: pods + others.clone().count(),
            accepted: pods + others.filter(is_accepted).count(),
            standings: Arc::clone(&told.standings),
            again: None,
        };
        self.told = Some(told);
        Some(outcome)
    }

    /// What is needed is asked for as long as it is: of what was not there, it is forgotten after a while that it was asked for.
    fn ask_again(&self) {
        if let Some(demand) = self.client.demand() {
            self.ask(&demand);
        }
    }

    /// Asks for pods by their addresses, and for Services by name.
    fn ask(&self, demand: &Demand) {
        for address in self.pods.values().flat_map(|pod| &pod.addresses) {
            demand.want(*address);
        }
        for service in &self.needed {
            demand.want_name(service);
        }
    }

    /// What was told before this is in force now.
    fn publish(&mut self) {
        if let Some(demand) = self.client.demand() {
            let answers = self.answers.due(&self.needed, &demand, Instant::now());
            demand.answer(&answers);
        }
    }
}

impl Told {
    /// What did not change is the same `Arc`: comparing must not cost what a mesh costs.
    fn says_the_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mesh, &other.mesh)
            && Arc::ptr_eq(&self.standings, &other.standings)
            && self.rejected == other.rejected
            && self.findings == other.findings
    }
}

impl ConfigSource for DiscoverySource {
    fn next(&mut self, patience: Duration) -> Option<Outcome> {
        self.publish();
        self.ask_again();
        let until = Instant::now() + patience;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    self.take(event);
                    self.drain();
                }
                Err(RecvTimeoutError::Timeout) => {
                    if !self.progress.look(Instant::now(), self.local.is_some()) {
                        return None;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(until.saturating_duration_since(Instant::now()));
                    return None;
                }
            }
            if let Some(outcome) = self.outcome() {
                return Some(outcome);
            }
            // The mesh has it already.
            self.publish();
        }
    }
}

impl Progress {
    fn new(wildcards: BTreeSet<Kind>, now: Instant) -> Self {
        Self {
            waits_for: wildcards.clone(),
            wildcards,
            is_serving: false,
            since: None,
            say_at: now + SAY,
            pause: SAY,
        }
    }

    /// A response of this type was taken in.
    fn answered(&mut self, kind: Kind, now: Instant) {
        self.since.get_or_insert(now);
        self.waits_for.remove(&kind);
        self.is_serving |= self.waits_for.is_empty();
    }

    /// Says what is waited for, now and then; `true` if nothing is any more.
    fn look(&mut self, now: Instant, has_files: bool) -> bool {
        if self.is_serving {
            return false;
        }
        if self.is_of_istio_alone(now) {
            let missing = names(&self.waits_for);
            tracing::warn!(
                missing,
                "the control plane serves workload discovery alone: without routes, mTLS modes and network policies"
            );
            self.waits_for.clear();
            self.is_serving = true;
            return has_files;
        }
        if now >= self.say_at {
            let types = names(&self.waits_for);
            tracing::info!(
                types,
                "nothing is served before the control plane has said what there is: waiting"
            );
            self.pause = (2 * self.pause).min(SAY_SELDOM);
            self.say_at = now + self.pause;
        }
        false
    }

    /// Istio's own control plane is silent about types that it does not know; Canopy's says of each what there is.
    fn is_of_istio_alone(&self, now: Instant) -> bool {
        let is_over = self.since.is_some_and(|since| now.saturating_duration_since(since) >= SILENCE);
        is_over && self.wildcards.iter().all(|kind| is_istios(*kind) != self.waits_for.contains(kind))
    }
}

fn is_istios(kind: Kind) -> bool {
    matches!(kind, Kind::Address | Kind::Authorization)
}

fn names(kinds: &BTreeSet<Kind>) -> String {
    let names: Vec<_> = kinds.iter().copied().map(label).collect();
    names.join(", ")
}

/// What comes so soon after a change is of the same one.
const CLOSE: Duration = Duration::from_micros(300);
/// A change that goes on for longer is compiled in between.
const BURST: Duration = Duration::from_millis(20);
/// After this long it is said what is waited for, and again, less and less often.
const SAY: Duration = Duration::from_secs(1);
const SAY_SELDOM: Duration = Duration::from_secs(30);
/// A control plane that has said nothing of any of Canopy's types for so long has none.
const SILENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
