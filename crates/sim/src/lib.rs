//! Whole clusters of Dunlin's logic on a virtual network, disk and clock.
//!
//! One seed replays one run bit by bit: there are no threads, no runtime and no wall clock in it, and every random
//! number follows from the seed. A run is a cluster under load that faults are done to, then healed, and that must
//! have come to agree some seconds later; `invariants` are held to all along.
//!
//! - `world`: what happens next, and to whom. `network`, `stream`, `disk`, `clock`: what machines give.
//! - `node`: the agent's driver in small, around the state machines of core.
//! - `faults`, `client`, `oracle`: what is done to the cluster, what it is asked for, what it must have kept.
//! - `run`: one seed. `sweep`: many. `scale`: how far news travels in how much time. `report`: that, on paper.

mod client;
mod clock;
mod disk;
mod faults;
mod invariants;
mod network;
mod node;
mod oracle;
mod report;
mod run;
mod scale;
mod stream;
mod sweep;
mod world;

pub use report::{SIZES, write_report};
pub use run::{Outcome, RunSettings, run_seed};
pub use scale::{Scale, Spread, measure, memory_octets};
pub use sweep::{Sweep, sweep};
