//! What is known of a connection while it is being made: for the log, which tells it also of one that was not made after all.
//!
//! Nothing may be decided by it.

use std::cell::Cell;

use super::choice::Choice;
use crate::hbone::fields::TraceId;

/// How a connection is being made. Whoever wants one made lends it, and reads it whenever it ends.
#[derive(Debug, Default)]
pub struct Course {
    choice: Cell<Option<Choice>>,
    trace: Cell<Option<TraceId>>,
}

impl Course {
    /// The delivery that was chosen, and why; of several that were tried, the last.
    pub fn choice(&self) -> Option<Choice> {
        self.choice.get()
    }

    /// Notes which delivery is tried now.
    pub fn takes(&self, choice: Choice) {
        self.choice.set(Some(choice));
    }

    /// Forgets the delivery: another endpoint is tried.
    pub fn begins_anew(&self) {
        self.choice.set(None);
    }

    /// The trace that tunnels are told it is part of.
    pub fn trace(&self) -> Option<TraceId> {
        self.trace.get()
    }

    /// Notes the trace that it is part of.
    pub fn follows(&self, trace: Option<TraceId>) {
        self.trace.set(trace);
    }

    /// The trace for a tunnel that is tried now: the same for all that are, a new one from chance for the first.
    pub fn trace_or(&self, chance: impl FnOnce() -> u128) -> TraceId {
        let trace = self.trace.get().unwrap_or_else(|| TraceId::new(chance()));
        self.trace.set(Some(trace));
        trace
    }
}
