//! Who dies, and who does not.

use crate::world::{Agent, Registry, SOON, config, list, listen, process, shows};
use orchion_contract::buckets::NODES;
use orchion_contract::node::NodeState::{Lost, Online};
use orchion_testkit::{NatsServer, Proxy, eventually};
use std::path::Path;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_node_that_dies_is_lost_within_a_second() {
    let nats = NatsServer::start().await;
    let _registry = Registry::start(config(&nats, true));
    let (agent, watcher) = tokio::join!(Agent::connect(&nats, "a"), Agent::connect(&nats, "w"));
    let mut heard = listen(&watcher.bus).await;
    agent.register().await;
    let node = agent.node.clone();
    let died = Instant::now();
    drop(agent);
    let records = watcher.bus.bucket(NODES);
    eventually("the record to say so", SOON, async || {
        let record = records.get(&node).await.unwrap().unwrap().value.unwrap();
        if record.state == Lost {
            Ok(())
        } else {
            Err(record.state)
        }
    })
    .await;
    let after = died.elapsed();
    assert!(after < Duration::from_secs(1), "{after:?}");
    eventually("the events", SOON, async || heard().len() == 3).await;
    assert_eq!(heard(), ["registered a", "suspect a", "lost a"]);
}

#[tokio::test]
async fn a_node_with_a_stalled_connection_is_lost_within_four_seconds_and_comes_back() {
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(nats.addr());
    let _registry = Registry::start(config(&nats, true));
    let mut through = config(&nats, false).nats;
    through.url = format!("nats://{}", proxy.addr());
    let watcher = Agent::connect(&nats, "w").await;
    let agent = Agent::connect_to(&through, "a").await;
    let _alive = agent.live().await;
    let first_seen = list(&watcher.bus).await[0].first_seen_ms;

    proxy.stall();
    let stalled = Instant::now();
    shows(&watcher.bus, &[("a", Lost)]).await;
    let after = stalled.elapsed();
    assert!(after < Duration::from_secs(4), "{after:?}");
    proxy.resume();
    shows(&watcher.bus, &[("a", Online)]).await;
    assert_eq!(list(&watcher.bus).await[0].first_seen_ms, first_seen);
}

#[tokio::test]
async fn a_restart_of_nats_under_ten_agents_loses_nobody() {
    let mut nats = NatsServer::start().await;
    let _registry = Registry::start(config(&nats, true));
    let watcher = Agent::connect(&nats, "w").await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let mut alive = Vec::new();
    for name in names {
        alive.push(Agent::connect(&nats, name).await.live().await);
    }
    let mut heard = listen(&watcher.bus).await;
    for _ in 0..2 {
        nats.restart().await;
        let all = names.map(|name| (name, Online));
        shows(&watcher.bus, &all).await;
    }
    nats.stop_gracefully().await;
    nats.restart().await;
    // Absence is judged after five seconds, and nobody is absent.
    let end = Instant::now() + Duration::from_secs(6);
    eventually("six seconds in peace", SOON, async || {
        assert_eq!(heard(), Vec::<String>::new());
        Instant::now() > end
    })
    .await;
    shows(&watcher.bus, &names.map(|name| (name, Online))).await;
}

#[tokio::test]
async fn a_standby_takes_over_and_loses_no_node() {
    let nats = NatsServer::start().await;
    let mut active = process(&nats);
    let watcher = Agent::connect(&nats, "w").await;
    let mut alive = Vec::new();
    for name in ["a", "b", "c"] {
        alive.push(Agent::connect(&nats, name).await.live().await);
    }
    let before = list(&watcher.bus).await;
    let standby = process(&nats);
    eventually("the standby", SOON, async || {
        standby.stdout().contains("is running")
    })
    .await;
    let mut heard = listen(&watcher.bus).await;
    active.kill();
    let after = list(&watcher.bus).await;
    let known = |nodes: &[orchion_contract::node::Node]| -> Vec<_> {
        let facts = nodes.iter();
        facts
            .map(|node| {
                (
                    node.id.clone(),
                    node.instance.clone(),
                    node.first_seen_ms,
                    node.labels.clone(),
                    node.state,
                )
            })
            .collect()
    };
    assert_eq!(known(&after), known(&before));
    assert_eq!(after.len(), 3);
    assert_eq!(heard(), Vec::<String>::new());

    // The new one watches as well as the old one did.
    alive.pop().unwrap().abort();
    shows(&watcher.bus, &[("a", Online), ("b", Online), ("c", Lost)]).await;
}

#[tokio::test]
async fn wiped_records_are_back_within_two_heartbeats() {
    let nats = NatsServer::start().await;
    let registry = Registry::start(config(&nats, true));
    let watcher = Agent::connect(&nats, "w").await;
    let mut alive = Vec::new();
    for name in ["a", "b", "c"] {
        alive.push(Agent::connect(&nats, name).await.live().await);
    }
    let before = list(&watcher.bus).await;
    registry.stop().await;
    wipe(&nats).await;
    let registry = Registry::start(config(&nats, true));
    shows(&watcher.bus, &[("a", Online), ("b", Online), ("c", Online)]).await;
    assert_eq!(list(&watcher.bus).await[2].labels, before[2].labels);

    // Under a registry that runs, the next sweep writes them again.
    wipe(&nats).await;
    let records = watcher.bus.bucket(NODES);
    eventually("the records", SOON, async || {
        let mut found = 0;
        for node in &before {
            let record = records
                .get(&node.id)
                .await
                .map_err(|error| error.to_string())?;
            found += usize::from(record.is_some());
        }
        if found == 3 {
            Ok(())
        } else {
            Err(format!("{found} of 3"))
        }
    })
    .await;
    registry.stop().await;
}

/// Empties the bucket as an operator would, behind the registry's back.
async fn wipe(nats: &NatsServer) {
    let raw = nats.client().await;
    let purged = raw
        .request("$JS.API.STREAM.PURGE.KV_nodes", "".into())
        .await;
    assert!(String::from_utf8_lossy(&purged.unwrap().payload).contains("\"success\":true"));
}

#[tokio::test]
async fn the_products_own_server_tells_of_deaths_too() {
    let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../nats/loopback.conf");
    let nats = NatsServer::with_config(&settings, &[]).await;
    let mut own = config(&nats, false);
    (own.nats.user, own.nats.password) = (None, None);
    own.nats.system_user = Some("liveness".to_owned());
    let as_agent = orchion_bus::Config {
        url: nats.url(),
        ..orchion_bus::Config::default()
    };
    let _registry = Registry::start(own);
    let agent = Agent::connect_to(&as_agent, "a").await;
    let watcher = Agent::connect_to(&as_agent, "w").await;
    let alive = agent.live().await;
    shows(&watcher.bus, &[("a", Online)]).await;
    alive.abort();
    let died = Instant::now();
    shows(&watcher.bus, &[("a", Lost)]).await;
    let after = died.elapsed();
    assert!(after < Duration::from_secs(1), "{after:?}");
}
