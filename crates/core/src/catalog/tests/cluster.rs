//! What the catalog makes of many nodes: statuses, names, distances.

use super::*;
use crate::catalog::Scope;

fn node_id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

fn node_name(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

fn zone(text: &str) -> ZoneName {
    ZoneName::parse(text).unwrap()
}

fn row_of(name: &str, zone_name: &str, phase: NodePhase) -> RowChange {
    let row = NodeRow {
        name: node_name(name),
        zone: zone(zone_name),
        address: IpAddr::from([127, 0, 0, 1]),
        serves_dns: true,
        meta: BTreeMap::new(),
        phase,
    };
    RowChange { key: RowKey::Node, state: RowState::Present(Row::Node(row.into())) }
}

/// A catalog in zone z1 with nodes 1 to 6, two in each of z1, z2 and z3; each runs `web`, with a check.
struct Cluster {
    scene: Scene,
}

impl Cluster {
    fn new() -> Self {
        let own_zone = zone("z1");
        let topology = Topology { own_zone, nearest_zones: vec![zone("z2"), zone("z3")] };
        let catalog = Catalog::new(topology, GuardSettings::default(), 0);
        let scene = Scene { catalog, now: start(), probes: vec![], told: vec![] };
        let mut cluster = Self { scene };
        let all: Vec<_> = (1..=6).map(|n| (node_id(n), Self::rows(n))).collect();
        cluster.scene.catalog.handle_all(cluster.scene.now, Timestamp::default(), &all);
        cluster.scene.drain();
        cluster
    }

    fn rows(n: u8) -> Vec<RowChange> {
        vec![
            Self::node(n, NodePhase::Active),
            instance_row(n.into(), "web", Mode::Active),
            check_row(n.into(), CheckStatus::Passing, true),
        ]
    }

    fn node(n: u8, phase: NodePhase) -> RowChange {
        row_of(&format!("n{n}"), &format!("z{}", n.div_ceil(2)), phase)
    }

    fn take(&mut self, n: u8, rows: &[RowChange]) {
        let Scene { catalog, now, .. } = &mut self.scene;
        catalog.handle_rows(*now, Timestamp::default(), node_id(n), rows);
        self.scene.drain();
    }

    fn statuses(&mut self, nodes: impl IntoIterator<Item = u8>, status: NodeStatus) {
        let statuses: Vec<_> = nodes.into_iter().map(|n| (node_id(n), status)).collect();
        let Scene { catalog, now, .. } = &mut self.scene;
        catalog.handle_statuses(*now, Timestamp::default(), &statuses);
        self.scene.drain();
    }

    fn forget(&mut self, n: u8) {
        let Scene { catalog, now, .. } = &mut self.scene;
        catalog.forget(*now, Timestamp::default(), node_id(n));
        self.scene.drain();
    }

    fn view(&self) -> &CatalogView {
        self.scene.catalog.view()
    }

    fn web(&self, scope: Scope<'_>) -> Vec<String> {
        let web = self.view().service(&name("web"));
        web.into_iter()
            .flat_map(|web| web.answered(scope).map(|e| e.instance.id.to_string()))
            .collect()
    }

    fn health(&self, n: usize) -> Option<Health> {
        let web = self.view().service(&name("web"))?;
        web.endpoints.iter().find(|e| e.instance.id == id(n)).map(|e| e.health)
    }

    /// Which node a name stands for, and its status.
    fn holder(&self, name: &str) -> Option<(NodeId, NodeStatus)> {
        self.view().node(&node_name(name)).map(|node| (node.id, node.status))
    }

    fn told_of(&mut self, name: &str) -> Vec<(Option<NodeStatus>, NodeStatus)> {
        let mut changes = Vec::new();
        for output in std::mem::take(&mut self.scene.told) {
            if let CatalogOutput::NodeChanged { node, from, to, .. } = output
                && node.as_str() == name
            {
                changes.push((from, to));
            }
        }
        changes
    }
}

#[test]
fn a_nodes_changes_are_told_once_each() {
    use NodeStatus::{Alive, Down, Left, Suspect};
    let mut cluster = Cluster::new();
    assert_eq!(cluster.told_of("n1"), [(None, Alive)]);
    for status in [Suspect, Suspect, Down, Down] {
        cluster.statuses([1], status);
    }
    assert_eq!(cluster.told_of("n1"), [(Some(Alive), Suspect), (Some(Suspect), Down)]);
    cluster.take(1, &[Cluster::node(1, NodePhase::Left)]);
    cluster.statuses([1], Alive);
    assert_eq!(cluster.told_of("n1"), [(Some(Down), Left)]);
    cluster.take(1, &[Cluster::node(1, NodePhase::Active)]);
    assert_eq!(cluster.told_of("n1"), [(Some(Left), Alive)]);
    cluster.take(1, &[Cluster::node(1, NodePhase::Draining)]);
    let draining = |is_draining| {
        let (node, id) = (node_name("n1"), node_id(1));
        CatalogOutput::NodeDraining { node, id, is_draining }
    };
    assert!(cluster.scene.told.contains(&draining(true)));
    cluster.take(1, &[Cluster::node(1, NodePhase::Active)]);
    assert!(cluster.scene.told.contains(&draining(false)));
}

#[test]
fn a_status_may_come_before_the_rows() {
    let mut cluster = Cluster::new();
    cluster.statuses([7], NodeStatus::Down);
    let rows = [row_of("n7", "z1", NodePhase::Active), instance_row(7, "web", Mode::Active)];
    cluster.take(7, &rows);
    assert_eq!(cluster.health(7), Some(Health::Unreachable));
    assert_eq!(cluster.holder("n7"), Some((node_id(7), NodeStatus::Down)));
}

#[test]
fn what_membership_does_not_know_yet_counts_as_alive() {
    let cluster = Cluster::new();
    assert_eq!(cluster.holder("n3"), Some((node_id(3), NodeStatus::Alive)));
    assert_eq!(cluster.health(3), Some(Health::Passing));
}

#[test]
fn a_suspect_node_stays_in_answers_and_moves_no_layout() {
    let mut cluster = Cluster::new();
    let layout = cluster.view().layout_index();
    cluster.statuses([1], NodeStatus::Suspect);
    assert_eq!(cluster.web(Scope::Nearest), ["i1", "i2"]);
    assert_eq!(cluster.view().layout_index(), layout);
    cluster.statuses([1], NodeStatus::Down);
    assert_eq!(cluster.web(Scope::Nearest), ["i2"]);
    assert!(cluster.view().layout_index() > layout);
}

#[test]
fn nodes_that_go_down_together_are_one_drop() {
    let mut cluster = Cluster::new();
    cluster.statuses(2..=5, NodeStatus::Down);
    assert_eq!(cluster.scene.probes.len(), 4);
    assert!(cluster.scene.told.contains(&CatalogOutput::Guarded { service: name("web"), held: 4 }));
    assert_eq!(cluster.web(Scope::Any).len(), 6);
    cluster.scene.probe_all(false);
    assert_eq!(cluster.web(Scope::Any), ["i1", "i6"]);
    assert_eq!(cluster.health(2), Some(Health::Unreachable));
}

#[test]
fn nodes_that_leave_or_drain_together_are_no_drop() {
    for phase in [NodePhase::Left, NodePhase::Draining] {
        let mut cluster = Cluster::new();
        let all: Vec<_> = (1..=5).map(|n| (node_id(n), vec![Cluster::node(n, phase)])).collect();
        cluster.scene.catalog.handle_all(cluster.scene.now, Timestamp::default(), &all);
        cluster.scene.drain();
        assert!(cluster.scene.probes.is_empty() && !cluster.scene.is_guarded());
        assert_eq!(cluster.web(Scope::Any), ["i6"]);
        let expected = (phase == NodePhase::Draining).then_some(Health::Draining);
        assert_eq!(cluster.health(1), expected);
        cluster.take(1, &[Cluster::node(1, NodePhase::Active)]);
        assert_eq!(cluster.web(Scope::Any), ["i1", "i6"]);
    }
}

#[test]
fn a_node_that_leaves_takes_along_what_was_held_on_it() {
    let mut cluster = Cluster::new();
    let gone: Vec<_> =
        (1..=5).map(|n| (node_id(n), gone(n.into(), Departure::Dropped).to_vec())).collect();
    cluster.scene.catalog.handle_all(cluster.scene.now, Timestamp::default(), &gone);
    cluster.scene.drain();
    assert_eq!(cluster.web(Scope::Any).len(), 6, "held, though nobody registers them");
    cluster.take(1, &[Cluster::node(1, NodePhase::Left)]);
    assert!(!cluster.web(Scope::Any).contains(&"i1".to_owned()));
    cluster.forget(2);
    assert_eq!(cluster.web(Scope::Any), ["i3", "i4", "i5", "i6"]);
    assert!(cluster.scene.is_guarded());
}

#[test]
fn what_was_let_go_is_not_told_a_second_time() {
    let mut cluster = Cluster::new();
    cluster.statuses(1..=6, NodeStatus::Down);
    for n in 1..=6 {
        cluster.take(n, &gone(n.into(), Departure::Dropped));
    }
    cluster.scene.told.clear();
    cluster.scene.probe_all(false);
    assert!(cluster.view().service(&name("web")).is_none());
    let told = &cluster.scene.told;
    assert!(!told.iter().any(|t| matches!(t, CatalogOutput::HealthChanged { .. })), "{told:?}");
}

#[test]
fn a_forgotten_node_vanishes_without_guard() {
    let mut cluster = Cluster::new();
    for n in 1..=5 {
        cluster.forget(n);
    }
    assert!(cluster.scene.probes.is_empty());
    assert_eq!(cluster.web(Scope::Any), ["i6"]);
    assert_eq!(cluster.holder("n1"), None);
    assert!(!cluster.view().is_zone(&zone("z2")));
    assert_eq!(cluster.scene.catalog.next_deadline(), None);
}

#[test]
fn the_live_one_of_two_nodes_has_the_name() {
    let mut cluster = Cluster::new();
    let (old, new) = (node_id(1), node_id(9));
    let rows = [row_of("n1", "z1", NodePhase::Active), instance_row(9, "web", Mode::Active)];
    cluster.take(9, &rows);
    let conflict = CatalogOutput::NameConflict { name: node_name("n1"), ids: vec![old, new] };
    let conflicts =
        |cluster: &Cluster| cluster.scene.told.iter().filter(|told| **told == conflict).count();
    assert_eq!(conflicts(&cluster), 1);
    assert_eq!(cluster.holder("n1"), Some((old, NodeStatus::Alive)));
    assert_eq!(cluster.web(Scope::Nearest), ["i1", "i9", "i2"], "what runs on either is there");
    cluster.statuses([1], NodeStatus::Suspect);
    assert_eq!(conflicts(&cluster), 1, "told once");
    cluster.statuses([1], NodeStatus::Down);
    assert_eq!(cluster.holder("n1"), Some((new, NodeStatus::Alive)));
    cluster.forget(1);
    assert_eq!(cluster.holder("n1"), Some((new, NodeStatus::Alive)));
    assert_eq!(cluster.web(Scope::Nearest), ["i9", "i2"]);
    cluster.forget(9);
    assert_eq!(cluster.holder("n1"), None);
}

#[test]
fn when_the_holder_of_a_name_goes_the_other_takes_its_place() {
    let mut cluster = Cluster::new();
    cluster.take(9, &[row_of("n1", "z1", NodePhase::Active)]);
    cluster.take(1, &[row_of("other", "z1", NodePhase::Active)]);
    assert_eq!(cluster.holder("n1"), Some((node_id(9), NodeStatus::Alive)));
    assert_eq!(cluster.holder("other"), Some((node_id(1), NodeStatus::Alive)));
}

#[test]
fn distances_that_change_move_only_the_services_whose_order_they_change() {
    let mut cluster = Cluster::new();
    cluster.take(1, &[instance_row(50, "db", Mode::Active)]);
    cluster.statuses([1, 2], NodeStatus::Down);
    assert_eq!(cluster.web(Scope::Nearest), ["i3", "i4"]);
    let before = cluster.view().clone();
    cluster.scene.told.clear();
    cluster.scene.catalog.set_nearest_zones(vec![zone("z2"), zone("z3")]);
    cluster.scene.drain();
    assert!(cluster.scene.told.is_empty());
    assert_eq!(cluster.view().index(), before.index());
    cluster.scene.catalog.set_nearest_zones(vec![zone("z3"), zone("z2")]);
    cluster.scene.drain();
    assert_eq!(cluster.web(Scope::Nearest), ["i5", "i6"]);
    assert_eq!(cluster.scene.told, [CatalogOutput::Publish { services: vec![name("web")] }]);
    assert!(cluster.view().layout_index() > before.layout_index());
    let db = |view: &CatalogView| Arc::clone(view.service(&name("db")).unwrap());
    assert!(Arc::ptr_eq(&db(&before), &db(cluster.view())));
}

#[test]
fn what_the_guard_holds_here_is_preferred_to_what_is_healthy_elsewhere() {
    let mut cluster = Cluster::new();
    cluster.statuses([1, 2, 3, 4], NodeStatus::Down);
    assert!(cluster.scene.is_guarded());
    assert_eq!(cluster.web(Scope::Nearest), ["i1", "i2"]);
    cluster.scene.probe_all(false);
    assert_eq!(cluster.web(Scope::Nearest), ["i5", "i6"]);
}

#[test]
fn panic_mode_here_ends_when_something_is_healthy_elsewhere() {
    let mut cluster = Cluster::new();
    let off = GuardSettings { max_drop: 1.0, ..GuardSettings::default() };
    cluster.scene.catalog.set_guard(off);
    for n in 1..=6 {
        cluster.take(n, &[check_row(n.into(), CheckStatus::Critical, true)]);
    }
    cluster.scene.probe_all(true);
    assert_eq!(cluster.web(Scope::Nearest), ["i1", "i2"]);
    cluster.take(5, &[check_row(5, CheckStatus::Passing, true)]);
    assert_eq!(cluster.web(Scope::Nearest), ["i5"]);
    assert_eq!(cluster.web(Scope::Any), ["i5"]);
}

#[test]
fn rows_of_several_nodes_are_published_once() {
    let cluster = Cluster::new();
    let published = |told: &&CatalogOutput| matches!(told, CatalogOutput::Publish { .. });
    assert_eq!(cluster.scene.told.iter().filter(published).count(), 1);
    assert_eq!(cluster.web(Scope::Nearest), ["i1", "i2"]);
    assert_eq!(cluster.web(Scope::Zone(&zone("z3"))), ["i5", "i6"]);
}
