//! Who may enter, and what the others are told.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::common::*;
use orchion_contract::job::{MAX_BODY_BYTES, Priority, Submit, Workload};
use orchion_contract::node::NodeState;
use orchion_contract::placement::{PlacementMode, PlacementSpec};
use orchion_contract::{ErrorBody, ErrorCode, JobId};
use orchion_scheduler_core::{
    Check, Entry, Forecast, FullPolicy, ORDER, PoolPolicy, Settings, admit, forecast,
};
use serde_json::value::RawValue;

fn ask(cluster: &Cluster, submit: &Submit) -> Result<Entry, ErrorBody> {
    let model = &submit.spec.model;
    let waits = cluster.state.queue_length(model) > 0;
    let forecast = waits.then(|| forecast(&cluster.state, model, cluster.now));
    admit(submit, &cluster.state, forecast.as_ref(), cluster.now)
}

fn refused(cluster: &Cluster, change: impl FnOnce(&mut Submit)) -> ErrorBody {
    let mut submit = submit_for(99, "m");
    change(&mut submit);
    ask(cluster, &submit).unwrap_err()
}

/// One slot in use and `waiting` interactive jobs before it, under a policy.
fn crowd(full_policy: FullPolicy, capacity: usize, waiting: &[Priority]) -> (Cluster, Vec<JobId>) {
    let usual_pool = PoolPolicy {
        capacity,
        full_policy,
        preempt: false,
        ..PoolPolicy::default()
    };
    let mut cluster = Cluster::under(Settings {
        usual_pool,
        ..Settings::default()
    });
    cluster.add_node("a", 1);
    cluster.submit(0);
    cluster.settle();
    let jobs = (1..)
        .zip(waiting)
        .map(|(n, class)| cluster.enter(n, |spec| spec.priority = *class));
    let jobs = jobs.collect();
    cluster.settle();
    (cluster, jobs)
}

#[test]
fn checks_are_asked_in_the_order_that_callers_rely_on() {
    let place = |check| ORDER.iter().position(|known| *known == check).unwrap();
    let order = [
        Check::Size,
        Check::GuardRails,
        Check::Deadline,
        Check::Session,
        Check::Budgets,
        Check::Placement,
        Check::Feasibility,
        Check::RateLimit,
        Check::Capacity,
    ];
    assert!(order.map(place).is_sorted());
    // Everything is wrong at once: each repair shows the next fault.
    let (cluster, _) = crowd(FullPolicy::Reject, 1, &[Priority::Interactive]);
    let mut submit = submit_for(99, "gpt-9");
    submit.spec.body =
        RawValue::from_string(format!("\"{}\"", "x".repeat(MAX_BODY_BYTES))).unwrap();
    submit.spec.max_tokens = Some(0);
    submit.spec.deadline_ms = 0;
    submit.spec.placement = Some(Box::new(PlacementSpec {
        mode: PlacementMode::Pin,
        ..PlacementSpec::default()
    }));
    let mut codes = Vec::new();
    let repairs: [fn(&mut Submit); 6] = [
        |submit| submit.spec.body = RawValue::from_string("{}".to_owned()).unwrap(),
        |submit| submit.spec.max_tokens = None,
        |submit| submit.spec.deadline_ms = 1000,
        |submit| submit.spec.placement = None,
        |submit| submit.spec.model = "m".into(),
        |_| {},
    ];
    for repair in repairs {
        codes.push(ask(&cluster, &submit).unwrap_err().code);
        repair(&mut submit);
    }
    let expected = [
        ErrorCode::PayloadTooLarge,
        ErrorCode::InvalidParams,
        ErrorCode::DeadlineUnmet,
        ErrorCode::InvalidParams,
        ErrorCode::NotFound,
        ErrorCode::AdmissionReject,
    ];
    assert_eq!(codes, expected);
}

#[test]
fn an_unknown_model_is_named_with_those_that_are_served() {
    let cluster = Cluster::with_nodes(&[("a", 4)]);
    let refusal = refused(&cluster, |submit| submit.spec.model = "gpt-9".into());
    assert_eq!(refusal.code, ErrorCode::NotFound);
    assert!(refusal.message.contains("served are: m"), "{refusal}");
}

#[test]
fn a_model_whose_nodes_left_a_moment_ago_still_takes_jobs() {
    let mut cluster = Cluster::with_nodes(&[("a", 4)]);
    cluster.set_state("a", NodeState::Lost);
    assert!(ask(&cluster, &submit_for(0, "m")).is_ok());
    cluster.now += cluster.state.settings().gone_after;
    let refusal = refused(&cluster, |_| {});
    assert_eq!(refusal.code, ErrorCode::PoolUnavailable);
}

#[test]
fn a_replica_that_is_not_ready_for_long_is_no_pool() {
    let mut cluster = Cluster::with_nodes(&[]);
    cluster.add("a", 4, |node| node.replicas[0].ready = false);
    assert!(ask(&cluster, &submit_for(0, "m")).is_ok());
    cluster.now += cluster.state.settings().gone_after;
    let refusal = refused(&cluster, |_| {});
    assert_eq!(
        (refusal.code, refusal.is_retriable()),
        (ErrorCode::PoolUnready, true)
    );
}

#[test]
fn work_that_no_engine_of_the_model_does_is_refused() {
    let cluster = Cluster::with_nodes(&[("a", 4)]);
    let refusal = refused(&cluster, |submit| {
        submit.spec.workload = Workload::Completion
    });
    let found = (refusal.code, refusal.param.as_deref());
    assert_eq!(found, (ErrorCode::InvalidParams, Some("workload")));
}

#[test]
fn what_is_longer_than_every_context_is_refused_and_never_cut() {
    let mut cluster = Cluster::with_nodes(&[]);
    cluster.add("a", 4, |node| node.replicas[0].ctx = Some(2048));
    cluster.add("b", 4, |node| node.replicas[0].ctx = Some(4096));
    let limit = |tokens| move |submit: &mut Submit| submit.spec.max_tokens = Some(tokens);
    let refusal = refused(&cluster, limit(4097));
    let found = (refusal.code, refusal.param.as_deref());
    assert_eq!(found, (ErrorCode::InvalidParams, Some("max_tokens")));
    let mut submit = submit_for(1, "m");
    limit(4096)(&mut submit);
    assert!(ask(&cluster, &submit).is_ok());
    // The prompt counts, too.
    let text = format!("{{\"prompt\":\"{}\"}}", "word ".repeat(20_000));
    let refusal = refused(&cluster, |submit| {
        submit.spec.body = RawValue::from_string(text).unwrap();
    });
    assert_eq!(refusal.code, ErrorCode::InvalidParams);
    // Nobody knows what a replica takes that does not say.
    cluster.add("c", 4, |_| {});
    let mut submit = submit_for(1, "m");
    limit(4097)(&mut submit);
    assert!(ask(&cluster, &submit).is_ok());
}

#[test]
fn a_job_goes_where_its_context_fits() {
    let mut cluster = Cluster::with_nodes(&[]);
    cluster.add("a", 4, |node| node.replicas[0].ctx = Some(2048));
    cluster.add("b", 4, |node| node.replicas[0].ctx = Some(4096));
    let jobs: Vec<_> = (0..3)
        .map(|n| cluster.enter(n, |spec| spec.max_tokens = Some(3000)))
        .collect();
    cluster.settle();
    assert!(
        jobs.iter()
            .all(|job| cluster.node_of(job).as_deref() == Some("b"))
    );
}

#[test]
fn a_deadline_of_nothing_is_refused() {
    let cluster = Cluster::with_nodes(&[("a", 1)]);
    let refusal = refused(&cluster, |submit| submit.spec.deadline_ms = 0);
    assert_eq!(refusal.code, ErrorCode::DeadlineUnmet);
}

#[test]
fn a_deadline_before_the_predicted_start_is_refused_by_experience_alone() {
    let cluster = Cluster::with_nodes(&[("a", 1)]);
    let mut submit = submit_for(1, "m");
    submit.spec.deadline_ms = 1000;
    let mut queue = Forecast {
        starts: vec![(submit.job, 4000)],
        learnt: false,
        slots: 1,
        usual_ms: 2000,
    };
    assert!(admit(&submit, &cluster.state, Some(&queue), cluster.now).is_ok());
    queue.learnt = true;
    let refusal = admit(&submit, &cluster.state, Some(&queue), cluster.now).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::DeadlineUnmet);
    assert!(!refusal.is_retriable());
    submit.spec.deadline_ms = 4000;
    assert!(admit(&submit, &cluster.state, Some(&queue), cluster.now).is_ok());
}

#[test]
fn reject_refuses_the_newcomer_and_says_for_how_long() {
    let (cluster, _) = crowd(
        FullPolicy::Reject,
        2,
        &[Priority::Interactive, Priority::Batch],
    );
    for class in [Priority::Interactive, Priority::Batch] {
        let refusal = refused(&cluster, |submit| submit.spec.priority = class);
        assert_eq!(refusal.code, ErrorCode::AdmissionReject);
        assert_eq!(refusal.policy_label.as_deref(), Some("reject"));
        assert!(
            refusal.retry_after_ms.is_some_and(|wait| wait >= 100),
            "{refusal:?}"
        );
    }
}

#[test]
fn drop_lru_drops_the_oldest_batch_job_first() {
    use Priority::{Batch, Interactive};
    let (cluster, jobs) = crowd(
        FullPolicy::DropLru,
        4,
        &[Interactive, Batch, Batch, Interactive],
    );
    for class in [Interactive, Batch] {
        let mut submit = submit_for(99, "m");
        submit.spec.priority = class;
        assert_eq!(
            ask(&cluster, &submit),
            Ok(Entry {
                drops: Some(jobs[1])
            })
        );
    }
}

#[test]
fn drop_lru_never_drops_an_interactive_job_for_a_batch_job() {
    use Priority::{Batch, Interactive};
    let (cluster, jobs) = crowd(FullPolicy::DropLru, 2, &[Interactive, Interactive]);
    let drops = Some(jobs[0]);
    assert_eq!(ask(&cluster, &submit_for(99, "m")), Ok(Entry { drops }));
    let refusal = refused(&cluster, |submit| submit.spec.priority = Batch);
    assert_eq!(refusal.code, ErrorCode::QueueFullDropLru);
    assert_eq!(refusal.policy_label.as_deref(), Some("drop-lru"));
    assert!(refusal.is_retriable());
}

#[test]
fn drop_lru_leaves_alone_what_has_begun() {
    use Priority::{Batch, Interactive};
    let (mut cluster, jobs) = crowd(FullPolicy::DropLru, 2, &[Batch, Batch]);
    cluster.state.update(&jobs[0], |job| job.record.attempt = 1);
    let drops = Some(jobs[1]);
    let mut submit = submit_for(99, "m");
    submit.spec.priority = Interactive;
    assert_eq!(ask(&cluster, &submit), Ok(Entry { drops }));
}

#[test]
fn shed_low_priority_refuses_batch_jobs_from_nine_tenths_on() {
    let full = FullPolicy::ShedLowPriority;
    let (cluster, _) = crowd(full, 10, &[Priority::Interactive; 9]);
    let refusal = refused(&cluster, |submit| submit.spec.priority = Priority::Batch);
    assert_eq!(refusal.code, ErrorCode::AdmissionReject);
    assert_eq!(refusal.policy_label.as_deref(), Some("shed-low-priority"));
    assert!(ask(&cluster, &submit_for(99, "m")).is_ok());
    let (cluster, _) = crowd(full, 10, &[Priority::Interactive; 8]);
    let mut submit = submit_for(99, "m");
    submit.spec.priority = Priority::Batch;
    assert!(ask(&cluster, &submit).is_ok());
}

#[test]
fn who_finds_a_free_slot_does_not_wait_and_is_not_refused() {
    let mut settings = Settings::default();
    settings.usual_pool.capacity = 1;
    let mut cluster = Cluster::under(settings);
    cluster.add_node("a", 3);
    // They came at the same time; nothing was planned yet.
    for n in 0..3 {
        cluster.submit(n);
    }
    assert!(ask(&cluster, &submit_for(99, "m")).is_ok());
    cluster.submit(3);
    assert!(ask(&cluster, &submit_for(99, "m")).is_err());
}

#[test]
fn a_pin_must_name_a_place_that_serves_the_model() {
    let mut cluster = Cluster::with_nodes(&[("a", 1)]);
    let pin = |place: Option<&str>| PlacementSpec {
        mode: PlacementMode::Pin,
        pin_pool_id: place.map(str::to_owned),
        ..PlacementSpec::default()
    };
    let put = |wishes: PlacementSpec| {
        move |submit: &mut Submit| submit.spec.placement = Some(Box::new(wishes))
    };
    for place in [None, Some("nowhere"), Some("a/other"), Some("b/r")] {
        let refusal = refused(&cluster, put(pin(place)));
        assert_eq!(refusal.code, ErrorCode::InvalidParams, "{place:?}");
        assert_eq!(refusal.param.as_deref(), Some("placement.pin_pool_id"));
    }
    for place in ["m", "a", "a/r"] {
        let mut submit = submit_for(99, "m");
        put(pin(Some(place)))(&mut submit);
        assert!(ask(&cluster, &submit).is_ok(), "{place}");
    }
    cluster.add_node("b", 1);
    cluster.set_state("a", NodeState::Lost);
    cluster.now += cluster.state.settings().gone_after;
    let refusal = refused(&cluster, put(pin(Some("a"))));
    assert_eq!(refusal.code, ErrorCode::PoolUnready);
}

#[test]
fn pinning_can_be_switched_off() {
    let mut settings = Settings::default();
    settings.usual_pool.pinning = false;
    let mut cluster = Cluster::under(settings);
    cluster.add_node("a", 1);
    let refusal = refused(&cluster, |submit| {
        submit.spec.placement = Some(Box::new(PlacementSpec {
            mode: PlacementMode::Pin,
            pin_pool_id: Some("a".to_owned()),
            ..PlacementSpec::default()
        }));
    });
    assert_eq!(refusal.code, ErrorCode::InvalidParams);
}
