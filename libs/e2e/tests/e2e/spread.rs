//! Several nodes share the work.

use std::collections::BTreeMap;

use orchion_e2e::{Chats, SOON, alone};
use orchion_testkit::judge::Order;
use orchion_testkit::wire::Ask;
use orchion_testkit::{Cluster, eventually};

#[tokio::test]
async fn parallel_chats_spread_over_all_nodes() {
    let _alone = alone().await;
    let cluster = Cluster::builder().agents(3).start().await;
    let gateway = cluster.gateway(0);
    let nodes = Cluster::nodes(&gateway).await;
    let mut shown: Vec<_> = nodes
        .iter()
        .map(|node| {
            (
                node["id"].as_str().unwrap(),
                node["state"].as_str().unwrap(),
            )
        })
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, [("a", "online"), ("b", "online"), ("c", "online")]);

    let mut chats = Chats::default();
    for _ in 0..12 {
        chats.ask(&gateway, Order::new(Ask::new(150).pace_us(20_000)));
    }
    eventually("all answers to begin", SOON, async || chats.have(1)).await;
    let mut by_engine = BTreeMap::<_, u32>::new();
    for verdict in chats.all_good().await {
        *by_engine.entry(verdict.engines.join(" then ")).or_default() += 1;
    }
    let engines: Vec<_> = by_engine.keys().map(String::as_str).collect();
    assert_eq!(engines, ["a", "b", "c"], "{by_engine:?}");
    assert!(
        by_engine.values().all(|chats| (3..=5).contains(chats)),
        "{by_engine:?}"
    );
}
