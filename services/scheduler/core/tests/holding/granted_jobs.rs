//! Jobs whose gateways have ordered their first attempts in slots that they were granted.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::charge::{
    Charge, admission, completed, end_of, id, instance, ms, node_id, node_with, ordered, refusal,
    submission, written,
};
use orchion_contract::job::{
    Assignment, AttemptEnd, AttemptOutcome, DEFAULT_DEADLINE_MS, Declined, Door, EndedBatch, Grant,
    Granted, JobState, Ordered, Outcome, RunReply,
};
use orchion_contract::node::NodeState;
use orchion_contract::placement::DecisionOutcome;
use orchion_contract::{ErrorBody, ErrorCode, ReplicaId};
use orchion_scheduler_core::{
    Effect, FullPolicy, Input, Phase, Question, Reply, Settings, Token, job_end,
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn opened(effects: &[Effect]) -> Option<u32> {
    effects.iter().find_map(|effect| match effect {
        Effect::Open { mark, .. } => Some(mark.attempt),
        _ => None,
    })
}

fn acknowledged(effects: &[Effect], wanted: Token) -> bool {
    let is = |effect: &Effect| matches!(effect, Effect::Acknowledge { token } if *token == wanted);
    effects.iter().any(is)
}

fn on_node_a() -> Assignment {
    let node = node_with("a", 1);
    Assignment {
        node: node_id("a"),
        instance: instance("a-1"),
        replica: ReplicaId::new("r").unwrap(),
        engine: node.replicas[0].engine.clone(),
        at_ms: 1,
    }
}

/// A gateway tells of a chat that it has ordered of node `a`.
pub(crate) fn tell(charge: &mut Charge, n: u128, declined: Option<Declined>) -> Token {
    let mut submit = submission(n, Door::Chat);
    submit.ordered = Some(Box::new(Ordered {
        to: on_node_a(),
        declined,
    }));
    charge.ask(Question::Submit(Box::new(submit)))
}

/// An agent tells how a chat ended that its gateway has ordered.
pub(crate) fn tell_end(charge: &mut Charge, n: u128, how: AttemptOutcome) -> Token {
    tell_end_of(charge, n, true, how)
}

/// The same for one that was wanted whole, or not.
fn tell_end_of(charge: &mut Charge, n: u128, whole: bool, how: AttemptOutcome) -> Token {
    let mut submit = submission(n, Door::Chat);
    submit.spec.whole = whole;
    let grant = Grant {
        to: on_node_a(),
        longest: 100,
    };
    let order = grant.order(3, &submit, 1);
    let end = AttemptEnd {
        job: id(n),
        attempt: 1,
        how,
        sequence: 1,
        stored: true,
    };
    charge.ask(Question::Ended(EndedBatch {
        node: node_id("a"),
        instance: instance("a-1"),
        ends: vec![end],
        granted: vec![Granted::new(&order, on_node_a())],
    }))
}

fn failed() -> AttemptOutcome {
    let error = ErrorBody::new(ErrorCode::WorkerReset, "the engine went away");
    AttemptOutcome::Failed { error }
}

#[test]
fn a_job_that_was_ordered_before_it_was_told_is_taken_as_it_is() {
    let mut charge = Charge::with_node("a", 1);
    let token = tell(&mut charge, 1, None);
    let effects = charge.effects();
    assert_eq!(ordered(&effects), [], "it is on its way");
    let record = written(&effects).unwrap();
    assert_eq!((record.state, record.attempt), (JobState::Assigned, 1));
    assert_eq!(record.assigned.map(|to| to.instance), Some(instance("a-1")));
    let job = id(1);
    charge.hear(Input::Written { job, result: Ok(5) });
    let admitted = admission(&charge.effects(), token).unwrap();
    assert_eq!(admitted.state, JobState::Assigned);
    charge.hear(Input::Replied {
        job,
        attempt: 1,
        reply: Reply::Said(RunReply::Accepted),
    });
    charge.pass(ms(300));
    assert_eq!(ordered(&charge.effects()), []);
}

#[test]
fn an_order_of_a_gateway_that_nobody_heard_is_sent_again() {
    let mut charge = Charge::with_node("a", 1);
    tell(&mut charge, 1, None);
    charge.effects();
    charge.pass(ms(299));
    assert_eq!(ordered(&charge.effects()), []);
    charge.pass(ms(1));
    assert_eq!(ordered(&charge.effects()), [(id(1), 1)]);
}

#[test]
fn what_an_agent_declined_is_another_attempt_behind_a_mark() {
    let replies = [
        // Under a grant of the scheduler before us.
        Declined::Said(RunReply::Stale { epoch: 3 }),
        Declined::Said(RunReply::WrongInstance {
            instance: instance("a-2"),
        }),
        Declined::Nobody,
    ];
    for declined in replies {
        let mut charge = Charge::with_node("a", 1);
        tell(&mut charge, 1, Some(declined));
        let before = charge.effects();
        assert!(
            !before
                .iter()
                .any(|effect| matches!(effect, Effect::Outranked(_)))
        );
        let job = id(1);
        charge.hear(Input::Written { job, result: Ok(5) });
        charge.pass(SECOND);
        assert_eq!(opened(&charge.effects()), Some(2));
    }
}

#[test]
fn one_that_was_sent_to_a_process_that_is_gone_is_another_attempt() {
    for is_lost in [false, true] {
        let mut charge = Charge::with_node("a", 1);
        let mut node = node_with("a", 1);
        match is_lost {
            true => node.state = NodeState::Lost,
            false => node.instance = instance("a-2"),
        }
        for node in [node, node_with("b", 1)] {
            let (id, node) = (node.id.clone(), Some(Box::new(node)));
            charge.hear(Input::Node { id, node });
        }
        charge.effects();
        tell(&mut charge, 1, None);
        charge.look();
        assert_eq!(opened(&charge.effects()), Some(2));
    }
}

#[test]
fn the_next_attempt_knows_which_engine_wrote_what_it_finds() {
    let ended = |how, stored| RunReply::Ended {
        end: Box::new(AttemptEnd {
            job: id(1),
            attempt: 1,
            how,
            sequence: 9,
            stored,
        }),
    };
    let other = || RunReply::WrongInstance {
        instance: instance("a-2"),
    };
    // How long after the gateway told, what its agent answers, whether it may have said something.
    let cases = [
        (0, ended(failed(), true), true),
        (0, ended(failed(), false), false),
        // What it had sent by then may be stored later.
        (0, ended(AttemptOutcome::Superseded, false), true),
        (0, other(), false),
        // Its order was repeated by then.
        (300, other(), true),
    ];
    for (after, reply, has_prefix) in cases {
        let mut charge = Charge::with_node("a", 1);
        tell(&mut charge, 1, None);
        charge.pass(ms(after));
        charge.effects();
        let job = id(1);
        charge.hear(Input::Replied {
            job,
            attempt: 1,
            reply: Reply::Said(reply.clone()),
        });
        charge.pass(SECOND);
        charge.effects();
        let job = charge.holder.state().job(&id(1)).unwrap();
        assert_eq!(job.record.attempt, 2, "{reply:?}");
        assert_eq!(job.has_prefix, has_prefix, "{reply:?}");
        assert_eq!(job.record.prefix_by.is_some(), has_prefix, "{reply:?}");
    }
}

#[test]
fn one_that_is_told_late_began_when_it_was_ordered() {
    // Told of more, its clock would go wrong.
    for (late, began) in [(4_000, 1), (10_001, 10_002)] {
        let mut charge = Charge::with_node("a", 1);
        charge.pass(ms(late));
        tell(&mut charge, 1, None);
        let job = charge.holder.state().job(&id(1)).unwrap();
        let (record, now) = (&job.record, charge.at);
        let assigned = record.assigned.as_ref().unwrap();
        assert_eq!((record.created_ms, assigned.at_ms), (began, began));
        assert_eq!(record.deadline_at_ms, began + DEFAULT_DEADLINE_MS);
        assert_eq!(job.ordered_at, now.now - ms(now.unix_ms - began));
        let decided = &charge.explained(id(1)).unwrap().decisions[0];
        assert_eq!(
            (decided.outcome, decided.at_ms),
            (DecisionOutcome::Granted, began)
        );
    }
}

#[test]
fn an_answer_that_comes_before_the_job_is_kept_for_it() {
    let mut charge = Charge::with_node("a", 1);
    charge.hear(Input::Replied {
        job: id(1),
        attempt: 1,
        reply: Reply::Said(RunReply::Accepted),
    });
    tell(&mut charge, 1, None);
    charge.effects();
    let job = charge.holder.state().job(&id(1)).unwrap();
    assert_eq!(job.phase, Phase::Running);
    charge.pass(ms(300));
    assert_eq!(ordered(&charge.effects()), []);
}

#[test]
fn of_answers_to_jobs_that_never_come_the_oldest_go() {
    let mut charge = Charge::with_node("a", 1);
    for n in 1..=65 {
        charge.hear(Input::Replied {
            job: id(n),
            attempt: 1,
            reply: Reply::Said(RunReply::Accepted),
        });
    }
    tell(&mut charge, 1, None);
    charge.effects();
    let job = charge.holder.state().job(&id(1)).unwrap();
    assert_eq!(job.phase, Phase::Ordered);
}

#[test]
fn what_found_no_slot_waits_until_there_is_one() {
    let mut charge = Charge::with_node("a", 1);
    tell(&mut charge, 1, Some(Declined::Said(RunReply::Busy)));
    charge.effects();
    let job = charge.holder.state().job(&id(1)).unwrap();
    assert_eq!((job.phase, job.record.attempt), (Phase::Queued, 1));
    assert_eq!(job.record.failures + job.tries, 0, "that is no failure");
}

#[test]
fn one_that_has_a_slot_takes_nobodys_place_in_a_full_queue() {
    for full_policy in [FullPolicy::Reject, FullPolicy::DropLru] {
        let mut settings = Settings::default();
        settings.usual_pool.capacity = 1;
        settings.usual_pool.full_policy = full_policy;
        let mut charge = Charge::with_settings("a", 1, settings);
        charge.admit(1, Door::Task);
        charge.submit(2, Door::Task);
        tell(&mut charge, 3, None);
        charge.effects();
        let job = |n| charge.holder.state().job(&id(n)).map(|job| job.phase);
        assert_eq!(job(2), Some(Phase::Queued));
        assert_eq!(job(3), Some(Phase::Ordered));
        // Without one it is as any other.
        let token = tell(&mut charge, 4, Some(Declined::Said(RunReply::Busy)));
        let is_refused = refusal(&charge.effects(), token).is_some();
        let job = charge.holder.state().job(&id(2)).unwrap();
        match full_policy {
            FullPolicy::DropLru => assert_eq!((is_refused, job.phase), (false, Phase::Ending)),
            _ => assert_eq!((is_refused, job.phase), (true, Phase::Queued)),
        }
    }
}

#[test]
fn what_may_not_enter_is_stopped_where_it_was_sent() {
    let mut charge = Charge::with_node("a", 1);
    let mut submit = submission(1, Door::Chat);
    submit.spec.model = "another".into();
    let (to, declined) = (on_node_a(), None);
    submit.ordered = Some(Box::new(Ordered { to, declined }));
    let token = charge.ask(Question::Submit(Box::new(submit)));
    let effects = charge.effects();
    assert!(refusal(&effects, token).is_some());
    let stops =
        |effect: &Effect| matches!(effect, Effect::Drop { order, .. } if order.job == id(1));
    assert!(effects.iter().any(stops));
}

#[test]
fn the_end_of_a_job_that_nobody_knew_is_acknowledged_when_history_knows() {
    let mut charge = Charge::with_node("a", 4);
    let token = tell_end(&mut charge, 1, completed());
    let effects = charge.effects();
    let told = effects.iter().find_map(|effect| match effect {
        Effect::TellEnd(summary) => Some(summary.clone()),
        _ => None,
    });
    let told = told.unwrap();
    assert_eq!((told.id, told.state), (id(1), JobState::Completed));
    assert!(!acknowledged(&effects, token) && written(&effects).is_none());
    // Told again meanwhile, it still waits, and nobody for the first time.
    let again = tell_end(&mut charge, 1, completed());
    let effects = charge.effects();
    assert!(!acknowledged(&effects, again));
    let forgets = |effect: &Effect| matches!(effect, Effect::Forget { token: it } if *it == token);
    assert!(effects.iter().any(forgets));
    charge.hear(Input::Told { jobs: vec![id(1)] });
    let effects = charge.effects();
    assert!(acknowledged(&effects, again) && !acknowledged(&effects, token));
    assert!(
        written(&effects).is_none(),
        "no record says what never was recorded"
    );
    assert_eq!(charge.holder.unsettled_records(), 0);
    let late = tell_end(&mut charge, 1, completed());
    assert!(acknowledged(&charge.effects(), late));
    assert_eq!(charge.holder.state().open_jobs(), 0);
}

#[test]
fn one_that_somebody_may_come_back_for_is_recorded_before_that_is_acknowledged() {
    let long = |ended| {
        let mut end = end_of(1, Outcome::Completed);
        end.times.started_ms = Some(1);
        end.times.ended_ms = Some(ended);
        AttemptOutcome::Final {
            end: Box::new(job_end(&end, 5)),
        }
    };
    for (whole, took, is_recorded) in [(true, 50, false), (true, 51, true), (false, 1, true)] {
        let mut charge = Charge::with_node("a", 4);
        let token = tell_end_of(&mut charge, 1, whole, long(1 + took));
        charge.effects();
        let job = id(1);
        charge.hear(Input::Told { jobs: vec![job] });
        let effects = charge.effects();
        assert_eq!(written(&effects).is_some(), is_recorded, "{whole} {took}");
        assert_eq!(acknowledged(&effects, token), !is_recorded);
        if is_recorded {
            charge.hear(Input::Written { job, result: Ok(5) });
            assert!(acknowledged(&charge.effects(), token));
        }
        assert_eq!(charge.holder.unsettled_records(), 0);
    }
}

#[test]
fn it_is_explained_and_a_gateway_that_tells_late_is_answered() {
    let mut charge = Charge::with_node("a", 4);
    tell_end(&mut charge, 1, completed());
    charge.effects();
    let decisions = charge.explained(id(1)).unwrap().decisions;
    assert_eq!(decisions[0].outcome, DecisionOutcome::Granted);
    let token = tell(&mut charge, 1, None);
    let known = admission(&charge.effects(), token).unwrap();
    assert_eq!((known.existed, known.state), (true, JobState::Completed));
}

#[test]
fn one_that_has_failed_before_its_gateway_tells_of_it_goes_on_at_once() {
    let job = id(1);
    let taken = || Input::Replied {
        job,
        attempt: 1,
        reply: Reply::Said(RunReply::Accepted),
    };
    for hears_first in [true, false] {
        let mut charge = Charge::with_node("a", 4);
        if hears_first {
            charge.hear(taken());
        }
        let token = tell_end(&mut charge, 1, failed());
        if !hears_first {
            charge.hear(taken());
        }
        assert!(acknowledged(&charge.effects(), token));
        assert_eq!(charge.holder.state().open_jobs(), 0);
        tell(&mut charge, 1, None);
        charge.hear(Input::Written { job, result: Ok(5) });
        charge.pass(ms(300));
        assert_eq!(opened(&charge.effects()), Some(2));
    }
}
