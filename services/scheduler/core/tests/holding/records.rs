//! Jobs that end before they need a record, and those that do not.

use crate::charge::{Charge, admission, completed, id, ms, written};
use orchion_contract::job::{
    AttemptEnd, AttemptOutcome, CancelJob, CancelReason, Door, JobState, RunReply,
};
use orchion_contract::{ErrorBody, ErrorCode, ReaderId};
use orchion_scheduler_core::{Effect, Input, Question, Reply};

/// One slot, and chats that are wanted whole.
fn with_whole_chats() -> Charge {
    let mut charge = Charge::with_node("a", 1);
    charge.whole = true;
    charge
}

fn is_ordered(effects: &[Effect]) -> bool {
    let is_order = |effect: &Effect| matches!(effect, Effect::Order { .. });
    effects.iter().any(is_order)
}

/// Its agent answers the order with the end.
fn ends_at_once(charge: &mut Charge, n: u128) {
    let end = AttemptEnd {
        job: id(n),
        attempt: 1,
        how: completed(),
        sequence: 1,
        stored: true,
    };
    charge.hear(Input::Replied {
        job: id(n),
        attempt: 1,
        reply: Reply::Said(RunReply::Ended { end: Box::new(end) }),
    });
}

#[test]
fn a_whole_answer_that_ends_at_once_needs_no_record() {
    let mut charge = with_whole_chats();
    let token = charge.submit(1, Door::Chat);
    let effects = charge.effects();
    assert!(is_ordered(&effects));
    assert!(written(&effects).is_none());
    charge.pass(ms(24));
    assert!(written(&charge.effects()).is_none());
    ends_at_once(&mut charge, 1);
    let effects = charge.effects();
    let answer = admission(&effects, token).unwrap();
    assert_eq!(
        answer.state,
        JobState::Completed,
        "though the end tells, too"
    );
    assert!(written(&effects).is_none());
    let told = |effect: &Effect| matches!(effect, Effect::TellEnd(job) if job.id == id(1));
    assert!(effects.iter().any(told), "history has it");
    charge.hear(Input::Told { jobs: vec![id(1)] });
    assert!(written(&charge.effects()).is_none());
    assert_eq!(charge.holder.unsettled_records(), 0);
    charge.pass(ms(100));
    assert!(written(&charge.effects()).is_none());
}

#[test]
fn who_asks_again_for_what_ended_without_a_record_is_answered() {
    let mut charge = with_whole_chats();
    charge.submit(1, Door::Chat);
    charge.effects();
    ends_at_once(&mut charge, 1);
    for _ in 0..2 {
        let token = charge.submit(1, Door::Chat);
        let answer = admission(&charge.effects(), token);
        assert_eq!(
            answer.map(|known| (known.existed, known.state)),
            Some((true, JobState::Completed))
        );
        charge.hear(Input::Told { jobs: vec![id(1)] });
    }
}

#[test]
fn a_whole_answer_that_takes_longer_is_recorded_and_admitted_then() {
    let mut charge = with_whole_chats();
    let token = charge.submit(1, Door::Chat);
    charge.effects();
    let wake = charge.holder.next_deadline();
    assert_eq!(wake, Some(charge.at.now + ms(25)));
    charge.pass(ms(25));
    let record = written(&charge.effects());
    assert_eq!(record.map(|record| record.state), Some(JobState::Assigned));
    charge.hear(Input::Written {
        job: id(1),
        result: Ok(5),
    });
    assert!(admission(&charge.effects(), token).is_some());
    ends_at_once(&mut charge, 1);
    charge.effects();
    charge.hear(Input::Told { jobs: vec![id(1)] });
    let record = written(&charge.effects());
    assert_eq!(record.map(|record| record.state), Some(JobState::Completed));
}

#[test]
fn whoever_sees_more_than_the_end_or_asks_again_later_has_a_record_at_once() {
    for (whole, door, reader) in [
        (false, Door::Chat, "g"),
        (true, Door::Task, "tasks"),
        // A chat with an `Idempotency-Key`.
        (true, Door::Chat, "tasks"),
    ] {
        let mut charge = Charge::with_node("a", 1);
        charge.whole = whole;
        let reader = match reader {
            "tasks" => ReaderId::tasks(),
            name => ReaderId::new(name).unwrap_or_else(|_| ReaderId::tasks()),
        };
        charge.submit_for(1, door, reader);
        assert!(written(&charge.effects()).is_some(), "{whole} {door:?}");
    }
}

#[test]
fn what_waits_in_the_queue_is_recorded_at_once() {
    let mut charge = with_whole_chats();
    charge.submit(1, Door::Chat);
    charge.effects();
    charge.submit(2, Door::Chat);
    let record = written(&charge.effects());
    assert_eq!(record.map(|record| record.id), Some(id(2)));
}

#[test]
fn what_needs_another_attempt_is_recorded() {
    let mut charge = with_whole_chats();
    charge.submit(1, Door::Chat);
    charge.effects();
    charge.hear(Input::Replied {
        job: id(1),
        attempt: 1,
        reply: Reply::Said(RunReply::Accepted),
    });
    assert!(written(&charge.effects()).is_none());
    let error = ErrorBody::new(ErrorCode::WorkerReset, "the engine is gone");
    charge.end_attempt(id(1), 1, AttemptOutcome::Failed { error });
    assert!(written(&charge.effects()).is_some());
}

#[test]
fn a_caller_that_hangs_up_leaves_no_record() {
    let mut charge = with_whole_chats();
    charge.submit(1, Door::Chat);
    charge.effects();
    charge.ask(Question::Cancel(CancelJob {
        job: id(1),
        reason: CancelReason::Disconnect,
    }));
    let stops = |effect: &Effect| matches!(effect, Effect::Cancel { .. });
    assert!(charge.effects().iter().any(stops));
    ends_at_once(&mut charge, 1);
    charge.effects();
    charge.hear(Input::Told { jobs: vec![id(1)] });
    assert!(written(&charge.effects()).is_none());
    assert_eq!(charge.holder.unsettled_records(), 0);
}
