//! What the catalog and its guard promise, on a virtual clock.

mod by_node;
mod cluster;

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{
    CheckId, CheckRow, CheckStatus, InstanceFields, Mode, NodePhase, ProviderId,
    limits::MAX_INSTANCES_PER_NODE,
};

const NODE: NodeId = NodeId::from_bytes([1; 16]);

#[allow(
    clippy::disallowed_methods,
    reason = "a start for the virtual clock; only differences count"
)]
fn start() -> Instant {
    Instant::now()
}

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

fn id(n: usize) -> InstanceId {
    InstanceId::parse(&format!("i{n}")).unwrap()
}

fn node_row() -> RowChange {
    let row = NodeRow {
        name: NodeName::parse("a").unwrap(),
        zone: ZoneName::parse("z1").unwrap(),
        address: IpAddr::from([127, 0, 0, 1]),
        serves_dns: true,
        meta: BTreeMap::new(),
        phase: NodePhase::Active,
    };
    RowChange { key: RowKey::Node, state: RowState::Present(Row::Node(row.into())) }
}

fn instance_row(n: usize, service: &str, mode: Mode) -> RowChange {
    let fields = InstanceFields {
        id: id(n),
        service: name(service),
        address: IpAddr::from([127, 0, 0, 1]),
        port: 8000 + i64::try_from(n).unwrap(),
        weight: 100,
        tags: vec![],
        meta: BTreeMap::new(),
        provider: ProviderId::api(),
    };
    let instance = Instance::new(fields).unwrap().in_mode(mode);
    RowChange {
        key: RowKey::Instance(id(n)),
        state: RowState::Present(Row::Instance(instance.into())),
    }
}

fn check_row(n: usize, status: CheckStatus, has_worked: bool) -> RowChange {
    let row = CheckRow { status, output: "".into(), since: Timestamp::default(), has_worked };
    RowChange {
        key: RowKey::Check(id(n), CheckId::parse("c").unwrap()),
        state: RowState::Present(Row::Check(row.into())),
    }
}

fn gone(n: usize, departure: Departure) -> [RowChange; 2] {
    let check = CheckId::parse("c").unwrap();
    [RowKey::Check(id(n), check), RowKey::Instance(id(n))]
        .map(|key| RowChange { key, state: RowState::Gone(departure) })
}

/// A catalog on one node whose service `web` has instances with one passing check each.
struct Scene {
    catalog: Catalog,
    now: Instant,
    probes: Vec<EndpointKey>,
    told: Vec<CatalogOutput>,
}

impl Scene {
    fn new(instances: usize) -> Self {
        let own_zone = ZoneName::parse("z1").unwrap();
        let topology = Topology { own_zone, nearest_zones: vec![] };
        let catalog = Catalog::new(topology, GuardSettings::default(), 0);
        let mut scene = Self { catalog, now: start(), probes: vec![], told: vec![] };
        let mut rows = vec![node_row()];
        for n in 0..instances {
            rows.push(instance_row(n, "web", Mode::Active));
            rows.push(check_row(n, CheckStatus::Passing, true));
        }
        scene.rows(&rows);
        scene
    }

    fn rows(&mut self, rows: &[RowChange]) {
        self.catalog.handle_rows(self.now, Timestamp::default(), NODE, rows);
        self.drain();
    }

    fn fail(&mut self, instances: impl IntoIterator<Item = usize>) {
        for n in instances {
            self.rows(&[check_row(n, CheckStatus::Critical, true)]);
        }
    }

    fn status(&mut self, status: NodeStatus) {
        self.catalog.handle_statuses(self.now, Timestamp::default(), &[(NODE, status)]);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.catalog.poll_output() {
            match output {
                CatalogOutput::Probe { key, .. } => self.probes.push(key),
                other @ (CatalogOutput::Publish { .. }
                | CatalogOutput::HealthChanged { .. }
                | CatalogOutput::Guarded { .. }
                | CatalogOutput::Released { .. }
                | CatalogOutput::NodeChanged { .. }
                | CatalogOutput::NodeDraining { .. }
                | CatalogOutput::NameConflict { .. }) => self.told.push(other),
            }
        }
    }

    /// Answers all open probes.
    fn probe_all(&mut self, answered: bool) {
        for key in std::mem::take(&mut self.probes) {
            for service in ["web", "db"].map(name) {
                self.catalog.handle_probe(self.now, Timestamp::default(), &service, &key, answered);
            }
        }
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        while self.catalog.next_deadline().is_some_and(|due| due <= self.now) {
            self.catalog.handle_deadline(self.now, Timestamp::default());
            self.drain();
        }
    }

    fn answered(&self) -> usize {
        self.catalog.view().service(&name("web")).map_or(0, |s| s.answered_count())
    }

    fn is_guarded(&self) -> bool {
        self.catalog.view().service(&name("web")).is_some_and(|s| s.guard.is_some())
    }
}

#[test]
fn a_change_of_one_service_leaves_the_others_untouched() {
    let mut scene = Scene::new(1);
    scene.rows(&[instance_row(50, "db", Mode::Active)]);
    let before = scene.catalog.view().clone();
    scene.told.clear();
    scene.fail([0]);
    let after = scene.catalog.view();
    let same = |s| Arc::ptr_eq(before.service(&name(s)).unwrap(), after.service(&name(s)).unwrap());
    assert!(same("db"));
    assert!(!same("web"));
    assert!(after.index() > before.index());
    assert!(scene.told.contains(&CatalogOutput::Publish { services: vec![name("web")] }));
}

#[test]
fn a_small_drop_is_believed_at_once() {
    let mut scene = Scene::new(6);
    scene.fail([0, 1]);
    assert_eq!((scene.answered(), scene.is_guarded()), (4, false));
    let mut small = Scene::new(2);
    small.fail([0]);
    assert_eq!((small.answered(), small.is_guarded()), (1, false));
}

#[test]
fn a_sharp_drop_is_held_while_the_instances_answer_probes() {
    let mut scene = Scene::new(5);
    scene.fail([0, 1, 2]);
    assert_eq!((scene.answered(), scene.is_guarded()), (5, true));
    assert_eq!(scene.probes.len(), 3);
    assert!(scene.told.contains(&CatalogOutput::Guarded { service: name("web"), held: 3 }));
    scene.probe_all(true);
    assert_eq!((scene.answered(), scene.is_guarded()), (5, true));
    scene.pass(Duration::from_secs(5));
    assert_eq!(scene.probes.len(), 3, "what answered is probed again");
    scene.pass(Duration::from_secs(6));
    assert_eq!(scene.probes.len(), 3, "and not once more before that probe has ended");
}

#[test]
fn instances_that_fail_the_probe_are_let_go() {
    let mut scene = Scene::new(5);
    scene.fail([0, 1, 2]);
    let key = scene.probes.remove(0);
    scene.catalog.handle_probe(scene.now, Timestamp::default(), &name("web"), &key, false);
    scene.drain();
    assert_eq!((scene.answered(), scene.is_guarded()), (4, true));
    scene.probe_all(false);
    assert_eq!((scene.answered(), scene.is_guarded()), (2, false));
    let reason = "none answered a probe";
    assert!(scene.told.contains(&CatalogOutput::Released { service: name("web"), reason }));
}

#[test]
fn a_truncated_file_empties_no_answer() {
    let mut scene = Scene::new(4);
    let rows: Vec<RowChange> = (0..4).flat_map(|n| gone(n, Departure::Dropped)).collect();
    scene.rows(&rows);
    assert_eq!((scene.answered(), scene.is_guarded()), (4, true));
    scene.probe_all(true);
    assert_eq!(scene.answered(), 4);
    scene.pass(GuardSettings::default().hold);
    assert_eq!((scene.answered(), scene.is_guarded()), (0, false));
    assert!(scene.catalog.view().service(&name("web")).is_none());
}

#[test]
fn what_is_held_is_told_once() {
    let mut scene = Scene::new(4);
    let rows: Vec<RowChange> = (0..4).flat_map(|n| gone(n, Departure::Dropped)).collect();
    scene.rows(&rows);
    let changes = |scene: &Scene| {
        scene
            .told
            .iter()
            .filter(|t| matches!(t, CatalogOutput::HealthChanged { to: None, .. }))
            .count()
    };
    assert_eq!(changes(&scene), 4);
    scene.probe_all(true);
    scene.pass(Duration::from_secs(5));
    scene.probe_all(true);
    assert_eq!(changes(&scene), 4);
}

#[test]
fn a_hold_ends_when_the_instances_return() {
    let mut scene = Scene::new(4);
    scene.fail(0..4);
    scene.probe_all(true);
    for n in 0..4 {
        scene.rows(&[check_row(n, CheckStatus::Passing, true)]);
    }
    assert_eq!((scene.answered(), scene.is_guarded()), (4, false));
    assert_eq!(scene.catalog.next_deadline(), None);
}

#[test]
fn an_operator_ends_a_hold() {
    let mut scene = Scene::new(5);
    scene.fail([0, 1, 2]);
    scene.probe_all(true);
    assert!(scene.catalog.release(scene.now, Timestamp::default(), &name("web")));
    assert_eq!((scene.answered(), scene.is_guarded()), (2, false));
    assert!(!scene.catalog.release(scene.now, Timestamp::default(), &name("web")));
}

#[test]
fn what_is_taken_away_on_purpose_is_not_held() {
    for rows in [
        (0..4).map(|n| instance_row(n, "web", Mode::Draining)).collect::<Vec<_>>(),
        (0..4).flat_map(|n| gone(n, Departure::Deregistered)).collect(),
    ] {
        let mut scene = Scene::new(5);
        scene.rows(&rows);
        assert_eq!((scene.answered(), scene.is_guarded()), (1, false));
        assert!(scene.probes.is_empty());
    }
}

#[test]
fn draining_a_held_instance_lets_it_go() {
    let mut scene = Scene::new(5);
    scene.fail([0, 1, 2]);
    scene.rows(&[instance_row(1, "web", Mode::Draining)]);
    assert_eq!((scene.answered(), scene.is_guarded()), (4, true));
}

#[test]
fn vanishings_far_apart_do_not_count_together() {
    let mut scene = Scene::new(5);
    for n in 0..4 {
        scene.fail([n]);
        scene.pass(Duration::from_secs(31));
    }
    assert_eq!((scene.answered(), scene.is_guarded()), (1, false));
}

#[test]
fn a_node_that_is_down_is_held_only_if_it_answers() {
    let mut scene = Scene::new(4);
    scene.status(NodeStatus::Down);
    scene.drain();
    assert_eq!((scene.answered(), scene.is_guarded()), (4, true));
    scene.probe_all(false);
    assert_eq!((scene.answered(), scene.is_guarded()), (0, false));
    scene.status(NodeStatus::Alive);
    assert_eq!(scene.answered(), 4);
}

#[test]
fn the_last_one_is_served_only_while_it_accepts_connections() {
    let mut scene = Scene::new(1);
    scene.fail([0]);
    assert_eq!(scene.answered(), 0, "not before it has shown that it is there");
    scene.probe_all(true);
    assert_eq!(scene.answered(), 1);
    scene.pass(Duration::from_secs(5));
    assert_eq!(scene.answered(), 1);
    scene.probe_all(false);
    assert_eq!(scene.answered(), 0);
    scene.rows(&[check_row(0, CheckStatus::Passing, true)]);
    assert_eq!(scene.answered(), 1);
    assert_eq!(scene.catalog.next_deadline(), None);
}

#[test]
fn panic_mode_returns_after_a_restart() {
    let mut scene = Scene::new(0);
    let rows = [
        node_row(),
        instance_row(0, "web", Mode::Active),
        check_row(0, CheckStatus::Critical, true),
    ];
    scene.catalog.load(rows.iter().map(|r| (NODE, &r.key, &r.state)));
    scene.catalog.reconsider(scene.now, Timestamp::default());
    scene.drain();
    assert_eq!(scene.probes.len(), 1);
    scene.probe_all(true);
    assert_eq!(scene.answered(), 1);
}

#[test]
fn what_never_worked_is_not_served_in_panic() {
    let mut scene = Scene::new(0);
    scene.rows(&[instance_row(0, "web", Mode::Active), check_row(0, CheckStatus::Critical, false)]);
    assert!(scene.probes.is_empty());
    assert_eq!(scene.answered(), 0);
}

#[test]
fn panic_mode_can_be_switched_off_for_a_service() {
    let mut scene = Scene::new(1);
    let off = GuardOverride { panic: Some(false), max_drop: None };
    let services = BTreeMap::from([(name("web"), off)]);
    scene.catalog.set_guard(GuardSettings { services, ..GuardSettings::default() });
    scene.fail([0]);
    assert!(scene.probes.is_empty());
}

#[test]
fn rows_of_a_node_wait_for_the_node_itself() {
    let own_zone = ZoneName::parse("z1").unwrap();
    let topology = Topology { own_zone, nearest_zones: vec![] };
    let mut catalog = Catalog::new(topology, GuardSettings::default(), 7);
    let (now, wall) = (start(), Timestamp::default());
    catalog.handle_rows(now, wall, NODE, &[instance_row(0, "web", Mode::Active)]);
    assert_eq!(catalog.view().service_count(), 0);
    catalog.handle_rows(now, wall, NODE, &[node_row()]);
    assert_eq!(catalog.view().service_count(), 1);
    assert!(catalog.view().index() > 7);
}

#[test]
fn loading_stored_rows_alarms_nobody() {
    let own_zone = ZoneName::parse("z1").unwrap();
    let topology = Topology { own_zone, nearest_zones: vec![] };
    let mut catalog = Catalog::new(topology, GuardSettings::default(), 0);
    let mut rows = vec![node_row()];
    for n in 0..MAX_INSTANCES_PER_NODE / 100 {
        rows.push(instance_row(n, "web", Mode::Active));
        rows.push(check_row(n, CheckStatus::Critical, true));
    }
    catalog.load(rows.iter().map(|r| (NODE, &r.key, &r.state)));
    assert!(matches!(catalog.poll_output(), Some(CatalogOutput::Publish { .. })));
    assert_eq!(catalog.poll_output(), None);
}

/// A step on one of three nodes.
#[derive(Debug, Clone)]
enum Step {
    Node(u8, u8, NodePhase),
    Instance(u8, usize, bool),
    Check(u8, usize, bool),
    Gone(u8, usize),
    Status(u8, NodeStatus),
    Near(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let phase = prop::sample::select(vec![
        NodePhase::Active,
        NodePhase::Active,
        NodePhase::Draining,
        NodePhase::Left,
    ]);
    let status = prop::sample::select(NodeStatus::ALL.to_vec());
    let node = 1..=3u8;
    prop_oneof![
        1 => (node.clone(), 0..3u8, phase).prop_map(|(on, zone, phase)| Step::Node(on, zone, phase)),
        4 => (node.clone(), 0..6usize, any::<bool>())
            .prop_map(|(on, n, web)| Step::Instance(on, n, web)),
        3 => (node.clone(), 0..6usize, any::<bool>())
            .prop_map(|(on, n, ok)| Step::Check(on, n, ok)),
        2 => (node.clone(), 0..6usize).prop_map(|(on, n)| Step::Gone(on, n)),
        1 => (node, status).prop_map(|(on, status)| Step::Status(on, status)),
        1 => any::<bool>().prop_map(Step::Near),
    ]
}

/// Two of the nodes share a name.
fn row_on(on: u8, zone: u8, phase: NodePhase) -> RowChange {
    let RowChange { key, state: RowState::Present(Row::Node(row)) } = node_row() else {
        unreachable!("a node's row")
    };
    let name = NodeName::parse(if on == 2 { "b" } else { "a" }).unwrap();
    let zone = ZoneName::parse(&format!("z{zone}")).unwrap();
    let row = NodeRow { name, zone, phase, ..(*row).clone() };
    RowChange { key, state: RowState::Present(Row::Node(row.into())) }
}

fn nearest(is_z0_near: bool) -> Vec<ZoneName> {
    let near = if is_z0_near { ["z0", "z2"] } else { ["z2", "z0"] };
    near.map(|zone| ZoneName::parse(zone).unwrap()).to_vec()
}

/// A scene after some steps, and what was put into it.
struct Played {
    scene: Scene,
    rows: BTreeMap<(NodeId, RowKey), RowState>,
    statuses: BTreeMap<NodeId, NodeStatus>,
}

impl Played {
    fn new(guard: GuardSettings) -> Self {
        let mut scene = Scene::new(0);
        scene.catalog.set_guard(guard);
        let rows = BTreeMap::from([((NODE, RowKey::Node), node_row().state)]);
        Self { scene, rows, statuses: BTreeMap::new() }
    }

    fn step(&mut self, step: Step) {
        let (on, changes) = match step {
            Step::Node(on, zone, phase) => (on, vec![row_on(on, zone, phase)]),
            Step::Instance(on, n, web) => {
                (on, vec![instance_row(n, if web { "web" } else { "db" }, Mode::Active)])
            }
            Step::Check(on, n, true) => (on, vec![check_row(n, CheckStatus::Passing, true)]),
            Step::Check(on, n, false) => (on, vec![check_row(n, CheckStatus::Critical, true)]),
            Step::Gone(on, n) => (on, gone(n, Departure::Dropped).to_vec()),
            Step::Status(on, status) => {
                self.statuses.insert(NodeId::from_bytes([on; 16]), status);
                (on, vec![])
            }
            Step::Near(is_z0_near) => {
                self.scene.catalog.set_nearest_zones(nearest(is_z0_near));
                (1, vec![])
            }
        };
        let (on, now) = (NodeId::from_bytes([on; 16]), self.scene.now);
        let catalog = &mut self.scene.catalog;
        if let Some(status) = self.statuses.get(&on) {
            catalog.handle_statuses(now, Timestamp::default(), &[(on, *status)]);
        }
        catalog.handle_rows(now, Timestamp::default(), on, &changes);
        self.rows.extend(changes.into_iter().map(|c| ((on, c.key), c.state)));
        self.scene.drain();
    }

    /// What a catalog shows that never saw anything else.
    fn fresh(&self) -> Catalog {
        let topology = self.scene.catalog.view().topology().clone();
        let guard = GuardSettings { max_drop: 1.0, panic: false, ..GuardSettings::default() };
        let mut fresh = Catalog::new(topology, guard, 0);
        fresh.load(self.rows.iter().map(|((on, key), state)| (*on, key, state)));
        let statuses: Vec<_> = self.statuses.iter().map(|(on, status)| (*on, *status)).collect();
        fresh.handle_statuses(self.scene.now, Timestamp::default(), &statuses);
        fresh
    }
}

fn shown(catalog: &Catalog) -> Vec<(ServiceName, Vec<Endpoint>)> {
    let endpoints = |s: &ServiceView| s.endpoints.to_vec();
    catalog.view().services_by_product().map(|s| (s.name.clone(), endpoints(s))).collect()
}

proptest! {
    /// However a catalog came to its rows, it shows what a fresh one with the same rows shows.
    #[test]
    fn a_view_depends_on_the_rows_alone(steps in prop::collection::vec(step(), 0..80)) {
        let guard = GuardSettings { max_drop: 1.0, panic: false, ..GuardSettings::default() };
        let mut played = Played::new(guard);
        steps.into_iter().for_each(|step| played.step(step));
        let (catalog, fresh) = (&played.scene.catalog, played.fresh());
        prop_assert_eq!(shown(catalog), shown(&fresh));
        let nodes = |c: &Catalog| c.view().nodes().cloned().collect::<Vec<_>>();
        prop_assert_eq!(nodes(catalog), nodes(&fresh));
        let zones = |c: &Catalog| c.view().zones().cloned().collect::<Vec<_>>();
        prop_assert_eq!(zones(catalog), zones(&fresh));
    }

    /// Whatever guard and panic mode held, nothing of it stays when it does not answer.
    #[test]
    fn what_is_held_ends(
        steps in prop::collection::vec((step(), any::<bool>(), 0..12u64), 0..80),
    ) {
        let mut played = Played::new(GuardSettings { min_instances: 1, ..GuardSettings::default() });
        for (step, answered, seconds) in steps {
            played.step(step);
            played.scene.probe_all(answered);
            played.scene.pass(Duration::from_secs(seconds));
        }
        while !played.scene.probes.is_empty() {
            played.scene.probe_all(false);
        }
        played.scene.pass(GuardSettings::default().hold);
        while !played.scene.probes.is_empty() {
            played.scene.probe_all(false);
        }
        prop_assert_eq!(shown(&played.scene.catalog), shown(&played.fresh()));
        prop_assert!(played.scene.catalog.ghosts.is_empty());
    }
}
