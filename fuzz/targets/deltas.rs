//! What every commit that could be read must be, and what a replica that took it in must be.

use dunlin_core::model::NodeId;
use dunlin_core::replica::{Delta, DeltaRequest, Replica, Version};

pub(crate) const OWN: NodeId = NodeId::from_bytes([0; 16]);
pub(crate) const PEER: NodeId = NodeId::from_bytes([1; 16]);

/// It is written as it was read, and can be merged twice.
pub(crate) fn judge(delta: &Delta) {
    let mut octets = Vec::new();
    delta.encode(&mut octets);
    assert_eq!(Delta::decode(&octets).as_ref(), Ok(delta), "written and read again");
    let mut replica = Replica::new(OWN);
    let Ok(changes) = replica.merge(delta) else { return };
    assert!(delta.validate().is_ok(), "a malformed commit was taken in");
    assert!(changes.len() <= delta.rows.len(), "rows from nowhere");
    let summary = replica.summary();
    if let Ok(again) = replica.merge(delta) {
        assert!(again.is_empty(), "the same commit was news twice");
    }
    assert_eq!(replica.summary(), summary, "the same commit changed something twice");
    judge_replica(&replica);
}

/// A second replica that asks for everything comes to the same.
pub(crate) fn judge_replica(replica: &Replica) {
    for (origin, head) in replica.heads() {
        let Some((extent, digest)) = replica.told(origin) else { continue };
        assert!(extent.is_sound() && extent.head() == head);
        let request = DeltaRequest { above: Version::ZERO, floor: Version::ZERO };
        let Some(delta) = replica.delta(origin, request, usize::MAX) else { continue };
        let mut other = Replica::new(NodeId::from_bytes([0xEE; 16]));
        other.merge(&delta).expect("what is served can be taken in");
        let told = other.told(origin).expect("what was taken in is told");
        assert_eq!(told, (extent, digest), "a copy comes to the same");
    }
}
