//! Reads over HTTP: lookups of a service, and reports of a large provider beside changes.
//!
//! The agent has the first processor, the load generator the second one.

pub(super) mod bare;
mod lookups;
mod providers;

use anyhow::Result;
use dunlin_bench::rig::finding::Finding;
use dunlin_bench::rig::release::Release;

use super::{Args, Part, chosen};

pub(super) const ABOUT: &str = "lookups of a service with three instances, with wrk and at half load; a large provider read beside changes (--only ROW, --runs N, --quick)";

type Measure = fn(&Args, &Release) -> Result<Vec<Finding>>;

const ROWS: &[Part<Measure>] = &[("lookups", lookups::measure), ("providers", providers::measure)];

pub(super) fn run(args: &Args, release: &Release) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (_, measure) in chosen(ROWS, &args.only)? {
        findings.extend(measure(args, release)?);
    }
    Ok(findings)
}
