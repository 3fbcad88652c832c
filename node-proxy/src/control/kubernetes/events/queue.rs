//! Notes that wait to be written, a queue of each namespace, and whose turn is next. Pure.
//!
//! Bounded in all, and fair: a namespace in which much happens has the room that others leave, so that there is always some for one in which
//! little does, and each has its turn after each other's.

use std::collections::{HashMap, VecDeque};

use super::Note;

/// All that waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Of namespaces of which any does.
    of: HashMap<String, VecDeque<Note>>,
    /// The same, the next one first.
    turns: VecDeque<String>,
    waiting: usize,
}

impl Queue {
    /// Takes one in; whether there was room for it.
    pub(super) fn push(&mut self, note: Note) -> bool {
        let namespace = note.regarding.namespace();
        let own = self.of.get(namespace).map_or(0, VecDeque::len);
        // No more than is left for all others: of many that are full, each has as much as is still free.
        if own >= EACH || own >= MOST - self.waiting {
            return false;
        }
        let namespace = namespace.to_owned();
        if own == 0 {
            self.turns.push_back(namespace.clone());
        }
        self.of.entry(namespace).or_default().push_back(note);
        self.waiting += 1;
        true
    }

    /// The oldest of the namespace whose turn it is.
    pub(super) fn next(&mut self) -> Option<Note> {
        let namespace = self.turns.pop_front()?;
        let own = self.of.get_mut(&namespace)?;
        let note = own.pop_front();
        if own.is_empty() {
            self.of.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        self.waiting -= usize::from(note.is_some());
        note
    }
}

/// Notes that may wait, in all and of a namespace: at four a second, all are written after four minutes.
pub(super) const MOST: usize = 1024;
pub(super) const EACH: usize = 64;

#[cfg(test)]
mod tests {
    use config::finding::ObjectRef;

    use super::{super::Regarding, *};

    fn note(namespace: &str, name: usize) -> Note {
        let object = ObjectRef::new("Pod", Some(namespace), &name.to_string());
        Note {
            regarding: Regarding::named(object),
            reason: "NotEnrolled",
            action: "Enrol",
            text: String::new(),
            is_warning: true,
            is_perhaps_known: false,
        }
    }

    fn taken(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.next()).map(|note| note.regarding.to_string()).collect()
    }

    #[test]
    fn a_storm_in_one_namespace_leaves_room_and_turns_to_others() {
        let mut queue = Queue::default();
        let kept = (0..10_000).filter(|number| queue.push(note("loud", *number))).count();
        assert_eq!(kept, EACH);
        assert!(queue.push(note("quiet", 0)) && queue.push(note("quiet", 1)));
        let all = taken(&mut queue);
        assert_eq!(all.len(), EACH + 2);
        let places: Vec<usize> = (0..4).filter(|place| all[*place].contains("quiet")).collect();
        assert_eq!(places, [1, 3], "by turns: {:?}", &all[..4]);
        assert!(all[0].contains("loud/0") && all[2].contains("loud/1"), "each in its order: {:?}", &all[..4]);
        assert!(queue.push(note("loud", 0)), "there is room again");
        assert_eq!(taken(&mut queue).len(), 1);
        assert!(queue.of.is_empty() && queue.turns.is_empty() && queue.waiting == 0);
    }

    #[test]
    fn of_storms_in_all_namespaces_no_more_waits_than_may_and_one_more_is_heard() {
        let mut queue = Queue::default();
        for number in 0..EACH {
            for loud in 0..200 {
                queue.push(note(&format!("loud-{loud}"), number));
            }
        }
        assert!(queue.waiting < MOST && queue.waiting > MOST / 2, "{}", queue.waiting);
        let shares: Vec<usize> = queue.of.values().map(VecDeque::len).collect();
        assert!(shares.len() == 200 && shares.iter().all(|share| (4..=6).contains(share)), "{shares:?}");
        assert!(queue.push(note("quiet", 0)));
        // However many there are.
        for loud in 0..2 * MOST {
            queue.push(note(&format!("more-{loud}"), 0));
        }
        assert_eq!(queue.waiting, MOST);
        assert_eq!(taken(&mut queue).len(), MOST);
    }
}
