//! Steps: where tasks stand in the queue.

use cucumber::then;
use orchion_testkit::eventually;

use crate::journey::{Journey, SOON};

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(", ")
}

#[then(expr = "the positions of {string} are {string}")]
fn positions_are(journey: &mut Journey, tasks: String, positions: String) {
    for (task, position) in names(&tasks).zip(names(&positions)) {
        let accepted = &journey.accepted[task];
        assert_eq!(accepted["queue_position"].to_string(), position, "{task}");
    }
}

#[then(expr = "the predicted starts of {string} do not fall")]
fn predicted(journey: &mut Journey, tasks: String) {
    let start = |task| {
        journey.accepted[task]["predicted_start_ms"]
            .as_u64()
            .unwrap()
    };
    let starts: Vec<u64> = names(&tasks).map(start).collect();
    assert!(starts.is_sorted(), "{starts:?}");
}

#[then(expr = "task {string} stands at position {int}")]
async fn stands_at(journey: &mut Journey, task: String, position: u64) {
    let id = journey.id(&task);
    eventually("the position", SOON, async || {
        let job = journey.job(&id).await;
        if job["queue_position"] == position {
            Ok(())
        } else {
            Err(job)
        }
    })
    .await;
}

#[then(expr = "task {string} starts before task {string}")]
async fn starts_before(journey: &mut Journey, first: String, second: String) {
    let first = journey.until(&journey.id(&first), "completed").await;
    let second = journey.until(&journey.id(&second), "completed").await;
    let at = |job: &serde_json::Value| job["assigned_ms"].as_u64().unwrap();
    assert!(at(&first) <= at(&second), "{first} {second}");
}
