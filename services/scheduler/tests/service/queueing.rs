//! Who waits, who makes way, who is told, on the bus.

use crate::world::{SOON, World, submit};
use orchion_contract::job::{
    AttemptEnd, AttemptOutcome, CancelReason, CancelReply, JobState, Priority, RunReply, Submit,
};
use orchion_contract::placement::{DecisionOutcome, FilterName, PlacementMode, PlacementSpec};
use orchion_contract::transcript::Entry;
use orchion_contract::{ErrorCode, JobId};
use orchion_scheduler::{Pool, Scheduler, WhenFull};

fn batch() -> Submit {
    let mut submit = submit("m");
    submit.spec.priority = Priority::Batch;
    submit
}

fn pools(capacity: usize, full_policy: WhenFull) -> Scheduler {
    let mut settings = Scheduler::default();
    let pool = Pool {
        capacity: Some(capacity),
        full_policy: Some(full_policy),
        preempt: Some(false),
        ..Pool::default()
    };
    settings.pools.insert("m".to_owned(), pool);
    settings
}

#[tokio::test]
async fn a_batch_job_makes_way_and_is_ordered_again_behind_its_prefix() {
    let world = World::start().await;
    let mut agent = world.agent("a", 1).await;
    let (batch, wanted) = (batch(), submit("m"));
    world.submit(&batch).await.unwrap();
    let first = agent.order(RunReply::Accepted).await;
    agent.store_frame(&first, 0, 0, "Hel").await;
    agent.beat(&[(batch.job, 1)]).await;

    world.submit(&wanted).await.unwrap();
    let end = AttemptEnd {
        job: batch.job,
        attempt: 1,
        how: AttemptOutcome::Preempted,
        sequence: 1,
        stored: true,
    };
    let stop = agent
        .cancel(CancelReply::Ended { end: Box::new(end) })
        .await;
    assert_eq!(
        (stop.job, stop.reason),
        (batch.job, CancelReason::Preempted)
    );
    let order = agent.order(RunReply::Accepted).await;
    assert_eq!((order.job, order.attempt), (wanted.job, 1));
    agent.finish(&order).await;

    let again = agent.order(RunReply::Accepted).await;
    assert_eq!((again.job, again.attempt), (batch.job, 2));
    assert!(again.prefix_by.is_some());
    let transcript = world.transcript(&batch).await;
    let marked = matches!(transcript.last(), Some(Entry::Mark(mark)) if mark.attempt == 2);
    assert!(marked, "{transcript:?}");
    agent.finish(&again).await;
    assert_eq!(world.ended(batch.job).await.state, JobState::Completed);
    let why = world.explain(batch.job).await.unwrap();
    let outcomes: Vec<_> = why.decisions.iter().map(|made| made.outcome).collect();
    let expected = [
        DecisionOutcome::Assigned,
        DecisionOutcome::Preempted,
        DecisionOutcome::Assigned,
    ];
    assert_eq!(outcomes, expected);
}

#[tokio::test]
async fn a_waiting_job_is_told_and_explained() {
    let world = World::start().await;
    let mut agent = world.agent("a", 1).await;
    let mut told = world.progress().await;
    let (first, second) = (submit("m"), submit("m"));
    world.submit(&first).await.unwrap();
    let order = agent.order(RunReply::Accepted).await;
    let admission = world.submit(&second).await.unwrap();
    assert_eq!(admission.queue_position, 0);
    let predicted = admission.predicted_start_ms.unwrap();
    assert!(predicted > 0);

    let ((reader, job), seen) = tokio::time::timeout(SOON, told.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((reader, job), (second.reader.clone(), second.job));
    assert_eq!((seen.queue_position, seen.queue_depth), (Some(0), 1));
    // The same moment, told a moment earlier or later.
    let apart = seen.predicted_start_ms.unwrap().abs_diff(predicted);
    assert!(apart < 1000, "{apart} ms");
    let why = world.explain(second.job).await.unwrap();
    let candidate = &why.decisions[0].candidates[0];
    assert_eq!(candidate.removed_by, Some(FilterName::NoFreeSlot));

    agent.finish(&order).await;
    agent.order(RunReply::Accepted).await;
    let started = async {
        loop {
            let (_, seen) = told.next().await.unwrap();
            if seen.state == JobState::Assigned {
                return seen;
            }
        }
    };
    let seen = tokio::time::timeout(SOON, started).await.unwrap();
    assert_eq!((seen.job, seen.predicted_start_ms), (second.job, Some(0)));
    let unknown = world.explain(JobId::now()).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_full_queue_answers_by_its_policy() {
    for policy in [WhenFull::Reject, WhenFull::ShedLowPriority] {
        let world = World::start_with(pools(1, policy)).await;
        let _agent = world.agent("a", 1).await;
        for _ in 0..2 {
            world.submit(&submit("m")).await.unwrap();
        }
        let refused = world.submit(&batch()).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::AdmissionReject);
        let label = match policy {
            WhenFull::ShedLowPriority => "shed-low-priority",
            WhenFull::Reject | WhenFull::DropLru => "reject",
        };
        assert_eq!(refused.policy_label.as_deref(), Some(label));
        assert!(refused.retry_after_ms.is_some_and(|wait| wait > 0));
    }
}

#[tokio::test]
async fn the_job_that_is_dropped_for_a_newcomer_has_an_end_in_its_transcript() {
    let world = World::start_with(pools(1, WhenFull::DropLru)).await;
    let mut agent = world.agent("a", 1).await;
    world.submit(&submit("m")).await.unwrap();
    agent.order(RunReply::Accepted).await;
    let victim = batch();
    world.submit(&victim).await.unwrap();
    let newcomer = submit("m");
    let admission = world.submit(&newcomer).await.unwrap();
    assert_eq!(
        (admission.state, admission.queue_position),
        (JobState::Pending, 0)
    );
    let ended = world.ended(victim.job).await;
    assert_eq!(ended.state, JobState::Failed);
    let error = ended.end.unwrap().error.unwrap();
    assert_eq!(
        (error.code, error.is_retriable()),
        (ErrorCode::QueueFullDropLru, true)
    );
    let transcript = world.transcript(&victim).await;
    assert!(matches!(transcript.as_slice(), [Entry::Final(_)]));
    let refused = world.submit(&batch()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::QueueFullDropLru);
    assert_eq!(refused.policy_label.as_deref(), Some("drop-lru"));
}

#[tokio::test]
async fn a_pin_goes_to_its_node_or_is_refused() {
    let world = World::start().await;
    let _first = world.agent("a", 4).await;
    let mut second = world.agent("b", 4).await;
    let mut pinned = submit("m");
    let pin = |place: &str| {
        Some(Box::new(PlacementSpec {
            mode: PlacementMode::Pin,
            pin_pool_id: Some(place.to_owned()),
            ..PlacementSpec::default()
        }))
    };
    pinned.spec.placement = pin("nowhere");
    let refused = world.submit(&pinned).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidParams);
    pinned.spec.placement = pin("b");
    world.submit(&pinned).await.unwrap();
    let order = second.order(RunReply::Accepted).await;
    assert_eq!(order.job, pinned.job);
}
