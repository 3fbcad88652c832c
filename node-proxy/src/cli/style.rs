//! Colour for people, none for programs: only where the output is a terminal and `NO_COLOR` is not set.

use std::{
    fmt,
    io::{self, IsTerminal},
};

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Palette(bool);

impl Palette {
    /// As standard output and the environment allow (no-color.org).
    pub(super) fn of_stdout() -> Self {
        Self(io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    /// Never colours.
    pub(super) fn plain() -> Self {
        Self(false)
    }

    pub(super) fn bold(self, text: impl fmt::Display) -> String {
        self.paint("1", text)
    }

    pub(super) fn dim(self, text: impl fmt::Display) -> String {
        self.paint("2", text)
    }

    pub(super) fn green(self, text: impl fmt::Display) -> String {
        self.paint("32", text)
    }

    pub(super) fn yellow(self, text: impl fmt::Display) -> String {
        self.paint("33", text)
    }

    pub(super) fn red(self, text: impl fmt::Display) -> String {
        self.paint("31", text)
    }

    pub(super) fn cyan(self, text: impl fmt::Display) -> String {
        self.paint("36", text)
    }

    fn paint(self, code: &str, text: impl fmt::Display) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// A value as indented JSON that may be written to a terminal: it has no character in it that one would obey.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string_pretty(value)?;
    let mut out = String::with_capacity(text.len() + 1);
    for letter in text.chars() {
        // Those below U+0020 are escaped already, but for the line ends between values.
        if letter.is_control() && letter != '\n' {
            out.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            out.push(letter);
        }
    }
    out.push('\n');
    Ok(out)
}

/// Bytes in the largest unit that leaves at least one digit before the point: `512 B`, `1.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = None;
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = Some(next);
    }
    unit.map_or_else(|| format!("{count} B"), |unit| format!("{value:.1} {unit}"))
}

/// A duration in its two largest units: `85ms`, `4.2s`, `3m12s`, `2h05m`.
pub(super) fn age(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{:.1}s", millis as f64 / 1000.0),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_no_character_that_a_terminal_obeys_and_says_the_same() {
        let value = serde_json::json!({"said": "a\u{1b}[2J\u{7f}\u{9b}31mü\n"});
        let text = json(&value).unwrap();
        assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn quantities_read_well_at_every_size() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(5 << 30)],
            ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
        );
        assert_eq!([age(85), age(4_200), age(192_000), age(7_500_000)], ["85ms", "4.2s", "3m12s", "2h05m"]);
    }
}
