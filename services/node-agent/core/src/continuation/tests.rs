use super::*;
use orchion_contract::ReplicaId;
use orchion_contract::job::Priority;
use orchion_contract::transcript::{Entry, Frame, Piece};
use serde_json::value::RawValue;

fn spec(body: &str) -> JobSpec {
    JobSpec {
        workload: Workload::Chat,
        model: "m".into(),
        body: RawValue::from_string(body.to_owned()).unwrap(),
        max_tokens: Some(10),
        seed: Some(42),
        priority: Priority::Interactive,
        seed_drawn: false,
        deadline_ms: 1000,
        timeouts: Default::default(),
        expected_tokens: None,
        placement: None,
    }
}

fn engine(kind: EngineKind, digest: Option<&str>) -> EngineRef {
    EngineRef {
        kind,
        version: None,
        digest: digest.map(str::to_owned),
    }
}

fn replica(continuation: Continuation, engine: EngineRef) -> Replica {
    Replica {
        id: ReplicaId::new("r").unwrap(),
        model: "m".into(),
        engine,
        slots: 1,
        ctx: None,
        continuation,
        ready: true,
        workloads: vec![Workload::Chat],
        devices: None,
        memory_per_token_bytes: None,
    }
}

fn prefix(pieces: Vec<Piece>) -> Prefix {
    let mut prefix = Prefix::new();
    let frame = Frame {
        attempt: 1,
        index: 0,
        pieces,
    };
    prefix.apply(1, Entry::Frame(frame)).unwrap();
    prefix
}

fn said(tokens: u32, with_ids: bool) -> Prefix {
    let piece = |n| Piece {
        text: Some(format!("{n} ")),
        tokens: 1,
        ids: with_ids.then(|| vec![n]),
        ..Piece::default()
    };
    prefix((0..tokens).map(piece).collect())
}

const LLAMA: EngineKind = EngineKind::LlamaCpp;

fn planned(spec: &JobSpec, prefix: &Prefix, continuation: Continuation) -> Plan {
    let engine = engine(LLAMA, Some("sha256:a"));
    let replica = replica(continuation, engine.clone());
    plan(2, spec, prefix, Some(&engine), &replica)
}

fn reason(plan: Plan) -> String {
    let Plan::End(end) = plan else {
        panic!("expected an end, got {plan:?}");
    };
    assert_eq!(end.outcome, Outcome::Failed);
    end.error.unwrap().message
}

#[test]
fn nothing_said_begins_anew() {
    let plan = planned(&spec("{}"), &Prefix::new(), Continuation::None);
    assert_eq!(plan, Plan::Begin);
}

#[test]
fn goes_on_behind_the_text_with_what_is_left() {
    let plan = planned(&spec("{}"), &said(3, false), Continuation::Text);
    let Plan::GoOn {
        behind,
        max_tokens,
        seed,
        continued,
    } = plan
    else {
        panic!("expected to go on, got {plan:?}");
    };
    assert_eq!((behind, max_tokens), (Behind::Text, Some(7)));
    assert_ne!(seed, Some(42), "the random numbers of the beginning again");
    assert_eq!((continued.from_index, continued.verified), (3, true));
}

#[test]
fn goes_on_behind_ids_with_the_same_seed() {
    let plan = planned(&spec("{}"), &said(3, true), Continuation::Ids);
    assert!(
        matches!(
            plan,
            Plan::GoOn {
                behind: Behind::Ids,
                seed: Some(42),
                ..
            }
        ),
        "{plan:?}"
    );
    let plan = planned(&spec("{}"), &said(3, false), Continuation::Ids);
    assert!(
        matches!(
            plan,
            Plan::GoOn {
                behind: Behind::Text,
                ..
            }
        ),
        "{plan:?}"
    );
}

#[test]
fn the_starter_goes_on_behind_ids_only() {
    let engine = engine(EngineKind::Starter, Some("sha256:a"));
    let replica = replica(Continuation::Ids, engine.clone());
    let plan = plan(2, &spec("{}"), &said(3, false), Some(&engine), &replica);
    assert!(reason(plan).contains("token ids only"));
}

#[test]
fn an_answer_at_its_limit_is_complete() {
    let plan = planned(&spec("{}"), &said(10, false), Continuation::None);
    let Plan::End(end) = plan else {
        panic!("expected an end, got {plan:?}");
    };
    assert_eq!(
        (end.outcome, end.finish_reason.as_deref()),
        (Outcome::Completed, Some("length"))
    );
    assert_eq!(end.usage.completion_tokens, 10);
}

#[test]
fn an_engine_that_cannot_says_so() {
    let plan = planned(&spec("{}"), &said(3, false), Continuation::None);
    assert!(reason(plan).contains("cannot go on behind a beginning"));
}

#[test]
fn structure_cannot_be_taken_up() {
    let call = Piece {
        tool_calls: Some(RawValue::from_string("[]".to_owned()).unwrap()),
        tokens: 1,
        ..Piece::default()
    };
    let plan = planned(&spec("{}"), &prefix(vec![call]), Continuation::Text);
    assert!(reason(plan).contains("tool call"));
}

#[test]
fn demands_whose_state_is_lost_are_refused() {
    for (body, word) in [
        (r#"{"n":2}"#, "several choices"),
        (r#"{"grammar":"root ::= \"a\""}"#, "a grammar"),
        (r#"{"mirostat":2}"#, "mirostat"),
    ] {
        let plan = planned(&spec(body), &said(3, false), Continuation::Text);
        assert!(reason(plan).contains(word), "{body}");
    }
}

#[test]
fn a_forced_format_is_taken_up_by_llama_server_only() {
    let asked = spec(r#"{"response_format":{"type":"json_object"}}"#);
    let plan_on = |kind| {
        let engine = engine(kind, None);
        let replica = replica(Continuation::Text, engine.clone());
        plan(2, &asked, &said(3, false), Some(&engine), &replica)
    };
    assert!(matches!(plan_on(LLAMA), Plan::GoOn { .. }));
    assert!(reason(plan_on(EngineKind::OpenAi)).contains("forced format"));
}

#[test]
fn weights_decide_whether_an_answer_may_go_on() {
    let go = |theirs: Option<EngineRef>, ours: EngineRef| {
        let replica = replica(Continuation::Text, ours);
        match plan(2, &spec("{}"), &said(3, false), theirs.as_ref(), &replica) {
            Plan::GoOn { continued, .. } => Some(continued.verified),
            Plan::Begin | Plan::End(_) | Plan::HasEnded => None,
        }
    };
    let (a, b) = (Some("sha256:a"), Some("sha256:b"));
    let openai = EngineKind::OpenAi;
    assert_eq!(go(Some(engine(LLAMA, a)), engine(LLAMA, a)), Some(true));
    assert_eq!(
        go(Some(engine(LLAMA, None)), engine(LLAMA, None)),
        Some(false)
    );
    assert_eq!(go(Some(engine(LLAMA, a)), engine(LLAMA, b)), None);
    assert_eq!(go(Some(engine(LLAMA, a)), engine(LLAMA, None)), None);
    assert_eq!(go(Some(engine(LLAMA, None)), engine(openai, None)), None);
    assert_eq!(go(None, engine(LLAMA, None)), None);
}
