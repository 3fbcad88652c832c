//! Numbers as `canopy top` writes them: short, and beside their bound.

/// A count in at most four characters: `999`, `1.2k`, `12k`, `1.2M`.
pub(super) fn short(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T"])
}

/// Bytes in at most five characters: `512B`, `1.2K`, `12M`.
pub(super) fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &["B", "K", "M", "G", "T"])
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (value.max(0.0), 0);
    // What would be rounded up to four digits is of the next unit.
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let unit = (unit, units.get(unit).copied().unwrap_or_default());
    match unit {
        (0, name) => format!("{value:.0}{name}"),
        (_, name) if value < 9.95 => format!("{value:.1}{name}"),
        (_, name) => format!("{value:.0}{name}"),
    }
}

/// Cores: `0.42`, `12.5`.
pub(super) fn cores(value: f64) -> String {
    if value < 9.995 { format!("{value:.2}") } else { format!("{value:.1}") }
}

/// Something used, and its bound if there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    pub(super) used: f64,
    pub(super) bound: Option<f64>,
    write: fn(f64) -> String,
}

impl Cell {
    pub(super) fn new(used: f64, bound: Option<f64>, write: fn(f64) -> String) -> Self {
        Self { used, bound, write }
    }

    /// How much of its bound is used; `None` where there is no bound.
    pub(super) fn fraction(&self) -> Option<f64> {
        self.bound.map(|bound| if bound > 0.0 { self.used / bound } else { f64::INFINITY })
    }

    /// With its bound, as `12M/64M` or `12M/–`.
    pub(super) fn beside(&self) -> String {
        let bound = self.bound.map_or_else(|| "–".to_owned(), self.write);
        format!("{}/{bound}", (self.write)(self.used))
    }

    pub(super) fn alone(&self) -> String {
        (self.write)(self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_at_every_size() {
        let counts = [0.0, 0.4, 7.0, 999.0, 999.6, 1200.0, 9960.0, 12_345.0, 999_600.0, 3.5e9];
        assert_eq!(counts.map(short), ["0", "0", "7", "999", "1.0k", "1.2k", "10k", "12k", "1.0M", "3.5G"]);
        let sizes = [0.0, 512.0, 1023.7, 1536.0, 34.0 * 1048576.0, -5.0];
        assert_eq!(sizes.map(bytes), ["0B", "512B", "1.0K", "1.5K", "34M", "0B"]);
        assert_eq!([0.0, 0.426, 9.999, 16.0].map(cores), ["0.00", "0.43", "10.0", "16.0"]);
    }

    #[test]
    fn a_cell_says_its_bound_or_that_there_is_none() {
        assert_eq!(Cell::new(12.0, Some(64.0), short).beside(), "12/64");
        let free = Cell::new(12.0, None, short);
        assert_eq!((free.beside().as_str(), free.fraction()), ("12/–", None));
        assert_eq!(Cell::new(1.0, Some(0.0), short).fraction(), Some(f64::INFINITY));
    }
}
