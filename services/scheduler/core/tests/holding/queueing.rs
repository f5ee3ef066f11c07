//! What waits, makes room, is dropped and is told why.

use crate::charge::{self, Charge, ms, node_id, ordered};
use orchion_contract::job::{
    AttemptEnd, AttemptOutcome, CancelReason, CancelReply, Door, JobState, Priority,
};
use orchion_contract::placement::DecisionOutcome;
use orchion_contract::progress::{Progress, ProgressEvent};
use orchion_contract::{ErrorCode, JobId};
use orchion_scheduler_core::{Effect, FullPolicy, Input, Question, Settings};

fn preempted(effects: &[Effect]) -> Option<JobId> {
    effects.iter().find_map(|effect| match effect {
        Effect::Cancel { order, .. } if order.reason == CancelReason::Preempted => Some(order.job),
        _ => None,
    })
}

fn progress(effects: &[Effect]) -> Vec<Progress> {
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::TellProgress { progress, .. } => Some((**progress).clone()),
        _ => None,
    });
    told.collect()
}

fn made_way(job: JobId) -> CancelReply {
    let end = AttemptEnd {
        job,
        attempt: 1,
        how: AttemptOutcome::Preempted,
        sequence: 9,
        stored: true,
    };
    CancelReply::Ended { end: Box::new(end) }
}

/// A batch job that runs, and an interactive one that waits for its slot.
fn preempting() -> (Charge, JobId, JobId) {
    let mut charge = Charge::with_node("a", 1);
    charge.class = Priority::Batch;
    let batch = charge.admit(1, Door::Task);
    charge.class = Priority::Interactive;
    charge.submit(2, Door::Task);
    let effects = charge.effects();
    assert_eq!(preempted(&effects), Some(batch));
    assert!(ordered(&effects).is_empty(), "the slot is not free yet");
    (charge, batch, charge::id(2))
}

#[test]
fn a_batch_job_makes_way_and_goes_on_behind_what_it_stored() {
    let (mut charge, batch, wanted) = preempting();
    let reply = Some(made_way(batch));
    charge.hear(Input::Canceled { job: batch, reply });
    let effects = charge.effects();
    assert_eq!(ordered(&effects), [(wanted, 1)]);
    let why = charge.explained(batch).unwrap();
    let outcomes: Vec<_> = why
        .decisions
        .iter()
        .map(|decision| decision.outcome)
        .collect();
    let expected = [
        DecisionOutcome::Assigned,
        DecisionOutcome::Preempted,
        DecisionOutcome::NoCapacity,
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(
        (why.state, why.queue_position),
        (JobState::Pending, Some(0))
    );
    // Its next attempt is opened behind the first, as after any other cut.
    charge.pass(ms(1000));
    assert!(
        progress(&charge.effects())
            .iter()
            .any(|told| told.job == batch)
    );
    charge.end_attempt(wanted, 1, charge::completed());
    let opened = charge
        .effects()
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Open { job, mark, .. } => Some((job, mark.attempt)),
            _ => None,
        });
    assert_eq!(opened, Some((batch, 2)));
    assert_eq!(
        charge.holder.state().job(&batch).unwrap().record.failures,
        0
    );
}

#[test]
fn an_agent_that_does_not_answer_costs_nobody_his_answer() {
    let (mut charge, batch, wanted) = preempting();
    charge.hear(Input::Canceled {
        job: batch,
        reply: None,
    });
    assert_eq!(ordered(&charge.effects()), [(wanted, 1)]);
    // The end of its attempt comes late, by the other way.
    charge.end_attempt(batch, 1, AttemptOutcome::Preempted);
    charge.effects();
    let waits = charge.holder.state().job(&batch).unwrap();
    assert_eq!(waits.record.state, JobState::Pending);
    assert!(waits.has_prefix);
}

#[test]
fn a_late_answer_never_cancels_a_job_that_was_taken_back_meanwhile() {
    let (mut charge, batch, _) = preempting();
    charge.hear(Input::Node {
        id: node_id("a"),
        node: None,
    });
    charge.effects();
    charge.hear(Input::Canceled {
        job: batch,
        reply: None,
    });
    let effects = charge.effects();
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Finalize { .. }))
    );
    assert!(charge.holder.state().job(&batch).is_some());
}

#[test]
fn a_batch_job_that_ends_while_it_is_asked_has_ended() {
    let (mut charge, batch, wanted) = preempting();
    charge.end_attempt(batch, 1, charge::completed());
    assert_eq!(ordered(&charge.effects()), [(wanted, 1)]);
    let reply = Some(CancelReply::NotRunning);
    charge.hear(Input::Canceled { job: batch, reply });
    charge.effects();
    assert!(charge.holder.state().job(&batch).is_none());
}

#[test]
fn who_waits_for_nobody_until_its_deadline_is_told_why_it_was_in_vain() {
    let mut charge = Charge::with_node("a", 1);
    charge.admit(1, Door::Task);
    let waits = charge.admit(2, Door::Task);
    charge.hear(Input::Node {
        id: charge::node_id("a"),
        node: None,
    });
    charge.effects();
    charge.pass(ms(orchion_contract::job::DEFAULT_DEADLINE_MS));
    let error = charge
        .effects()
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Finalize { job, end, .. } if job == waits => end.error,
            _ => None,
        });
    assert_eq!(
        error.unwrap().message,
        "the deadline passed, and nobody could begin the answer: no node serves its model now"
    );
}

#[test]
fn a_waiting_job_is_told_where_it_stands_until_it_starts() {
    let mut charge = Charge::with_node("a", 1);
    let first = charge.admit(1, Door::Task);
    let token = charge.submit(2, Door::Task);
    let job = charge::id(2);
    let told = progress(&charge.effects());
    assert_eq!(
        told.iter()
            .map(|told| told.queue_position)
            .collect::<Vec<_>>(),
        [Some(0)]
    );
    charge.hear(Input::Written { job, result: Ok(6) });
    let admission = charge::admission(&charge.effects(), token).unwrap();
    assert_eq!(admission.queue_position, 0);
    assert_eq!(admission.predicted_start_ms, told[0].predicted_start_ms);
    charge.pass(ms(400));
    assert!(progress(&charge.effects()).is_empty());
    charge.pass(ms(600));
    let told = progress(&charge.effects());
    assert_eq!((told.len(), told[0].event), (1, None));
    charge.end_attempt(first, 1, charge::completed());
    let told = progress(&charge.effects());
    assert_eq!(
        (told[0].state, told[0].predicted_start_ms),
        (JobState::Assigned, Some(0))
    );
    charge.pass(ms(2000));
    assert!(progress(&charge.effects()).is_empty(), "nothing waits");
}

#[test]
fn who_is_taken_back_is_told_why_it_waits_again() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.hear(Input::Node {
        id: node_id("a"),
        node: None,
    });
    let told = progress(&charge.effects());
    assert_eq!(told.last().unwrap().job, job);
    assert_eq!(told.last().unwrap().event, Some(ProgressEvent::Requeued));
}

#[test]
fn the_oldest_batch_job_of_a_full_queue_fails_for_a_newcomer() {
    let mut settings = Settings::default();
    settings.usual_pool.capacity = 1;
    settings.usual_pool.full_policy = FullPolicy::DropLru;
    settings.usual_pool.preempt = false;
    let mut charge = Charge::with_settings("a", 1, settings);
    charge.admit(1, Door::Task);
    charge.class = Priority::Batch;
    charge.submit(2, Door::Task);
    charge.effects();
    charge.class = Priority::Interactive;
    charge.submit(3, Door::Task);
    let end = charge
        .effects()
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Finalize { job, end, .. } => Some((job, end.error.unwrap())),
            _ => None,
        });
    let (victim, error) = end.unwrap();
    assert_eq!(
        (victim, error.code),
        (charge::id(2), ErrorCode::QueueFullDropLru)
    );
    assert!(error.is_retriable());
    assert_eq!(charge.holder.state().position(&charge::id(3)), Some(0));
}

#[test]
fn an_ended_job_still_says_where_it_was_and_why() {
    let mut charge = Charge::with_node("a", 1);
    let job = charge.admit(1, Door::Task);
    charge.end_attempt(job, 1, charge::completed());
    charge.effects();
    let why = charge.explained(job).unwrap();
    assert_eq!(why.state, JobState::Completed);
    assert_eq!(
        why.decisions[0].selected.as_ref().unwrap().node,
        node_id("a")
    );
    let token = charge.ask(Question::Explain(charge::id(9)));
    let refused = charge.effects().into_iter().any(|effect| {
        matches!(effect, Effect::Explain { token: found, answer: Err(error) }
            if found == token && error.code == ErrorCode::NotFound)
    });
    assert!(refused);
}

#[test]
fn nothing_is_recorded_or_ordered_before_the_mark() {
    let (mut charge, batch, wanted) = preempting();
    let reply = Some(made_way(batch));
    charge.hear(Input::Canceled { job: batch, reply });
    charge.effects();
    charge.end_attempt(wanted, 1, charge::completed());
    let effects = charge.effects();
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Open { .. }))
    );
    // The write that told of its waiting comes back only now.
    charge.hear(Input::Written {
        job: batch,
        result: Ok(7),
    });
    let effects = charge.effects();
    let early = effects.iter().any(|effect| match effect {
        Effect::Write { record, .. } => record.id == batch,
        Effect::Order { order, .. } => order.job == batch,
        _ => false,
    });
    assert!(!early, "{effects:?}");
    charge.hear(Input::Opened {
        job: batch,
        attempt: 2,
        end: None,
    });
    let written = charge.effects().iter().any(
        |effect| matches!(effect, Effect::Write { record, .. } if record.id == batch && record.attempt == 2),
    );
    assert!(written);
    charge.hear(Input::Written {
        job: batch,
        result: Ok(8),
    });
    assert_eq!(ordered(&charge.effects()), [(batch, 2)]);
}
