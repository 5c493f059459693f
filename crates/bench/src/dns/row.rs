//! Rows of the table of all servers, and how they are judged.

use dunlin_bench::rig::finding::{Finding, grouped};
use dunlin_bench::rig::stats::middle;
use dunlin_bench::rig::table;

use super::kind::ServerKind;

/// The unit of a row's figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unit {
    Micros,
    PerSecond,
    Megabytes,
}

/// The target for Dunlin's figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    None,
    /// The figure is less than this number.
    Below(f64),
    /// The figure is less than 0.85 of the better of NSD and Knot, and less than 1.2 of the echo.
    Processor,
    /// The figure is more than 1.2 of the better of NSD and Knot.
    Rate,
    /// The figure is no more than the better of NSD and Knot.
    NoWorse,
}

/// One quantity of all servers, each measured several times.
#[derive(Debug, Clone)]
pub(super) struct Row {
    what: String,
    unit: Unit,
    goal: Goal,
    samples: [Vec<f64>; ServerKind::ALL.len()],
}

impl Row {
    pub(super) fn new(what: String, unit: Unit, goal: Goal) -> Self {
        Self { what, unit, goal, samples: Default::default() }
    }

    pub(super) fn add(&mut self, kind: ServerKind, sample: f64) {
        self.samples[kind as usize].push(sample);
    }

    /// The median of a server's samples.
    pub(super) fn of(&self, kind: ServerKind) -> Option<f64> {
        let samples = &self.samples[kind as usize];
        (!samples.is_empty()).then(|| middle(samples))
    }

    /// Dunlin's figure alone.
    pub(super) fn finding(&self) -> Option<Finding> {
        let measured = self.text(self.of(ServerKind::Dunlin)?);
        Some(Finding::alone(self.what.as_str(), "", measured, None))
    }

    /// The better figure of NSD and Knot.
    fn better(&self) -> Option<f64> {
        let pick = if self.unit == Unit::PerSecond { f64::max } else { f64::min };
        Some(pick(self.of(ServerKind::Nsd)?, self.of(ServerKind::Knot)?))
    }

    /// Dunlin's figure as a part of the better of NSD and Knot.
    fn ratio(&self) -> Option<f64> {
        Some(self.of(ServerKind::Dunlin)? / self.better()?)
    }

    /// The target, and whether it is met; none if there is no target.
    fn judged(&self) -> Option<(String, bool)> {
        let own = self.of(ServerKind::Dunlin)?;
        match self.goal {
            Goal::None => None,
            Goal::Below(limit) => Some((format!("< {}", self.text(limit)), own < limit)),
            Goal::Processor => {
                let limit = (0.85 * self.better()?).min(1.2 * self.of(ServerKind::Echo)?);
                Some((format!("< {}", self.text(limit)), own < limit))
            }
            Goal::Rate => {
                let limit = 1.2 * self.better()?;
                Some((format!("> {}", self.text(limit)), own > limit))
            }
            Goal::NoWorse => {
                Some((format!("≤ {}", self.text(self.better()?)), own <= self.better()?))
            }
        }
    }

    fn text(&self, value: f64) -> String {
        match self.unit {
            Unit::Micros => format!("{value:.2} µs"),
            Unit::PerSecond => format!("{}/s", grouped(value)),
            Unit::Megabytes => format!("{value:.1} MB"),
        }
    }

    fn cells(&self) -> Vec<String> {
        let none = || "–".to_owned();
        let figure = |kind| self.of(kind).map_or_else(none, |value| self.text(value));
        let (target, met) = match self.judged() {
            Some((target, is_met)) => (target, ["no", "yes"][usize::from(is_met)].to_owned()),
            None => (none(), none()),
        };
        let ratio = self.ratio().map_or_else(none, |ratio| format!("{ratio:.2}"));
        let mut cells = vec![self.what.clone()];
        cells.extend(ServerKind::ALL.map(figure));
        cells.extend([ratio, target, met]);
        cells
    }
}

/// All rows, for the terminal.
pub(super) fn render(rows: &[Row]) -> String {
    let mut header = vec!["what"];
    header.extend(ServerKind::ALL.map(ServerKind::name));
    header.extend(["ratio", "target", "met?"]);
    table::render(&header, &rows.iter().map(Row::cells).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(unit: Unit, goal: Goal, figures: [f64; 5]) -> Row {
        let mut row = Row::new("a".to_owned(), unit, goal);
        for (kind, figure) in ServerKind::ALL.into_iter().zip(figures) {
            row.add(kind, figure);
        }
        row
    }

    #[test]
    fn time_is_judged_by_the_better_peer_and_by_the_echo() {
        let is_met = |figures| row(Unit::Micros, Goal::Processor, figures).judged().unwrap().1;
        assert!(is_met([3.0, 4.0, 5.0, 1.0, 2.6]));
        assert!(!is_met([3.5, 4.0, 5.0, 1.0, 3.0]));
        assert!(!is_met([3.2, 4.0, 5.0, 1.0, 2.6]));
    }

    #[test]
    fn a_rate_is_better_when_it_is_higher() {
        let row = row(Unit::PerSecond, Goal::Rate, [300.0, 200.0, 240.0, 900.0, 900.0]);
        assert_eq!(row.judged(), Some(("> 288/s".to_owned(), true)));
        assert_eq!(row.ratio(), Some(1.25));
    }

    #[test]
    fn the_median_counts() {
        let mut row = Row::new("a".to_owned(), Unit::Micros, Goal::Below(3.0));
        for sample in [9.0, 1.0, 2.0] {
            row.add(ServerKind::Dunlin, sample);
        }
        assert_eq!(row.judged(), Some(("< 3.00 µs".to_owned(), true)));
        row.add(ServerKind::Dunlin, 4.0);
        assert_eq!(row.judged(), Some(("< 3.00 µs".to_owned(), false)));
    }
}
