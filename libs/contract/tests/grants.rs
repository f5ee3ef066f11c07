//! Where a gateway sends the next chats, and what is told of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use orchion_contract::job::{Assignment, Grant, Granted, JobSummary, ModelGrants, Submit};
use orchion_contract::node::{EngineKind, EngineRef};
use orchion_contract::placement::Explanation;

fn place(node: &str) -> Grant {
    let engine = EngineRef {
        kind: EngineKind::Starter,
        version: None,
        digest: None,
    };
    Grant {
        to: Assignment {
            node: node.parse().unwrap(),
            instance: "i".parse().unwrap(),
            replica: "r".parse().unwrap(),
            engine,
            at_ms: 0,
        },
        longest: 100,
    }
}

/// The nodes of chats that come one after the other while none ends.
fn nodes(turns: &[u8], mut used: [u32; 2]) -> Vec<String> {
    let grants = ModelGrants {
        model: "m".into(),
        places: vec![place("a"), place("b")],
        turns: turns.to_vec(),
    };
    let number = |grant: &Grant| usize::from(grant.to.node.as_str() == "b");
    let mut nodes = Vec::new();
    while let Some(next) = grants.next(|grant| used[number(grant)]) {
        used[number(next)] += 1;
        nodes.push(next.to.node.to_string());
    }
    nodes
}

#[test]
fn chats_go_where_the_turns_say_until_none_is_left() {
    assert_eq!(nodes(&[0, 1, 0], [0, 0]), ["a", "b", "a"]);
    assert_eq!(nodes(&[], [0, 0]), [""; 0]);
}

#[test]
fn who_is_under_way_has_the_first_turns_of_its_place() {
    assert_eq!(nodes(&[0, 1, 0], [1, 0]), ["b", "a"]);
    assert_eq!(nodes(&[0, 1, 0], [0, 3]), ["a", "a"]);
}

#[test]
fn a_turn_of_no_place_is_passed_over() {
    assert_eq!(nodes(&[7, 1], [0, 0]), ["b"]);
}

#[test]
fn an_order_of_a_gateway_begins_the_job_that_its_agent_tells_of() {
    let submit = include_str!("../samples/submit.json");
    let mut submit: Submit = serde_json::from_str(submit).unwrap();
    for whole in [false, true] {
        submit.spec.whole = whole;
        let order = place("a").order(7, &submit, 123);
        assert_eq!((order.attempt, order.epoch), (1, 7));
        assert_eq!(order.remaining_ms, submit.spec.deadline_ms);
        assert!(order.spec.seed.is_some(), "it is drawn from the id");
        assert_eq!(order.is_untold(), whole, "who reads along is told of");
        let to = Assignment {
            at_ms: 123,
            ..place("a").to
        };
        let told = Granted::new(&order, to);
        assert_eq!((told.job.id, told.whole), (submit.job, whole));
        assert_eq!(told.job.request_digest, submit.spec.digest());
        assert_eq!(told.job.created_ms, 123);
        let deadline = told.job.deadline_at_ms;
        assert_eq!(deadline, 123 + submit.spec.deadline_ms);
    }
}

#[test]
fn what_history_has_of_a_job_explains_where_it_was() {
    let job = include_str!("../samples/job-summary.json");
    let mut job: JobSummary = serde_json::from_str(job).unwrap();
    job.node = Some("a".parse().unwrap());
    let placed = Explanation::of_past(&job);
    assert_eq!((placed.job, placed.state), (job.id, job.state));
    assert!(placed.summary.contains("on node a"), "{}", placed.summary);
    assert!(placed.decisions.is_empty());
    job.node = None;
    let never = Explanation::of_past(&job).summary;
    assert!(never.ends_with("never placed"), "{never}");
}
