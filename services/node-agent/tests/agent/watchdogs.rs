//! How long engines may take, and how soon they are free.

use std::time::Duration;

use orchion_contract::ErrorCode;
use orchion_contract::job::{AttemptOutcome, CancelReason, Outcome};
use orchion_node_agent::EngineSettings;
use orchion_service::HumanDuration;
use orchion_testkit::clock::mono_us;
use orchion_testkit::wire::{Ask, Fault, FaultKind};
use orchion_testkit::{MockEngine, eventually};

use crate::cluster::{Cluster, PATIENCE, settings};

/// An engine is free so soon after a cancel, in the median.
const FREE: Duration = Duration::from_millis(50);
const CANCELS: usize = 31;

#[tokio::test]
async fn an_answer_that_takes_too_long_ends_for_good() {
    let engine = MockEngine::named("a");
    let impatient = EngineSettings {
        wall_timeout: Some(HumanDuration::from_millis(300)),
        ..settings(&engine)
    };
    let cluster = Cluster::with_engines(vec![impatient]).await;
    let order = cluster.order(&Ask::new(10_000).pace_us(2_000));
    cluster.accepted(&order).await;
    let seen = cluster.answer(&order).await;
    let end = seen.end.unwrap();
    assert_eq!(end.outcome, Outcome::Failed);
    assert_eq!(end.error.unwrap().code, ErrorCode::DecodeTimeout);
    assert_eq!(end.usage.completion_tokens, seen.pieces as u64);
    eventually("the engine to be free", PATIENCE, async || {
        engine.stats().inflight == 0
    })
    .await;
}

#[tokio::test]
async fn a_caller_may_allow_less() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let mut order = cluster.order(&Ask::new(10_000).pace_us(2_000));
    order.spec.timeouts.wall_ms = Some(200);
    cluster.accepted(&order).await;
    let end = cluster.answer(&order).await.end.unwrap();
    assert_eq!(end.error.unwrap().code, ErrorCode::DecodeTimeout);
}

#[tokio::test]
async fn a_silent_engine_is_left_to_another_attempt() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let hangs = Fault::new(FaultKind::Hang).at(5).times(1);
    let ask = Ask::new(30).fault(hangs);
    let mut order = cluster.order(&ask);
    order.spec.timeouts.idle_ms = Some(200);
    order.spec.seed_drawn = true;
    cluster.accepted(&order).await;
    let end = cluster.end(&order).await;
    let AttemptOutcome::Failed { error } = end.how else {
        panic!("a silent engine ended the job: {end:?}");
    };
    assert_eq!(error.code, ErrorCode::DecodeTimeout);
    assert_eq!(engine.stats().inflight, 0);
    let next = cluster.mark(&order, &cluster.replicas()[0]).await;
    cluster.accepted(&next).await;
    cluster.answer(&next).await.assert_whole(&ask);
}

#[tokio::test]
async fn a_deadline_ends_the_answer_as_such() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let mut order = cluster.order(&Ask::new(10_000).pace_us(2_000));
    order.remaining_ms = 200;
    cluster.accepted(&order).await;
    let end = cluster.answer(&order).await.end.unwrap();
    assert_eq!(end.error.unwrap().code, ErrorCode::DeadlineUnmet);
}

#[tokio::test]
async fn an_engine_is_free_a_moment_after_the_cancel() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let mut took = Vec::new();
    for _ in 0..CANCELS {
        let order = cluster.order(&Ask::new(100_000).pace_us(2_000));
        cluster.accepted(&order).await;
        cluster.until_shown(&order, 3).await;
        let before = engine.stats().cancelled;
        let asked = mono_us();
        cluster.cancel(&order, CancelReason::Client).await;
        eventually("the engine to be left", PATIENCE, async || {
            engine.stats().cancelled > before
        })
        .await;
        // On the engine's own clock.
        let left = engine.stats().last_cancel_us;
        took.push(Duration::from_micros(left.saturating_sub(asked)));
    }
    took.sort_unstable();
    let median = took[CANCELS / 2];
    assert!(median <= FREE, "median {median:?} of {took:?}");
}
