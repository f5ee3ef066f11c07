//! Names and words: what is written under a key or in JSON is read back as it was.

use orchion_contract::buckets::{self, JOBS, LEASES, NODES};
use orchion_contract::job::JobState;
use orchion_contract::lease::LeaseKey;
use orchion_contract::log::{Level, ServiceName};
use orchion_contract::node::{EngineKind, ReplicaLoad};
use orchion_contract::subject::{Rpc, Subject};
use orchion_contract::{ErrorBody, ErrorCode, InstanceId, JobId, NodeId, ReaderId, rpc};
use serde_json::json;

#[test]
fn a_key_of_each_bucket_is_read_as_it_was_written() {
    let (node, job) = (NodeId::new("n-1").unwrap(), JobId::now());
    let reader = ReaderId::new("g1").unwrap();
    assert_eq!(NODES.parse(&NODES.key(&node)), Some(node));
    assert_eq!(JOBS.parse(&JOBS.key(&job)), Some(job));
    for key in [
        LeaseKey::Scheduler,
        LeaseKey::Registry,
        LeaseKey::Gateway(reader),
    ] {
        assert_eq!(LEASES.parse(&LEASES.key(&key)), Some(key));
    }
}

#[test]
fn a_key_of_somebody_else_is_none_of_ours() {
    assert_eq!(JOBS.parse("no uuid"), None);
    assert_eq!(NODES.parse("a.b"), None);
    for key in ["", "janitor", "gateway", "gateway.", "scheduler.g1"] {
        assert_eq!(LEASES.parse(key), None, "{key}");
    }
}

#[test]
fn every_bucket_has_a_name_of_its_own_and_says_why_it_exists() {
    let names: Vec<&str> = buckets::ALL.iter().map(|bucket| bucket.name).collect();
    assert_eq!(names, ["nodes", "jobs", "leases"]);
    assert!(buckets::ALL.iter().all(|bucket| !bucket.why.is_empty()));
    let copy = Clone::clone(&NODES);
    assert_eq!(copy.spec(), NODES.spec());
}

#[test]
fn states_engines_and_codes_are_called_the_same_in_json_and_in_text() {
    use EngineKind::{Exo, LlamaCpp, Ollama, OpenAi, Starter, Vllm};
    use JobState::{Assigned, Canceled, Completed, Failed, Pending, Running};
    for state in [Pending, Assigned, Running, Completed, Failed, Canceled] {
        assert_eq!(json!(state), json!(state.to_string()));
    }
    for kind in [LlamaCpp, Ollama, Vllm, Exo, OpenAi, Starter] {
        assert_eq!(json!(kind), json!(kind.to_string()));
    }
    for code in [
        ErrorCode::Conflict,
        ErrorCode::Gone,
        ErrorCode::MethodNotAllowed,
    ] {
        assert_eq!(json!(code), json!(code.as_str()));
    }
}

#[test]
fn a_word_from_a_newer_version_is_unknown_and_not_an_error() {
    let state: JobState = serde_json::from_value(json!("dreaming")).unwrap();
    let kind: EngineKind = serde_json::from_value(json!("warp")).unwrap();
    assert_eq!(
        (state, state.as_str()),
        (JobState::Unknown, JobState::Unknown.as_str())
    );
    assert_eq!((kind, kind.as_str()), (EngineKind::Unknown, "unknown"));
}

#[test]
fn an_error_may_say_against_its_code_whether_a_retry_helps() {
    let error = ErrorBody::new(ErrorCode::Conflict, "taken");
    assert_ne!(
        error.clone().with_retriable(true).is_retriable(),
        error.with_retriable(false).is_retriable()
    );
}

#[test]
fn ids_are_checked_and_say_what_they_are() {
    let node = NodeId::new("n-1").unwrap();
    let job = JobId::now();
    assert_eq!(format!("{node:?}"), "NodeId(n-1)");
    assert_eq!(format!("{job:?}"), format!("JobId({job})"));
    assert_ne!(InstanceId::random(), InstanceId::random());
    let errors = [
        NodeId::new("").unwrap_err().to_string(),
        NodeId::new("a b").unwrap_err().to_string(),
        NodeId::new("x".repeat(500)).unwrap_err().to_string(),
        "7".parse::<JobId>().unwrap_err().to_string(),
    ];
    for (error, part) in errors.iter().zip(["empty", "' '", "longer", "UUID"]) {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn names_of_services_and_levels_are_read_as_they_were_written() {
    let name: ServiceName = "log-sink".parse().unwrap();
    let read: ServiceName = serde_json::from_value(json!(name)).unwrap();
    assert_eq!(read, name);
    assert!(serde_json::from_value::<ServiceName>(json!("a.b")).is_err());
    for level in Level::ALL {
        assert_eq!(level.to_string().parse::<Level>().unwrap(), *level);
    }
    assert!("loud".parse::<Level>().is_err());
}

#[test]
fn a_question_has_a_subject_for_each_address_and_is_known_by_its_verb() {
    let node = NodeId::new("n1").unwrap();
    let run = Clone::clone(&rpc::RUN);
    assert_eq!(run.to(&node), "orchion.cmd.node.run.n1");
    assert_eq!(run.any(), "orchion.cmd.node.run.*");
    assert_eq!(run.parse("orchion.cmd.node.run.n1"), Some(node));
    assert_eq!(run.parse("orchion.cmd.node.run"), None);
    assert_eq!(run.parse("orchion.cmd.node.run.n1.more"), None);
    assert_eq!((run.verb(), rpc::SUBMIT.verb()), ("run", "submit"));
    assert_eq!(rpc::SUBMIT.to(&()), rpc::SUBMIT.pattern());
    assert_eq!(rpc::SUBMIT.parse(rpc::SUBMIT.pattern()), Some(()));
}

#[test]
fn a_subject_keeps_to_its_holes_and_to_its_fixed_words() {
    let one: Subject<(NodeId, JobId), ()> = Subject::new("a.{node}.b.{job}");
    let subject = Clone::clone(&one);
    let address = (NodeId::new("n1").unwrap(), JobId::now());
    let text = subject.to(&address);
    assert_eq!(subject.pattern(), "a.{node}.b.{job}");
    assert_eq!(subject.all_of(&address.0), "a.n1.b.*");
    assert_eq!(subject.parse(&text), Some(address));
    for foreign in ["", "a.n1.b", "a.n1.c.7", "a.n1.b.7", "a.n1.b.7.8"] {
        assert_eq!(subject.parse(foreign), None, "{foreign}");
    }
}

#[test]
fn an_address_is_not_read_from_more_or_fewer_tokens() {
    use orchion_contract::subject::Address;
    assert_eq!(<()>::parse(&["a"]), None);
    assert_eq!(NodeId::parse(&[]), None);
    assert_eq!(<(NodeId, NodeId)>::parse(&["a"]), None);
    assert_eq!(<(NodeId, NodeId, NodeId)>::parse(&["a", "b"]), None);
}

#[test]
fn a_question_may_be_declared_where_it_is_asked() {
    let ask: Rpc<(), (), ()> = Rpc::new("orchion.rpc.test.echo");
    assert_eq!((ask.verb(), ask.any().as_str()), ("echo", ask.pattern()));
}

#[test]
fn a_heartbeat_that_says_nothing_of_weights_has_them_in_memory() {
    let load = json!({"id": "r", "slots": 1, "busy": 0, "ready": true});
    let load: ReplicaLoad = serde_json::from_value(load).unwrap();
    assert!(load.loaded);
}
