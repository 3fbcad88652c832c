//! What is known of a connection while it is being made: for the log, which tells it also of one that was not made after all.
//!
//! Nothing may be decided by it.

use std::cell::Cell;

use super::choice::Choice;

/// How a connection is being made. Whoever wants one made lends it, and reads it whenever it ends.
#[derive(Debug, Default)]
pub struct Course {
    choice: Cell<Option<Choice>>,
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

    /// Forgets all: another endpoint is tried.
    pub fn begins_anew(&self) {
        self.choice.set(None);
    }
}
