//! The scheduler on a real bus, with agents and gateways played by the test.

mod agent;
mod queueing;
mod world;

use orchion_contract::job::{
    AttemptOutcome, CancelReason, CancelReply, JobState, Outcome, RunReply,
};
use orchion_contract::node::NodeState;
use orchion_contract::transcript::Entry;
use orchion_contract::{ErrorBody, ErrorCode};
use world::{SOON, World, submit, whole_chat};

/// How often an agent beats here.
const BEAT: std::time::Duration = std::time::Duration::from_millis(500);

#[tokio::test]
async fn a_job_is_admitted_ordered_and_ended() {
    let world = World::start().await;
    let mut agent = world.agent("a", 4).await;
    let submit = submit("m");
    let admission = world.submit(&submit).await.unwrap();
    assert_eq!(
        (admission.state, admission.queue_position),
        (JobState::Assigned, 0)
    );
    let order = agent.order(RunReply::Accepted).await;
    assert_eq!(
        (order.job, order.attempt, order.spec.seed.is_some()),
        (submit.job, 1, true)
    );
    agent.finish(&order).await;
    let summary = world.ended(submit.job).await;
    assert_eq!(summary.state, JobState::Completed);
    assert_eq!(world.history(submit.job).await, 1);
}

#[tokio::test]
async fn a_whole_chat_that_ends_at_once_has_no_record() {
    let world = World::start().await;
    let mut agent = world.agent("a", 4).await;
    // A busy machine may miss the 25 ms of one chat, but not of ten.
    for _ in 0..10 {
        let chat = whole_chat("m");
        // Its gateway would read the end, and not ask again.
        let (admission, ()) = tokio::join!(world.submit(&chat), agent.order_and_end());
        let admission = admission.unwrap();
        if !world.has_record(chat.job).await {
            assert_eq!(
                (admission.existed, admission.state),
                (true, JobState::Completed)
            );
            assert_eq!(world.history(chat.job).await, 1);
            return;
        }
    }
    panic!("every chat was recorded");
}

#[tokio::test]
async fn a_whole_chat_that_takes_longer_is_recorded_before_it_is_admitted() {
    let world = World::start().await;
    let mut agent = world.agent("a", 4).await;
    let chat = whole_chat("m");
    let admission = world.submit(&chat).await.unwrap();
    assert_eq!(
        (admission.existed, admission.state),
        (false, JobState::Assigned)
    );
    assert!(world.has_record(chat.job).await);
    agent.order_and_end().await;
    assert_eq!(world.ended(chat.job).await.state, JobState::Completed);
}

#[tokio::test]
async fn a_job_runs_when_its_agent_has_taken_it() {
    let world = World::start().await;
    let mut agent = world.agent("a", 4).await;
    let mut told = world.states().await;
    let submit = submit("m");
    world.submit(&submit).await.unwrap();
    let order = agent.order(RunReply::Accepted).await;
    let mut states = Vec::new();
    while !states.contains(&JobState::Running) {
        let events = tokio::time::timeout(SOON, told.next()).await.unwrap();
        states.extend(events.unwrap().1.changes.iter().map(|change| change.state));
    }
    let timeline = world.get(submit.job).await.unwrap().timeline;
    assert!(timeline.started_ms.is_some() && timeline.started_ms >= timeline.assigned_ms);
    agent.finish(&order).await;
    world.ended(submit.job).await;
    let events = tokio::time::timeout(SOON, told.next()).await.unwrap();
    states.extend(events.unwrap().1.changes.iter().map(|change| change.state));
    let expected = [JobState::Assigned, JobState::Running, JobState::Completed];
    assert_eq!(states, expected);
}

#[tokio::test]
async fn the_same_id_gets_the_same_answer_and_another_body_is_refused() {
    let world = World::start().await;
    let _agent = world.agent("a", 4).await;
    let mut submit = submit("m");
    let first = world.submit(&submit).await.unwrap();
    let again = world.submit(&submit).await.unwrap();
    assert_eq!((again.job, again.existed), (first.job, true));
    submit.spec.max_tokens = Some(3);
    let refused = world.submit(&submit).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
}

#[tokio::test]
async fn an_unknown_model_is_refused_and_an_unknown_job_is_not_found() {
    let world = World::start().await;
    let _agent = world.agent("a", 4).await;
    assert_eq!(
        world.submit(&submit("gpt-9")).await.unwrap_err().code,
        ErrorCode::NotFound
    );
    let unknown = world
        .cancel(orchion_contract::JobId::now(), CancelReason::Client)
        .await
        .unwrap_err();
    assert_eq!(unknown.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_failed_attempt_is_marked_and_ordered_anew() {
    let world = World::start().await;
    let mut agent = world.agent("a", 4).await;
    let submit = submit("m");
    world.submit(&submit).await.unwrap();
    let first = agent.order(RunReply::Accepted).await;
    agent.store_frame(&first, 0, 0, "Hel").await;
    let error = ErrorBody::new(ErrorCode::WorkerReset, "the engine went away");
    agent
        .tell(&first, AttemptOutcome::Failed { error }, true)
        .await;
    let second = agent.order(RunReply::Accepted).await;
    assert_eq!((second.attempt, second.prefix_by.is_some()), (2, true));
    let transcript = world.transcript(&submit).await;
    assert!(matches!(transcript.last(), Some(Entry::Mark(mark)) if mark.attempt == 2));
    agent.finish(&second).await;
    assert_eq!(world.ended(submit.job).await.attempt, 2);
}

#[tokio::test]
async fn a_job_that_no_engine_answers_ends_soon_with_what_they_said() {
    let world = World::start().await;
    let mut a = world.agent("a", 1).await;
    let mut b = world.agent("b", 1).await;
    let submit = submit("m");
    let began = std::time::Instant::now();
    world.submit(&submit).await.unwrap();
    let message = "the engine cannot answer now (HTTP 500): boom";
    let mut error = ErrorBody::new(ErrorCode::PoolUnready, message);
    error.engine_status = Some(500);
    let mut asked = Vec::new();
    for _ in 0..3 {
        let (agent, order) = tokio::select! {
            order = a.order(RunReply::Accepted) => (&a, order),
            order = b.order(RunReply::Accepted) => (&b, order),
        };
        let error = error.clone();
        let how = AttemptOutcome::Failed { error };
        agent.tell(&order, how, false).await;
        asked.push(order.instance);
    }
    assert_ne!(asked[0], asked[1], "the other one is tried first");
    let end = world.ended(submit.job).await.end.unwrap();
    let error = end.error.unwrap();
    assert_eq!(error.code, ErrorCode::ReplicaExhausted);
    assert_eq!(error.engine_status, Some(500));
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
}

#[tokio::test]
async fn a_lost_node_gives_its_job_to_another_and_its_zombie_is_told_to_stop() {
    let world = World::start().await;
    let mut a = world.agent("a", 4).await;
    let submit = submit("m");
    world.submit(&submit).await.unwrap();
    let first = a.order(RunReply::Accepted).await;
    let mut b = world.agent("b", 4).await;
    world.set_state("a", NodeState::Lost).await;
    let second = b.order(RunReply::Accepted).await;
    assert_eq!((second.job, second.attempt), (submit.job, 2));
    world.set_state("a", NodeState::Online).await;
    a.beat(&[(first.job, 1)]).await;
    let stop = a.cancel(CancelReply::NotRunning).await;
    assert_eq!(
        (stop.job, stop.reason),
        (submit.job, CancelReason::Superseded)
    );
}

#[tokio::test]
async fn an_order_that_got_lost_is_sent_again() {
    let world = World::start().await;
    let mut agent = world.agent("a", 4).await;
    let submit = submit("m");
    world.submit(&submit).await.unwrap();
    let first = agent.order(RunReply::Accepted).await;
    let mut agent = agent.forgetful().await;
    let again = agent.order(RunReply::Accepted).await;
    assert_eq!((again.job, again.attempt), (first.job, first.attempt));
}

#[tokio::test]
async fn a_queued_job_is_canceled_without_an_agent() {
    let world = World::start().await;
    let mut agent = world.agent("a", 1).await;
    world.submit(&submit("m")).await.unwrap();
    agent.order(RunReply::Accepted).await;
    let queued = submit("m");
    let admission = world.submit(&queued).await.unwrap();
    assert_eq!(
        (admission.state, admission.queue_position),
        (JobState::Pending, 0)
    );
    let summary = world
        .cancel(queued.job, CancelReason::Client)
        .await
        .unwrap();
    assert_eq!(summary.state, JobState::Canceled);
    let transcript = world.transcript(&queued).await;
    assert!(
        matches!(transcript.as_slice(), [Entry::Final(end)] if end.outcome == Outcome::Canceled)
    );
    assert_eq!(
        world
            .cancel(queued.job, CancelReason::Client)
            .await
            .unwrap()
            .state,
        JobState::Canceled
    );
}

#[tokio::test]
async fn a_running_job_whose_agent_is_silent_is_canceled_anyhow() {
    let world = World::start().await;
    let mut agent = world.agent("a", 1).await;
    let running = submit("m");
    world.submit(&running).await.unwrap();
    agent.order(RunReply::Accepted).await;
    let summary = world
        .cancel(running.job, CancelReason::Client)
        .await
        .unwrap();
    assert_eq!(summary.state, JobState::Canceled);
    assert!(matches!(
        world.transcript(&running).await.last(),
        Some(Entry::Final(_))
    ));
}

#[tokio::test]
async fn a_deadline_ends_a_waiting_job() {
    let world = World::start().await;
    let mut agent = world.agent("a", 1).await;
    world.submit(&submit("m")).await.unwrap();
    agent.order(RunReply::Accepted).await;
    let mut late = submit("m");
    late.spec.deadline_ms = 200;
    world.submit(&late).await.unwrap();
    let summary = world.ended(late.job).await;
    assert_eq!(
        summary.end.unwrap().error.unwrap().code,
        ErrorCode::DeadlineUnmet
    );
}

#[tokio::test]
async fn a_successor_adopts_what_is_recorded_and_what_is_written() {
    let mut world = World::start().await;
    let mut agent = world.agent("a", 1).await;
    let (running, queued, finished) = (submit("m"), submit("m"), submit("m"));
    world.submit(&finished).await.unwrap();
    let order = agent.order(RunReply::Accepted).await;
    agent.finish(&order).await;
    world.ended(finished.job).await;
    world.submit(&running).await.unwrap();
    let order = agent.order(RunReply::Accepted).await;
    world.submit(&queued).await.unwrap();
    // The end is in the transcript, and nobody has told the scheduler.
    world.kill_scheduler();
    agent.store_final(&order, 0).await;
    world.start_scheduler("second").await;
    assert_eq!(world.ended(running.job).await.state, JobState::Completed);
    let next = agent.order(RunReply::Accepted).await;
    assert_eq!((next.job, next.attempt), (queued.job, 1));
    assert!(next.epoch > order.epoch);
    assert_eq!(
        world.get(finished.job).await.unwrap().state,
        JobState::Completed
    );
}

#[tokio::test]
async fn a_busy_agent_is_no_failure() {
    let world = World::start().await;
    let mut agent = world.agent("a", 2).await;
    let submit = submit("m");
    world.submit(&submit).await.unwrap();
    agent.order(RunReply::Busy).await;
    // A heartbeat may overtake the answer; then only the next one frees the slot.
    let mut again = None;
    for _ in 0..20 {
        agent.beat(&[]).await;
        let order = agent.order(RunReply::Accepted);
        again = tokio::time::timeout(BEAT, order).await.ok();
        if again.is_some() {
            break;
        }
    }
    let again = again.expect("no order came after a heartbeat");
    assert_eq!(again.attempt, 2);
    agent.finish(&again).await;
    tokio::time::timeout(SOON, world.ended(submit.job))
        .await
        .unwrap();
}
