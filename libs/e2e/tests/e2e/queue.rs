//! The queue as its clients see it: who makes way, who goes first, what a death
//! of the scheduler changes.

use std::time::{Duration, Instant};

use orchion_contract::JobId;
use orchion_e2e::{SOON, alone, ended};
use orchion_testkit::judge::{Order, chat, task};
use orchion_testkit::wire::Ask;
use orchion_testkit::{Cluster, HttpClient, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;

fn paced(tokens: u32) -> Order {
    Order::new(Ask::new(tokens).pace_us(20_000))
}

async fn json_of(client: &HttpClient, path: &str) -> Value {
    let answer = client.get(path).await.map(|answer| answer.text());
    serde_json::from_str(&answer.unwrap_or_default()).unwrap_or_default()
}

#[tokio::test]
async fn a_running_batch_job_makes_way_and_its_answer_stays_whole() {
    let _alone = alone().await;
    let cluster = Cluster::builder().agents(1).slots(1).start().await;
    let gateway = cluster.gateway(0);
    let batch = paced(250).batch();
    let progress = batch.progress();
    let clients = cluster.clients();
    let mut running = JoinSet::new();
    running.spawn(async move { task(&clients, &batch).await });
    eventually("the batch job", SOON, async || progress.tokens() >= 20).await;

    let asked = Instant::now();
    let interactive = chat(&gateway, &Order::new(Ask::new(10))).await;
    let waited = asked.elapsed();
    assert!(interactive.is_good(), "{interactive:?}");
    let is_over = running.try_join_next().is_some();
    assert!(!is_over, "the batch job takes five seconds");
    assert!(waited < Duration::from_secs(3), "{waited:?}");

    let verdict = running.join_next().await.unwrap().unwrap();
    assert!(verdict.is_good(), "{verdict:?}");
    let job = verdict.job.unwrap();
    let summary = ended(&gateway, &job).await;
    assert_eq!(summary["state"], "completed");
    assert!(summary["attempt"].as_u64() >= Some(2), "{summary}");
    assert_eq!(
        summary["end"]["continued"]["strategy"], "continue",
        "{summary}"
    );
    let timeline = &summary["timeline"];
    let steps = [
        "queued_ms",
        "assigned_ms",
        "started_ms",
        "first_token_ms",
        "ended_ms",
    ];
    let times = steps.map(|step| timeline[step].as_u64().expect("every step has its time"));
    assert!(times.is_sorted(), "{timeline}");

    let why = json_of(&gateway, &format!("/v1/tasks/{job}/explain")).await;
    let outcomes = why["decisions"].as_array().into_iter().flatten();
    let outcomes: Vec<&str> = outcomes
        .filter_map(|made| made["outcome"].as_str())
        .collect();
    assert_eq!(outcomes, ["assigned", "preempted", "assigned"], "{why}");
}

#[tokio::test]
async fn fifty_waiting_jobs_survive_the_death_of_the_scheduler_in_order() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder()
        .agents(1)
        .slots(1)
        .schedulers(2)
        .start()
        .await;
    let gateway = cluster.gateway(0);
    let first = paced(400);
    let progress = first.progress();
    let clients = cluster.clients();
    let mut running = JoinSet::new();
    running.spawn(async move { task(&clients, &first).await });
    eventually("the job that holds the slot", SOON, async || {
        progress.tokens() >= 5
    })
    .await;

    let mut jobs = Vec::new();
    for n in 0..50 {
        let id = JobId::now().to_string();
        let text = format!("{} please", Ask::new(2).marker());
        let priority = if n % 5 == 0 { "batch" } else { "interactive" };
        let body = json!({
            "task_id": id, "workload": "chat", "model": "mock", "priority": priority,
            "messages": [{"role": "user", "content": text}],
        });
        let answer = gateway.post("/v1/tasks", &body).await.unwrap().text();
        assert!(answer.contains(&id), "{answer}");
        jobs.push((priority, id));
    }
    // Interactive ones first, in order inside a class.
    jobs.sort_by_key(|(priority, _)| *priority == "batch");
    let positions = async || {
        let mut found = Vec::new();
        for (_, id) in &jobs {
            let job = json_of(&gateway, &format!("/api/jobs/{id}")).await;
            found.push(job["queue_position"].as_u64());
        }
        found
    };
    let expected: Vec<Option<u64>> = (0..50).map(Some).collect();
    assert_eq!(positions().await, expected);

    let active = cluster
        .active_scheduler()
        .expect("a scheduler is in charge");
    cluster.schedulers[active].kill();
    eventually("the same order at the next scheduler", SOON, async || {
        let found = positions().await;
        if found == expected {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;

    let verdict = running.join_next().await.unwrap().unwrap();
    assert!(verdict.is_good(), "{verdict:?}");
    let mut begun = Vec::new();
    for (_, id) in &jobs {
        let job = ended(&gateway, id).await;
        assert_eq!(
            (&job["state"], &job["attempt"]),
            (&json!("completed"), &json!(1)),
            "{job}"
        );
        begun.push(job["assigned_ms"].as_u64());
    }
    assert!(begun.is_sorted(), "{begun:?}");
}
