//! What one thing may hold at most. Whatever exceeds a limit is refused with an error that names it.

use std::time::Duration;

/// Octets in one label (RFC 1035 §2.3.4).
pub const LABEL_OCTETS: usize = 63;
/// Octets in a whole name in its text form (RFC 1035 §2.3.4: 255 on the wire).
pub const NAME_OCTETS: usize = 253;
/// Labels in a service name.
pub const SERVICE_LABELS: usize = 4;
/// Octets in an instance, check or provider id.
pub const ID_OCTETS: usize = 128;
/// Tags of one instance.
pub const TAGS: usize = 64;
/// Octets in one tag.
pub const TAG_OCTETS: usize = 255;
/// Metadata pairs of one instance or node.
pub const META_PAIRS: usize = 64;
/// Octets in one metadata pair, key and value together.
pub const META_PAIR_OCTETS: usize = 4096;
/// Checks of one instance.
pub const CHECKS_PER_INSTANCE: usize = 16;
/// Instances that one node registers.
pub const INSTANCES_PER_NODE: usize = 10_000;
/// Octets that the instances of one node take, all together.
pub const INSTANCE_OCTETS_PER_NODE: usize = 32 << 20;
/// Octets of a check's output that are kept; the rest is cut.
pub const CHECK_OUTPUT_OCTETS: usize = 4096;
/// Octets of a maintenance reason.
pub const REASON_OCTETS: usize = 1024;
/// The shortest check interval.
pub const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The longest check interval, TTL and deregistration delay.
pub const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// The longest time one check may take.
pub const MAX_CHECK_TIMEOUT: Duration = Duration::from_secs(300);
/// Failures or successes in a row that a check may ask for.
pub const MAX_CHECK_THRESHOLD: u32 = 100;
/// Octets of a check's body pattern, header values and command line, each together.
pub const CHECK_TEXT_OCTETS: usize = 16 * 1024;
/// Instances that all providers of a node state together, counting an id that two state twice.
pub const STATED_PER_NODE: usize = 2 * INSTANCES_PER_NODE;
/// Octets of what all providers of a node state together, with 4 KiB for the output of each check.
pub const STATED_OCTETS_PER_NODE: usize = 256 << 20;
