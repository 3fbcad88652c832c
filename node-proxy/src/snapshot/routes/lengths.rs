//! Which lengths the paths of a table have: what is of no such length needs no look-up, and what is longer no walk.

/// Lengths in bytes, each with how many paths have it.
#[derive(Debug, Clone, Default)]
pub(super) struct Lengths(Vec<(usize, usize)>);

impl Lengths {
    /// Whether any path is so long.
    pub(super) fn has(&self, length: usize) -> bool {
        self.place(length).is_ok()
    }

    /// The greatest; none of no paths.
    pub(super) fn longest(&self) -> Option<usize> {
        self.0.last().map(|(length, _)| *length)
    }

    /// One path more.
    pub(super) fn add(&mut self, length: usize) {
        match self.place(length) {
            Ok(place) => self.0[place].1 += 1,
            Err(place) => self.0.insert(place, (length, 1)),
        }
    }

    /// One path less.
    pub(super) fn remove(&mut self, length: usize) {
        let Ok(place) = self.place(length) else { return };
        if self.0[place].1 > 1 {
            self.0[place].1 -= 1;
        } else {
            self.0.remove(place);
        }
    }

    fn place(&self, length: usize) -> Result<usize, usize> {
        self.0.binary_search_by_key(&length, |(length, _)| *length)
    }
}
