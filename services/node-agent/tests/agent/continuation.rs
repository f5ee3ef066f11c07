//! How a cut answer is taken up: continued, replayed, or started over.

use orchion_contract::job::{AttemptOutcome, Outcome, RunOrder};
use orchion_contract::node::Continuation;
use orchion_contract::transcript::{Continued, Entry, Final, Strategy};
use orchion_contract::{ErrorCode, ModelName};
use orchion_node_agent::EngineSettings;
use orchion_testkit::MockEngine;
use orchion_testkit::mock_engine::Options;
use orchion_testkit::wire::{self, Ask, Fault, FaultKind};
use serde_json::json;
use serde_json::value::RawValue;

use crate::cluster::{Cluster, settings};
use crate::seen::Seen;

/// Tokens of an answer without a marker.
const TOKENS: u32 = 40;
/// Before this one its engine breaks.
const CUT: u32 = 17;

/// An engine whose answer to a prompt without a marker is always the same.
fn engine(continuation: wire::Continuation) -> MockEngine {
    MockEngine::start(Options {
        continuation,
        tokens: TOKENS,
        ..Options::default()
    })
}

/// How the agent is told of it.
fn told(engine: &MockEngine, continuation: Continuation) -> EngineSettings {
    EngineSettings {
        continuation: Some(continuation),
        ..settings(engine)
    }
}

fn body(body: &serde_json::Value) -> Box<RawValue> {
    RawValue::from_string(body.to_string()).unwrap()
}

/// An order for an answer that is the same each time.
fn steady(cluster: &Cluster) -> RunOrder {
    let mut order = cluster.order(&Ask::new(1));
    order.spec.body = body(&json!({"messages": [{"content": "tell", "role": "user"}]}));
    order
}

/// Runs an attempt that breaks off and one that takes the answer up.
async fn cut_and_taken_up(cluster: &Cluster, engine: &MockEngine, first: &RunOrder) -> Seen {
    engine.set_fault(Some(Fault::new(FaultKind::Truncate).at(CUT)));
    cluster.accepted(first).await;
    let end = cluster.end(first).await;
    assert!(matches!(end.how, AttemptOutcome::Failed { .. }), "{end:?}");
    engine.set_fault(None);
    let second = cluster.mark(first, &cluster.replicas()[0]).await;
    cluster.accepted(&second).await;
    cluster.answer(&second).await
}

fn continued(seen: &Seen) -> Continued {
    let end = seen.end.as_ref().unwrap();
    assert_eq!(end.outcome, Outcome::Completed, "{end:?}");
    end.continued.clone().unwrap()
}

fn restarts(seen: &Seen) -> usize {
    let is_restart = |entry: &&Entry| matches!(entry, Entry::Restart(_));
    seen.entries.iter().filter(is_restart).count()
}

/// The answer that nothing disturbs.
async fn undisturbed(cluster: &Cluster) -> Seen {
    let order = steady(cluster);
    cluster.accepted(&order).await;
    cluster.answer(&order).await
}

fn counts(end: &Final) -> (u64, u64) {
    (end.usage.prompt_tokens, end.usage.completion_tokens)
}

#[tokio::test]
async fn an_answer_that_comes_again_is_swallowed_as_far_as_it_was_shown() {
    let engine = engine(wire::Continuation::Refuse);
    let cluster = Cluster::with_engines(vec![told(&engine, Continuation::None)]).await;
    let whole = undisturbed(&cluster).await;
    let seen = cut_and_taken_up(&cluster, &engine, &steady(&cluster)).await;
    assert_eq!(seen.text, whole.text);
    let continued = continued(&seen);
    assert_eq!(continued.strategy, Strategy::Replay);
    assert!(continued.verified);
    assert_eq!(continued.swallowed_tokens, continued.from_index);
    assert!(continued.swallowed_tokens > 0, "{continued:?}");
    assert_eq!(
        counts(&seen.end.unwrap()),
        counts(&whole.end.unwrap()),
        "as if it had never been cut"
    );
}

#[tokio::test]
async fn a_beginning_that_the_engine_refuses_is_replayed() {
    let engine = engine(wire::Continuation::Refuse);
    let cluster = Cluster::with_engines(vec![told(&engine, Continuation::Text)]).await;
    let whole = undisturbed(&cluster).await;
    let seen = cut_and_taken_up(&cluster, &engine, &steady(&cluster)).await;
    assert_eq!(seen.text, whole.text);
    assert_eq!(continued(&seen).strategy, Strategy::Replay);
}

#[tokio::test]
async fn a_seed_that_was_promised_is_kept() {
    let engine = engine(wire::Continuation::Continue);
    let cluster = Cluster::with_engines(vec![told(&engine, Continuation::Text)]).await;
    let whole = undisturbed(&cluster).await;
    let order = steady(&cluster);
    let replayed = cut_and_taken_up(&cluster, &engine, &order).await;
    assert_eq!(replayed.text, whole.text);
    assert_eq!(continued(&replayed).strategy, Strategy::Replay);
    let mut drawn = steady(&cluster);
    drawn.spec.seed_drawn = true;
    let went_on = cut_and_taken_up(&cluster, &engine, &drawn).await;
    assert_eq!(continued(&went_on).strategy, Strategy::Continue);
    assert_eq!(went_on.text, whole.text);
}

#[tokio::test]
async fn an_answer_that_comes_out_otherwise_goes_on_behind_its_text() {
    // Its tokens carry the time at which they were made.
    let engine = engine(wire::Continuation::Continue);
    let cluster = Cluster::with_engines(vec![told(&engine, Continuation::Text)]).await;
    let ask = Ask::new(50);
    let seen = cut_and_taken_up(&cluster, &engine, &cluster.order(&ask)).await;
    seen.assert_whole(&ask);
    assert_eq!(continued(&seen).strategy, Strategy::Continue);
    assert_eq!(engine.stats().resumed, 1);
}

#[tokio::test]
async fn a_repeated_beginning_is_not_shown_twice() {
    let engine = engine(wire::Continuation::Repeat);
    let cluster = Cluster::with_engines(vec![told(&engine, Continuation::Text)]).await;
    let ask = Ask::new(50);
    let mut order = cluster.order(&ask);
    order.spec.seed_drawn = true;
    let seen = cut_and_taken_up(&cluster, &engine, &order).await;
    seen.assert_whole(&ask);
    assert_eq!(restarts(&seen), 0);
}

#[tokio::test]
async fn what_cannot_be_taken_up_starts_over() {
    let engine = engine(wire::Continuation::Refuse);
    let cluster = Cluster::with_engines(vec![told(&engine, Continuation::Text)]).await;
    let ask = Ask::new(50);
    let seen = cut_and_taken_up(&cluster, &engine, &cluster.order(&ask)).await;
    // Only what stands behind the restart.
    seen.assert_whole(&ask);
    assert_eq!(restarts(&seen), 1);
    let continued = continued(&seen);
    assert_eq!(continued.strategy, Strategy::Restart);
    assert!(!continued.verified);
    assert_eq!(counts(&seen.end.unwrap()), (32, 50));
}

#[tokio::test]
async fn an_answer_is_not_taken_back_for_an_engine_that_does_not_answer() {
    let engine = engine(wire::Continuation::Refuse);
    let cluster = Cluster::with_engines(vec![told(&engine, Continuation::None)]).await;
    let first = cluster.order(&Ask::new(50));
    engine.set_fault(Some(Fault::new(FaultKind::Truncate).at(CUT)));
    cluster.accepted(&first).await;
    cluster.end(&first).await;
    let before = cluster.shown(&first).await.text;
    engine.set_fault(Some(Fault::new(FaultKind::Error)));
    let second = cluster.mark(&first, &cluster.replicas()[0]).await;
    cluster.accepted(&second).await;
    let end = cluster.end(&second).await;
    assert!(matches!(end.how, AttemptOutcome::Failed { .. }), "{end:?}");
    assert!(!end.stored);
    // Replay and restart were tried, and neither showed anything.
    assert_eq!(engine.stats().requests, 3);
    let seen = cluster.shown(&first).await;
    assert_eq!(
        (seen.text, restarts(&cluster.shown(&first).await)),
        (before, 0)
    );
}

#[tokio::test]
async fn other_weights_start_over_at_once() {
    let engine = engine(wire::Continuation::Continue);
    let known = EngineSettings {
        digest: Some("sha256:ours".to_owned()),
        ..settings(&engine)
    };
    let cluster = Cluster::with_engines(vec![known]).await;
    let ask = Ask::new(50);
    let first = cluster.order(&ask);
    engine.set_fault(Some(Fault::new(FaultKind::Truncate).at(CUT)));
    cluster.accepted(&first).await;
    cluster.end(&first).await;
    engine.set_fault(None);
    let replica = cluster.replicas().remove(0);
    let mut second = cluster.mark(&first, &replica).await;
    let mut other = replica.engine.clone();
    other.digest = Some("sha256:other".to_owned());
    second.prefix_by = Some(other);
    cluster.accepted(&second).await;
    let seen = cluster.answer(&second).await;
    seen.assert_whole(&ask);
    assert_eq!(continued(&seen).strategy, Strategy::Restart);
    assert_eq!(engine.stats().requests, 2, "nothing else was tried");
    let written_by = seen.entries.iter().find_map(|entry| match entry {
        Entry::Restart(restart) => restart.engine.clone(),
        Entry::Frame(_) | Entry::Mark(_) | Entry::Final(_) => None,
    });
    assert_eq!(written_by, Some(replica.engine));
}

#[tokio::test]
async fn a_request_that_the_engine_refuses_is_not_put_to_it_again() {
    let engine = engine(wire::Continuation::Continue);
    let cluster = Cluster::with(&engine).await;
    let mut order = steady(&cluster);
    order.spec.model = ModelName::from("mock");
    order.spec.body = body(&json!({"messages": [], "continue_final_message": "yes"}));
    cluster.accepted(&order).await;
    let end = cluster.end(&order).await;
    let AttemptOutcome::Final { end } = end.how else {
        panic!("a refused request was left to another attempt: {end:?}");
    };
    assert_eq!(end.outcome, Outcome::Failed);
    assert_eq!(end.error.unwrap().code, ErrorCode::InvalidParams);
}
