//! The pieces that a subject's time in a round is cut into, and what the round says of them: the median of each figure.
//!
//! A median, so that a moment in which the machine did something else does not become the round's figure. Errors are
//! never averaged away: they are summed.

use crate::{
    load::{LoadReport, histogram::Histogram},
    outcome::median,
};

/// All pieces of one kind of load on one subject in one round.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Vec<LoadReport>);

impl Pieces {
    pub(crate) fn add(&mut self, piece: LoadReport) {
        self.0.push(piece);
    }

    /// The median of a figure over the pieces.
    pub(crate) fn median(&self, figure: impl Fn(&LoadReport) -> f64) -> f64 {
        median(&self.0.iter().map(figure).collect::<Vec<_>>())
    }

    /// All latencies together: for percentiles that one piece has too few exchanges for.
    pub(crate) fn latencies(&self) -> Histogram {
        let mut all = Histogram::new();
        self.0.iter().for_each(|piece| all.add(&piece.latencies));
        all
    }

    /// Failures in all of them.
    pub(crate) fn errors(&self) -> u64 {
        self.0.iter().map(|piece| piece.errors).sum()
    }

    /// What was not served in time in all of them.
    pub(crate) fn unserved(&self) -> u64 {
        self.0.iter().map(|piece| piece.unserved).sum()
    }

    /// What the first failure said.
    pub(crate) fn first_error(&self) -> Option<String> {
        self.0.iter().find_map(|piece| piece.first_error.clone())
    }

    /// How many had to be measured again.
    pub(crate) fn repeated(&self) -> u32 {
        self.0.iter().map(|piece| piece.repeated).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_piece_is_not_the_round_s_figure_but_its_errors_count() {
        let mut pieces = Pieces::default();
        for (p50_ns, errors) in [(100, 0), (9_000, 2), (110, 0)] {
            pieces.add(LoadReport { p50_ns, errors, ..LoadReport::default() });
        }
        assert!((pieces.median(|piece| piece.p50_ns as f64) - 110.0).abs() < f64::EPSILON);
        assert_eq!(pieces.errors(), 2);
    }
}
