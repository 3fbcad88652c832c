//! What all cells together weigh against what runs outside of the daemon: as much as a busy thread on each CPU, and more
//! only while somebody's guarantee needs it.
//!
//! Pure. It must never weigh more than is needed for long: what tenants use beyond their guarantees is not to push others'
//! programs aside.

/// The weight, and since when nobody has needed more.
#[derive(Debug)]
pub(super) struct Outside {
    least: u64,
    weight: u64,
    content: u32,
}

impl Outside {
    /// On so many CPUs, where a group weighs `one` that nobody has given a weight.
    pub(super) fn new(cpus: f64, one: u64) -> Self {
        let least = (cpus.max(1.0) * one as f64) as u64;
        Self { least, weight: least, content: 0 }
    }

    /// The weight of now.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// Takes in whether somebody who wants it has less than is guaranteed; the weight, if it is another now.
    pub(super) fn look(&mut self, in_need: bool) -> Option<u64> {
        let before = self.weight;
        if in_need {
            self.content = 0;
            self.weight = (self.weight * 2).min(MOST);
        } else {
            self.content += 1;
            if self.content >= PATIENCE {
                self.content = 0;
                self.weight = (self.weight - self.weight / 10).max(self.least);
            }
        }
        (self.weight != before).then_some(self.weight)
    }
}

/// The kernel's own bound, in version 1 of control groups.
const MOST: u64 = 262_144;
/// After so many looks at which nobody was in need, a tenth is given back: about a second.
const PATIENCE: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_grows_while_somebody_is_in_need_and_goes_back_afterwards() {
        let mut outside = Outside::new(2.0, 1_024);
        assert_eq!((outside.weight(), outside.look(false)), (2_048, None));
        assert_eq!(outside.look(true), Some(4_096));
        let grown = (0..100).filter_map(|_| outside.look(true)).last();
        assert_eq!(grown, Some(262_144));
        let back = (0..20_000).filter_map(|_| outside.look(false)).last();
        assert_eq!(back, Some(2_048));
    }

    #[test]
    fn a_need_that_was_met_is_not_left_unmet_by_more_than_a_tenth() {
        let mut outside = Outside::new(1.0, 1_024);
        let needed = 5_000;
        let weights: Vec<u64> = (0..10_000)
            .map(|_| {
                outside.look(outside.weight() < needed);
                outside.weight()
            })
            .collect();
        assert!(weights[10..].iter().all(|weight| *weight >= needed * 9 / 10), "{:?}", weights.iter().min());
    }
}
