//! The guard's probes: a few are under way, the others wait. When half a cluster is gone there are as many probes as it
//! had instances, so a probe that waits is a small value and not a task.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use dunlin_core::catalog::EndpointKey;
use dunlin_core::model::ServiceName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Probes under way at a time.
const MAX_UNDER_WAY: usize = 64;
/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Probes that wait. A probe beyond the limit is not made: its instance is held until the hold ends.
const MAX_WAITING: usize = 1 << 20;

/// A probe that the engine asked for: whether something accepts connections at an address.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) service: ServiceName,
    pub(super) key: EndpointKey,
    pub(super) address: SocketAddr,
}

/// A probe that ended.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) service: ServiceName,
    pub(super) key: EndpointKey,
    pub(super) answered: bool,
}

/// All probes. Dropping it ends those under way.
#[derive(Debug, Default)]
pub(super) struct Probes {
    waiting: VecDeque<Wanted>,
    under_way: JoinSet<Probed>,
}

impl Probes {
    pub(super) fn want(&mut self, wanted: Wanted) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(wanted);
            self.start();
        }
    }

    /// Waits for a probe to end; `None` while there are none. Cancel safe.
    pub(super) async fn ended(&mut self) -> Option<Probed> {
        let ended = self.under_way.join_next().await?;
        self.start();
        ended.ok()
    }

    fn start(&mut self) {
        while self.under_way.len() < MAX_UNDER_WAY {
            let Some(wanted) = self.waiting.pop_front() else {
                // A long queue took memory that is not needed again soon.
                self.waiting = VecDeque::new();
                return;
            };
            self.under_way.spawn(probe(wanted));
        }
    }
}

async fn probe(wanted: Wanted) -> Probed {
    let Wanted { service, key, address } = wanted;
    let connected = timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await;
    Probed { service, key, answered: matches!(connected, Ok(Ok(_))) }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use dunlin_core::model::{InstanceId, NodeId};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn each_is_made_and_few_at_a_time() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (open, refused) = (listener.local_addr().unwrap(), closed.local_addr().unwrap());
        drop(closed);
        let mut probes = Probes::default();
        let count = 3 * MAX_UNDER_WAY;
        for number in 0..count {
            let id = InstanceId::parse(&format!("i{number}")).unwrap();
            let key = (NodeId::from_bytes([1; 16]), id);
            let address = if number % 2 == 0 { open } else { refused };
            let service = ServiceName::parse("web").unwrap();
            probes.want(Wanted { service, key, address });
            assert!(probes.under_way.len() <= MAX_UNDER_WAY);
        }
        let mut answered = Vec::new();
        while let Some(probed) = probes.ended().await {
            answered.push(probed.answered);
            assert!(probes.under_way.len() <= MAX_UNDER_WAY);
        }
        assert_eq!(answered.len(), count);
        assert_eq!(answered.iter().filter(|answered| **answered).count(), count / 2);
        assert_eq!(probes.waiting.capacity(), 0);
    }
}
