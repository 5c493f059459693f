//! Several agents in one process, each on a runtime of its own.
//!
//! By a runtime of its own, the log lines of an agent can be told apart by their span, and whatever the agent had under
//! way ends with the runtime when it is killed. The agents join each other through those that run already. Each later
//! agent names all earlier ones, so that any two can find each other even if others were killed meanwhile.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;

use anyhow::{Context as _, Result};
use dunlin_agent::net::fence::Fence;
use dunlin_agent::{Identity, Inherited, Node, NodeSettings};
use dunlin_api::Event;
use dunlin_core::config::{ClusterTls, Config};
use dunlin_core::model::{NodeName, ZoneName};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tracing::{Span, error_span, warn};

use super::seat::Seat;
use crate::output::Printer;

/// Threads of each agent, besides those of DNS and store.
const THREADS: usize = 2;

/// All agents, running or not.
#[derive(Debug)]
pub(super) struct Fleet {
    members: Vec<Member>,
    fence: Arc<Fence>,
    out: Printer,
}

#[derive(Debug)]
struct Member {
    seat: Seat,
    settings: NodeSettings,
    state: State,
}

#[derive(Debug)]
enum State {
    Running(Box<Running>),
    Killed,
    Stopped,
}

#[derive(Debug)]
struct Running {
    node: Node,
    runtime: OwnRuntime,
}

impl Fleet {
    /// As many agents as there are certificates; none is started yet.
    pub(super) fn new(config: &Config, folder: &Path, tls: Vec<ClusterTls>, out: Printer) -> Self {
        let fence = Arc::new(Fence::new());
        let count = u8::try_from(tls.len()).unwrap_or(Seat::MAX_AGENTS);
        let member = |(seat, tls): (Seat, ClusterTls)| {
            let data_dir = folder.join(seat.name());
            let mut config = settled(config, seat, data_dir.clone());
            config.cluster.tls = Some(tls);
            let settings = NodeSettings {
                config,
                name: NodeName::parse(&seat.name()).expect("a letter and a digit are a label"),
                address: seat.ip(),
                data_dir,
                fence: Some(Arc::clone(&fence)),
                start_anew: None,
            };
            Member { seat, settings, state: State::Stopped }
        };
        let members = Seat::all(count).zip(tls).map(member).collect();
        Self { members, fence, out }
    }

    /// The number of agents, running or not.
    pub(super) fn count(&self) -> u8 {
        u8::try_from(self.members.len()).unwrap_or(Seat::MAX_AGENTS)
    }

    /// The running agents, and where they listen.
    pub(super) fn running(&self) -> impl Iterator<Item = (Seat, &Identity)> {
        self.members.iter().filter_map(|member| match &member.state {
            State::Running(running) => Some((member.seat, &running.node.shared().identity)),
            State::Killed | State::Stopped => None,
        })
    }

    /// `running`, `killed` or `stopped`.
    pub(super) fn state(&self, seat: Seat) -> &'static str {
        match self.members[seat.index()].state {
            State::Running(_) => "running",
            State::Killed => "killed",
            State::Stopped => "stopped",
        }
    }

    /// The agents in a state, which is named by its word.
    pub(super) fn all_in(&self, state: &str) -> Vec<Seat> {
        let seats = self.members.iter().map(|member| member.seat);
        seats.filter(|seat| self.state(*seat) == state).collect()
    }

    /// The fence that keeps the agents apart.
    pub(super) fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Starts an agent and returns when it is ready. One that runs goes on.
    pub(super) async fn start(&mut self, seat: Seat) -> Result<()> {
        if self.state(seat) == "running" {
            return Ok(());
        }
        let others = self.all_in("running").into_iter();
        let join = others.map(|s| self.members[s.index()].cluster_address()).collect();
        let member = &mut self.members[seat.index()];
        let mut settings = member.settings.clone();
        settings.config.cluster.join = join;
        std::fs::create_dir_all(&settings.config.providers.dir)
            .with_context(|| format!("{}", settings.config.providers.dir.display()))?;
        let runtime = OwnRuntime::new(seat)?;
        let starting = runtime.spawn(Node::start(settings, Inherited::default()));
        let node = starting.await.context("a bug ended its start")??;
        drop(runtime.spawn(report(node.shared().events.follow(0), seat, self.out)));
        member.state = State::Running(Box::new(Running { node, runtime }));
        Ok(())
    }

    /// Ends an agent as a crash would. Returns whether it ran.
    pub(super) async fn kill(&mut self, seat: Seat) -> bool {
        let Some(running) = self.take(seat, State::Killed) else { return false };
        let Running { node, runtime } = *running;
        ended(seat, runtime.spawn(node.kill())).await;
        true
    }

    /// Ends an agent in good order. Returns whether it ran.
    pub(super) async fn stop(&mut self, seat: Seat) -> bool {
        let Some(running) = self.take(seat, State::Stopped) else { return false };
        let Running { node, runtime } = *running;
        ended(seat, runtime.spawn(node.stop())).await;
        true
    }

    /// Ends all agents in good order, at the same time.
    pub(super) async fn stop_all(mut self) {
        let mut stopping = Vec::new();
        for seat in self.all_in("running") {
            if let Some(running) = self.take(seat, State::Stopped) {
                let Running { node, runtime } = *running;
                stopping.push((seat, runtime.spawn(node.stop()), runtime));
            }
        }
        for (seat, task, _runtime) in stopping {
            ended(seat, task).await;
        }
    }

    /// Takes from a new configuration what can change while agents run.
    pub(super) async fn reload(&mut self, config: &Config) {
        for member in &mut self.members {
            let old = &member.settings;
            let mut config = settled(config, member.seat, old.data_dir.clone());
            config.cluster.tls.clone_from(&old.config.cluster.tls);
            member.settings.config = config.clone();
            if let State::Running(running) = &mut member.state {
                running.node.reload(config).await;
            }
        }
    }

    /// Waits until the driver of a running agent has ended, which it does by itself only by a bug.
    pub(super) async fn failed(&self) -> Seat {
        let mut waits = Vec::new();
        for member in &self.members {
            if let State::Running(running) = &member.state {
                waits.push((member.seat, Box::pin(running.node.failed())));
            }
        }
        poll_fn(|context| {
            for (seat, wait) in &mut waits {
                if wait.as_mut().poll(context).is_ready() {
                    return Poll::Ready(*seat);
                }
            }
            Poll::Pending
        })
        .await
    }

    fn take(&mut self, seat: Seat, state: State) -> Option<Box<Running>> {
        let member = &mut self.members[seat.index()];
        if !matches!(member.state, State::Running(_)) {
            return None;
        }
        match std::mem::replace(&mut member.state, state) {
            State::Running(running) => Some(running),
            State::Killed | State::Stopped => None,
        }
    }
}

impl Member {
    fn cluster_address(&self) -> String {
        self.settings.config.cluster.listen.to_string()
    }
}

/// The configuration of one of the agents: everything on its own address, everything in its own folder.
fn settled(config: &Config, seat: Seat, data_dir: PathBuf) -> Config {
    let mut config = config.clone();
    for listen in [&mut config.api.listen, &mut config.dns.listen, &mut config.cluster.listen] {
        listen.set_ip(seat.ip());
    }
    config.cluster.advertise = None;
    // Nobody measures them here, and all share the processors.
    config.dns.workers.get_or_insert(1);
    config.node.name = NodeName::parse(&seat.name()).ok();
    config.node.zone = ZoneName::parse(&seat.zone()).expect("a letter and a digit are a label");
    config.node.address = Some(seat.ip());
    config.providers.dir = data_dir.join("services.d");
    config.node.data_dir = Some(data_dir);
    config
}

async fn ended(seat: Seat, task: JoinHandle<()>) {
    if let Err(error) = task.await {
        warn!(%error, node = seat.name(), "the agent ended by a panic");
    }
}

type Events = (Vec<Arc<Event>>, tokio::sync::broadcast::Receiver<Arc<Event>>);

/// Tells what an agent learns of the others, until it ends.
async fn report((past, mut news): Events, seat: Seat, out: Printer) {
    use tokio::sync::broadcast::error::RecvError::{Closed, Lagged};
    let tell = |event: &Event| {
        if let Some(words) = words(event, seat) {
            out.line(words);
        }
    };
    past.iter().for_each(|event| tell(event));
    loop {
        match news.recv().await {
            Ok(event) => tell(&event),
            Err(Lagged(_)) => {}
            Err(Closed) => return,
        }
    }
}

/// What an event says of another node, if it does.
fn words(event: &Event, seen_by: Seat) -> Option<String> {
    let happened = match event.kind.as_str() {
        "NodeDown" => "is down",
        "NodeLeft" => "has left",
        "NodeReturned" => "is back",
        "NodeJoined" => "has joined",
        _ => return None,
    };
    let (node, own) = (&event.node, seen_by.name());
    (*node != own).then(|| format!("node {node} {happened} (seen by {own})"))
}

/// A runtime whose threads all stand in a span with the agent's name.
#[derive(Debug)]
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new(seat: Seat) -> Result<Self> {
        // The span has the highest level, so that a filter that passes a line does not leave out the name of its agent.
        let span = error_span!("agent", node = seat.name());
        let (entered, left) = (span.clone(), span);
        let enter = |span: &Span| {
            span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
        };
        let leave = |span: &Span| {
            span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name(seat.name())
            .on_thread_start(move || enter(&entered))
            .on_thread_stop(move || leave(&left))
            .enable_all()
            .build()
            .context("no threads can be started")?;
        Ok(Self(Some(runtime)))
    }

    fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.as_ref().expect("it is taken only when dropped").spawn(future)
    }
}

impl Drop for OwnRuntime {
    /// The runtime is ended without waiting, which is not allowed within another runtime.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    fn event(kind: &str, node: &str) -> Event {
        Event {
            id: 1,
            time: String::new(),
            kind: kind.to_owned(),
            node: node.to_owned(),
            service: None,
            instance: None,
            provider: None,
            reason: String::new(),
        }
    }

    #[test]
    fn each_agent_has_its_own_address_zone_and_folder_and_the_same_ports() {
        let text = "[node]\nname = \"x\"\nzone = \"eu1\"\n[api]\nlisten = \"0.0.0.0:6380\"\ninsecure = true";
        let config = Config::parse(text, "f").unwrap();
        let tls = vec![ClusterTls::default(); 3];
        let fleet = Fleet::new(&config, Path::new("/d"), tls, Printer::new(Format::Table));
        let member = &fleet.members[1];
        let (config, settings) = (&member.settings.config, &member.settings);
        assert_eq!(config.api.listen.to_string(), "127.0.0.2:6380");
        assert_eq!(config.dns.listen.to_string(), "127.0.0.2:5300");
        assert_eq!(member.cluster_address(), "127.0.0.2:5370");
        assert_eq!((settings.name.as_str(), config.node.zone.as_str()), ("n2", "z2"));
        assert_eq!(settings.data_dir, Path::new("/d/n2"));
        assert_eq!(config.providers.dir, Path::new("/d/n2/services.d"));
        assert!(config.cluster.tls.is_some() && settings.fence.is_some());
        assert_eq!(fleet.all_in("stopped").len(), 3);
    }

    #[test]
    fn news_of_others_are_told_with_who_saw_them() {
        let seat = Seat::find("n1", 3).unwrap();
        assert_eq!(words(&event("NodeDown", "n2"), seat).unwrap(), "node n2 is down (seen by n1)");
        assert_eq!(words(&event("NodeJoined", "n1"), seat), None);
        assert_eq!(words(&event("HealthChanged", "n2"), seat), None);
    }
}
