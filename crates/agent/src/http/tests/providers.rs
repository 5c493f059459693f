//! Reports about providers are made by their readers and cost the driver nothing.

use super::*;
use crate::providers::files::parse;

/// Instances of the provider: nearly as many as one node may have.
const INSTANCES: usize = 9_990;

fn large_set(provider: &ProviderId) -> Vec<Registration> {
    let one = |n| format!(r#"{{"id":"web-{n}","service":"web","port":8080}}"#);
    let all: Vec<String> = (0..INSTANCES).map(one).collect();
    let text = format!(r#"{{"instance":[{}]}}"#, all.join(","));
    parse("a.json", text.as_bytes(), provider, Ipv4Addr::LOCALHOST.into()).unwrap()
}

#[tokio::test]
async fn a_large_provider_is_read_while_the_driver_carries_out_no_command() {
    let fixture = Fixture::start();
    let world = &fixture.world;
    let provider = ProviderId::parse("http:large").unwrap();
    world.state(|registry| {
        let set = large_set(&provider);
        registry.state(Timestamp::default(), &provider, set, None).unwrap();
    });
    let turn = world.turn.lock().await;
    let written = fixture.put("/api/instances/db-1", r#"{"service":"db","port":5432}"#);
    tokio::pin!(written);
    let read = async {
        for path in ["/api/providers/http:large", "/api/providers/large"] {
            assert_eq!(fixture.get(path).await.json()["instances"], INSTANCES);
        }
        let list = fixture.get("/api/providers").await.json();
        assert_eq!(list["providers"][0]["instances"], INSTANCES);
        fixture.get("/api/providers/absent").await.assert_error(404, "http:absent");
    };
    tokio::select! {
        answer = &mut written => panic!("the driver must not have answered: {answer:?}"),
        () = read => {}
    }
    drop(turn);
    assert_eq!(written.await.status, StatusCode::CREATED);
}
