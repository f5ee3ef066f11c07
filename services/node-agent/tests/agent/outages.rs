//! What goes on after something died.

use orchion_contract::ErrorCode;
use orchion_contract::job::{AttemptOutcome, Outcome, RunReply};
use orchion_contract::transcript::{Entry, Frame, Piece, Strategy};
use orchion_testkit::mock_engine::Options;
use orchion_testkit::wire::{Ask, Fault, FaultKind};
use orchion_testkit::{MockEngine, eventually};

use crate::cluster::{Cluster, PATIENCE, settings};

#[tokio::test]
async fn the_next_attempt_goes_on_to_the_exact_token() {
    let (one, two) = (MockEngine::named("a"), MockEngine::named("b"));
    let cluster = Cluster::with_engines(vec![settings(&one), settings(&two)]).await;
    let fault = Fault::new(FaultKind::Truncate).at(17).on("a");
    let ask = Ask::new(50).fault(fault);
    let replicas = cluster.replicas();
    let by_engine = |engine: &MockEngine| {
        let port = engine.addr().port().to_string();
        let is_its =
            |replica: &&orchion_contract::node::Replica| replica.id.as_str().contains(&port);
        replicas.iter().find(is_its).unwrap()
    };
    let mut first = cluster.order(&ask);
    first.replica = by_engine(&one).id.clone();
    cluster.accepted(&first).await;
    let told = cluster.end(&first).await;
    assert!(
        matches!(told.how, AttemptOutcome::Failed { .. }),
        "{told:?}"
    );
    let second = cluster.mark(&first, by_engine(&two)).await;
    cluster.accepted(&second).await;
    let seen = cluster.answer(&second).await;
    seen.assert_whole(&ask);
    assert_eq!(seen.engines(), ["a", "b"]);
    let end = seen.end.unwrap();
    assert_eq!((end.attempt, end.outcome), (2, Outcome::Completed));
    let continued = end.continued.unwrap();
    assert_eq!(continued.strategy, Strategy::Continue);
    assert!((10..=17).contains(&continued.from_index), "{continued:?}");
    assert!(
        !continued.verified,
        "nobody knows the mock engine's weights"
    );
    assert_eq!(end.usage.completion_tokens, 50);
    // What the mock engine says a prompt costs, without the tokens before.
    assert_eq!(end.usage.prompt_tokens, 32);
    assert_eq!(two.stats().resumed, 1);
}

#[tokio::test]
async fn an_attempt_that_was_never_opened_is_void() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let mut order = cluster.order(&Ask::new(5));
    order.attempt = 2;
    cluster.accepted(&order).await;
    assert_eq!(cluster.end(&order).await.how, AttemptOutcome::Superseded);
    assert_eq!(engine.stats().requests, 0);
}

#[tokio::test]
async fn an_answer_at_its_limit_gets_its_final_without_an_engine() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let mut first = cluster.order(&Ask::new(5));
    first.spec.max_tokens = Some(2);
    cluster.append(&first, &frame(&["x", "y"])).await;
    let second = cluster.mark(&first, &cluster.replicas()[0]).await;
    cluster.accepted(&second).await;
    let end = cluster.answer(&second).await.end.unwrap();
    assert_eq!(end.finish_reason.as_deref(), Some("length"));
    assert_eq!(engine.stats().requests, 0);
}

#[tokio::test]
async fn a_restart_of_nats_in_mid_stream_loses_nothing() {
    let engine = MockEngine::named("a");
    let mut cluster = Cluster::with(&engine).await;
    let ask = Ask::new(600).pace_us(2_000);
    let orders: Vec<_> = (0..5).map(|_| cluster.order(&ask)).collect();
    for order in &orders {
        cluster.accepted(order).await;
        cluster.until_shown(order, 20).await;
    }
    cluster.nats.kill();
    cluster.nats.restart().await;
    for order in &orders {
        let seen = cluster.answer(order).await;
        seen.assert_whole(&ask);
        assert_eq!(seen.end.unwrap().attempt, 1);
    }
}

#[tokio::test]
async fn an_engine_that_dies_and_comes_back_is_in_rotation_again() {
    let engine = MockEngine::named("a");
    let listen = engine.addr();
    let cluster = Cluster::with(&engine).await;
    let order = cluster.order(&Ask::new(10_000).pace_us(2_000));
    cluster.accepted(&order).await;
    cluster.until_shown(&order, 3).await;
    drop(engine);
    let told = cluster.end(&order).await;
    assert!(
        matches!(told.how, AttemptOutcome::Failed { .. }),
        "{told:?}"
    );
    eventually("the replica to be down", PATIENCE, async || {
        !cluster.replicas()[0].ready
    })
    .await;
    let refused = cluster.run(&cluster.order(&Ask::new(3))).await;
    assert!(matches!(refused, RunReply::Refused { error } if error.code == ErrorCode::PoolUnready));
    let back = std::time::Instant::now();
    let _again = MockEngine::start(Options {
        listen,
        ..Options::default()
    });
    cluster.until_served(1).await;
    assert!(back.elapsed().as_millis() < 1_500, "{:?}", back.elapsed());
    let next = cluster.order(&Ask::new(3));
    cluster.accepted(&next).await;
    cluster.answer(&next).await;
}

#[tokio::test]
async fn the_registry_is_told_again_after_it_forgot() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    cluster.registrations.lock().unwrap().clear();
    let hello = orchion_contract::node::Hello {
        instance: cluster.instance(),
    };
    let said = cluster
        .bus
        .publish(&orchion_contract::subjects::REGISTRY_HELLO, &(), &hello);
    said.await.unwrap();
    cluster.until_served(1).await;
}

fn frame(texts: &[&str]) -> Entry {
    let piece = |text: &&str| Piece {
        text: Some((*text).to_owned()),
        tokens: 1,
        ..Piece::default()
    };
    Entry::Frame(Frame {
        attempt: 1,
        index: 0,
        pieces: texts.iter().map(piece).collect(),
    })
}
