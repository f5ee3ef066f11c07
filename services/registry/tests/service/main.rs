//! The registry on a real nats-server.

mod world;

use orchion_contract::node::NodeState::{Lost, Online};
use orchion_testkit::NatsServer;
use std::time::{Duration, Instant};
use world::{Agent, Registry, config, list, shows};

#[tokio::test]
async fn a_node_registers_and_is_listed() {
    let nats = NatsServer::start().await;
    let registry = Registry::start(config(&nats, true));
    let agent = Agent::connect(&nats, "a").await;
    let registered = agent.register().await;
    let node = list(&agent.bus).await.remove(0);
    assert_eq!((node.id.as_str(), node.state), ("a", Online));
    assert_eq!(node.first_seen_ms, registered.first_seen_ms);
    assert_eq!(node.labels["room"], "kitchen");
    registry.stop().await;
}

#[tokio::test]
async fn a_node_that_dies_is_lost_within_a_second() {
    let nats = NatsServer::start().await;
    let _registry = Registry::start(config(&nats, true));
    let (agent, watcher) = tokio::join!(Agent::connect(&nats, "a"), Agent::connect(&nats, "b"));
    agent.register().await;
    shows(&watcher.bus, &[("a", Online)]).await;
    let died = Instant::now();
    drop(agent);
    shows(&watcher.bus, &[("a", Lost)]).await;
    assert!(
        died.elapsed() < Duration::from_secs(1),
        "{:?}",
        died.elapsed()
    );
}
