//! "Did you mean": the field or kind an author most likely had in mind.

/// The candidate nearest to what was written, if it is near enough to be a slip.
pub(crate) fn nearest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    // One slip in a short word, two in a longer one; more would suggest unrelated fields.
    let length = written.chars().count();
    let allowed = if length < 5 { 1 } else { 2 };
    candidates
        // So many letters at least are too many or missing: most words are told apart by that.
        .filter(|candidate| candidate.len().abs_diff(length) <= allowed)
        .map(|candidate| (distance(&written, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours between two words (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    // No field name is this long; without the bound a hostile key would cost its square.
    if from.len() > 64 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let substituted = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = substituted.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_hand_are_recognised_and_other_words_are_not() {
        let fields = ["backendRefs", "matches", "port", "name"];
        for (written, meant) in [
            ("backendrefs", Some("backendRefs")),
            ("backendRef", Some("backendRefs")),
            ("mathces", Some("matches")),
            ("prot", Some("port")),
            ("timeouts", None),
            ("pwned", None),
        ] {
            assert_eq!(nearest(written, fields.into_iter()), meant, "{written}");
        }
    }
}
