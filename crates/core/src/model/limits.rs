//! The limits of names, instances, checks and nodes. Input that exceeds a limit is refused with an error that names it.

use std::time::Duration;

/// The limit of a label in octets (RFC 1035 §2.3.4).
pub const MAX_LABEL_OCTETS: usize = 63;
/// The limit of a whole name as text in octets (RFC 1035 §2.3.4: 255 on the wire).
pub const MAX_NAME_OCTETS: usize = 253;
/// The limit of labels in a service name.
pub const MAX_SERVICE_LABELS: usize = 4;
/// The limit of an instance, check or provider id in octets.
pub const MAX_ID_OCTETS: usize = 128;
/// The limit of tags of one instance.
pub const MAX_TAGS: usize = 64;
/// The limit of one tag in octets.
pub const MAX_TAG_OCTETS: usize = 255;
/// The limit of metadata pairs of one instance or node.
pub const MAX_META_PAIRS: usize = 64;
/// The limit of one metadata pair in octets, key and value together.
pub const MAX_META_PAIR_OCTETS: usize = 4096;
/// The limit of checks of one instance.
pub const MAX_CHECKS_PER_INSTANCE: usize = 16;
/// The limit of instances that one node registers.
pub const MAX_INSTANCES_PER_NODE: usize = 10_000;
/// The limit of all instances of one node together, in octets.
pub const MAX_INSTANCE_OCTETS_PER_NODE: usize = 32 << 20;
/// The limit of a check's output in octets; the rest is cut.
pub const MAX_CHECK_OUTPUT_OCTETS: usize = 4096;
/// The limit of a maintenance reason in octets.
pub const MAX_REASON_OCTETS: usize = 1024;
/// The shortest check interval.
pub const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The longest check interval, TTL and deregistration delay.
pub const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// The longest time that one run of a check may take.
pub const MAX_CHECK_TIMEOUT: Duration = Duration::from_secs(300);
/// The limit of failures or successes in a row that a check may require.
pub const MAX_CHECK_THRESHOLD: u32 = 100;
/// The limit of all texts of a check together, in octets.
pub const MAX_CHECK_TEXT_OCTETS: usize = 16 * 1024;
/// The limit of instances that all providers of a node state together. An id that two providers state counts twice.
pub const MAX_STATED_PER_NODE: usize = 2 * MAX_INSTANCES_PER_NODE;
/// The limit of all statements of a node's providers together in octets, with 4 KiB for the output of each check.
pub const MAX_STATED_OCTETS_PER_NODE: usize = 256 << 20;
