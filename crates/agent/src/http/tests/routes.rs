//! Every call of the API, and what it answers.

use std::collections::BTreeSet;

use super::*;

const WEB: &str = r#"{"service":"web","port":8080,"tags":["v2"],"meta":{"version":"2.1"}}"#;

/// All calls, as the users' documentation promises them.
const CALLS: [(&str, &str); 25] = [
    ("get", "/api/services"),
    ("get", "/api/services/{name}"),
    ("get", "/api/services/{name}/watch"),
    ("get", "/api/watch"),
    ("get", "/api/instances"),
    ("put", "/api/instances/{id}"),
    ("delete", "/api/instances/{id}"),
    ("put", "/api/instances/{id}/maintenance"),
    ("put", "/api/instances/{id}/drain"),
    ("put", "/api/instances/{id}/checks/{check}"),
    ("get", "/api/providers"),
    ("get", "/api/providers/{name}"),
    ("put", "/api/providers/{name}"),
    ("delete", "/api/providers/{name}"),
    ("get", "/api/nodes"),
    ("get", "/api/nodes/{name}"),
    ("put", "/api/node/drain"),
    ("get", "/api/events"),
    ("get", "/api/status"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
    ("get", "/api/guard"),
    ("delete", "/api/guard/{service}"),
    ("get", "/api/openapi.json"),
];

#[tokio::test]
async fn the_description_names_every_call_and_no_other() {
    let fixture = Fixture::start();
    let described = fixture.get("/api/openapi.json").await.json();
    let mut found = BTreeSet::new();
    for (path, item) in described["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            found.insert((method.clone(), path.clone()));
        }
    }
    let promised = CALLS.map(|(method, path)| (method.to_owned(), path.to_owned()));
    assert_eq!(found, BTreeSet::from(promised));
}

#[tokio::test]
async fn every_reference_of_the_description_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(to)) = map.get("$ref") {
                    found.insert(to.clone());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let fixture = Fixture::start();
    let described = fixture.get("/api/openapi.json").await.json();
    let mut found = BTreeSet::new();
    references(&described, &mut found);
    assert!(found.len() > 10, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(described.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn every_call_is_routed() {
    let fixture = Fixture::start();
    for (method, path) in CALLS {
        let path = path.replace("{service}", "web").replace("{name}", "web");
        let path = path.replace("{id}", "web-1").replace("{check}", "ttl");
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let response = fixture.send(request(method.clone(), &path, "")).await;
        assert_ne!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        if response.status() == StatusCode::NOT_FOUND {
            let answer = Answer::read(response).await;
            assert!(!answer.text().contains("there is no call"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn an_instance_is_registered_shown_and_deregistered() {
    let fixture = Fixture::start();
    let first = fixture.put("/api/instances/web-1", WEB).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text());
    let stored = first.json();
    assert_eq!(stored["id"], "web-1");
    assert_eq!(stored["address"], "127.0.0.1", "the node's, as none was given");
    assert_eq!(stored["provider"], "api:instances");
    assert_eq!(stored["health"], "passing");
    let again = fixture.put("/api/instances/web-1", WEB).await;
    assert_eq!(again.status, StatusCode::OK);

    let found = fixture.get("/api/services/web").await;
    assert_eq!(found.status, StatusCode::OK);
    let found = found.json();
    assert_eq!(found["instances"][0]["meta"]["version"], "2.1");
    assert_eq!(found["guarded"], false);
    let listed = fixture.get("/api/instances").await;
    assert_eq!(listed.ids(), ["web-1"]);

    assert_eq!(fixture.delete("/api/instances/web-1").await.status, StatusCode::NO_CONTENT);
    fixture.delete("/api/instances/web-1").await.assert_error(404, "web-1");
    let gone = fixture.get("/api/services/web").await;
    gone.assert_error(404, "no instance of web");
    assert!(gone.json()["hint"].as_str().unwrap().contains("/api/services"));
}

#[tokio::test]
async fn a_change_that_cannot_be_stored_is_not_acknowledged() {
    let fixture = Fixture::start();
    let answer = fixture.put("/api/instances/full-disk", WEB).await;
    answer.assert_error(507, "no space left");
}

#[tokio::test]
async fn maintenance_and_draining_take_an_instance_out_and_put_it_back() {
    let fixture = Fixture::start();
    fixture.put("/api/instances/web-1", WEB).await;
    let path = "/api/instances/web-1/maintenance";
    let out = fixture.put(path, r#"{"enabled":true,"reason":"new disk"}"#).await.json();
    assert_eq!((&out["health"], &out["reason"]), (&"maintenance".into(), &"new disk".into()));
    assert!(fixture.get("/api/services/web").await.ids().is_empty());
    let back = fixture.put(path, r#"{"enabled":false}"#).await.json();
    assert_eq!(back["health"], "passing");

    let path = "/api/instances/web-1/drain";
    assert_eq!(fixture.put(path, "").await.json()["health"], "draining");
    assert_eq!(fixture.put(path, r#"{"enabled":false}"#).await.json()["health"], "passing");
    assert_eq!(fixture.put(path, "{}").await.json()["health"], "draining");
    fixture.put("/api/instances/web-9/drain", "").await.assert_error(404, "web-9");
}

#[tokio::test]
async fn a_pushed_status_is_the_instance_s_health() {
    let fixture = Fixture::start();
    let ttl = r#"{"service":"web","port":1,"check":[{"kind":"ttl","ttl":"30s"}]}"#;
    let stored = fixture.put("/api/instances/web-1", ttl).await.json();
    assert_eq!(stored["health"], "critical");
    assert_eq!(stored["checks"][0]["id"], "ttl");
    let path = "/api/instances/web-1/checks/ttl";
    let pushed = fixture.put(path, r#"{"status":"warning","output":"hot"}"#).await;
    assert_eq!(pushed.status, StatusCode::NO_CONTENT);
    let web = fixture.get("/api/services/web").await.json();
    assert_eq!(web["instances"][0]["health"], "warning");
    assert_eq!(web["instances"][0]["checks"][0]["output"], "hot");
    fixture.put(path, r#"{"status":"fine"}"#).await.assert_error(400, "\"fine\" is unknown");
    let other = "/api/instances/web-1/checks/tcp";
    fixture.put(other, r#"{"status":"passing"}"#).await.assert_error(404, "tcp");
}

#[tokio::test]
async fn a_provider_states_its_complete_set() {
    let fixture = Fixture::start();
    let set = r#"{"instances":[{"id":"web-1","service":"web","port":80}],"ttl":"15s"}"#;
    let put = fixture.put("/api/providers/deploy", set).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text());
    assert_eq!(put.json()["provider"], "http:deploy");
    assert_eq!(put.json()["instances"], 1);
    fixture.put("/api/providers/run.job-7", r#"{"instances":[]}"#).await;
    let listed = fixture.get("/api/providers").await.json();
    let names: Vec<_> =
        listed["providers"].as_array().unwrap().iter().map(|p| &p["provider"]).collect();
    assert_eq!(names, ["http:deploy", "run:job-7"]);
    assert_eq!(fixture.get("/api/providers/run:job-7").await.status, StatusCode::OK);
    assert_eq!(fixture.get("/api/providers/deploy").await.json()["provider"], "http:deploy");
    fixture.get("/api/providers/other").await.assert_error(404, "http:other");

    let path = "/api/providers/http:deploy";
    assert_eq!(fixture.delete(path).await.status, StatusCode::NO_CONTENT);
    fixture.delete(path).await.assert_error(404, "http:deploy");
    fixture.get("/api/services/web").await.assert_error(404, "web");
    fixture.put("/api/providers/file:a.toml", "{}").await.assert_error(409, "is a file");
    fixture.put("/api/providers/api:x", "{}").await.assert_error(409, "has no set");
}

/// Three zones, healths and tags.
fn mixed(world: &World) -> u64 {
    let (us, ap) = (node("b", "us1", 2), node("c", "ap1", 3));
    world.put(
        "web",
        None,
        vec![
            endpoint(&ap, "far", "web", Health::Passing, &["v1"]),
            endpoint(&us, "near", "web", Health::Warning, &["v1", "blue"]),
            endpoint(&world.own, "own", "web", Health::Passing, &["blue"]),
            endpoint(&world.own, "sick", "web", Health::Critical, &["v1"]),
        ],
    )
}

#[tokio::test]
async fn lookups_filter_and_put_the_own_zone_first() {
    let fixture = Fixture::start();
    let index = mixed(&fixture.world);
    let cases: [(&str, &[&str]); 11] = [
        ("", &["own", "near", "far"]),
        ("?zone=any", &["own", "near", "far"]),
        ("?zone=us1", &["near"]),
        ("?zone=none-such", &[]),
        ("?health=any", &["own", "sick", "near", "far"]),
        ("?health=passing", &["own", "far"]),
        ("?health=healthy&limit=2", &["own", "near"]),
        ("?tag=v1", &["near", "far"]),
        ("?tag=blue&tag=v1", &["near"]),
        ("?tag=v1&tag=blue", &["near"]),
        ("?health=any&zone=eu1&tag=v1", &["sick"]),
    ];
    for (query, expected) in cases {
        let answer = fixture.get(&format!("/api/services/web{query}")).await;
        assert_eq!(answer.ids(), expected, "{query}");
        assert_eq!(answer.json()["index"], index);
        assert_eq!(answer.headers["dunlin-index"], index.to_string().as_str());
    }
    assert_eq!(fixture.get("/api/services/WEB").await.json()["service"], "web");
}

#[tokio::test]
async fn services_are_listed_by_name_with_counts() {
    let fixture = Fixture::start();
    mixed(&fixture.world);
    fixture.world.put_plain("api.shop", 2);
    let listed = fixture.get("/api/services").await.json();
    let services = listed["services"].as_array().unwrap();
    assert_eq!(
        (&services[0]["service"], &services[1]["service"]),
        (&"api.shop".into(), &"web".into())
    );
    let web = &services[1];
    assert_eq!((&web["instances"], &web["healthy"]), (&4.into(), &3.into()));
    assert_eq!(web["health"], serde_json::json!({"critical":1,"passing":2,"warning":1}));
    assert_eq!(web["zones"], serde_json::json!({"ap1":1,"eu1":2,"us1":1}));
}

#[tokio::test]
async fn a_guarded_service_is_shown_and_released() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    let since = Timestamp::from_millis(1_795_230_000_000);
    let held = Endpoint {
        standing: Standing::Held,
        ..endpoint(&world.own, "web-1", "web", Health::Critical, &[])
    };
    world.put("web", Some(GuardMark { since }), vec![held]);
    let web = fixture.get("/api/services/web").await.json();
    assert_eq!(web["guarded"], true);
    assert_eq!(web["instances"][0]["standing"], "held");
    let expected = serde_json::json!({"guarded":[
        {"service":"web","since":"2026-11-21T03:00:00Z","held":1}]});
    assert_eq!(fixture.get("/api/guard").await.json(), expected);
    assert_eq!(fixture.delete("/api/guard/web").await.status, StatusCode::NO_CONTENT);
    fixture.delete("/api/guard/web").await.assert_error(404, "not guarded");
}

#[tokio::test]
async fn nodes_are_shown_with_their_heads_and_instances() {
    let fixture = Fixture::start();
    fixture.world.put_plain("web", 3);
    let heads = BTreeMap::from([(fixture.world.own.id, 7)]);
    fixture.world.shared.heads.store(Arc::new(heads));
    let listed = fixture.get("/api/nodes").await.json();
    assert_eq!(listed["nodes"].as_array().unwrap().len(), 1);
    let own = fixture.get("/api/nodes/a").await.json();
    assert_eq!(own, listed["nodes"][0]);
    assert_eq!(
        (&own["head"], &own["instances"], &own["this"]),
        (&7.into(), &3.into(), &true.into())
    );
    assert_eq!((&own["status"], &own["zone"]), (&"alive".into(), &"eu1".into()));
    fixture.get("/api/nodes/z").await.assert_error(404, "no node is called z");
}

#[tokio::test]
async fn what_is_measured_of_another_node_is_shown() {
    let fixture = Fixture::start();
    let status = NodeStatus::Suspect;
    let far = NodeView { status, ..node("b", "us1", 2) };
    fixture.world.change(&[], |view| view.put_node(far.clone()));
    let unknown = fixture.get("/api/nodes/b").await.json();
    assert_eq!((&unknown["status"], &unknown["draining"]), (&"suspect".into(), &false.into()));
    assert!(unknown.get("rtt_ms").is_none() && unknown.get("behind").is_none());
    let rtt = Some(Duration::from_micros(1_500));
    let member = crate::MemberInfo { rtt, newest_head: 9, cluster_address: None };
    fixture.world.shared.members.0.store(Arc::new(BTreeMap::from([(far.id, member)])));
    fixture.world.shared.heads.store(Arc::new(BTreeMap::from([(far.id, 7)])));
    let known = fixture.get("/api/nodes/b").await.json();
    assert_eq!((&known["rtt_ms"], &known["behind"]), (&1.5.into(), &2.into()));
}

#[tokio::test]
async fn instances_of_other_nodes_count_on_these_and_are_not_listed_as_own() {
    let fixture = Fixture::start();
    let far = node("b", "us1", 2);
    let on = |node, id| endpoint(node, id, "web", Health::Passing, &[]);
    let endpoints = vec![on(&fixture.world.own, "x"), on(&far, "x"), on(&far, "y")];
    fixture.world.change(&[], |view| view.put_node(far.clone()));
    fixture.world.put("web", None, endpoints);
    let listed = fixture.get("/api/instances").await.json();
    assert_eq!(listed["instances"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["instances"][0]["node"], "a");
    for (name, count) in [("a", 1), ("b", 2)] {
        let page = fixture.get(&format!("/api/nodes/{name}")).await.json();
        assert_eq!(page["instances"], count, "{name}");
    }
    let all = fixture.get("/api/nodes").await.json();
    assert_eq!(
        (&all["nodes"][0]["instances"], &all["nodes"][1]["instances"]),
        (&1.into(), &2.into())
    );
}

#[tokio::test]
async fn a_node_is_drained_and_put_back() {
    let fixture = Fixture::start();
    let path = "/api/node/drain";
    assert_eq!(fixture.put(path, r#"{"enabled":true}"#).await.json()["draining"], true);
    assert_eq!(fixture.get("/api/nodes/a").await.json()["draining"], true);
    assert_eq!(fixture.put(path, r#"{"enabled":false}"#).await.json()["draining"], false);
    fixture.put(path, "{}").await.assert_error(400, "enabled");
    fixture.put(path, "").await.assert_error(400, "");
}

#[tokio::test]
async fn the_agent_tells_how_it_fares() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    assert_eq!(fixture.get("/healthz").await.json()["status"], "alive");
    world.shared.problems.set("store", "the disk is full".to_owned());
    fixture.get("/readyz").await.assert_error(503, "store: the disk is full");
    world.shared.set_ready(true);
    assert_eq!(fixture.get("/readyz").await.json()["status"], "ready");
    world.put_plain("web", 2);
    let status: api::AgentStatus =
        serde_json::from_slice(&fixture.get("/api/status").await.body).unwrap();
    assert_eq!((status.services, status.local_instances, status.ready), (1, 2, true));
    assert_eq!(status.problems, ["store: the disk is full"]);
    assert!(fixture.get("/").await.text().contains("GET /api/services"));
}

#[tokio::test]
async fn metrics_count_calls_by_template_and_never_by_name() {
    let fixture = Fixture::start();
    fixture.world.put_plain("web", 2);
    fixture.world.event("InstanceRegistered");
    fixture.get("/api/services/web").await;
    fixture.get("/api/services/nosuch").await;
    fixture.get("/no/such/call").await;
    let answer = fixture.get("/metrics").await;
    assert_eq!(answer.headers["content-type"], dunlin_shell::metrics::CONTENT_TYPE);
    let text = answer.text();
    for line in [
        "dunlin_http_requests_total{call=\"/api/services/{name}\",status=\"2xx\"} 1",
        "dunlin_http_requests_total{call=\"/api/services/{name}\",status=\"4xx\"} 1",
        "dunlin_http_requests_total{call=\"other\",status=\"4xx\"} 1",
        "dunlin_catalog_instances{health=\"passing\"} 2.0",
        "dunlin_events_total{kind=\"InstanceRegistered\"} 1.0",
        "dunlin_http_request_duration_seconds_count{call=\"/api/services/{name}\"} 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.contains("dunlin_process_resident_memory_bytes "));
    assert!(!text.contains("nosuch"), "no label comes from a client");
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_local_socket_has_the_same_calls() {
    let fixture = Fixture::start();
    let put = fixture.send_unix(request(Method::PUT, "/api/instances/web-1", WEB)).await;
    assert_eq!(put.status(), StatusCode::CREATED);
    let get = fixture.send_unix(request(Method::GET, "/api/services/web", "")).await;
    assert_eq!(Answer::read(get).await.ids(), ["web-1"]);
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served_on_the_same_port() {
    let fixture = Fixture::start();
    fixture.world.put_plain("web", 1);
    let stream = soon(TcpStream::connect(fixture.address)).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let handshake = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream));
    let (mut sender, connection) = soon(handshake).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{}/api/services/web", fixture.address);
    let get = || hyper::Request::get(&uri).body(Full::<Bytes>::default()).unwrap();
    let (one, two) = (sender.send_request(get()), sender.send_request(get()));
    for response in [soon(one).await.unwrap(), soon(two).await.unwrap()] {
        assert_eq!(response.version(), hyper::Version::HTTP_2);
        assert_eq!(Answer::read(response).await.ids(), ["web-0"]);
    }
}
