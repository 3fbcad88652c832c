//! How a cell ends: judged, buried or deposed, and when its successor is due. It must never wait for the cell.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{sync::mpsc::error::TrySendError, time::Instant};

use super::{ABANDONED, Keeper, Outcome, Reign, past::Past};
use crate::{
    forest::{
        health::{Signs, Verdict},
        lane::{Ending, LaneError, Runner},
        message::ToCell,
    },
    snapshot::Snapshot,
    sys::clock::Doing,
    telemetry::Reason,
    tenancy::Ledger,
};

impl Keeper {
    /// What its clock and its ledger say of the cell, while there is one.
    pub(super) fn judge(&mut self, now: Instant) -> Option<Verdict> {
        let cpu_at_beat = self.cpu_at_beat();
        let reign = self.reign.as_mut()?;
        let runner = reign.lane.runner();
        let cpu =
            runner.as_ref().and_then(|id| id.cpu().ok()).map_or(cpu_at_beat, |cpu| reign.cpu_before + cpu);
        let (beats, panics) = (self.ledger.heartbeats.load(Relaxed), self.ledger.panics.load(Relaxed));
        let signs = Signs { now, beats, cpu_at_beat, cpu, panics };
        Some(reign.health.judge(signs, || runner.as_ref().map_or(Doing::Runnable, Runner::doing)))
    }

    /// The cell's thread has ended: as it should, or not.
    pub(super) fn bury(&mut self, now: Instant) -> Outcome {
        let Some(reign) = self.reign.take() else { return Outcome::Same };
        self.past.leaves(&reign.lane, reign.cpu_before);
        // Nobody will take what is offered to it now.
        reign.handoffs.close(if self.draining { Reason::Draining } else { Reason::CellRestarted });
        let why = match reign.lane.thread.join() {
            Ok(Ok(Ending::Finished | Ending::Superseded)) if self.draining => return Outcome::Ended,
            Ok(Ok(_)) => "ended",
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(tenant = %self.tenant, %error, cause, "a cell could not go on");
                if matches!(error, LaneError::Died(_)) { "died" } else { "could not go on" }
            }
            Err(_panic) => "panicked",
        };
        if self.draining {
            return Outcome::Ended;
        }
        self.lose(why, reign.since, now)
    }

    /// Takes the cell its office. What it holds is shut down from outside; its thread ends when it comes round.
    pub(super) fn depose(&mut self, why: &'static str, now: Instant) -> Outcome {
        self.throne.vacate();
        let Some(reign) = self.reign.take() else { return Outcome::Same };
        self.past.leaves(&reign.lane, reign.cpu_before);
        let connections = reign.sockets.abort() + reign.handoffs.close(Reason::CellRestarted);
        tracing::error!(tenant = %self.tenant, why, connections, "a cell was given up; its connections were ended");
        reign.lane.give_up();
        let since = reign.since;
        // A process holds none of the daemon's descriptors, whatever it says.
        let held = if reign.lane.is_process() { 0 } else { self.ledger.holding().held };
        self.abandoned.push((reign.lane, held));
        self.lose(why, since, now)
    }

    /// Has those that leave, `from` this one on, obey a new snapshot, too, as long as they carry anything. What one carries that does not take its messages
    /// may not be permitted any more: it ends at once.
    pub(super) fn tell_leaving(&mut self, from: usize, snapshot: &Arc<Snapshot>) {
        let is_deaf = |reign: &mut Reign| {
            let told = reign.inbox.try_send(ToCell::Swap(Arc::clone(snapshot)));
            matches!(told, Err(TrySendError::Full(_)))
        };
        for reign in self.leaving.extract_if(from.., is_deaf) {
            reign.throne.vacate();
            let connections = reign.sockets.abort() + reign.handoffs.close(Reason::Draining);
            tracing::error!(tenant = %self.tenant, connections, "a cell that ends does not take its messages; its connections were ended");
            reign.lane.give_up();
            // A process holds none of the daemon's descriptors.
            let held = if reign.lane.is_process() { 0 } else { connections };
            self.abandoned.push((reign.lane, held));
        }
    }

    /// Remembers why, and when to try again.
    pub(super) fn lose(&mut self, why: &'static str, since: Instant, now: Instant) -> Outcome {
        let pause = self.backoff.next(now.duration_since(since));
        tracing::warn!(tenant = %self.tenant, why, ?pause, "a cell will be restarted");
        self.why = why;
        self.restart_at = Some(now + pause);
        Outcome::Lost
    }

    /// What is to be done where there is no cell.
    pub(super) fn absent(&self, now: Instant) -> Outcome {
        if self.draining {
            return Outcome::Ended;
        }
        let may = self.abandoned.len() < ABANDONED && self.restart_at.is_none_or(|at| now >= at);
        if may { Outcome::Due } else { Outcome::Same }
    }

    /// Says once that a cell sleeps where it should not.
    pub(super) fn note_blocked(&mut self, blocked: bool) {
        let Some(reign) = &mut self.reign else { return };
        if blocked && !reign.blocked {
            tracing::warn!(tenant = %self.tenant, "a cell sleeps in a system call and does not answer");
        }
        reign.blocked = blocked;
    }

    /// Puts down what works for the tenant beside its cell.
    pub(super) fn put_down_the_past(&mut self) {
        self.past.settle();
        let beside = self.past.beside(self.reign.as_ref().map(|reign| &reign.lane));
        self.ledger.works_beside(u64::try_from(beside.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What another keeper of the tenant goes on with while this one's cell ends: who came back counts on from where it was.
    pub(super) fn heritage(&self) -> (Arc<Ledger>, Past) {
        let ledger = Arc::new(Ledger::continued(self.ledger()));
        let cell = self.reign.as_ref().map(|reign| (&reign.lane, reign.cpu_before));
        let said = self.cpu_at_beat();
        (ledger, self.past.for_successor(cell, said))
    }

    /// Its CPU clock at the last heartbeat.
    pub(super) fn cpu_at_beat(&self) -> Duration {
        Duration::from_nanos(self.ledger.cpu_nanos.load(Relaxed))
    }
}
