//! What a cell's process is asked about itself, and what has come of the answers.
//!
//! Bounded both ways: in questions that wait, and in the bytes of an answer. What nobody asked for must never be kept.

use std::{cell::RefCell, collections::HashMap};

use tokio::sync::oneshot;

use crate::forest::describe::{CONNECTIONS_SHOWN, TreeDescription};

/// Questions that may wait for a process's answer; whoever asked has stopped waiting long before.
const QUESTIONS: usize = 64;
/// Bytes of an answer that are kept, as it came: enough for more pods than a node has.
const ANSWER: usize = 1 << 20;

/// The questions that wait, by number.
#[derive(Debug, Default)]
pub(super) struct Questions(RefCell<HashMap<u64, Question>>);

/// Who asked, and what has come of the answer, with its bytes.
type Question = (oneshot::Sender<Vec<TreeDescription>>, Vec<TreeDescription>, usize);

impl Questions {
    /// The number to ask under, if there is room for one more.
    pub(super) fn ask(&self, answer: oneshot::Sender<Vec<TreeDescription>>) -> Option<u64> {
        let mut questions = self.0.borrow_mut();
        questions.retain(|_, (asked, ..)| !asked.is_closed());
        let number = questions.keys().max().map_or(0, |last| last + 1);
        (questions.len() < QUESTIONS).then(|| {
            questions.insert(number, (answer, Vec::new(), 0));
            number
        })
    }

    /// A part of an answer, of so many bytes; with nothing it is whole.
    pub(super) fn hear(&self, number: u64, tree: Option<Box<TreeDescription>>, bytes: usize) {
        let mut questions = self.0.borrow_mut();
        let Some(tree) = tree else {
            // Whoever asked may have stopped waiting.
            let asked = questions.remove(&number);
            return drop(asked.map(|(asked, trees, _)| asked.send(trees)));
        };
        // An answer to nothing, and to nobody, is dropped.
        questions.retain(|_, (asked, ..)| !asked.is_closed());
        if let Some((_, trees, kept)) = questions.get_mut(&number)
            && *kept + bytes <= ANSWER
            && tree.connections.len() <= CONNECTIONS_SHOWN
        {
            *kept += bytes;
            trees.push(*tree);
        }
    }
}
