//! Health checking: when each check of a node runs, and what its results mean.
//!
//! [`Scheduler`] owns all checks of one node. It is fed with registrations, finished runs, pushes and the
//! time, and answers with [`HealthOutput`]s: run this, write that row, deregister this instance. It performs
//! nothing itself: connecting, executing and storing are the driver's work.
//!
//! What always holds:
//! - A check has at most one run that was not cancelled.
//! - A status changes only by the check's own thresholds; a single lost packet removes no instance from answers.
//! - A change of status is reported at once, a change of output alone at most every 30 seconds, and the
//!   latest output is always reported in the end.
//! - A restart changes nothing by itself: a restored check keeps its status until a result contradicts it.
//! - Everything is ordered and drawn from a seed, so the same inputs give the same outputs.
//!
//! The parts: `verdict` (thresholds), `damper` (flap damping after RFC 2439), `check` (one check),
//! `alias` (checks that follow another instance), `jitter` (spreading runs in time), `scheduler` (all checks of a
//! node).

mod alias;
mod check;
mod damper;
mod jitter;
mod scheduler;
#[cfg(test)]
mod tests;
mod verdict;

pub use check::{CheckKey, RunId};
pub use scheduler::{CheckOutcome, HealthOutput, PushError, Scheduler};
