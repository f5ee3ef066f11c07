//! Each feature is one test: its scenarios run one after the other against one
//! cluster of real processes, which is started anew when a scenario has broken it.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a step that cannot do its work must fail its scenario on the spot; steps own what they are told"
)]

mod bus;
mod cancel;
mod chat;
mod follow;
mod journey;
mod placement;
mod queue;
mod stage;
mod submit;

use cucumber::World as _;
use cucumber::writer::Stats as _;
use futures_util::FutureExt;
use journey::Journey;

/// Runs the scenarios of a feature; nothing may be undefined, skipped or failed.
async fn run(feature: &str) {
    let path = format!("{}/features/{feature}.feature", env!("CARGO_MANIFEST_DIR"));
    let done = Journey::cucumber()
        .max_concurrent_scenarios(1)
        .fail_on_skipped()
        .with_default_cli()
        .after(|_, _, _, _, journey| {
            async move {
                if let Some(journey) = journey {
                    journey.leave().await;
                }
            }
            .boxed_local()
        })
        .run(path)
        .await;
    stage::clear();
    assert!(!done.execution_has_failed(), "{feature} has failed");
    assert!(done.passed_steps() > 0, "{feature} has no step");
    assert_eq!(done.skipped_steps(), 0, "{feature} has skipped steps");
}

#[tokio::test]
async fn admission_queue() {
    run("admission_queue").await;
}

#[tokio::test]
async fn enqueue_stream() {
    run("enqueue_stream").await;
}

#[tokio::test]
async fn backpressure() {
    run("backpressure").await;
}

#[tokio::test]
async fn cancel_feature() {
    run("cancel").await;
}

#[tokio::test]
async fn error_taxonomy() {
    run("error_taxonomy").await;
}

#[tokio::test]
async fn guardrails() {
    run("guardrails").await;
}

#[tokio::test]
async fn placement_feature() {
    run("placement").await;
}
