//! Gates: what whoever counts a tenant's or a pod's connections shuts while there are as many as may be, so that the next
//! `connect` fails at once.
//!
//! To shut or open one is a store. A gate must never be two owners' at a time: its place is given to nobody else before the
//! last who has it lets go, so that a cell which wakes up late moves nobody's but its own.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ebpf_redirect_abi::Gate as Words;

use crate::sys::mapping::Mapping;

/// One gate, open at first. Clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<Held>);

struct Held {
    place: u32,
    all: Arc<All>,
    /// Of what was kept out, how much was told.
    told: AtomicU64,
}

/// All gates of an instance.
#[derive(Debug, Clone)]
pub(crate) struct Gates(Arc<All>);

#[derive(Debug)]
struct All {
    memory: Memory,
    free: Mutex<Vec<u32>>,
}

#[derive(Debug)]
enum Memory {
    /// The kernel reads it.
    Map(Mapping),
    /// Nobody does.
    Own(Vec<AtomicU64>),
}

impl Gates {
    /// Those of a map with so many.
    pub(crate) fn of_map(mapping: Mapping, count: u32) -> Self {
        Self::new(Memory::Map(mapping), count)
    }

    /// So many that steer nobody, for unit tests.
    pub(crate) fn own(count: u32) -> Self {
        let words = (0..count as usize * WORDS).map(|_| AtomicU64::default()).collect();
        Self::new(Memory::Own(words), count)
    }

    /// How much memory so many take, in words.
    pub(crate) fn words(count: u32) -> usize {
        count as usize * WORDS
    }

    fn new(memory: Memory, count: u32) -> Self {
        Self(Arc::new(All { memory, free: Mutex::new((1..count).rev().collect()) }))
    }

    /// One that nobody has; `None` where there is none left.
    pub(crate) fn take(&self) -> Option<Gate> {
        let place = self.0.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        for word in [SHUT, REFUSED] {
            self.0.word(place, word).store(0, Relaxed);
        }
        Some(Gate(Arc::new(Held { place, all: Arc::clone(&self.0), told: AtomicU64::default() })))
    }
}

impl Gate {
    /// Shuts or opens it.
    pub fn shut(&self, shut: bool) {
        self.word(SHUT).store(u64::from(shut), Relaxed);
    }

    /// Whether it is shut.
    pub fn is_shut(&self) -> bool {
        self.word(SHUT).load(Relaxed) != 0
    }

    /// How many connects it has kept out since this was asked last.
    pub fn take_refused(&self) -> u64 {
        let refused = self.word(REFUSED).load(Relaxed);
        refused.wrapping_sub(self.0.told.swap(refused, Relaxed))
    }

    /// Its place in the table of gates.
    pub(crate) fn place(&self) -> u32 {
        self.0.place
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        self.0.all.word(self.0.place, word)
    }
}

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("place", &self.0.place).field("shut", &self.is_shut()).finish()
    }
}

impl All {
    fn word(&self, place: u32, word: usize) -> &AtomicU64 {
        let index = place as usize * WORDS + word;
        let found = match &self.memory {
            Memory::Map(mapping) => mapping.word(index),
            Memory::Own(words) => words.get(index),
        };
        // Places come from the list of free ones, which are all within the memory.
        found.unwrap_or(&NOWHERE)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.place);
    }
}

static NOWHERE: AtomicU64 = AtomicU64::new(0);

/// Words of one gate.
const WORDS: usize = size_of::<Words>() / size_of::<u64>();
/// Which of them says that it is shut.
const SHUT: usize = std::mem::offset_of!(Words, shut) / size_of::<u64>();
/// Which of them counts.
const REFUSED: usize = std::mem::offset_of!(Words, refused) / size_of::<u64>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gates_place_is_nobody_elses_until_the_last_who_has_it_lets_go() {
        let gates = Gates::own(3);
        let (one, other) = (gates.take().unwrap(), gates.take().unwrap());
        assert!(gates.take().is_none() && one != other && one.place() != 0 && other.place() != 0);
        one.shut(true);
        assert!(one.is_shut() && !other.is_shut());
        let late = one.clone();
        let place = one.place();
        drop(one);
        assert!(gates.take().is_none(), "somebody may still shut it");
        drop(late);
        let next = gates.take().unwrap();
        assert_eq!((next.place(), next.is_shut()), (place, false), "it is open for whoever is next");
    }

    #[test]
    fn what_was_kept_out_is_told_once() {
        let gate = Gates::own(2).take().unwrap();
        gate.word(REFUSED).store(3, Relaxed);
        assert_eq!((gate.take_refused(), gate.take_refused()), (3, 0));
        gate.word(REFUSED).store(5, Relaxed);
        assert_eq!(gate.take_refused(), 2);
    }
}
