//! Hashes that nearly all meet, so that what happens where two of them do is seen.

use std::hash::{BuildHasher, DefaultHasher, Hasher};

/// Makes hashes of which there are four.
#[derive(Debug, Clone, Default)]
pub(super) struct Coarse;

#[derive(Debug, Default)]
pub(super) struct CoarseHasher(DefaultHasher);

impl BuildHasher for Coarse {
    type Hasher = CoarseHasher;
    fn build_hasher(&self) -> CoarseHasher {
        CoarseHasher::default()
    }
}

impl Hasher for CoarseHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }
    fn finish(&self) -> u64 {
        self.0.finish() % 4
    }
}
