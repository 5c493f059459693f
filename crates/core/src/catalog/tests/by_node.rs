//! The index by node says what a walk over the whole view says.

use super::*;

/// What may happen to the catalog of [`Played`].
#[derive(Debug, Clone)]
enum Event {
    Step(Step),
    Forget(u8),
    Deregister(u8, usize),
    Moved(u8, usize, bool),
    ProbesEnd(bool),
    Pass(u64),
    Release,
}

fn event() -> impl Strategy<Value = Event> {
    let on = 1..=3u8;
    prop_oneof![
        10 => step().prop_map(Event::Step),
        1 => on.clone().prop_map(Event::Forget),
        2 => (on.clone(), 0..6usize).prop_map(|(on, n)| Event::Deregister(on, n)),
        2 => (on, 0..6usize, any::<bool>()).prop_map(|(on, n, web)| Event::Moved(on, n, web)),
        1 => any::<bool>().prop_map(Event::ProbesEnd),
        1 => (0..40u64).prop_map(Event::Pass),
        1 => Just(Event::Release),
    ]
}

fn node_id(on: u8) -> NodeId {
    NodeId::from_bytes([on; 16])
}

impl Played {
    fn event(&mut self, event: Event) {
        let (now, wall) = (self.scene.now, Timestamp::default());
        match event {
            Event::Step(step) => self.step(step),
            Event::Forget(on) => {
                self.scene.catalog.forget(now, wall, node_id(on));
                self.rows.retain(|(id, _), _| *id != node_id(on));
            }
            Event::Deregister(on, n) => self.put(on, gone(n, Departure::Deregistered).to_vec()),
            Event::Moved(on, n, web) => {
                let service = if web { "web" } else { "db" };
                self.put(on, vec![instance_row(n, service, Mode::Active)]);
            }
            Event::ProbesEnd(answered) => self.scene.probe_all(answered),
            Event::Pass(seconds) => self.scene.pass(Duration::from_secs(seconds)),
            Event::Release => {
                self.scene.catalog.release(now, wall, &name("web"));
            }
        }
        self.scene.drain();
    }

    fn put(&mut self, on: u8, changes: Vec<RowChange>) {
        let now = self.scene.now;
        self.scene.catalog.handle_rows(now, Timestamp::default(), node_id(on), &changes);
        self.rows.extend(changes.into_iter().map(|c| ((node_id(on), c.key), c.state)));
    }

    /// The services of the instances that the rows of a node have, by instance.
    fn registered(&self, node: NodeId) -> BTreeMap<InstanceId, ServiceName> {
        let rows = self.rows.iter().filter(|((on, _), _)| *on == node);
        rows.filter_map(|(_, state)| match state {
            RowState::Present(Row::Instance(instance)) => {
                Some((instance.id.clone(), instance.service.clone()))
            }
            RowState::Present(_) | RowState::Gone(_) => None,
        })
        .collect()
    }
}

fn walk(view: &CatalogView) -> impl Iterator<Item = &Endpoint> {
    view.services_by_product().flat_map(|service| service.endpoints.iter())
}

fn counts(view: &CatalogView, of: impl Fn(&CatalogView, NodeId) -> usize) -> [usize; 3] {
    [1, 2, 3].map(|on| of(view, node_id(on)))
}

fn counted(view: &CatalogView) -> [usize; 3] {
    counts(view, |view, node| walk(view).filter(|e| e.node_id == node).count())
}

fn indexed(view: &CatalogView) -> [usize; 3] {
    counts(view, CatalogView::endpoint_count)
}

proptest! {
    #[test]
    fn it_says_what_a_walk_says_after_any_events(
        guards in any::<bool>(),
        own_at in 0..20usize,
        events in prop::collection::vec(event(), 0..80),
    ) {
        let (min_instances, max_drop) = if guards { (1, 0.5) } else { (3, 1.0) };
        let settings = GuardSettings { min_instances, max_drop, ..GuardSettings::default() };
        let mut played = Played::new(settings);
        let mut before = Vec::new();
        for (at, event) in events.into_iter().enumerate() {
            if at == own_at {
                played.scene.catalog.set_own_node(NODE);
            }
            played.event(event);
            let view = played.scene.catalog.view().clone();
            prop_assert_eq!(indexed(&view), counted(&view));
            if at >= own_at {
                let registered = played.registered(NODE);
                let expected: BTreeMap<_, _> = walk(&view)
                    .filter(|e| registered.get(&e.instance.id) == Some(&e.instance.service))
                    .filter(|e| e.node_id == NODE)
                    .map(|e| (e.instance.id.clone(), e))
                    .collect();
                let own: Vec<_> = view.own_endpoints().collect();
                prop_assert_eq!(&own, &expected.values().copied().collect::<Vec<_>>());
                for n in 0..6 {
                    prop_assert_eq!(view.own_endpoint(&id(n)), expected.get(&id(n)).copied());
                }
            }
            before.push((counted(&view), view));
        }
        for (counts, view) in before {
            prop_assert_eq!(indexed(&view), counts, "older views do not change");
        }
    }
}

#[test]
fn a_ghost_counts_on_its_node_and_is_not_registered() {
    let mut scene = Scene::new(4);
    scene.catalog.set_own_node(NODE);
    let rows: Vec<RowChange> = (0..4).flat_map(|n| gone(n, Departure::Dropped)).collect();
    scene.rows(&rows);
    assert!(scene.is_guarded());
    assert_eq!(scene.catalog.view().endpoint_count(NODE), 4);
    assert_eq!(scene.catalog.view().own_endpoints().count(), 0);
    scene.rows(&[instance_row(2, "db", Mode::Active)]);
    let view = scene.catalog.view();
    assert_eq!(view.endpoint_count(NODE), 5);
    let own: Vec<_> = view.own_endpoints().map(|e| e.instance.service.clone()).collect();
    assert_eq!(own, [name("db")], "the ghost in web is another endpoint");
}

#[test]
fn a_change_that_moves_no_endpoint_shares_the_index() {
    let mut scene = Scene::new(3);
    scene.catalog.set_own_node(NODE);
    let before = scene.catalog.view().clone();
    scene.fail([0]);
    assert!(scene.catalog.view().index() > before.index());
    assert!(before.shares_index_by_node(scene.catalog.view()));
    scene.rows(&[instance_row(3, "web", Mode::Active)]);
    assert!(!before.shares_index_by_node(scene.catalog.view()));
}

#[test]
fn a_view_that_is_built_by_hand_has_the_index_too() {
    let mut scene = Scene::new(3);
    scene.catalog.set_own_node(NODE);
    scene.rows(&[instance_row(9, "db", Mode::Active)]);
    let built = scene.catalog.view();
    let mut view = CatalogView::empty(built.topology().clone(), 0);
    built.nodes().for_each(|node| view.put_node((**node).clone()));
    let put = |view: &mut CatalogView, service: &ServiceView| {
        view.put_service(service.name.clone(), None, service.endpoints.to_vec());
    };
    put(&mut view, built.service(&name("web")).unwrap());
    view.set_own_node(NODE);
    put(&mut view, built.service(&name("db")).unwrap());
    let own = |view: &CatalogView| view.own_endpoints().cloned().collect::<Vec<_>>();
    assert_eq!(own(&view), own(built));
    assert_eq!(view.endpoint_count(NODE), 4);
    view.remove_service(&name("web"));
    assert_eq!((own(&view).len(), view.endpoint_count(NODE)), (1, 1));
    put(&mut view, built.service(&name("db")).unwrap());
    assert_eq!((own(&view).len(), view.endpoint_count(NODE)), (1, 1));
}
