//! Brief answers that nobody reads along: they come from the engine in one
//! body, and their end answers the order.

use orchion_contract::job::{
    AttemptEnd, AttemptOutcome, CancelReason, Outcome, RunOrder, RunReply,
};
use orchion_contract::transcript::Entry;
use orchion_testkit::wire::{Ask, Fault, FaultKind};
use orchion_testkit::{MockEngine, eventually};

use crate::cluster::{Cluster, PATIENCE};

/// An order whose caller wants the answer whole.
fn whole(cluster: &Cluster, ask: &Ask) -> RunOrder {
    let mut order = cluster.order(ask);
    order.spec.whole = true;
    order.spec.max_tokens = Some(ask.tokens);
    order
}

/// The agent has seen one answer of its engine, and knows how fast it is.
async fn acquainted(engine: &MockEngine) -> Cluster {
    let cluster = Cluster::with(engine).await;
    let first = whole(&cluster, &Ask::new(20));
    cluster.accepted(&first).await;
    cluster.end(&first).await;
    cluster
}

fn end_of(reply: RunReply) -> AttemptEnd {
    let RunReply::Ended { end } = reply else {
        panic!("{reply:?} instead of an end");
    };
    *end
}

#[tokio::test]
async fn a_brief_answer_is_one_entry_and_the_answer_to_its_order() {
    let engine = MockEngine::named("a");
    let cluster = acquainted(&engine).await;
    let ask = Ask::new(20);
    let order = whole(&cluster, &ask);
    let end = end_of(cluster.run(&order).await);
    assert!(matches!(&end.how, AttemptOutcome::Final { end } if end.outcome == Outcome::Completed));
    let seen = cluster.answer(&order).await;
    seen.assert_whole(&ask);
    assert!(matches!(&seen.entries[..], [Entry::Final(_)]), "{seen:?}");
    assert_eq!(seen.pieces, 1, "it came in one body");
    assert_eq!(seen.end.unwrap().usage.completion_tokens, 20);
    assert_eq!(
        cluster.run(&order).await,
        RunReply::Ended { end: Box::new(end) }
    );
    let told = cluster.ends.lock().unwrap();
    assert!(
        told.iter().all(|end| end.job != order.job),
        "it was told twice"
    );
}

#[tokio::test]
async fn who_reads_along_gets_a_stream_from_an_engine_that_is_known() {
    let engine = MockEngine::named("a");
    let cluster = acquainted(&engine).await;
    let ask = Ask::new(20);
    let mut order = whole(&cluster, &ask);
    order.spec.whole = false;
    cluster.accepted(&order).await;
    let seen = cluster.answer(&order).await;
    seen.assert_whole(&ask);
    assert_eq!(seen.pieces, 20);
}

#[tokio::test]
async fn an_answer_that_may_get_long_is_streamed() {
    let engine = MockEngine::named("a");
    let cluster = acquainted(&engine).await;
    let ask = Ask::new(20);
    let mut order = whole(&cluster, &ask);
    order.spec.max_tokens = None;
    cluster.accepted(&order).await;
    let seen = cluster.answer(&order).await;
    seen.assert_whole(&ask);
    assert_eq!(seen.pieces, 20);
}

#[tokio::test]
async fn an_order_that_is_not_brief_after_all_is_taken_first_and_told_at_its_end() {
    let engine = MockEngine::named("a");
    let cluster = acquainted(&engine).await;
    let ask = Ask::new(20).pace_us(20_000);
    let order = whole(&cluster, &ask);
    cluster.accepted(&order).await;
    let end = cluster.end(&order).await;
    assert!(matches!(end.how, AttemptOutcome::Final { .. }), "{end:?}");
    cluster.answer(&order).await.assert_whole(&ask);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_failed_attempt_that_stored_nothing() {
    let engine = MockEngine::named("a");
    let cluster = acquainted(&engine).await;
    let ask = Ask::new(20).fault(Fault::new(FaultKind::Truncate));
    let order = whole(&cluster, &ask);
    cluster.accepted(&order).await;
    let end = cluster.end(&order).await;
    assert!(matches!(end.how, AttemptOutcome::Failed { .. }), "{end:?}");
    assert!(!end.stored);
}

#[tokio::test]
async fn a_brief_answer_can_be_canceled() {
    let engine = MockEngine::named("a");
    let cluster = acquainted(&engine).await;
    let order = whole(&cluster, &Ask::new(20).pace_us(1_000_000));
    cluster.accepted(&order).await;
    cluster.cancel(&order, CancelReason::Client).await;
    let end = cluster.answer(&order).await.end.unwrap();
    assert_eq!(end.outcome, Outcome::Canceled);
    eventually("the engine to be free", PATIENCE, async || {
        engine.stats().inflight == 0
    })
    .await;
}
