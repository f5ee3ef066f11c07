//! Deaths that no other test of the whole stages: of a cable, of what answers do
//! not need, of everything at once.

use std::time::{Duration, Instant};

use orchion_e2e::{Chats, Noise, SOON, alone};
use orchion_testkit::cluster::Login;
use orchion_testkit::judge::{Order, chat, follow, task};
use orchion_testkit::wire::Ask;
use orchion_testkit::{Cluster, NatsServer, Proxy, eventually};

fn paced(tokens: u32) -> Order {
    Order::new(Ask::new(tokens).pace_us(25_000))
}

#[tokio::test]
async fn the_streams_behind_a_cut_cable_go_on_elsewhere_and_their_old_writer_adds_nothing() {
    let _alone = alone().await;
    let nats = NatsServer::start().await;
    let cable = Proxy::start(nats.addr());
    let cluster = Cluster::builder()
        .nats(nats, Login::default())
        .agent_nats_url(1, &format!("nats://{}", cable.addr()))
        .start()
        .await;
    let gateway = cluster.gateway(0);
    let mut chats = Chats::default();
    for _ in 0..6 {
        chats.ask(&gateway, paced(300));
    }
    eventually("all streams", SOON, async || chats.have(20)).await;

    let noise = Noise::measure();
    cable.stall();
    let orders = chats.orders.clone();
    let verdicts = chats.all_good().await;
    let longest = verdicts.iter().map(|it| it.longest_pause).max().unwrap();
    noise.within(
        "a stream behind a cut cable",
        Instant::now().checked_sub(longest).unwrap(),
        Duration::from_secs(4),
    );
    let moved = verdicts.iter().filter(|it| it.engines == ["b", "a"]);
    assert_eq!(moved.count(), 3, "{verdicts:#?}");

    // The old writer wakes up with tokens in its hands.
    cable.resume();
    cluster.until_whole().await;
    for (order, verdict) in orders.iter().zip(verdicts) {
        let job = verdict.job.unwrap();
        let again = follow(&[cluster.gateway(0)], order, &job).await;
        assert!(again.is_good(), "{again:?}");
        assert_eq!(again.engines, verdict.engines);
    }
}

#[tokio::test]
async fn nobody_notices_that_registry_and_log_sink_are_dead() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder().start().await;
    let gateway = cluster.gateway(0);
    let mut chats = Chats::default();
    for _ in 0..6 {
        chats.ask(&gateway, paced(200));
    }
    eventually("all streams", SOON, async || chats.have(20)).await;

    cluster.registry.kill();
    cluster.log_sink.kill();
    let verdict = chat(&gateway, &paced(20)).await;
    assert!(verdict.is_good(), "{verdict:?}");
    for verdict in chats.all_good().await {
        assert_eq!(verdict.engines.len(), 1, "{verdict:?}");
    }

    cluster.registry.revive();
    let active = "acquired the lease of registry";
    eventually("the registry", SOON, async || {
        cluster.registry.output().contains(active)
    })
    .await;
    cluster.heal().await;
    eventually("what was logged while nobody kept it", SOON, async || {
        let answer = gateway.get("/api/logs?source=registry&limit=1000").await;
        let kept = answer.map_or_else(|error| error.to_string(), |answer| answer.text());
        if kept.matches(active).count() == 2 {
            Ok(())
        } else {
            Err(kept)
        }
    })
    .await;
}

#[tokio::test]
async fn tasks_go_on_after_everything_died_at_once() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder().start().await;
    let orders: Vec<_> = (0..6)
        .map(|_| paced(300).deadline(Duration::from_secs(90)))
        .collect();
    let mut tasks = tokio::task::JoinSet::new();
    for order in orders.clone() {
        let clients = cluster.clients();
        tasks.spawn(async move { task(&clients, &order).await });
    }
    eventually("all streams", SOON, async || {
        orders.iter().all(|order| order.progress().tokens() >= 20)
    })
    .await;

    cluster.nats.kill();
    let many = [
        &mut cluster.engines,
        &mut cluster.agents,
        &mut cluster.schedulers,
        &mut cluster.gateways,
    ];
    for part in many.into_iter().flatten() {
        part.kill();
    }
    cluster.registry.kill();
    cluster.log_sink.kill();
    cluster.nats.restart().await;
    cluster.heal().await;

    for verdict in tasks.join_all().await {
        assert!(verdict.is_good(), "{verdict:?}");
        assert!(verdict.reconnects > 0, "{verdict:?}");
    }
}
