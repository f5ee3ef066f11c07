//! What the registry answers.

use crate::world::{Agent, Registry, SOON, config, list, listen, process, shows};
use futures_util::future::join_all;
use orchion_bus::Error;
use orchion_contract::node::NodeState::Online;
use orchion_contract::node::{Empty, Unregister};
use orchion_contract::rpc::{GET_NODE, REGISTER, UNREGISTER};
use orchion_contract::subject::Rpc;
use orchion_contract::subjects::CAPABILITY;
use orchion_contract::{ErrorCode, InstanceId, NodeId};
use orchion_testkit::{NatsServer, eventually};

fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> ErrorCode {
    let error = answer.unwrap_err();
    let Error::Remote(failure) = error else {
        panic!("{error:?}");
    };
    failure.code
}

#[tokio::test]
async fn a_node_registers_and_is_listed() {
    let nats = NatsServer::start().await;
    let registry = Registry::start(config(&nats, true));
    let (b, a) = tokio::join!(Agent::connect(&nats, "b"), Agent::connect(&nats, "a"));
    let registered = b.register().await;
    a.register().await;
    shows(&a.bus, &[("a", Online), ("b", Online)]).await;
    let node = list(&a.bus).await.remove(1);
    assert_eq!(node.first_seen_ms, registered.first_seen_ms);
    assert_eq!(
        (node.labels["room"].as_str(), node.heartbeat_ms),
        ("kitchen", 200)
    );
    registry.stop().await;
}

#[tokio::test]
async fn an_unknown_or_impossible_node_is_a_typed_failure() {
    let nats = NatsServer::start().await;
    let _registry = Registry::start(config(&nats, true));
    let agent = Agent::connect(&nats, "a").await;
    let unknown = NodeId::new("x").unwrap();
    let found = agent
        .bus
        .ask_patiently(&GET_NODE, &(), &unknown, SOON)
        .await;
    assert_eq!(code(found), ErrorCode::NotFound);
    let gone = Unregister {
        node: unknown,
        instance: None,
    };
    let left = agent.bus.ask_patiently(&UNREGISTER, &(), &gone, SOON).await;
    assert_eq!(code(left), ErrorCode::NotFound);
    for bad in ["", "a.b"] {
        let raw: Rpc<(), &str, Empty> = Rpc::new(GET_NODE.pattern());
        let found = agent.bus.ask_patiently(&raw, &(), &bad, SOON).await;
        assert_eq!(code(found), ErrorCode::InvalidParams);
    }
    let mut slow = agent.registration();
    slow.heartbeat_ms = 60_000;
    let refused = agent.bus.ask_patiently(&REGISTER, &(), &slow, SOON).await;
    assert_eq!(code(refused), ErrorCode::InvalidParams);
}

#[tokio::test]
async fn another_process_of_a_node_takes_its_place() {
    let nats = NatsServer::start().await;
    let _registry = Registry::start(config(&nats, true));
    let mut agent = Agent::connect(&nats, "a").await;
    let first = agent.register().await;
    let before = std::mem::replace(&mut agent.instance, InstanceId::random());
    let second = agent.register().await;
    assert_eq!(second.first_seen_ms, first.first_seen_ms);
    assert_eq!(second.replaced.unwrap().instance, before);
    let found = agent.bus.ask_patiently(&GET_NODE, &(), &agent.node, SOON);
    assert_eq!(found.await.unwrap().instance, agent.instance);
}

#[tokio::test]
async fn what_a_node_can_do_is_kept_up_to_date() {
    let nats = NatsServer::start().await;
    let _registry = Registry::start(config(&nats, true));
    let agent = Agent::connect(&nats, "a").await;
    agent.register().await;
    let mut news = agent.registration();
    news.capabilities.memory.available_bytes = 7;
    agent
        .bus
        .publish(&CAPABILITY, &agent.node, &news)
        .await
        .unwrap();
    eventually("the news", SOON, async || {
        list(&agent.bus).await[0]
            .capabilities
            .memory
            .available_bytes
            == 7
    })
    .await;
}

#[tokio::test]
async fn a_node_that_leaves_is_gone_and_a_late_beat_does_not_bring_it_back() {
    let nats = NatsServer::start().await;
    let _registry = Registry::start(config(&nats, true));
    let agent = Agent::connect(&nats, "a").await;
    let mut heard = listen(&agent.bus).await;
    agent.register().await;
    let leave = Unregister {
        node: agent.node.clone(),
        instance: Some(agent.instance.clone()),
    };
    let left = agent.bus.ask_patiently(&UNREGISTER, &(), &leave, SOON);
    left.await.unwrap();
    agent.beat().await;
    shows(&agent.bus, &[]).await;
    eventually("the events", SOON, async || heard().len() == 2).await;
    assert_eq!(heard(), ["registered a", "unregistered a"]);
}

#[tokio::test]
async fn it_waits_for_nats_and_serves_when_it_is_there() {
    let mut nats = NatsServer::start().await;
    nats.kill();
    let mut registry = process(&nats);
    eventually("a word about NATS being away", SOON, async || {
        registry.stdout().contains("does not answer")
    })
    .await;
    assert!(registry.exit_status().is_none());
    nats.restart().await;
    let agent = Agent::connect(&nats, "a").await;
    agent.register().await;
    registry.terminate();
    assert!(registry.wait(SOON).await.success());
}

#[tokio::test]
async fn many_speak_at_once() {
    let nats = NatsServer::start().await;
    let _registry = Registry::start(config(&nats, true));
    let bus = Agent::connect(&nats, "w").await.bus;
    let agents: Vec<Agent> = (10..60)
        .map(|number| Agent {
            bus: bus.clone(),
            node: NodeId::new(format!("n{number}")).unwrap(),
            instance: InstanceId::random(),
        })
        .collect();
    join_all(agents.iter().map(|agent| async {
        agent.register().await;
        agent.beat().await;
        assert!(list(&bus).await.is_sorted_by_key(|node| node.id.clone()));
        agent.register().await;
    }))
    .await;
    let (leaving, staying) = agents.split_at(25);
    let leave = leaving.iter().map(|agent| async {
        let leave = Unregister {
            node: agent.node.clone(),
            instance: None,
        };
        let left = bus.ask_patiently(&UNREGISTER, &(), &leave, SOON);
        left.await.unwrap();
    });
    let beat = staying.iter().map(Agent::beat);
    tokio::join!(join_all(leave), join_all(beat));
    let expected: Vec<_> = staying
        .iter()
        .map(|agent| (agent.node.as_str(), Online))
        .collect();
    shows(&bus, &expected).await;
}
