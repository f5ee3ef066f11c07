//! Orders: what is answered, what is run, what is stored.

use std::time::Duration;

use orchion_contract::job::{AttemptOutcome, CancelReason, CancelReply, Outcome, RunReply};
use orchion_contract::subjects::HEARTBEAT;
use orchion_contract::transcript::Entry;
use orchion_contract::{ErrorCode, InstanceId, JobId, ReplicaId};
use orchion_testkit::mock_engine::Options;
use orchion_testkit::wire::{Ask, Fault, FaultKind};
use orchion_testkit::{MockEngine, eventually};

use crate::cluster::{Cluster, PATIENCE, settings};

#[tokio::test]
async fn an_answer_is_stored_frame_by_frame_with_one_final() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let ask = Ask::new(40).pace_us(1_000);
    let order = cluster.order(&ask);
    cluster.accepted(&order).await;
    let seen = cluster.answer(&order).await;
    seen.assert_whole(&ask);
    let end = seen.end.unwrap();
    assert_eq!(end.outcome, Outcome::Completed);
    assert_eq!(end.finish_reason.as_deref(), Some("stop"));
    assert_eq!(end.usage.completion_tokens, 40);
    assert_eq!(end.node, Some(cluster.node.clone()));
    let told = cluster.end(&order).await;
    assert!(told.stored);
    assert!(matches!(told.how, AttemptOutcome::Final { .. }), "{told:?}");
}

#[tokio::test]
async fn the_same_order_again_is_running_and_then_ended() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let order = cluster.order(&Ask::new(60).pace_us(5_000));
    cluster.accepted(&order).await;
    assert_eq!(cluster.run(&order).await, RunReply::Running);
    cluster.end(&order).await;
    assert!(matches!(cluster.run(&order).await, RunReply::Ended { .. }));
    assert_eq!(engine.stats().requests, 1);
}

#[tokio::test]
async fn a_heartbeat_tells_how_full_the_host_and_its_replicas_are() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let mut beats = cluster.bus.subscribe(HEARTBEAT).await.unwrap();
    cluster.bus.flush().await.unwrap();
    let order = cluster.order(&Ask::new(20_000).pace_us(1_000));
    cluster.accepted(&order).await;
    let beat = loop {
        let next = tokio::time::timeout(PATIENCE, beats.next());
        let (_, beat) = next.await.expect("a heartbeat").unwrap();
        if !beat.running.is_empty() {
            break beat;
        }
    };
    assert!(beat.memory_available_bytes > 0);
    let load = &beat.replicas[0];
    // What such an engine has loaded is not known: it counts as loaded.
    assert_eq!((load.busy, load.ready, load.loaded), (1, true, true));
    cluster.cancel(&order, CancelReason::Client).await;
}

#[tokio::test]
async fn an_end_is_told_until_the_scheduler_says_that_it_knows() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    *cluster.is_listening.lock().unwrap() = false;
    let order = cluster.order(&Ask::new(3));
    cluster.accepted(&order).await;
    cluster.answer(&order).await;
    *cluster.is_listening.lock().unwrap() = true;
    cluster.end(&order).await;
}

#[tokio::test]
async fn no_more_attempts_than_slots_run_at_once() {
    let engine = MockEngine::named("a");
    let one = orchion_node_agent::EngineSettings {
        slots: Some(1),
        ..settings(&engine)
    };
    let cluster = Cluster::with_engines(vec![one]).await;
    let slow = cluster.order(&Ask::new(1_000).pace_us(5_000));
    let next = cluster.order(&Ask::new(3));
    cluster.accepted(&slow).await;
    assert_eq!(cluster.run(&next).await, RunReply::Busy);
    cluster.cancel(&slow, CancelReason::Client).await;
    cluster.accepted(&next).await;
    cluster.answer(&next).await;
}

#[tokio::test]
async fn orders_that_are_not_for_us_have_an_answer_of_their_own() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let good = cluster.order(&Ask::new(3));
    let mut other = good.clone();
    other.epoch = 5;
    other.instance = InstanceId::new("before").unwrap();
    let instance = cluster.instance();
    assert_eq!(
        cluster.run(&other).await,
        RunReply::WrongInstance { instance }
    );
    assert_eq!(cluster.run(&good).await, RunReply::Stale { epoch: 5 });
    let mut unknown = good.clone();
    unknown.epoch = 5;
    unknown.replica = ReplicaId::new("nobody").unwrap();
    let RunReply::Refused { error } = cluster.run(&unknown).await else {
        panic!("an unknown replica was not refused");
    };
    assert_eq!(error.code, ErrorCode::PoolUnavailable);
}

#[tokio::test]
async fn a_cancel_frees_the_engine_and_answers_when_the_final_is_stored() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let order = cluster.order(&Ask::new(10_000).pace_us(2_000));
    cluster.accepted(&order).await;
    cluster.until_shown(&order, 3).await;
    let CancelReply::Ended { end } = cluster.cancel(&order, CancelReason::Client).await else {
        panic!("a running attempt was not canceled");
    };
    assert!(matches!(end.how, AttemptOutcome::Final { end } if end.outcome == Outcome::Canceled));
    let seen = cluster.shown(&order).await;
    let last = seen.end.expect("the answer came before the final");
    assert_eq!(last.usage.completion_tokens, seen.pieces as u64);
    eventually("the engine to be free", PATIENCE, async || {
        engine.stats().inflight == 0
    })
    .await;
    assert_eq!(engine.stats().cancelled, 1);
    let mut never = order.clone();
    never.job = JobId::now();
    let reply = cluster.cancel(&never, CancelReason::Client).await;
    assert_eq!(reply, CancelReply::NotRunning);
}

#[tokio::test]
async fn an_attempt_that_is_not_wanted_any_more_writes_no_final() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let order = cluster.order(&Ask::new(10_000).pace_us(2_000));
    cluster.accepted(&order).await;
    cluster.until_shown(&order, 3).await;
    let reply = cluster.cancel(&order, CancelReason::Superseded).await;
    assert!(matches!(reply, CancelReply::Ended { end } if end.how == AttemptOutcome::Superseded));
    assert!(cluster.shown(&order).await.end.is_none());
}

#[tokio::test]
async fn a_preempted_attempt_stores_what_it_said_and_another_goes_on_behind_it() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let ask = Ask::new(60).pace_us(2_000);
    let order = cluster.order(&ask);
    cluster.accepted(&order).await;
    cluster.until_shown(&order, 3).await;
    let reply = cluster.cancel(&order, CancelReason::Preempted).await;
    let CancelReply::Ended { end } = reply else {
        panic!("a running attempt was not stopped: {reply:?}");
    };
    assert_eq!((&end.how, end.stored), (&AttemptOutcome::Preempted, true));
    assert!(cluster.shown(&order).await.end.is_none());
    let next = cluster.mark(&order, &cluster.replicas()[0]).await;
    cluster.accepted(&next).await;
    cluster.answer(&next).await.assert_whole(&ask);
}

#[tokio::test]
async fn a_mark_of_another_attempt_ends_the_attempt_without_one_more_byte() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let order = cluster.order(&Ask::new(10_000).pace_us(2_000));
    cluster.accepted(&order).await;
    cluster.until_shown(&order, 3).await;
    cluster.mark(&order, &cluster.replicas()[0]).await;
    assert_eq!(cluster.end(&order).await.how, AttemptOutcome::Superseded);
    let seen = cluster.shown(&order).await;
    assert!(matches!(seen.entries.last(), Some(Entry::Mark(_))));
    eventually("the engine to be free", PATIENCE, async || {
        engine.stats().inflight == 0
    })
    .await;
}

#[tokio::test]
async fn a_deadline_ends_the_job() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let mut order = cluster.order(&Ask::new(10_000).pace_us(2_000));
    order.remaining_ms = 100;
    cluster.accepted(&order).await;
    let end = cluster.answer(&order).await.end.unwrap();
    assert_eq!(end.outcome, Outcome::Failed);
    assert_eq!(end.error.unwrap().code, ErrorCode::DeadlineUnmet);
}

#[tokio::test]
async fn an_engine_that_breaks_off_leaves_what_it_said_and_no_final() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    for kind in [
        FaultKind::Truncate,
        FaultKind::EndEarly,
        FaultKind::NoDone,
        FaultKind::ErrorEvent,
        FaultKind::Malformed,
    ] {
        let order = cluster.order(&Ask::new(20).fault(Fault::new(kind).at(10)));
        cluster.accepted(&order).await;
        let told = cluster.end(&order).await;
        let AttemptOutcome::Failed { error } = told.how else {
            panic!("{kind}: expected a failure, got {:?}", told.how);
        };
        assert_eq!(error.code, ErrorCode::WorkerReset, "{kind}: {error}");
        let seen = cluster.shown(&order).await;
        assert!(seen.end.is_none(), "{kind}");
        assert!(seen.pieces >= 9 && told.stored, "{kind}: {}", seen.pieces);
    }
}

#[tokio::test]
async fn an_engine_that_cannot_answer_now_is_no_end_of_the_job() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    for (kind, code, status) in [
        (FaultKind::Overloaded, ErrorCode::PoolUnready, Some(503)),
        (FaultKind::Error, ErrorCode::PoolUnready, Some(500)),
        (FaultKind::Drop, ErrorCode::WorkerReset, None),
        (FaultKind::ErrorEvent, ErrorCode::WorkerReset, Some(500)),
    ] {
        let order = cluster.order(&Ask::new(5).fault(Fault::new(kind).at(0)));
        cluster.accepted(&order).await;
        let told = cluster.end(&order).await;
        let AttemptOutcome::Failed { error } = told.how else {
            panic!("{kind}: expected a failure, got {:?}", told.how);
        };
        assert_eq!((error.code, told.stored), (code, false), "{kind}");
        assert_eq!(error.engine_status, status, "{kind}");
    }
}

#[tokio::test]
async fn a_request_that_the_engine_refuses_ends_the_job_with_its_reason() {
    let engine = MockEngine::start(Options {
        continuation: orchion_testkit::wire::Continuation::Refuse,
        ..Options::default()
    });
    let cluster = Cluster::with(&engine).await;
    let mut order = cluster.order(&Ask::new(5));
    let body = r#"{"messages":[{"content":"a","role":"user"},{"content":"b","role":"assistant"}]}"#;
    order.spec.body = serde_json::value::RawValue::from_string(body.to_owned()).unwrap();
    cluster.accepted(&order).await;
    let end = cluster.answer(&order).await.end.unwrap();
    let error = end.error.unwrap();
    assert_eq!(error.code, ErrorCode::InvalidParams);
    assert!(error.message.contains("cannot continue"), "{error}");
}

#[tokio::test]
async fn a_stop_lets_answers_finish_and_takes_no_new_ones() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let ask = Ask::new(100).pace_us(5_000);
    let order = cluster.order(&ask);
    cluster.accepted(&order).await;
    cluster.until_shown(&order, 3).await;
    cluster.stop_agent();
    eventually("the replicas to be closed", PATIENCE, async || {
        cluster.replicas().iter().all(|replica| !replica.ready)
    })
    .await;
    let late = RunReply::Busy;
    let next = cluster.order(&Ask::new(3));
    assert_eq!(cluster.run(&next).await, late);
    cluster.answer(&order).await.assert_whole(&ask);
    cluster.end(&order).await;
    cluster.agent_ended().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_outlasts_the_grace_period_is_handed_over() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let order = cluster.order(&Ask::new(100_000).pace_us(5_000));
    cluster.accepted(&order).await;
    cluster.until_shown(&order, 3).await;
    cluster.stop_agent();
    let told = cluster.end(&order).await;
    assert!(
        matches!(told.how, AttemptOutcome::Failed { .. }),
        "{told:?}"
    );
    assert!(cluster.shown(&order).await.end.is_none());
    let started = std::time::Instant::now();
    cluster.agent_ended().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(3));
}
