//! What the viewer sees: headings, sentences, figures, and a bar that moves where there is a terminal.

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal, Write},
};

/// Standard output, with colours where a terminal shows them.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: bool,
    colours: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        Self { terminal, colours: terminal && env::var_os("NO_COLOR").is_none() }
    }

    /// The title of a step.
    pub(crate) fn heading(&self, text: &str) {
        self.line(&format!("\n{}", self.paint(BOLD, text)));
    }

    /// A sentence.
    pub(crate) fn line(&self, text: &str) {
        // With standard output gone there is nobody to tell.
        let _ = writeln!(io::stdout(), "{text}");
    }

    /// A label and what is to be said of it.
    pub(crate) fn fact(&self, label: &str, value: &str) {
        self.line(&format!("  {label:<16} {value}"));
    }

    /// Something that was claimed and held.
    pub(crate) fn held(&self, text: &str) {
        self.line(&format!("  {} {text}", self.paint(GREEN, "✓")));
    }

    /// What a program printed, set apart.
    pub(crate) fn quote(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("  {} {}", self.paint(DIM, "│"), line));
        }
    }

    /// Why the demo ends.
    pub(crate) fn failure(&self, error: &dyn Display) {
        let _ = writeln!(io::stderr(), "\n{} {error}", self.paint(RED, "The demo failed:"));
    }

    /// Text that something later replaces; shown on a terminal only.
    pub(crate) fn fleeting(&self, text: &str) {
        if self.terminal {
            let mut out = io::stdout();
            let _ = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
        }
    }

    /// Puts a line in the place of the fleeting text.
    pub(crate) fn settle(&self, text: &str) {
        self.fleeting("");
        self.line(text);
    }

    /// A bar of two parts, with their percentages.
    pub(crate) fn bar(&self, parts: &[(String, u64)]) -> String {
        let total: u64 = parts.iter().map(|(_, count)| count).sum();
        if total == 0 {
            return "no answers".into();
        }
        let mut cells = String::new();
        let mut legend = Vec::new();
        for ((name, count), (colour, glyph)) in parts.iter().zip(INKS.iter().cycle()) {
            let width = usize::try_from((count * WIDTH + total / 2) / total).unwrap_or_default();
            let glyph = if self.colours { "█" } else { glyph };
            cells.push_str(&self.paint(colour, &glyph.repeat(width)));
            legend.push(format!("{} {:>3}%", self.paint(colour, name), (count * 100 + total / 2) / total));
        }
        format!("{cells}  {}", legend.join("  "))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

const WIDTH: u64 = 40;
const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BLUE: &str = "34";
/// A part's colour, and what it is drawn with where there are none.
const INKS: [(&str, &str); 3] = [(BLUE, "█"), (YELLOW, "▒"), (GREEN, "░")];
