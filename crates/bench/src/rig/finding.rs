//! Lines of a bench's table, and how figures are written and read.

use std::time::Duration;

use super::stats::{median, percentile};
use super::table;

/// What was measured, beside what is known of Corrosion and what is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    what: String,
    reference: String,
    target: String,
    measured: String,
    /// Whether the target is met; none if there is no target.
    is_met: Option<bool>,
}

impl Finding {
    /// A figure, the one that Corrosion reached, the target, and whether the figure meets it.
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

    /// A figure without a reference.
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

    /// Every figure that was measured, with a name. Times are in milliseconds, whatever their unit in the text is.
    pub fn figures(&self) -> Vec<(String, f64)> {
        let parts = self.measured.split(", ").flat_map(|part| part.split("; "));
        let named =
            |(words, value)| (format!("{} {words}", self.what).trim_end().to_owned(), value);
        parts.filter_map(figure).map(named).collect()
    }
}

/// All findings, for the terminal. Without any reference there is no column for them.
pub fn render(findings: &[Finding]) -> String {
    let mut header = vec!["what", "Corrosion (reference)", "target", "Dunlin", "met?"];
    let cells = |finding: &Finding| finding.line().split('\t').map(str::to_owned).collect();
    let mut rows: Vec<Vec<String>> = findings.iter().map(cells).collect();
    if findings.iter().all(|finding| finding.reference.is_empty()) {
        header.remove(1);
        rows.iter_mut().for_each(|row| drop(row.remove(1)));
    }
    table::render(&header, &rows)
}

/// The figure that a part of a measured text ends with, and the words before it.
fn figure(part: &str) -> Option<(String, f64)> {
    let words: Vec<&str> = part.split(" (").next()?.split(' ').collect();
    let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    let at = words.iter().rposition(is_number)?;
    let number = words[at].trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &words[at][number.len()..] {
        "" => words.get(at + 1).copied().unwrap_or_default(),
        unit => unit,
    };
    let milliseconds = match unit {
        "s" => 1e3,
        "µs" | "us" => 1e-3,
        _ => 1.0,
    };
    Some((words[..at].join(" "), number.replace(',', "").parse::<f64>().ok()? * milliseconds))
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
    fn the_column_of_references_is_there_if_there_is_one() {
        let rendered = |reference| render(&[Finding::new("a", reference, "", "1 ms", None)]);
        assert!(rendered("9 ms").contains("Corrosion"));
        assert!(!rendered("").contains("Corrosion"));
    }

    #[test]
    fn figures_are_read_with_the_words_before_them() {
        let of = |measured: &str| Finding::alone("w", "", measured, None).figures();
        let named = |name: &str, value| (name.to_owned(), value);
        let figures = of("12,345/s, p50 1.50 s, p99 380.00us (20 samples), lag 7 ms");
        let expected = [("w", 12_345.0), ("w p50", 1_500.0), ("w p99", 0.38), ("w lag", 7.0)];
        assert_eq!(figures, expected.map(|(name, value)| named(name, value)));
        assert_eq!(of("25.0 MB; none"), [named("w", 25.0)]);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [7.2, 1234.0, 1e5, -123_456.0].map(grouped),
            ["7", "1,234", "100,000", "-123,456"]
        );
    }
}
