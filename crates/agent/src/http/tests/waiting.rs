//! Long polls, watches and events: what a client waits for, and what a slow reader gets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Waits until this number of watches and long polls is open.
async fn watchers(world: &World, count: usize) {
    soon(async {
        while world.shared.watchers.count() != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_answers_with_the_next_change() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    let index = world.put_plain("web", 1);
    let path = format!("/api/services/web?index={index}&wait=10m");
    let (answer, ()) = tokio::join!(fixture.get(&path), async {
        watchers(world, 1).await;
        world.put_plain("other", 1);
        world.put_plain("web", 2);
    });
    assert_eq!(answer.ids(), ["web-0", "web-1"]);
    assert_eq!(answer.json()["index"], index + 2);
    watchers(world, 0).await;
}

#[tokio::test]
async fn a_long_poll_answers_at_once_when_it_is_behind_or_of_another_life() {
    let fixture = Fixture::start();
    let index = fixture.world.put_plain("web", 1);
    for known in [0, index - 1, index + 1, u64::MAX] {
        let answer = fixture.get(&format!("/api/services/web?index={known}&wait=10m")).await;
        assert_eq!(answer.ids(), ["web-0"], "{known}");
    }
    let unchanged = fixture.get(&format!("/api/services/web?index={index}&wait=1ms")).await;
    assert_eq!(unchanged.json()["index"], index, "time is up, so the present state");
}

#[tokio::test]
async fn a_long_poll_waits_for_a_service_to_come_and_to_go() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    let (come, ()) = tokio::join!(fixture.get("/api/services/web?index=0&wait=10m"), async {
        watchers(world, 1).await;
        world.put_plain("web", 1);
    });
    assert_eq!(come.ids(), ["web-0"]);
    let path = format!("/api/services/web?index={}&wait=10m", come.json()["index"]);
    let (gone, ()) = tokio::join!(fixture.get(&path), async {
        watchers(world, 1).await;
        world.remove("web");
    });
    gone.assert_error(404, "no instance of web");
    let index = gone.headers["dunlin-index"].to_str().unwrap();
    let path = format!("/api/services/web?index={index}&wait=10m");
    let (back, ()) = tokio::join!(fixture.get(&path), async {
        watchers(world, 1).await;
        world.put_plain("web", 3);
    });
    assert_eq!(back.ids().len(), 3);
    let never = fixture.get("/api/services/nosuch?index=0&wait=1ms").await;
    never.assert_error(404, "nosuch");
}

#[tokio::test]
async fn a_watch_tells_the_state_and_then_each_change() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    let first = world.put_plain("web", 1);
    let mut web = fixture.events("/api/services/web/watch", None).await;
    let snapshot = web.expect("snapshot").await;
    assert_eq!((snapshot.id, snapshot.ids()), (Some(first), vec!["web-0".to_owned()]));
    world.put_plain("other", 1);
    let second = world.put_plain("web", 2);
    let change = web.expect("change").await;
    assert_eq!((change.id, change.ids().len()), (Some(second), 2));
    assert_eq!(change.data["service"], "web");
    let third = world.remove("web");
    let gone = web.expect("change").await;
    assert_eq!((gone.id, gone.ids().len()), (Some(third), 0));
    world.put_plain("web", 1);
    assert_eq!(web.expect("change").await.ids().len(), 1);
    drop(web);
    watchers(world, 0).await;
}

#[tokio::test]
async fn a_watch_filters_as_a_lookup_does() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    let web = || {
        vec![
            endpoint(&world.own, "good", "web", Health::Passing, &["v1"]),
            endpoint(&world.own, "sick", "web", Health::Critical, &["v1"]),
            endpoint(&world.own, "new", "web", Health::Passing, &["v2"]),
        ]
    };
    world.put("web", None, web());
    let path = "/api/services/web/watch?health=any&tag=v1&zone=eu1";
    let mut watch = fixture.events(path, None).await;
    assert_eq!(watch.expect("snapshot").await.ids(), ["good", "sick"]);
    world.put("web", None, web());
    assert_eq!(watch.expect("change").await.ids(), ["good", "sick"]);
}

#[tokio::test]
async fn a_service_that_does_not_exist_can_be_watched() {
    let fixture = Fixture::start();
    let mut web = fixture.events("/api/services/web/watch", None).await;
    assert!(web.expect("snapshot").await.ids().is_empty());
    fixture.world.put_plain("web", 1);
    assert_eq!(web.expect("change").await.ids(), ["web-0"]);
}

#[tokio::test]
async fn a_watch_of_many_tells_of_those_it_names() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    world.put_plain("a", 1);
    world.put_plain("c", 1);
    let mut some = fixture.events("/api/watch?service=a&service=b&service=a", None).await;
    let mut all = fixture.events("/api/watch", None).await;
    let names = |event: &Event| -> Vec<(String, usize)> {
        let services = event.data["services"].as_array().unwrap();
        let name = |s: &Value| s["service"].as_str().unwrap().to_owned();
        services.iter().map(|s| (name(s), ids(s).len())).collect()
    };
    let snapshot = some.expect("snapshot").await;
    assert_eq!(names(&snapshot), [("a".to_owned(), 1), ("b".to_owned(), 0)]);
    assert_eq!(snapshot.data["index"], snapshot.id.unwrap());
    assert_eq!(names(&all.expect("snapshot").await), [("a".to_owned(), 1), ("c".to_owned(), 1)]);
    world.put_plain("c", 2);
    assert_eq!(all.expect("change").await.data["service"], "c");
    world.put_plain("b", 1);
    assert_eq!(some.expect("change").await.data["service"], "b");
    world.remove("a");
    let gone = some.expect("change").await;
    assert_eq!((gone.data["service"].as_str(), gone.ids().len()), (Some("a"), 0));
}

#[tokio::test]
async fn a_watch_resumes_with_what_changed_since() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    let seen = world.put_plain("a", 1);
    world.put_plain("b", 1);
    world.put_plain("c", 1);
    world.put_plain("b", 2);
    let last = world.remove("c");
    let mut all = fixture.events("/api/watch", Some(seen)).await;
    let b = all.expect("change").await;
    assert_eq!((b.data["service"].as_str(), b.ids().len()), (Some("b"), 2));
    let c = all.expect("change").await;
    assert_eq!((c.data["service"].as_str(), c.id), (Some("c"), Some(last)));
    // Too old, and from another life: everything is told again.
    for id in [FIRST_INDEX - 1, last + 1] {
        let mut all = fixture.events("/api/watch", Some(id)).await;
        all.expect("snapshot").await;
    }
    // Nothing happened since: silence until something does.
    let mut a = fixture.events("/api/services/a/watch", Some(last)).await;
    watchers(world, 2).await;
    world.put_plain("a", 3);
    assert_eq!(a.expect("change").await.ids().len(), 3);
}

#[tokio::test]
async fn of_services_that_change_together_only_the_last_carries_the_id() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    let mut all = fixture.events("/api/watch", None).await;
    all.expect("snapshot").await;
    let index = world.change(&["a", "b"], |view| {
        for name in ["a", "b"] {
            let one = endpoint(&world.own, name, name, Health::Passing, &[]);
            view.put_service(service(name), None, vec![one]);
        }
    });
    let (first, second) = (all.expect("change").await, all.expect("change").await);
    assert_eq!((first.id, second.id), (None, Some(index)));
}

#[tokio::test]
async fn a_large_snapshot_arrives_whole() {
    let fixture = Fixture::start();
    for n in 0..500 {
        fixture.world.put_plain(&format!("service-{n}"), 2);
    }
    let mut all = fixture.events("/api/watch", None).await;
    let snapshot = all.expect("snapshot").await;
    assert_eq!(snapshot.data["services"].as_array().unwrap().len(), 500);
}

#[tokio::test]
async fn a_slow_reader_gets_the_latest_state_and_costs_no_queue() {
    const CHANGES: u64 = 10_000;
    let fixture = Fixture::start();
    let world = &fixture.world;
    // Events large enough that ten thousand of them fit into no socket's buffer.
    let endpoints: Vec<_> = (0..200)
        .map(|n| endpoint(&world.own, &format!("web-{n}"), "web", Health::Passing, &[]))
        .collect();
    let change =
        || world.change(&["web"], |view| view.put_service(service("web"), None, endpoints.clone()));
    change();
    let mut stream = soon(TcpStream::connect(fixture.address)).await.unwrap();
    let head = b"GET /api/services/web/watch HTTP/1.1\r\nhost: dunlin\r\n\r\n";
    soon(stream.write_all(head)).await.unwrap();
    watchers(world, 1).await;
    let mut last = 0;
    for _ in 0..CHANGES {
        last = change();
        tokio::task::yield_now().await;
    }
    let (mut text, mut buffer, mut told) = (Vec::new(), vec![0; 1 << 16], 0);
    let mark = format!("\"index\":{last},");
    loop {
        let read = soon(stream.read(&mut buffer)).await.unwrap();
        assert_ne!(read, 0, "the watch goes on");
        text.extend_from_slice(&buffer[..read]);
        let seen = String::from_utf8_lossy(&text);
        if seen.contains(&mark) {
            told += seen.matches("event: ").count();
            break;
        }
        // All but what may be the beginning of the next mark.
        told += seen.matches("event: ").count();
        let rest = seen.rfind('\n').map_or(0, |at| at + 1);
        text.drain(..rest.min(text.len()));
    }
    assert!(told < 5_000, "{told} states were told; most should have been skipped");
}

#[tokio::test]
async fn watchers_of_one_service_share_one_encoding() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    world.put_plain("web", 3);
    let mut watches = Vec::new();
    for _ in 0..20 {
        let mut watch = fixture.events("/api/services/web/watch", None).await;
        watch.expect("snapshot").await;
        watches.push(watch);
    }
    world.put_plain("web", 4);
    for watch in &mut watches {
        watch.expect("change").await;
    }
    fixture.get("/api/services/web").await;
    let metrics = fixture.get("/metrics").await;
    assert!(metrics.text().contains("dunlin_http_encodings_total 2.0"), "{}", metrics.text());
}

#[tokio::test]
async fn there_is_a_limit_to_watches() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    let all: Vec<_> =
        std::iter::from_fn(|| world.shared.watchers.watch(dunlin_core::catalog::Interest::All))
            .collect();
    assert_eq!(all.len(), 1_000);
    fixture.get("/api/watch").await.assert_error(503, "too many watches");
    let answer = fixture.get("/api/services/web?index=0&wait=10m").await;
    answer.assert_error(503, "too many watches");
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn comments_keep_a_silent_watch_alive() {
    let limits = Limits { keep_alive: Duration::from_millis(5), ..Limits::default() };
    let fixture = Fixture::with(limits);
    for path in ["/api/watch", "/api/events"] {
        let mut body = fixture.send(request(Method::GET, path, "")).await.into_body();
        let mut text = String::new();
        while !text.contains(": keep-alive\n\n: keep-alive\n\n") {
            let frame = soon(body.frame()).await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn events_are_told_from_the_beginning_and_resume() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    for kind in ["NodeStarted", "InstanceRegistered", "HealthChanged"] {
        world.event(kind);
    }
    let mut events = fixture.events("/api/events", None).await;
    let first = events.expect("NodeStarted").await;
    assert_eq!((first.id, &first.data["reason"]), (Some(1), &"a test said so".into()));
    let mut resumed = fixture.events("/api/events", Some(2)).await;
    resumed.expect("HealthChanged").await;
    world.event("InstanceDeregistered");
    assert_eq!(resumed.expect("InstanceDeregistered").await.id, Some(4));
    let mut past = fixture.events("/api/events?follow=false", Some(3)).await;
    past.expect("InstanceDeregistered").await;
    assert!(past.next().await.is_none());
}

#[tokio::test]
async fn a_lagging_reader_of_events_is_told_how_many_it_missed() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    world.event("First");
    let mut events = fixture.events("/api/events", None).await;
    events.expect("First").await;
    // More than are remembered, without a pause in which the reader could follow.
    for _ in 0..1_500 {
        world.event("Noise");
    }
    let lagged = events.expect("lagged").await;
    assert_eq!(lagged.data["missed"], 1_500 - 1_024);
    events.expect("Noise").await;
}
