//! Curves as SVG: what a figure is along another, a line per subject.
//!
//! Both axes by orders of magnitude, since what is compared differs by them; each axis says so by its marks. A point that was not
//! measured is not drawn, and no line is made smooth.

use std::fmt::Write;

use super::plot::{STYLE, colour, legend, text};

/// A picture.
pub(super) struct Chart<'a> {
    pub title: &'a str,
    /// Under the picture, with its unit.
    pub along: &'a str,
    /// Above it, with its unit.
    pub up: &'a str,
    pub marks: Marks,
    pub lines: Vec<Line<'a>>,
}

/// Where the horizontal axis has its figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// At what was measured.
    Measured,
    /// Parts of all: `along` is how many times rarer than all it is, 1 / (1 − part).
    Percentiles,
}

/// A subject's.
pub(super) struct Line<'a> {
    pub subject: &'a str,
    /// Of growing first figure; none of them 0 or less.
    pub points: Vec<(f64, f64)>,
}

impl Chart<'_> {
    /// `None` where there is nothing to draw.
    pub(super) fn draw(&self) -> Option<String> {
        let all = || self.lines.iter().flat_map(|line| &line.points).copied();
        let (x, y) = (Axis::of(all().map(|p| p.0))?, Axis::of(all().map(|p| p.1))?.whole_decades());
        let mut body = String::new();
        let subjects: Vec<&str> = self.lines.iter().map(|line| line.subject).collect();
        legend(&mut body, self.title, &subjects);
        text(&mut body, (12.0, TOP - 14.0), "bold", self.up);
        for value in y.decades() {
            let at = BOTTOM - y.part(value) * (BOTTOM - TOP);
            rule(&mut body, (LEFT, at), (RIGHT, at));
            text(&mut body, (12.0, at + 4.0), "", &plain(value));
        }
        for value in self.marks.of(&self.lines) {
            let at = LEFT + x.part(value) * (RIGHT - LEFT);
            rule(&mut body, (at, BOTTOM), (at, BOTTOM + 5.0));
            text(&mut body, (at - 8.0, BOTTOM + 18.0), "", &self.marks.says(value));
        }
        text(&mut body, (LEFT, BOTTOM + 36.0), "bold", self.along);
        for (index, line) in self.lines.iter().enumerate() {
            let at = |(a, b): &(f64, f64)| {
                (LEFT + x.part(*a) * (RIGHT - LEFT), BOTTOM - y.part(*b) * (BOTTOM - TOP))
            };
            curve(&mut body, index, &line.points.iter().map(at).collect::<Vec<_>>(), self.marks);
        }
        Some(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n",
            self.title
        ))
    }
}

impl Marks {
    fn of(self, lines: &[Line<'_>]) -> Vec<f64> {
        match self {
            Self::Percentiles => vec![1.0, 2.0, 10.0, 100.0, 1_000.0],
            Self::Measured => {
                let mut all: Vec<f64> = lines.iter().flat_map(|line| &line.points).map(|p| p.0).collect();
                all.sort_by(f64::total_cmp);
                all.dedup();
                all
            }
        }
    }

    fn says(self, value: f64) -> String {
        match self {
            Self::Measured => plain(value),
            Self::Percentiles if value <= 1.0 => "0".into(),
            Self::Percentiles => format!("p{}", (1_000.0 * (1.0 - 1.0 / value)).round() / 10.0),
        }
    }
}

/// From the least to the greatest, by orders of magnitude.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
        (low > 0.0 && low <= high && high.is_finite()).then_some(Self { low, high })
    }

    fn whole_decades(self) -> Self {
        let high = 10_f64.powf(self.high.log10().ceil());
        let low = 10_f64.powf(self.low.log10().floor());
        Self { low, high: if high > low { high } else { low * 10.0 } }
    }

    fn decades(self) -> Vec<f64> {
        let first = self.low.log10().round() as i32;
        (first..=self.high.log10().round() as i32).map(|power| 10_f64.powi(power)).collect()
    }

    /// 0 at the low end, 1 at the high one.
    fn part(self, value: f64) -> f64 {
        if self.high <= self.low {
            return 0.0;
        }
        ((value / self.low).log10() / (self.high / self.low).log10()).clamp(0.0, 1.0)
    }
}

fn rule(body: &mut String, (x, y): (f64, f64), (to_x, to_y): (f64, f64)) {
    // Writing to a String cannot fail; here and below.
    let _ = writeln!(body, "<path class=\"rule\" d=\"M{x:.1} {y:.1}L{to_x:.1} {to_y:.1}\"/>");
}

fn curve(body: &mut String, index: usize, points: &[(f64, f64)], marks: Marks) {
    let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    let class = colour(index);
    let _ = writeln!(body, "<path class=\"line {class}\" d=\"M{}\"/>", path.join("L"));
    for (x, y) in points.iter().filter(|_| marks == Marks::Measured) {
        let _ = writeln!(body, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
    }
}

fn plain(value: f64) -> String {
    if value >= 1.0 { format!("{value:.0}") } else { format!("{value}") }
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 30.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = HEIGHT - 50.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Option<String> {
        let lines = vec![Line { subject: "canopy-node", points }];
        Chart { title: "memory", along: "pods", up: "MiB", marks: Marks::Measured, lines }.draw()
    }

    #[test]
    fn point_stands_where_its_figures_are_by_orders_of_magnitude() {
        let axis = Axis { low: 1.0, high: 100.0 };
        assert_eq!([1.0, 10.0, 100.0, 1_000.0].map(|value| axis.part(value)), [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(Axis { low: 3.0, high: 70.0 }.whole_decades().decades(), [1.0, 10.0, 100.0]);
        assert_eq!(Axis { low: 10.0, high: 10.0 }.whole_decades().decades(), [10.0, 100.0]);
    }

    #[test]
    fn every_point_is_drawn_and_marked() {
        let drawn = chart(vec![(1.0, 12.0), (30.0, 20.0), (110.0, 55.0)]).unwrap();
        assert_eq!(drawn.matches("<circle").count(), 3);
        for mark in [">1<", ">30<", ">110<", ">10<", ">100<", ">pods<", ">MiB<", ">canopy-node<"] {
            assert!(drawn.contains(mark), "{mark} in {drawn}");
        }
    }

    #[test]
    fn nothing_is_drawn_of_nothing_or_of_what_has_no_order_of_magnitude() {
        assert!(chart(vec![]).is_none());
        assert!(chart(vec![(1.0, 0.0), (2.0, 3.0)]).is_none());
    }

    #[test]
    fn percentiles_are_called_by_their_names() {
        let says = [1.0, 2.0, 10.0, 100.0, 1_000.0].map(|value| Marks::Percentiles.says(value));
        assert_eq!(says, ["0", "p50", "p90", "p99", "p99.9"]);
    }
}
