//! Nothing is lost, nothing is kept twice, nothing stops the flow.

use crate::world::{SOON, World, record};
use orchion_bus::Error;
use orchion_contract::job::{Door, EndedJobs, JobState, JobSummary, Priority, Workload};
use orchion_contract::log::Level::Info;
use orchion_contract::rpc::PAST_JOB;
use orchion_contract::subjects::{JOBS_ENDED, LOG};
use orchion_contract::{ErrorCode, JobId, ModelName, ReaderId};
use orchion_testkit::eventually;

#[tokio::test]
async fn history_survives_a_restart() {
    let world = World::new().await;
    let mut running = world.start();
    world.log(&record(1, Info, None)).await;
    world.holds(1).await;
    running.terminate();
    assert!(running.wait(SOON).await.success());
    world.log(&record(2, Info, None)).await;
    let _again = world.start();
    world.holds(2).await;
}

#[tokio::test]
async fn killed_between_batches_it_loses_and_doubles_nothing() {
    const RECORDS: u64 = 900;
    let world = World::new().await;
    for number in 0..RECORDS / 2 {
        world.log(&record(number, Info, None)).await;
    }
    // Killed at several points of its work: early ones before any commit,
    // late ones between commit and acknowledgement.
    for wait_for in [1, 100, 300] {
        let mut running = world.start();
        eventually("some records", SOON, async || {
            let database = world.data.path().join("log-sink/logs.db");
            database.exists() && world.has_table() && world.counts().len() >= wait_for
        })
        .await;
        running.kill();
    }
    let _running = world.start();
    for number in RECORDS / 2..RECORDS {
        world.log(&record(number, Info, None)).await;
    }
    world.holds(usize::try_from(RECORDS).unwrap()).await;
    assert!(world.counts().values().all(|count| *count == 1));
}

#[tokio::test]
async fn a_restart_of_nats_loses_nothing() {
    let mut world = World::new().await;
    let _running = world.start();
    world.log(&record(0, Info, None)).await;
    world.holds(1).await;
    world.nats.restart().await;
    eventually("NATS to take records again", SOON, async || {
        let again = record(1, Info, None);
        let address = (
            "gateway".parse().unwrap(),
            "g1".parse().unwrap(),
            again.level,
        );
        let stored = world
            .bus
            .store_once(&LOG, &address, &again.id, &again)
            .await;
        stored.map_err(|error| error.to_string())
    })
    .await;
    world.holds(2).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_passed_over() {
    let world = World::new().await;
    let mut running = world.start();
    let raw = world.nats.client().await;
    for payload in ["no JSON, but a prompt", "{\"id\":1}", "{}"] {
        raw.publish("orchion.log.gateway.g1.info", payload.into())
            .await
            .unwrap();
    }
    raw.flush().await.unwrap();
    world.log(&record(1, Info, None)).await;
    world.holds(1).await;
    running.terminate();
    assert!(running.wait(SOON).await.success());
    let said = running.stdout();
    assert_eq!(said.matches("gave up a message").count(), 3, "{said}");
    assert!(!said.contains("prompt"));
}

#[tokio::test]
async fn a_job_told_twice_is_one_job_as_it_was_told_last() {
    let world = World::new().await;
    let mut running = world.start();
    let mut summary = JobSummary {
        id: JobId::now(),
        reader: ReaderId::random(),
        door: Door::Task,
        workload: Workload::Chat,
        model: ModelName::from("tiny"),
        priority: Priority::Batch,
        state: JobState::Failed,
        queue_position: None,
        attempt: 1,
        node: None,
        created_ms: 1,
        assigned_ms: None,
        deadline_at_ms: 2,
        correlation_id: "c".to_owned(),
        end: None,
        timeline: Default::default(),
        progress: None,
    };
    for state in [JobState::Failed, JobState::Completed] {
        summary.state = state;
        let jobs = vec![summary.clone()];
        let ended = EndedJobs { jobs };
        world.bus.store(&JOBS_ENDED, &(), &ended).await.unwrap();
    }
    world.log(&record(1, Info, None)).await;
    world.holds(1).await;
    eventually("the job", SOON, async || {
        let jobs = world.jobs();
        if jobs == [summary.clone()] {
            Ok(())
        } else {
            Err(jobs)
        }
    })
    .await;
    let ask = async |id| world.bus.ask(&PAST_JOB, &(), &id, SOON).await;
    assert_eq!(ask(summary.id).await.unwrap(), summary);
    let unknown = ask(JobId::now()).await.unwrap_err();
    assert!(
        matches!(&unknown, Error::Remote(body) if body.code == ErrorCode::NotFound),
        "{unknown}"
    );
    running.terminate();
    running.wait(SOON).await;
}
