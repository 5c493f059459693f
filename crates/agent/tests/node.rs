//! A whole agent in this process: real sockets, a real disk, real checks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dunlin_agent::providers::translate;
use dunlin_agent::{Inherited, Node, NodeError, NodeSettings, last_known};
use dunlin_api as api;
use dunlin_core::catalog::{CatalogView, Interest, Scope};
use dunlin_core::config::Config;
use dunlin_core::host::{Answer, Request, RequestError};
use dunlin_core::model::{
    CheckId, CheckStatus, InstanceId, Mode, NodeName, NodePhase, ProviderId, ProviderKind,
    Registration, ServiceName,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn settings(dir: &Path) -> NodeSettings {
    let mut config = Config::default();
    config.api.listen = SocketAddr::new(LOCALHOST, 0);
    config.dns.listen = SocketAddr::new(LOCALHOST, 0);
    config.providers.dir = dir.join("services.d");
    std::fs::create_dir_all(&config.providers.dir).unwrap();
    let name = NodeName::parse("a").unwrap();
    NodeSettings {
        config,
        name,
        address: LOCALHOST,
        data_dir: dir.join("data"),
        fence: None,
        start_anew: None,
    }
}

async fn start(dir: &Path) -> Node {
    Node::start(settings(dir), Inherited::default()).await.unwrap()
}

fn registration(toml: &str) -> Registration {
    let wire: api::Registration = toml::from_str(toml).unwrap();
    translate::registration(wire, &ProviderId::api(), LOCALHOST).unwrap()
}

async fn register(node: &Node, toml: &str) -> Result<Answer, RequestError> {
    node.handle().ask(Request::Register(Box::new(registration(toml)))).await
}

fn web(id: &str, port: u16, more: &str) -> String {
    format!("id = {id:?}\nservice = \"web\"\nport = {port}\n{more}")
}

const TCP: &str = "[[check]]\nkind = \"tcp\"\ninterval = \"100ms\"\n";

fn service(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

fn answered(view: &CatalogView) -> Vec<String> {
    let web = view.service(&service("web"));
    let ids = web.into_iter().flat_map(|s| s.answered(Scope::Nearest));
    ids.map(|e| e.instance.id.to_string()).collect()
}

/// Waits until the answers for `web` are these.
async fn until_answered(node: &Node, expected: &[&str]) {
    let watcher = node.shared().watchers.watch(Interest::All).unwrap();
    let wait = async {
        while answered(&node.shared().view.load()) != expected {
            watcher.changed().await;
        }
    };
    if timeout(Duration::from_secs(30), wait).await.is_err() {
        panic!("answers are {:?}, not {expected:?}", answered(&node.shared().view.load()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_is_answered_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    assert_eq!(register(&node, &web("web-1", 80, "")).await, Ok(Answer::Created));
    assert_eq!(answered(&node.shared().view.load()), ["web-1"], "shown before it is acknowledged");
    assert_eq!(register(&node, &web("web-1", 81, "")).await, Ok(Answer::Done));
    let index = node.shared().view.load().index();
    node.stop().await;
    assert_eq!(answered(&last_known(&dir.path().join("data")).unwrap().view), ["web-1"]);
    let node = start(dir.path()).await;
    assert_eq!(answered(&node.shared().view.load()), ["web-1"]);
    assert!(node.shared().view.load().index() > index, "an index is never given out twice");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restating_what_is_so_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    register(&node, &web("web-1", 80, "")).await.unwrap();
    let (index, heads) = (node.shared().view.load().index(), node.shared().heads.load_full());
    register(&node, &web("web-1", 80, "")).await.unwrap();
    assert_eq!(node.shared().view.load().index(), index);
    assert_eq!(*node.shared().heads.load_full(), *heads);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_leaves_the_answers_and_returns() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    register(&node, &web("web-1", address.port(), TCP)).await.unwrap();
    until_answered(&node, &["web-1"]).await;
    drop(server);
    until_answered(&node, &[]).await;
    let _server = TcpListener::bind(address).await.unwrap();
    until_answered(&node, &["web-1"]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_start_from_their_stored_status() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    register(&node, &web("web-1", port, TCP)).await.unwrap();
    register(&node, &web("web-2", 9, TCP)).await.unwrap();
    until_answered(&node, &["web-1"]).await;
    node.stop().await;
    let node = start(dir.path()).await;
    assert_eq!(answered(&node.shared().view.load()), ["web-1"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_status_holds_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let ttl = "[[check]]\nkind = \"ttl\"\nttl = \"1h\"\n";
    register(&node, &web("web-1", 9, ttl)).await.unwrap();
    assert!(answered(&node.shared().view.load()).is_empty(), "unproven");
    for (status, expected) in [
        (CheckStatus::Passing, &["web-1"][..]),
        (CheckStatus::Critical, &[]),
        (CheckStatus::Warning, &["web-1"]),
    ] {
        let (instance, check) = (InstanceId::parse("web-1"), CheckId::parse("ttl"));
        let (instance, check) = (instance.unwrap(), check.unwrap());
        let output = "pushed".to_owned();
        let push = Request::PushCheck { instance, check, status, output };
        node.handle().ask(push).await.unwrap();
        assert_eq!(answered(&node.shared().view.load()), expected);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_check_dies_with_its_instance() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let node = start(dir.path()).await;
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 1000", pid.display());
    let check = format!(
        "[[check]]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", {script:?}]\ntimeout = \"5m\"\n"
    );
    register(&node, &web("web-1", 9, &check)).await.unwrap();
    until("the command runs", || pid.exists()).await;
    let process = std::fs::read_to_string(&pid).unwrap();
    let id = InstanceId::parse("web-1").unwrap();
    node.handle().ask(Request::Deregister(id)).await.unwrap();
    let stat = format!("/proc/{}/stat", process.trim());
    let is_dead = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    until("the command is killed", is_dead).await;
    node.stop().await;
}

/// Waits for something that cannot be waited for otherwise.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(Duration::from_secs(30), wait).await.is_ok(), "waited in vain until {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_instance_leaves_the_answers_and_stays_drained() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    register(&node, &web("web-1", 80, "")).await.unwrap();
    let id = || InstanceId::parse("web-1").unwrap();
    node.handle().ask(Request::SetMode(id(), Mode::Draining)).await.unwrap();
    assert!(answered(&node.shared().view.load()).is_empty());
    node.stop().await;
    let node = start(dir.path()).await;
    assert!(answered(&node.shared().view.load()).is_empty(), "a restart changes no answer");
    node.handle().ask(Request::SetMode(id(), Mode::Active)).await.unwrap();
    assert_eq!(answered(&node.shared().view.load()), ["web-1"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_files_come_change_break_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("services.d/web.toml");
    let instance = |id: &str| format!("[[instance]]\n{}", web(id, 80, ""));
    let node = start(dir.path()).await;
    std::fs::write(&file, instance("web-1")).unwrap();
    until_answered(&node, &["web-1"]).await;
    std::fs::write(&file, instance("web-1") + &instance("web-2")).unwrap();
    until_answered(&node, &["web-1", "web-2"]).await;
    std::fs::write(&file, "[[instance]]\nid = ").unwrap();
    let (_, mut news) = node.shared().events.follow(u64::MAX);
    loop {
        let registry = node.shared().registry.load_full();
        if registry.reports().iter().any(|report| report.error.is_some()) {
            break;
        }
        timeout(Duration::from_secs(30), news.recv()).await.unwrap().unwrap();
    }
    assert_eq!(
        answered(&node.shared().view.load()),
        ["web-1", "web-2"],
        "the last good state holds"
    );
    let draft = dir.path().join("services.d/.draft");
    std::fs::write(&draft, instance("web-3")).unwrap();
    std::fs::rename(&draft, &file).unwrap();
    until_answered(&node, &["web-3"]).await;
    std::fs::remove_file(&file).unwrap();
    until_answered(&node, &[]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_went_while_the_agent_was_down_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("services.d/web.toml");
    let node = start(dir.path()).await;
    std::fs::write(&file, format!("[[instance]]\n{}", web("web-1", 80, ""))).unwrap();
    until_answered(&node, &["web-1"]).await;
    node.stop().await;
    std::fs::remove_file(&file).unwrap();
    let node = start(dir.path()).await;
    until_answered(&node, &[]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_with_a_ttl_is_forgotten_when_it_falls_silent() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let provider = ProviderId::new(ProviderKind::Run, "web").unwrap();
    let instances = vec![registration(&web("web-1", 80, ""))];
    let ttl = Some(Duration::from_millis(300));
    let put = Request::PutProvider { provider, instances, ttl };
    node.handle().ask(put).await.unwrap();
    assert_eq!(answered(&node.shared().view.load()), ["web-1"]);
    until_answered(&node, &[]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sharp_drop_is_held_while_the_servers_answer() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let provider = || ProviderId::new(ProviderKind::Http, "deploy").unwrap();
    let put = |instances| Request::PutProvider { provider: provider(), instances, ttl: None };
    let ids = ["web-1", "web-2", "web-3", "web-4"];
    let all = ids.map(|id| registration(&web(id, port, ""))).to_vec();
    node.handle().ask(put(all)).await.unwrap();
    node.handle().ask(put(vec![])).await.unwrap();
    assert_eq!(answered(&node.shared().view.load()), ids);
    node.handle().ask(Request::ReleaseGuard(service("web"))).await.unwrap();
    assert!(answered(&node.shared().view.load()).is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_registrations_at_once_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let node = Arc::new(start(dir.path()).await);
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let node = Arc::clone(&node);
            tokio::spawn(async move { register(&node, &web(&format!("w{n:03}"), 80, "")).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(Answer::Created));
    }
    let node = Arc::into_inner(node).unwrap();
    node.stop().await;
    let node = start(dir.path()).await;
    assert_eq!(answered(&node.shared().view.load()).len(), 200);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_replaced_has_to_prove_itself_anew() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let ttl = web("web-1", 9, "[[check]]\nkind = \"ttl\"\nttl = \"1h\"\n");
    register(&node, &ttl).await.unwrap();
    let id = || InstanceId::parse("web-1").unwrap();
    let (instance, check) = (id(), CheckId::parse("ttl").unwrap());
    let (status, output) = (CheckStatus::Passing, String::new());
    let push = Request::PushCheck { instance, check, status, output };
    node.handle().ask(push).await.unwrap();
    assert_eq!(answered(&node.shared().view.load()), ["web-1"]);
    // The first occupies the disk, so that the others become one batch; with or without, this holds.
    let other = web("web-2", 9, TCP);
    let (first, gone, again) = tokio::join!(
        register(&node, &other),
        node.handle().ask(Request::Deregister(id())),
        register(&node, &ttl),
    );
    assert_eq!((first, gone), (Ok(Answer::Created), Ok(Answer::Done)));
    assert_eq!(again, Ok(Answer::Created));
    assert!(answered(&node.shared().view.load()).is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_broken_first_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("services.d/web.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "[[instance]]\nid = ").unwrap();
    let node = start(dir.path()).await;
    std::fs::write(&file, format!("[[instance]]\n{}", web("web-1", 80, ""))).unwrap();
    until_answered(&node, &["web-1"]).await;
    node.stop().await;
    // While it is broken again, the last good state must come from the disk.
    std::fs::write(&file, "[[instance]]\nid = ").unwrap();
    let node = start(dir.path()).await;
    assert_eq!(answered(&node.shared().view.load()), ["web-1"]);
    node.stop().await;
}

/// Keeps the agent's database from being written while it lives: first a stall, after SQLite's patience of
/// some seconds a refusal.
fn lock_database(dir: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(dir.join("data/catalog.db")).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_stalls_deaths_are_shown_and_reads_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let node = Arc::new(start(dir.path()).await);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    register(&node, &web("web-1", port, TCP)).await.unwrap();
    until_answered(&node, &["web-1"]).await;
    let lock = lock_database(dir.path());
    let stalled = tokio::spawn({
        let node = Arc::clone(&node);
        async move { register(&node, "id = \"db-1\"\nservice = \"db\"\nport = 1\n").await }
    });
    drop(server);
    until_answered(&node, &[]).await;
    let release = node.handle().ask(Request::ReleaseGuard(service("web"))).await;
    assert!(matches!(release, Err(RequestError::NotFound(_))), "{release:?}");
    assert!(!stalled.is_finished(), "nothing is acknowledged that is not on disk");
    drop(lock);
    assert_eq!(stalled.await.unwrap(), Ok(Answer::Created));
    assert!(answered(&node.shared().view.load()).is_empty(), "older news does not come back");
    Arc::into_inner(node).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_refuses_is_put_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    register(&node, &web("web-1", port, TCP)).await.unwrap();
    until_answered(&node, &["web-1"]).await;
    let provider = || ProviderId::new(ProviderKind::Http, "deploy").unwrap();
    let instances = vec![registration("id = \"job-1\"\nservice = \"job\"\nport = 1\n")];
    let put = Request::PutProvider { provider: provider(), instances, ttl: None };
    node.handle().ask(put).await.unwrap();
    let lock = lock_database(dir.path());
    let id = InstanceId::parse("web-1").unwrap();
    let (removed, gone, new) = tokio::join!(
        node.handle().ask(Request::RemoveProvider(provider())),
        node.handle().ask(Request::Deregister(id)),
        register(&node, "id = \"db-1\"\nservice = \"db\"\nport = 1\n"),
    );
    assert!(matches!(removed, Err(RequestError::Storage(_))), "{removed:?}");
    assert!(matches!(gone, Err(RequestError::Storage(_))), "{gone:?}");
    assert!(matches!(new, Err(RequestError::Storage(_))), "{new:?}");
    assert_eq!(answered(&node.shared().view.load()), ["web-1"]);
    assert!(node.shared().view.load().service(&service("db")).is_none());
    assert!(!node.shared().problems.list().is_empty());
    drop(lock);
    // Its checks go on as if nobody had tried to take it away.
    drop(server);
    until_answered(&node, &[]).await;
    register(&node, "id = \"db-1\"\nservice = \"db\"\nport = 1\n").await.unwrap();
    assert!(node.shared().problems.list().is_empty());
    let reports = node.shared().registry.load().reports();
    assert!(
        reports.iter().any(|report| report.provider == provider()),
        "a refused removal is not made up for"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_lets_go_of_everything_and_says_no_goodbye() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    let node = Node::start(settings.clone(), Inherited::default()).await.unwrap();
    settings.config.api.listen = node.shared().identity.api;
    settings.config.dns.listen = node.shared().identity.dns.unwrap();
    register(&node, &web("web-1", 80, "")).await.unwrap();
    // As `dunlin run` states it: a graceful stop would show it as draining.
    let provider = ProviderId::new(ProviderKind::Run, "job").unwrap();
    let instances = vec![registration("id = \"job-1\"\nservice = \"job\"\nport = 1\n")];
    let put = Request::PutProvider { provider, instances, ttl: None };
    node.handle().ask(put).await.unwrap();
    let mut open = tokio::net::TcpStream::connect(node.shared().identity.api).await.unwrap();
    open.write_all(b"GET /api/watch HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(open.read(&mut [0; 64]).await.unwrap() > 0, "the watch has begun");
    let shared = Arc::clone(node.shared());
    node.kill().await;
    assert!(!shared.is_ready());
    let job = shared.view.load().service(&service("job")).cloned().unwrap();
    assert_eq!(job.answered(Scope::Nearest).count(), 1);
    let rest = timeout(Duration::from_secs(30), open.read_to_end(&mut Vec::new())).await;
    assert!(rest.is_ok(), "the watch has ended");
    let node = Node::start(settings, Inherited::default()).await.unwrap();
    assert_eq!(answered(&node.shared().view.load()), ["web-1"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_on_the_same_directory_or_port_is_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = start(dir.path()).await;
    let error = Node::start(settings(dir.path()), Inherited::default()).await.unwrap_err();
    assert!(matches!(error, NodeError::Store(_)), "{error}");
    let mut same_port = settings(other.path());
    same_port.config.api.listen = node.shared().identity.api;
    let error = Node::start(same_port, Inherited::default()).await.unwrap_err();
    assert!(error.to_string().contains("another program has it"), "{error}");
    assert_eq!(register(&node, &web("web-1", 80, "")).await, Ok(Answer::Created));
    node.stop().await;
}

async fn set_phase(node: &Node, phase: NodePhase) {
    node.handle().ask(Request::SetNodePhase(phase)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_stays_drained_over_a_restart_until_it_is_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    register(&node, &web("web-1", 80, "")).await.unwrap();
    set_phase(&node, NodePhase::Draining).await;
    assert!(answered(&node.shared().view.load()).is_empty(), "shown before it is acknowledged");
    node.stop().await;
    let node = start(dir.path()).await;
    assert!(answered(&node.shared().view.load()).is_empty());
    register(&node, &web("web-2", 81, "")).await.unwrap();
    assert!(answered(&node.shared().view.load()).is_empty(), "new ones are draining, too");
    set_phase(&node, NodePhase::Active).await;
    assert_eq!(answered(&node.shared().view.load()), ["web-1", "web-2"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_left_is_back_when_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path()).await;
    register(&node, &web("web-1", 80, "")).await.unwrap();
    set_phase(&node, NodePhase::Left).await;
    assert!(answered(&node.shared().view.load()).is_empty());
    node.stop().await;
    assert_eq!(answered(&last_known(&dir.path().join("data")).unwrap().view), ["web-1"]);
    let node = start(dir.path()).await;
    assert_eq!(answered(&node.shared().view.load()), ["web-1"]);
    node.stop().await;
}

#[tokio::test]
async fn a_listener_that_others_reach_is_not_served_unguarded_whoever_bound_it() {
    let dir = tempfile::tempdir().unwrap();
    let start = async |insecure| {
        let mut settings = settings(dir.path());
        settings.config.api.insecure = insecure;
        let inherited = Inherited {
            api: vec![std::net::TcpListener::bind("0.0.0.0:0").unwrap()],
            ..Inherited::default()
        };
        Node::start(settings, inherited).await
    };
    let refused = start(false).await.map(drop).unwrap_err().to_string();
    assert!(refused.starts_with("api.listen is 0.0.0.0:"), "{refused}");
    start(true).await.unwrap().stop().await;
}
