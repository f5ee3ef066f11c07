//! Who is gone is seen soon, who is there is never called lost.

use std::time::{Duration, Instant};

use orchion_e2e::{Chats, Noise, SOON, alone, ended};
use orchion_testkit::clock::mono_us;
use orchion_testkit::cluster::Login;
use orchion_testkit::judge::Order;
use orchion_testkit::mock_engine::Stats;
use orchion_testkit::wire::Ask;
use orchion_testkit::{Cluster, HttpClient, NatsServer, Proxy, eventually};
use serde_json::{Value, json};

#[tokio::test]
async fn a_killed_agent_is_shown_as_lost_within_a_second() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder().start().await;
    let gateway = cluster.gateway(0);
    let first_seen = node(&gateway, "b").await["first_seen_ms"].clone();
    assert_eq!(lost_events(&cluster.nats).await, json!({}));

    let noise = Noise::measure();
    let killed = Instant::now();
    cluster.agents[1].kill();
    shows(&gateway, "b", "lost").await;
    noise.within("a killed agent lost", killed, Duration::from_secs(1));
    eventually("the event of the loss", SOON, async || {
        lost_events(&cluster.nats).await == json!({"orchion.evt.node.lost.b": 1})
    })
    .await;

    cluster.heal().await;
    assert_eq!(node(&gateway, "b").await["first_seen_ms"], first_seen);
    assert_eq!(Cluster::nodes(&gateway).await.len(), 2);
}

#[tokio::test]
async fn a_stalled_agent_is_lost_within_four_seconds_and_comes_back_as_itself() {
    let _alone = alone().await;
    let nats = NatsServer::start().await;
    let cable = Proxy::start(nats.addr());
    let cluster = Cluster::builder()
        .nats(nats, Login::default())
        .agent_nats_url(1, &format!("nats://{}", cable.addr()))
        .start()
        .await;
    let gateway = cluster.gateway(0);
    let before = node(&gateway, "b").await;

    let noise = Noise::measure();
    let stalled = Instant::now();
    cable.stall();
    shows(&gateway, "b", "lost").await;
    noise.within("a stalled agent lost", stalled, Duration::from_secs(4));
    assert_eq!(Cluster::node_state(&gateway, "a").await, "online");

    cable.resume();
    shows(&gateway, "b", "online").await;
    let after = node(&gateway, "b").await;
    for same in ["id", "instance", "first_seen_ms"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    cluster.until_whole().await;
    assert_eq!(Cluster::nodes(&gateway).await.len(), 2);
}

#[tokio::test]
async fn a_restart_of_nats_loses_no_node_and_moves_no_job() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder().agents(10).start().await;
    let gateway = cluster.gateway(0);
    let mut chats = Chats::default();
    for _ in 0..10 {
        chats.ask(&gateway, Order::new(Ask::new(400).pace_us(30_000)));
    }
    eventually("ten streams", SOON, async || chats.have(20)).await;

    let before = last_seen(&gateway).await;
    cluster.nats.kill();
    cluster.nats.restart().await;
    eventually("all nodes to beat again", SOON, async || {
        let nodes = Cluster::nodes(&gateway).await;
        assert!(
            nodes.iter().all(|node| node["state"] != "lost"),
            "{nodes:#?}"
        );
        // The last look before the restart is older than any beat after it.
        let fresh = |node: &&Value| node["last_seen_ms"].as_u64() > before;
        nodes.iter().filter(fresh).count() == 10
    })
    .await;

    for verdict in chats.all_good().await {
        assert_eq!(verdict.engines.len(), 1, "{verdict:?}");
        let job = verdict.job.expect("the answer names its job");
        let shown = ended(&gateway, &job).await;
        assert_eq!(
            (&shown["attempt"], &shown["state"]),
            (&json!(1), &json!("completed")),
            "{shown:#}"
        );
    }
    cluster.until_whole().await;
    assert_eq!(lost_events(&cluster.nats).await, json!({}));
}

async fn shows(gateway: &HttpClient, node: &str, state: &str) {
    eventually("the node's state", SOON, async || {
        let shown = Cluster::node_state(gateway, node).await;
        if shown == state { Ok(()) } else { Err(shown) }
    })
    .await;
}

/// Cancels through the whole product.
const CANCELS: usize = 15;

#[tokio::test]
async fn an_engine_is_free_a_moment_after_its_task_is_canceled() {
    let _alone = alone().await;
    let cluster = Cluster::builder().agents(1).start().await;
    let gateway = cluster.gateway(0);
    let engine = HttpClient::new(&format!("http://{}", cluster.engine_addr(0)));
    let stats = async || -> Stats { engine.get("/mock/stats").await.unwrap().json() };
    let prompt = Ask::new(100_000).pace_us(5_000).marker();
    let body = json!({"model": "mock", "messages": [{"role": "user", "content": prompt}]});
    let mut took = Vec::new();
    for canceled in 0..CANCELS as u64 {
        let task: Value = gateway.post("/v1/tasks", &body).await.unwrap().json();
        let task = task["task_id"].as_str().unwrap().to_owned();
        let before = stats().await.tokens;
        eventually("the engine to work", SOON, async || {
            stats().await.tokens > before + 3
        })
        .await;
        let asked = mono_us();
        let path = format!("/v1/tasks/{task}/cancel");
        gateway.post(&path, &json!({})).await.unwrap();
        eventually("the engine to be left", SOON, async || {
            stats().await.cancelled > canceled
        })
        .await;
        // On the engine's own clock.
        let left = stats().await.last_cancel_us;
        took.push(Duration::from_micros(left.saturating_sub(asked)));
    }
    took.sort_unstable();
    let median = took[CANCELS / 2];
    assert!(
        median <= Duration::from_millis(50),
        "{median:?} of {took:?}"
    );
}

async fn node(gateway: &HttpClient, id: &str) -> Value {
    let answer = gateway.get(&format!("/api/nodes/{id}")).await.unwrap();
    answer.json()
}

/// When the node that beat last did so.
async fn last_seen(gateway: &HttpClient) -> Option<u64> {
    let nodes = Cluster::nodes(gateway).await;
    nodes
        .iter()
        .filter_map(|node| node["last_seen_ms"].as_u64())
        .max()
}

/// How often each node was ever declared lost, by subject, as it is stored.
async fn lost_events(nats: &NatsServer) -> Value {
    let client = nats.client().await;
    let filter = json!({"subjects_filter": "orchion.evt.node.lost.*"});
    let answer = client
        .request("$JS.API.STREAM.INFO.EVENTS", filter.to_string().into())
        .await
        .unwrap();
    let info: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(info["state"].is_object(), "{info}");
    info["state"]
        .get("subjects")
        .cloned()
        .unwrap_or_else(|| json!({}))
}
