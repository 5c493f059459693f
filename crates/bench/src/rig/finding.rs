//! Lines of a bench's table, and how figures are written.

use std::time::Duration;

use super::stats::{median, percentile};
use super::table;

/// A figure, beside what is known of Corrosion and what is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    what: String,
    reference: String,
    target: String,
    measured: String,
    /// None where nothing is wanted.
    is_met: Option<bool>,
}

impl Finding {
    /// A figure with what Corrosion reached, and whether it is what is wanted.
    pub fn new(
        what: impl Into<String>,
        reference: &str,
        target: &str,
        measured: impl Into<String>,
        is_met: impl Into<Option<bool>>,
    ) -> Self {
        Self {
            what: what.into(),
            reference: reference.to_owned(),
            target: target.to_owned(),
            measured: measured.into(),
            is_met: is_met.into(),
        }
    }

    /// A figure that has no reference.
    pub fn alone(
        what: impl Into<String>,
        target: &str,
        measured: impl Into<String>,
        is_met: impl Into<Option<bool>>,
    ) -> Self {
        Self::new(what, "", target, measured, is_met)
    }

    /// The finding as one line, which [`Finding::read`] understands.
    pub fn line(&self) -> String {
        let met = ["no", "yes", "–"][self.is_met.map_or(2, usize::from)];
        [&self.what, &self.reference, &self.target, &self.measured, met].join("\t")
    }

    /// Reads what [`Finding::line`] wrote; none if the line is something else.
    pub fn read(line: &str) -> Option<Self> {
        let [what, reference, target, measured, met] = line.split('\t').collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let is_met = [("yes", true), ("no", false)].into_iter().find(|(word, _)| *word == met);
        Some(Self::new(what, reference, target, measured, is_met.map(|(_, is_met)| is_met)))
    }
}

/// All findings, for the terminal.
pub fn render(findings: &[Finding]) -> String {
    let row = |finding: &Finding| finding.line().split('\t').map(str::to_owned).collect();
    let header = ["what", "Corrosion (reference)", "target", "Dunlin", "met?"];
    table::render(&header, &findings.iter().map(row).collect::<Vec<Vec<String>>>())
}

/// Findings that have no reference, for the terminal.
pub fn render_alone(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let mut cells: Vec<String> = finding.line().split('\t').map(str::to_owned).collect();
        cells.remove(1);
        cells
    };
    let rows: Vec<_> = findings.iter().map(row).collect();
    table::render(&["what", "target", "Dunlin", "met?"], &rows)
}

/// The median and the 99th percentile of samples.
pub fn spread(samples: &[Duration]) -> String {
    let (p50, p99) = (time(median(samples)), time(percentile(samples, 99.0)));
    format!("p50 {p50}, p99 {p99} ({} samples)", samples.len())
}

/// A time, in milliseconds below a second.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 { format!("{:.2} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// Octets in millions.
pub fn megabytes(octets: u64) -> String {
    format!("{:.1} MB", octets as f64 / 1e6)
}

/// A whole number with separators of thousands.
pub fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = if number <= -0.5 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_survives_its_line() {
        for is_met in [None, Some(true), Some(false)] {
            let finding = Finding::new("a", "b c", "< 3 ms", "p50 1", is_met);
            assert_eq!(Finding::read(&finding.line()), Some(finding));
        }
        assert_eq!(Finding::read("something else"), None);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [7.2, 1234.0, 1e5, -123_456.0].map(grouped),
            ["7", "1,234", "100,000", "-123,456"]
        );
    }
}
