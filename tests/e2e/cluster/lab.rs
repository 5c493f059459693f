//! A lab of five hosts with a certificate authority, and functions that wait for what the hosts do.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dunlin_agent::net::tls::issue::{self, Issued, Validity};
use dunlin_core::model::{NodeName, ZoneName};
use tempfile::TempDir;

use super::host::Host;
use super::network::{Network, address};

/// The number of hosts of a lab.
pub(crate) const HOSTS: usize = 5;
/// The most labs that run at a time.
const MOST_LABS: usize = 2;

static LABS: Mutex<usize> = Mutex::new(0);
static LAB_ENDED: Condvar = Condvar::new();

/// The right to run one of these labs; dropped, it is free for another one.
struct Turn;

impl Turn {
    fn take() -> Self {
        let labs = LABS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut labs = LAB_ENDED
            .wait_while(labs, |labs| *labs >= MOST_LABS)
            .unwrap_or_else(PoisonError::into_inner);
        *labs += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *LABS.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        LAB_ENDED.notify_one();
    }
}

/// The certificate authority of a lab.
pub(crate) struct Authority(Issued);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self(issue::create_ca(name, Validity::days(3650)).unwrap())
    }

    pub(crate) fn certificate(&self) -> &str {
        &self.0.certificate
    }

    pub(crate) fn issue(&self, node: &str, zone: &str, validity: Validity) -> Issued {
        let (node, zone) = (NodeName::parse(node).unwrap(), ZoneName::parse(zone).unwrap());
        issue::create_certificate(&self.0.certificate, &self.0.key, &node, &zone, validity).unwrap()
    }
}

/// Five hosts. The fields are dropped in this order.
pub(crate) struct Lab {
    hosts: Vec<Host>,
    pub(crate) network: Arc<Network>,
    pub(crate) authority: Authority,
    pub(crate) dir: TempDir,
    _turn: Turn,
}

impl Lab {
    /// Hosts with certificates of a long validity and without running agents. All are configured to join the first.
    pub(crate) fn place() -> Self {
        let turn = Turn::take();
        let dir = tempfile::tempdir().unwrap();
        let network = Arc::new(Network::new(HOSTS).unwrap());
        let authority = Authority::new("lab");
        let seed = [format!("{}:5370", address(1))];
        let host = |number| Host::new(&network, number, dir.path(), &seed);
        let hosts: Vec<Host> = (1..=HOSTS).map(host).collect();
        let lab = Self { hosts, network, authority, dir, _turn: turn };
        for host in &lab.hosts {
            lab.certify(host);
        }
        lab
    }

    /// A lab in which every agent knows all others.
    pub(crate) fn start() -> Self {
        let mut lab = Self::place();
        lab.boot();
        lab
    }

    /// Gives a host a certificate that every agent accepts.
    pub(crate) fn certify(&self, host: &Host) {
        let validity = Validity::days(3000);
        // Clocks of tests may be wrong by hours.
        let not_before = validity.not_before - Duration::from_secs(24 * 3600);
        let validity = Validity { not_before, ..validity };
        let issued = self.authority.issue(&host.name(), host.zone(), validity);
        host.certify(self.authority.certificate(), &issued);
    }

    /// Starts all agents and waits until each of them knows all others.
    pub(crate) fn boot(&mut self) -> Duration {
        let begun = Instant::now();
        self.hosts.iter_mut().for_each(Host::spawn);
        self.hosts.iter_mut().for_each(Host::wait_ready);
        self.all_alive(Duration::from_secs(30));
        begun.elapsed()
    }

    /// Host `number`, from 1.
    pub(crate) fn host(&self, number: usize) -> &Host {
        &self.hosts[number - 1]
    }

    pub(crate) fn host_mut(&mut self, number: usize) -> &mut Host {
        &mut self.hosts[number - 1]
    }

    /// All hosts but one.
    pub(crate) fn others(&self, number: usize) -> Vec<&Host> {
        self.hosts.iter().filter(|host| host.number != number).collect()
    }

    /// Waits until every host sees all of them alive.
    pub(crate) fn all_alive(&self, limit: Duration) -> Duration {
        let hosts: Vec<&Host> = self.hosts.iter().collect();
        everyone(&hosts, "sees all hosts alive", limit, |host| {
            let statuses = host.statuses();
            statuses.len() == HOSTS && statuses.values().all(|status| status == "alive")
        })
    }

    /// Waits until all hosts know the same instances.
    pub(crate) fn catalogs_equal(&self, limit: Duration) -> Duration {
        within(limit, "all catalogs are equal", || {
            let first = self.hosts[0].catalog();
            first.is_some() && self.hosts.iter().all(|host| host.catalog() == first)
        })
    }
}

impl Deref for Lab {
    type Target = [Host];

    fn deref(&self) -> &[Host] {
        &self.hosts
    }
}

impl DerefMut for Lab {
    fn deref_mut(&mut self) -> &mut [Host] {
        &mut self.hosts
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for host in &self.hosts {
            let log = host.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("── {}: {:?}\n{}\n{tail}", host.name(), host.statuses(), host.problems());
        }
    }
}

/// Waits until a condition holds. Prints and returns how long that took, and fails if it took longer than `limit`.
pub(crate) fn within(limit: Duration, what: &str, mut probe: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    loop {
        let (is_so, elapsed) = (probe(), begun.elapsed());
        if is_so && elapsed <= limit {
            eprintln!("   {:>8} ms: {what}", elapsed.as_millis());
            return elapsed;
        }
        assert!(elapsed < limit, "not so within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20)); // pause: between two looks at other processes
    }
}

/// Waits until a condition has held once for each of these hosts.
pub(crate) fn everyone(
    hosts: &[&Host],
    what: &str,
    limit: Duration,
    mut sees: impl FnMut(&Host) -> bool,
) -> Duration {
    let mut waiting: Vec<&Host> = hosts.to_vec();
    let names: Vec<String> = hosts.iter().map(|host| host.name()).collect();
    within(limit, &format!("{} {what}", names.join(" ")), || {
        waiting.retain(|host| !sees(host));
        waiting.is_empty()
    })
}

/// Calls `look` again and again until a time is over. It fails the test if it observes something wrong.
pub(crate) fn throughout(time: Duration, mut look: impl FnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        look();
        std::thread::sleep(Duration::from_millis(100)); // pause: the time itself is what is tested
    }
}

/// A duration of whole seconds.
pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
