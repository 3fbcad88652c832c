//! Kubernetes quantities: `250m`, `64Mi`, `1.5`, `2e3` (API conventions, "Quantities").

use super::Context;
use crate::document::{Node, Value};

/// Thousandths of one, rounded up as Kubernetes does.
pub(super) fn millis(context: &mut Context<'_>, node: &Node) -> Option<u64> {
    scaled(context, node, 1000)
}

/// Whole units, rounded up.
pub(super) fn units(context: &mut Context<'_>, node: &Node) -> Option<u64> {
    scaled(context, node, 1)
}

fn scaled(context: &mut Context<'_>, node: &Node, scale: u128) -> Option<u64> {
    let parsed = match &node.value {
        Value::Int(number) => parse(&number.to_string(), scale),
        Value::Float(number) => parse(&number.to_string(), scale),
        Value::Text(text) => parse(text, scale),
        _ => None,
    };
    if parsed.is_none() {
        context.invalid(node, format!("must be a quantity such as 250m, 2 or 64Mi, not {}", node.describe()));
    }
    parsed
}

/// A quantity in parts of one, so many to the unit; `None` where it is none, or too large.
pub(crate) fn parse(text: &str, scale: u128) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let (numerator, denominator) = factor(suffix)?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || digits.len() > 24 || fraction.contains('.') {
        return None;
    }
    let value: u128 = format!("{whole}{fraction}").parse().ok()?;
    let places = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let top = value.checked_mul(numerator)?.checked_mul(scale)?;
    u64::try_from(top.div_ceil(denominator.checked_mul(places)?)).ok()
}

/// What a suffix multiplies by, as a fraction.
fn factor(suffix: &str) -> Option<(u128, u128)> {
    let decimal = |power: u32| Some((10_u128.pow(power), 1));
    let binary = |power: u32| Some((1 << (10 * power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => exponent(suffix),
    }
}

fn exponent(suffix: &str) -> Option<(u128, u128)> {
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let factor = 10_u128.checked_pow(power.unsigned_abs()).filter(|_| power.abs() <= 18)?;
    Some(if power < 0 { (1, factor) } else { (factor, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, scale, expected) in [
            ("250m", 1000, Some(250)),
            ("1.5", 1000, Some(1500)),
            ("0.0001", 1000, Some(1)),
            ("64Mi", 1, Some(64 << 20)),
            ("1k", 1, Some(1000)),
            ("2e3", 1, Some(2000)),
            (".5Gi", 1, Some(1 << 29)),
            ("100n", 1000, Some(1)),
            ("-1", 1, None),
            ("1.2.3", 1, None),
            ("64mb", 1, None),
            ("", 1, None),
            (".", 1, None),
            ("99999999999999999999999999", 1, None),
            ("9999Ei", 1, None),
            ("1e99", 1, None),
        ] {
            assert_eq!(parse(text, scale), expected, "{text}");
        }
    }
}
