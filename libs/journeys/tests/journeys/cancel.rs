//! Steps: what is not wanted any more.

use cucumber::{then, when};
use uuid::Uuid;

use crate::journey::Journey;

#[when(expr = "I cancel the task {string}")]
async fn cancel(journey: &mut Journey, task: String) {
    journey.cancel(&journey.id(&task)).await;
}

#[when(expr = "I cancel a task that never was")]
async fn cancel_unknown(journey: &mut Journey) {
    journey.cancel(&Uuid::now_v7().to_string()).await;
}

#[when(expr = "I hang up")]
fn hang_up(journey: &mut Journey) {
    (journey.stream, journey.raw) = (None, None);
}

#[then(expr = "the engines have seen nothing of task {string}")]
async fn never_ran(journey: &mut Journey, task: String) {
    let job = journey.job(&journey.id(&task)).await;
    assert_eq!(job["attempt"], 0, "{job}");
    assert_eq!(journey.requests_seen().await, journey.engine_requests);
}
