//! The catalog alone, in a process of its own: changes, lookups beside them, memory, and loading.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use dunlin_bench::rig::finding::{Finding, grouped, megabytes, time};
use dunlin_bench::rig::program::output;
use dunlin_bench::rig::release::Release;

use super::Args;

pub(super) const ABOUT: &str =
    "changes, lookups beside them, memory and loading of the catalog alone";

/// Pairs of a number of services and a number of instances of each.
const SIZES: [(u32, u32); 2] = [(10_000, 10), (100_000, 10)];
const CHANGES: u32 = 50_000;
const QUICK_CHANGES: u32 = 5_000;

pub(super) fn run(args: &Args, release: &Release) -> Result<Vec<Finding>> {
    let program = release.example("catalog")?;
    let changes = if args.quick { QUICK_CHANGES } else { CHANGES };
    let mut findings = Vec::new();
    for (services, copies) in SIZES {
        let amounts = [services, copies, changes].map(|number| number.to_string());
        findings.extend(judge(&Figures::read(&output(&program, amounts)?)?)?);
    }
    Ok(findings)
}

/// The figures that the program prints, by name.
struct Figures(BTreeMap<String, u64>);

impl Figures {
    fn read(text: &str) -> Result<Self> {
        let line = |line: &str| {
            let (name, number) = line.split_once(' ')?;
            Some((name.to_owned(), number.parse().ok()?))
        };
        let figures = text.lines().map(|l| line(l).with_context(|| format!("what is {l:?}?")));
        Ok(Self(figures.collect::<Result<_>>()?))
    }

    fn of(&self, name: &str) -> Result<u64> {
        self.0.get(name).copied().with_context(|| format!("it did not say {name}"))
    }

    /// Median, mean and 99th percentile, in microseconds.
    fn micros(&self, name: &str) -> Result<String> {
        let of = |part| Ok::<_, anyhow::Error>(self.of(&format!("{name}_{part}"))? as f64 / 1e3);
        Ok(format!(
            "p50 {:.1} µs, mean {:.1} µs, p99 {:.1} µs",
            of("p50")?,
            of("mean")?,
            of("p99")?
        ))
    }

    /// Median and tails, in nanoseconds.
    fn nanos(&self, name: &str) -> Result<String> {
        let of = |part| self.of(&format!("{name}_{part}"));
        Ok(format!("p50 {} ns, p99 {} ns, p99.9 {} ns", of("p50")?, of("p99")?, of("p999")?))
    }
}

fn judge(figures: &Figures) -> Result<Vec<Finding>> {
    let instances = figures.of("instances")?;
    let per_instance = figures.of("resident")? / instances;
    let load = std::time::Duration::from_nanos(figures.of("load")?);
    let size = grouped(instances as f64);
    let mut findings = vec![
        Finding::alone(format!("{size} instances: load"), "< 5 s", time(load), load.as_secs() < 5),
        Finding::alone(
            format!("{size} instances: resident"),
            "< 1,024 octets each",
            format!("{per_instance} octets each, {}", megabytes(figures.of("resident")?)),
            per_instance < 1024,
        ),
    ];
    let own = grouped(figures.of("own_instances")? as f64);
    for (what, measured) in [
        ("one node with its number of instances".to_owned(), figures.nanos("node")?),
        (format!("one of the {own} own"), figures.nanos("own_one")?),
        (format!("all {own} own"), figures.micros("own_all")?),
    ] {
        findings.push(Finding::alone(format!("{size} instances: {what}"), "", measured, None));
    }
    for (name, how) in [("paced", "1,000 changes/s"), ("fast", "changes without a pause")] {
        let (apply, lookup) = (format!("apply_{name}"), format!("lookup_{name}"));
        let is_soon = figures.of(&format!("{lookup}_p50"))? < 200
            && figures.of(&format!("{lookup}_p999"))? < 2_000;
        findings.push(Finding::alone(
            format!("{size} instances, {how}: apply one and publish"),
            "p50 < 20 µs",
            figures.micros(&apply)?,
            figures.of(&format!("{apply}_p50"))? < 20_000,
        ));
        findings.push(Finding::alone(
            format!("{size} instances, {how}: lookups on another thread"),
            "p50 < 200 ns, p99.9 < 2,000 ns",
            figures.nanos(&lookup)?,
            is_soon,
        ));
    }
    let clock = figures.nanos("clock")?;
    findings.push(Finding::alone("of each lookup's time: reading the clock", "", clock, None));
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_by_name() {
        let figures = Figures::read("load 12\nlookup_p50 3\n").unwrap();
        assert_eq!((figures.of("load").unwrap(), figures.of("lookup_p50").unwrap()), (12, 3));
        assert!(figures.of("resident").is_err());
        assert!(Figures::read("load twelve").is_err());
    }
}
