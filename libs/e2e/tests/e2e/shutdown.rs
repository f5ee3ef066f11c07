//! SIGTERM in mid-stream finishes the stream or hands it over, and ends in order.

use std::time::Duration;

use orchion_e2e::{Chats, SOON, alone};
use orchion_testkit::judge::{Order, chat, follow, task};
use orchion_testkit::mock_engine::Stats;
use orchion_testkit::wire::Ask;
use orchion_testkit::{Cluster, HttpClient, eventually};

/// The grace period of every service, and a moment for the system.
const GRACE: Duration = Duration::from_secs(10);

fn paced(tokens: u32) -> Order {
    Order::new(Ask::new(tokens).pace_us(25_000))
}

#[tokio::test]
async fn a_gateway_finishes_what_is_short_and_hands_over_what_is_long() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder().gateways(2).start().await;
    let gateway = cluster.gateway(0);
    let mut chats = Chats::default();
    for _ in 0..4 {
        chats.ask(&gateway, paced(120));
    }
    let long: Vec<_> = (0..4).map(|_| paced(600)).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for order in &long {
        let (clients, order) = (cluster.clients(), order.clone());
        tasks.spawn(async move { task(&clients, &order).await });
    }
    eventually("all streams", SOON, async || {
        let mut long = long.iter();
        chats.have(10) && long.all(|order| order.progress().tokens() >= 10)
    })
    .await;

    let status = cluster.gateways[0].stop(GRACE).await;
    assert_eq!(status.code(), Some(0));
    chats.all_good().await;
    for verdict in tasks.join_all().await {
        assert!(verdict.is_good(), "{verdict:?}");
        assert!(verdict.reconnects > 0, "{verdict:?}");
    }
}

#[tokio::test]
async fn a_chat_that_a_stop_cuts_says_so_and_goes_on_at_another_gateway() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder().gateways(2).start().await;
    let (gateway, order) = (cluster.gateway(0), paced(600));
    let cut = {
        let asked = order.clone();
        let mut chats = tokio::task::JoinSet::new();
        chats.spawn(async move { chat(&gateway, &asked).await });
        eventually("the stream", SOON, async || order.progress().tokens() >= 10).await;
        let status = cluster.gateways[0].stop(GRACE).await;
        assert_eq!(status.code(), Some(0));
        chats.join_next().await.unwrap().unwrap()
    };
    let failure = cut
        .failure
        .as_ref()
        .expect("a chat of fifteen seconds is cut");
    assert_eq!(failure.class, "stream:error_event", "{cut:?}");
    let rest = follow(&[cluster.gateway(1)], &order, &cut.job.unwrap()).await;
    assert!(rest.is_good(), "{rest:?}");
}

#[tokio::test]
async fn an_agent_hands_its_streams_over() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder().start().await;
    let mut chats = Chats::default();
    for _ in 0..6 {
        chats.ask(&cluster.gateway(0), paced(600));
    }
    eventually("all streams", SOON, async || chats.have(10)).await;

    let status = cluster.agents[1].stop(GRACE).await;
    assert_eq!(status.code(), Some(0));
    let verdicts = chats.all_good().await;
    let moved = verdicts.iter().filter(|it| it.engines == ["b", "a"]);
    assert_eq!(moved.count(), 3, "{verdicts:#?}");
    let nodes = Cluster::nodes(&cluster.gateway(0)).await;
    let online = nodes.iter().filter(|node| node["state"] == "online");
    assert_eq!(online.count(), 1, "{nodes:#?}");
}

#[tokio::test]
async fn an_agent_whose_answers_nobody_stores_ends_in_time() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder().start().await;
    let mut chats = Chats::default();
    for _ in 0..6 {
        chats.ask(&cluster.gateway(0), paced(80));
    }
    eventually("all streams", SOON, async || chats.have(10)).await;
    cluster.nats.kill();
    let engine = HttpClient::new(&format!("http://{}", cluster.engine_addr(1)));
    eventually("the engine to be done", SOON, async || {
        let stats: Stats = engine.get("/mock/stats").await.unwrap().json();
        stats.inflight == 0
    })
    .await;

    cluster.agents[1].stop(GRACE).await;
    cluster.nats.restart().await;
    chats.all_good().await;
}

#[tokio::test]
async fn a_scheduler_leaves_its_streams_to_the_next() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder().schedulers(2).start().await;
    let gateway = cluster.gateway(0);
    let mut chats = Chats::default();
    for _ in 0..6 {
        chats.ask(&gateway, paced(300));
    }
    eventually("all streams", SOON, async || chats.have(10)).await;

    let active = cluster.active_scheduler().unwrap();
    let status = cluster.schedulers[active].stop(GRACE).await;
    assert_eq!(status.code(), Some(0));
    let next = chat(&gateway, &paced(20)).await;
    assert!(next.is_good(), "{next:?}");
    for verdict in chats.all_good().await {
        assert_eq!(verdict.engines.len(), 1, "{verdict:?}");
    }
    assert_eq!(cluster.active_scheduler(), Some(1 - active));
}
