//! Gateway API durations (GEP-2257): `10s`, `1h30m`, `500ms`.

use std::time::Duration;

/// Up to four numbers of up to five digits, each with a unit; no fractions, no signs.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    for _ in 0..4 {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| (1..=5).contains(digits))?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let (length, step) = unit(after)?;
        total += step.checked_mul(u32::try_from(number).ok()?)?;
        rest = &after[length..];
        if rest.is_empty() {
            return Some(total);
        }
    }
    None
}

/// The unit at the start of a text: its length, and how long it lasts.
fn unit(text: &str) -> Option<(usize, Duration)> {
    let units = [
        ("ms", Duration::from_millis(1)),
        ("h", Duration::from_secs(3600)),
        ("m", Duration::from_secs(60)),
        ("s", Duration::from_secs(1)),
    ];
    units.into_iter().find(|(name, _)| text.starts_with(name)).map(|(name, step)| (name.len(), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_gep_2257_writes_them() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("10s", Some(10_000)),
            ("1h30m", Some(5_400_000)),
            ("2m500ms", Some(120_500)),
            ("1h1h1h1h", Some(4 * 3_600_000)),
            ("1h1h1h1h1h", None),
            ("1.5s", None),
            ("-1s", None),
            ("10", None),
            ("s", None),
            ("123456s", None),
            ("1d", None),
            ("", None),
        ] {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text}");
        }
    }
}
