//! Steps: where tasks run, and why there.

use std::collections::BTreeMap;

use cucumber::{given, then, when};
use orchion_testkit::Cluster;
use orchion_testkit::wire::Ask;
use serde_json::{Value, json};

use crate::journey::Journey;
use crate::stage::stage;

#[given(expr = "a cluster with {int} nodes of {int} slots")]
async fn nodes(journey: &mut Journey, agents: usize, slots: u32) {
    let build = || Cluster::builder().agents(agents).slots(slots);
    let name = format!("{agents} nodes of {slots} slots");
    journey.enter(stage(&name, build).await).await;
}

#[given(expr = "a cluster with {int} nodes in turn")]
async fn in_turn(journey: &mut Journey, agents: usize) {
    // Answers of a few tokens say nothing of speed.
    let lines = "strategy = \"round-robin\"\nslow_share = 0.0";
    let build = || {
        Cluster::builder()
            .agents(agents)
            .slots(4)
            .settings("scheduler", lines)
    };
    let name = format!("{agents} nodes in turn");
    journey.enter(stage(&name, build).await).await;
}

async fn place(journey: &mut Journey, name: &str, ask: &Ask, placement: Value) {
    let mut body = journey.task(name, ask);
    body["placement"] = placement;
    journey.submit(name, &body, &[]).await;
}

fn pin(node: &str) -> Value {
    json!({"mode": "pin", "pin_pool_id": node})
}

#[given(expr = "{int} tasks pinned to {string} that hold their slots")]
async fn holding(journey: &mut Journey, count: usize, node: String) {
    for number in 0..count {
        let name = format!("held {number}");
        let ask = Ask::new(60_000).pace_us(2_000);
        place(journey, &name, &ask, pin(&node)).await;
        journey.until(&journey.id(&name), "running").await;
    }
}

#[when(expr = "the tasks that hold slots are canceled")]
async fn release(journey: &mut Journey) {
    let held = journey.tasks.keys().filter(|name| name.starts_with("held"));
    let held: Vec<String> = held.map(|name| journey.id(name)).collect();
    for id in held {
        journey.cancel(&id).await;
    }
}

#[when(expr = "I submit a task {string} pinned to {string}")]
async fn pinned(journey: &mut Journey, name: String, node: String) {
    place(journey, &name, &Ask::new(5), pin(&node)).await;
}

#[when(expr = "I submit a task {string} that prefers {string}")]
async fn prefers(journey: &mut Journey, name: String, node: String) {
    let placement = json!({"mode": "prefer", "prefer_pools": [node]});
    place(journey, &name, &Ask::new(5), placement).await;
}

#[when(expr = "I submit a task {string} that avoids {string}")]
async fn avoids(journey: &mut Journey, name: String, node: String) {
    place(journey, &name, &Ask::new(5), json!({"avoid_pools": [node]})).await;
}

#[when(expr = "I submit {int} tasks, one after the other")]
async fn many(journey: &mut Journey, count: usize) {
    for number in 0..count {
        let name = format!("task {number}");
        let body = journey.task(&name, &Ask::new(3));
        journey.submit(&name, &body, &[]).await;
        journey.until(&journey.id(&name), "completed").await;
    }
}

#[when(expr = "I submit {int} batch tasks")]
async fn many_batch(journey: &mut Journey, count: usize) {
    for number in 0..count {
        let name = format!("batch {number}");
        let mut body = journey.task(&name, &Ask::new(3));
        body["priority"] = "batch".into();
        journey.submit(&name, &body, &[]).await;
        assert_eq!(journey.answer().status, 202, "{}", journey.answer().text());
    }
}

#[then(expr = "task {string} ran on {string}")]
async fn ran_on(journey: &mut Journey, name: String, node: String) {
    let job = journey.job(&journey.id(&name)).await;
    assert_eq!(job["node"], node.as_str(), "{job}");
}

#[then(expr = "the tasks {string} run on two nodes")]
async fn on_two(journey: &mut Journey, names: String) {
    let mut nodes = Vec::new();
    for name in names.split(", ") {
        let job = journey.job(&journey.id(name)).await;
        nodes.push(job["node"].as_str().expect("a node").to_owned());
    }
    assert_ne!(nodes[0], nodes[1]);
}

#[then(expr = "each node has run {int} of them")]
async fn each(journey: &mut Journey, count: usize) {
    let mut by_node = BTreeMap::<String, usize>::new();
    let names: Vec<String> = journey.tasks.keys().cloned().collect();
    for name in names {
        let job = journey.job(&journey.id(&name)).await;
        *by_node
            .entry(job["node"].as_str().expect("a node").to_owned())
            .or_default() += 1;
    }
    assert_eq!(by_node.len(), 3, "{by_node:?}");
    assert!(by_node.values().all(|ran| *ran == count), "{by_node:?}");
}

impl Journey {
    async fn explanation(&self, name: &str) -> Value {
        let path = format!("/v1/tasks/{}/explain", self.id(name));
        let answer = self.gateway().get(&path).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

#[then(expr = "the explanation of {string} says that it is pinned and has no capacity")]
async fn has_no_capacity(journey: &mut Journey, name: String) {
    let explained = journey.explanation(&name).await;
    let last = explained["decisions"].as_array().unwrap().last().unwrap();
    assert_eq!(last["outcome"], "no_capacity", "{explained}");
    assert_eq!(last["pinned"], true, "{explained}");
    assert!(
        explained["summary"]
            .as_str()
            .is_some_and(|it| !it.is_empty())
    );
}

#[then(expr = "the explanation of {string} names the filter {string}")]
async fn names_filter(journey: &mut Journey, name: String, filter: String) {
    let explained = journey.explanation(&name).await;
    let decisions = explained["decisions"].as_array().unwrap().iter();
    let mut filters = decisions.flat_map(|it| it["filters_applied"].as_array().unwrap());
    assert!(
        filters.any(|it| it["filter"] == filter.as_str() && it["removed"] != 0),
        "{explained}"
    );
}
