use super::*;
use orchion_contract::{ErrorBody, ErrorCode};

const SEAT: Seat = Seat {
    engine: 0,
    slots: 1,
    is_ready: true,
};

fn ledger() -> Ledger {
    Ledger::new(InstanceId::new("me").unwrap())
}

fn order(job: JobId, attempt: u32) -> Order {
    Order {
        job,
        attempt,
        instance: InstanceId::new("me").unwrap(),
        epoch: 5,
        is_untold: false,
    }
}

/// The order of a gateway that has told nobody.
fn untold_order(job: JobId) -> Order {
    Order {
        is_untold: true,
        ..order(job, 1)
    }
}

fn failed(job: JobId, attempt: u32) -> AttemptEnd {
    AttemptEnd {
        job,
        attempt,
        how: AttemptOutcome::Failed {
            error: ErrorBody::new(ErrorCode::WorkerReset, "gone"),
        },
        sequence: 7,
        stored: true,
    }
}

fn accepted() -> Verdict {
    Verdict::Accept { void: Vec::new() }
}

#[test]
fn the_same_order_twice_runs_once() {
    let (mut ledger, job) = (ledger(), JobId::now());
    assert_eq!(ledger.order(&order(job, 1), Some(SEAT)), accepted());
    assert_eq!(ledger.order(&order(job, 1), Some(SEAT)), Verdict::Running);
    assert_eq!(ledger.busy(0), 1);
}

#[test]
fn an_end_is_the_answer_until_it_is_known_and_a_while_longer() {
    let (mut ledger, job) = (ledger(), JobId::now());
    ledger.order(&order(job, 1), Some(SEAT));
    let end = failed(job, 1);
    ledger.ended(end.clone(), Duration::ZERO);
    let again = |ledger: &mut Ledger| ledger.order(&order(job, 1), Some(SEAT));
    assert_eq!(again(&mut ledger), Verdict::Ended(Box::new(end.clone())));
    assert_eq!(ledger.untold(10), std::slice::from_ref(&end));
    ledger.acknowledged(std::slice::from_ref(&end), Duration::from_secs(1));
    assert!(ledger.untold(10).is_empty());
    assert_eq!(again(&mut ledger), Verdict::Ended(Box::new(end)));
    ledger.acknowledged(&[], Duration::from_secs(1) + REMEMBERED);
    assert_eq!(again(&mut ledger), accepted());
}

#[test]
fn slots_are_counted_for_an_engine_and_given_back() {
    let (mut ledger, one, two) = (ledger(), JobId::now(), JobId::now());
    ledger.order(&order(one, 1), Some(SEAT));
    assert_eq!(ledger.order(&order(two, 1), Some(SEAT)), Verdict::Busy);
    let other = Seat { engine: 1, ..SEAT };
    assert_eq!(ledger.order(&order(two, 1), Some(other)), accepted());
    ledger.ended(failed(one, 1), Duration::ZERO);
    assert_eq!(
        ledger.order(&order(JobId::now(), 1), Some(SEAT)),
        accepted()
    );
}

#[test]
fn a_scheduler_that_lost_its_lease_is_told_so() {
    let (mut ledger, job) = (ledger(), JobId::now());
    ledger.order(&order(job, 1), Some(SEAT));
    let late = Order {
        epoch: 4,
        ..order(JobId::now(), 1)
    };
    assert_eq!(ledger.order(&late, Some(SEAT)), Verdict::Stale(5));
    let upto = RunningAttempt { job, attempt: 1 };
    assert_eq!(ledger.stop(upto, 4), StopOrder::Stale(5));
}

#[test]
fn an_order_for_an_earlier_process_is_not_run() {
    let mut ledger = ledger();
    let other = Order {
        instance: InstanceId::new("before").unwrap(),
        ..order(JobId::now(), 1)
    };
    assert_eq!(ledger.order(&other, Some(SEAT)), Verdict::WrongInstance);
    assert_eq!(ledger.running(), 0);
}

#[test]
fn a_replica_that_is_not_there_or_does_not_answer_is_refused() {
    let mut ledger = ledger();
    let new = order(JobId::now(), 1);
    assert_eq!(ledger.order(&new, None), Verdict::NoReplica);
    let dead = Seat {
        is_ready: false,
        ..SEAT
    };
    assert_eq!(ledger.order(&new, Some(dead)), Verdict::NotReady);
}

#[test]
fn a_later_attempt_voids_an_earlier_one_and_never_the_other_way() {
    let (mut ledger, job) = (ledger(), JobId::now());
    let seat = Seat { slots: 2, ..SEAT };
    ledger.order(&order(job, 1), Some(seat));
    let void = vec![RunningAttempt { job, attempt: 1 }];
    assert_eq!(
        ledger.order(&order(job, 2), Some(seat)),
        Verdict::Accept { void }
    );
    ledger.ended(failed(job, 2), Duration::ZERO);
    ledger.ended(failed(job, 1), Duration::ZERO);
    ledger.acknowledged(&[failed(job, 1)], Duration::ZERO);
    ledger.acknowledged(&[], REMEMBERED);
    let Verdict::Ended(end) = ledger.order(&order(job, 1), Some(seat)) else {
        panic!("attempt 1 was run behind attempt 2");
    };
    assert_eq!(end.how, AttemptOutcome::Superseded);
}

#[test]
fn a_stop_reaches_every_attempt_up_to_the_one_named() {
    let (mut ledger, job) = (ledger(), JobId::now());
    ledger.order(&order(job, 2), Some(SEAT));
    let at = |attempt| RunningAttempt { job, attempt };
    assert_eq!(ledger.stop(at(1), 5), StopOrder::NotRunning);
    assert_eq!(ledger.stop(at(3), 5), StopOrder::Stop(vec![at(2)]));
    let end = failed(job, 2);
    ledger.ended(end.clone(), Duration::ZERO);
    assert_eq!(ledger.stop(at(3), 5), StopOrder::Ended(Box::new(end)));
}

#[test]
fn what_is_in_hand_is_what_runs_or_was_not_acknowledged() {
    let (mut ledger, one, two) = (ledger(), JobId::now(), JobId::now());
    let seat = Seat { slots: 2, ..SEAT };
    ledger.order(&order(one, 1), Some(seat));
    ledger.order(&order(two, 1), Some(seat));
    ledger.ended(failed(one, 1), Duration::ZERO);
    assert_eq!(ledger.in_hand().len(), 2);
    ledger.acknowledged(&[failed(one, 1)], Duration::ZERO);
    assert_eq!(
        ledger.in_hand(),
        [RunningAttempt {
            job: two,
            attempt: 1
        }]
    );
}

#[test]
fn an_agent_that_stops_takes_nothing_new_and_knows_what_it_has() {
    let (mut ledger, job) = (ledger(), JobId::now());
    ledger.order(&order(job, 1), Some(SEAT));
    ledger.stopping();
    assert_eq!(ledger.order(&order(job, 1), Some(SEAT)), Verdict::Running);
    let seat = Seat { slots: 9, ..SEAT };
    assert_eq!(
        ledger.order(&order(JobId::now(), 1), Some(seat)),
        Verdict::Busy
    );
}

fn completed(job: JobId) -> AttemptEnd {
    let end = orchion_contract::job::JobEnd {
        outcome: orchion_contract::job::Outcome::Completed,
        at_ms: 1,
        finish_reason: Some("stop".to_owned()),
        usage: Default::default(),
        error: None,
        continued: None,
        times: Default::default(),
    };
    AttemptEnd {
        how: AttemptOutcome::Final { end: Box::new(end) },
        ..failed(job, 1)
    }
}

#[test]
fn a_final_that_answers_its_order_need_not_be_told() {
    let (mut ledger, job) = (ledger(), JobId::now());
    ledger.order(&order(job, 1), Some(SEAT));
    assert!(ledger.answered(completed(job), Duration::ZERO));
    assert!(ledger.untold(10).is_empty() && ledger.in_hand().is_empty());
    assert_eq!(ledger.busy(0), 0);
    // Where the answer was lost, the order comes again.
    let again = ledger.order(&order(job, 1), Some(SEAT));
    assert_eq!(again, Verdict::Ended(Box::new(completed(job))));
}

#[test]
fn a_failure_is_told_until_it_is_known() {
    let (mut ledger, job) = (ledger(), JobId::now());
    ledger.order(&order(job, 1), Some(SEAT));
    assert!(!ledger.answered(failed(job, 1), Duration::ZERO));
    assert_eq!(ledger.untold(10), [failed(job, 1)]);
}

#[test]
fn an_end_is_told_when_more_than_one_has_ordered_it() {
    let (mut ledger, job) = (ledger(), JobId::now());
    ledger.order(&order(job, 1), Some(SEAT));
    ledger.order(&order(job, 1), Some(SEAT));
    assert!(!ledger.answered(completed(job), Duration::ZERO));
    assert_eq!(ledger.untold(10), [completed(job)]);
}

fn granted(job: JobId) -> Box<Granted> {
    use orchion_contract::job::{Door, Job, JobState, Priority, Workload};
    let job = Job {
        id: job,
        reader: "g".parse().unwrap(),
        door: Door::Chat,
        gateway: None,
        spec: None,
        workload: Workload::Chat,
        model: "m".into(),
        priority: Priority::Interactive,
        request_digest: String::new(),
        correlation_id: String::new(),
        state: JobState::Assigned,
        queue_seq: 0,
        attempt: 1,
        failures: 0,
        assigned: None,
        prefix_by: None,
        created_ms: 1,
        deadline_at_ms: 2,
        end: None,
    };
    Box::new(Granted {
        job,
        whole: true,
        prompt_bytes: 1,
        max_tokens: None,
    })
}

#[test]
fn what_only_a_gateway_knows_is_not_reported_until_others_do() {
    let (mut ledger, job) = (ledger(), JobId::now());
    ledger.order(&untold_order(job), Some(SEAT));
    assert_eq!((ledger.busy(0), ledger.known_busy(0)), (1, 0));
    assert!(ledger.in_hand().is_empty());
    ledger.is_known(RunningAttempt { job, attempt: 1 });
    assert_eq!((ledger.known_busy(0), ledger.in_hand().len()), (1, 1));
}

#[test]
fn a_scheduler_that_orders_what_a_gateway_had_ordered_knows_it() {
    let (mut ledger, job) = (ledger(), JobId::now());
    ledger.order(&untold_order(job), Some(SEAT));
    assert_eq!(ledger.order(&order(job, 1), Some(SEAT)), Verdict::Running);
    assert_eq!(ledger.in_hand().len(), 1);
}

#[test]
fn ends_that_only_gateways_know_are_told_together_and_others_at_once() {
    let (mut ledger, one, two) = (ledger(), JobId::now(), JobId::now());
    let seat = Seat { slots: 2, ..SEAT };
    ledger.order(&untold_order(one), Some(seat));
    ledger.order(&order(two, 1), Some(seat));
    assert_eq!(ledger.due(), None);
    let now = Duration::from_secs(1);
    ledger.granted_ended(completed(one), granted(one), Duration::ZERO, now);
    assert_eq!(ledger.due(), Some(now + GATHERED));
    assert!(ledger.in_hand().iter().all(|attempt| attempt.job == two));
    ledger.ended(failed(two, 1), now);
    assert_eq!(
        ledger.due(),
        Some(now),
        "a failure hurries, and takes the rest along"
    );
    let ends = ledger.untold(10);
    let jobs: Vec<JobId> = ledger.granted(&ends).iter().map(|it| it.job.id).collect();
    assert_eq!((ends.len(), jobs), (2, vec![one]));
    ledger.acknowledged(&ends, now);
    assert_eq!((ledger.due(), ledger.granted(&ends).len()), (None, 0));
}

#[test]
fn the_end_of_a_granted_stream_is_told_at_once_with_its_job() {
    let (mut ledger, job) = (ledger(), JobId::now());
    ledger.order(&order(job, 1), Some(SEAT));
    assert_eq!(ledger.in_hand().len(), 1, "its gateway has told of it");
    let now = Duration::from_secs(1);
    let streamed = Box::new(Granted {
        whole: false,
        ..*granted(job)
    });
    ledger.granted_ended(completed(job), streamed, Duration::ZERO, now);
    assert_eq!(ledger.due(), Some(now));
    assert_eq!(ledger.granted(&ledger.untold(10)).len(), 1);
}
