use super::*;
use orchion_contract::ReplicaId;
use orchion_contract::job::{Priority, Workload};
use orchion_contract::node::{Continuation, EngineKind};
use orchion_contract::transcript::{Entry, Frame, Piece, Restart};
use serde_json::value::RawValue;

pub(crate) fn spec(body: &str) -> JobSpec {
    JobSpec {
        workload: Workload::Chat,
        model: "m".into(),
        body: RawValue::from_string(body.to_owned()).unwrap(),
        body_ref: None,
        max_tokens: Some(10),
        seed: Some(42),
        seed_drawn: true,
        priority: Priority::Interactive,
        deadline_ms: 1000,
        whole: false,
        timeouts: Default::default(),
        expected_tokens: None,
        placement: None,
    }
}

/// What a client promised itself of a seed of its own.
fn seeded(body: &str) -> JobSpec {
    JobSpec {
        seed_drawn: false,
        ..spec(body)
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

pub(crate) fn prefix(pieces: Vec<Piece>) -> Prefix {
    let mut prefix = Prefix::new();
    let frame = Frame {
        attempt: 1,
        index: 0,
        pieces,
    };
    prefix.apply(1, Entry::Frame(frame)).unwrap();
    prefix
}

pub(crate) fn text(text: &str) -> Piece {
    Piece {
        text: Some(text.to_owned()),
        tokens: 1,
        ..Piece::default()
    }
}

pub(crate) fn said_text(said: &str) -> Prefix {
    prefix(vec![text(said)])
}

fn said(tokens: u32, with_ids: bool) -> Prefix {
    let piece = |n| Piece {
        ids: with_ids.then(|| vec![n]),
        ..text(&format!("{n} "))
    };
    prefix((0..tokens).map(piece).collect())
}

fn call() -> Piece {
    let delta = r#"[{"index":0,"id":"x","function":{"name":"f","arguments":"{"}}]"#;
    Piece {
        tool_calls: Some(RawValue::from_string(delta.to_owned()).unwrap()),
        tokens: 3,
        ..Piece::default()
    }
}

fn thought() -> Piece {
    Piece {
        reasoning: Some("hm".to_owned()),
        tokens: 1,
        ..Piece::default()
    }
}

const LLAMA: EngineKind = EngineKind::LlamaCpp;
const OPENAI: EngineKind = EngineKind::OpenAi;
const STARTER: EngineKind = EngineKind::Starter;
const TOOLS: &str = r#"{"tools":[{"type":"function","function":{"name":"f"}}]}"#;
const FORMAT: &str = r#"{"response_format":{"type":"json_object"}}"#;
const GRAMMAR: &str = r#"{"grammar":"root ::= \"a\""}"#;

/// The plan on an engine with the same weights.
fn planned(kind: EngineKind, can: Continuation, spec: &JobSpec, prefix: &Prefix) -> Plan {
    let engine = engine(kind, Some("sha256:a"));
    let replica = replica(can, engine.clone());
    plan(2, spec, prefix, Some(&engine), &replica)
}

fn ladder(plan: Plan) -> Ladder {
    match plan {
        Plan::TakeUp(ladder) => ladder,
        Plan::Begin | Plan::End(_) | Plan::HasEnded => panic!("expected ways, got {plan:?}"),
    }
}

/// The ways in letters: ids, text, replay, restart.
fn letters(ladder: &Ladder) -> String {
    let letter = |way| match way {
        Way::Ids => 'I',
        Way::Text => 'T',
        Way::Replay => 'R',
        Way::Restart => 'X',
    };
    ladder.ways().map(letter).collect()
}

fn ways_on(kind: EngineKind, can: Continuation, spec: &JobSpec, prefix: &Prefix) -> String {
    letters(&ladder(planned(kind, can, spec, prefix)))
}

fn on_llama(spec: &JobSpec, prefix: &Prefix) -> String {
    ways_on(LLAMA, Continuation::Text, spec, prefix)
}

fn on_starter(spec: &JobSpec, prefix: &Prefix) -> String {
    ways_on(STARTER, Continuation::Ids, spec, prefix)
}

/// An engine of which only its protocol is known, and that continues texts.
fn on_openai(spec: &JobSpec, prefix: &Prefix) -> String {
    ways_on(OPENAI, Continuation::Text, spec, prefix)
}

#[test]
fn nothing_said_begins_anew() {
    let plan = planned(LLAMA, Continuation::None, &spec("{}"), &Prefix::new());
    assert_eq!(plan, Plan::Begin);
}

#[test]
fn plain_text_goes_on_behind_itself() {
    let said = said(3, true);
    let greedy = seeded(r#"{"temperature":0}"#);
    for spec in [&spec("{}"), &greedy] {
        assert_eq!(on_llama(spec, &said), "TRX");
        assert_eq!(on_starter(spec, &said), "IRX");
        assert_eq!(on_openai(spec, &said), "TRX");
        assert_eq!(ways_on(OPENAI, Continuation::None, spec, &said), "RX");
        assert_eq!(ways_on(OPENAI, Continuation::Unknown, spec, &said), "RX");
    }
}

#[test]
fn a_promised_seed_is_kept_by_a_replay() {
    let said = said(3, true);
    assert_eq!(on_llama(&seeded("{}"), &said), "RTX");
    assert_eq!(on_openai(&seeded("{}"), &said), "RTX");
    // It takes its random numbers up where they stopped.
    assert_eq!(on_starter(&seeded("{}"), &said), "IRX");
}

#[test]
fn a_long_beginning_is_not_generated_again_for_a_seed() {
    let long = JobSpec {
        max_tokens: None,
        ..seeded("{}")
    };
    assert_eq!(on_llama(&long, &said(256, false)), "RTX");
    assert_eq!(on_llama(&long, &said(257, false)), "TRX");
}

#[test]
fn a_seed_means_nothing_on_another_build() {
    let ours = engine(LLAMA, Some("sha256:a"));
    let theirs = EngineRef {
        version: Some("older".to_owned()),
        ..ours.clone()
    };
    let replica = replica(Continuation::Text, ours);
    let plan = plan(2, &seeded("{}"), &said(3, false), Some(&theirs), &replica);
    assert_eq!(letters(&ladder(plan)), "TRX");
}

#[test]
fn llama_server_takes_up_formats_and_grammars() {
    for body in [FORMAT, GRAMMAR, r#"{"json_schema":{}}"#] {
        assert_eq!(on_llama(&spec(body), &said(3, false)), "TRX", "{body}");
        assert_eq!(on_openai(&spec(body), &said(3, false)), "RX", "{body}");
    }
    let text = r#"{"response_format":{"type":"text"},"grammar":null}"#;
    assert_eq!(on_openai(&spec(text), &said(3, false)), "TRX");
}

#[test]
fn a_begun_tool_call_is_replayed_and_never_continued() {
    let begun = prefix(vec![text("Let me see. "), call()]);
    assert_eq!(on_llama(&spec(TOOLS), &begun), "RX");
    assert_eq!(on_openai(&spec(TOOLS), &begun), "RX");
    let before = said(3, false);
    assert_eq!(on_llama(&spec(TOOLS), &before), "TRX");
    assert_eq!(on_openai(&spec(TOOLS), &before), "TRX");
}

#[test]
fn what_no_text_holds_is_replayed() {
    let said = said(3, true);
    for body in [r#"{"n":2}"#, r#"{"mirostat":2}"#] {
        assert_eq!(on_llama(&spec(body), &said), "RX", "{body}");
        assert_eq!(on_starter(&spec(body), &said), "RX", "{body}");
    }
    let second = Piece {
        choice: 1,
        ..text("b")
    };
    assert_eq!(
        on_llama(&spec("{}"), &prefix(vec![text("a"), second])),
        "RX"
    );
}

#[test]
fn a_thought_is_taken_up_by_llama_server_only() {
    let thinking = prefix(vec![thought()]);
    assert_eq!(on_llama(&spec("{}"), &thinking), "TRX");
    assert_eq!(on_openai(&spec("{}"), &thinking), "RX");
    let completion = JobSpec {
        workload: Workload::Completion,
        ..spec("{}")
    };
    assert_eq!(on_llama(&completion, &thinking), "RX");
}

#[test]
fn the_starter_replays_what_it_has_no_ids_of() {
    assert_eq!(on_starter(&spec("{}"), &said(3, false)), "RX");
}

#[test]
fn results_that_are_no_text_start_over() {
    let vector = Piece {
        data: Some(RawValue::from_string("[1]".to_owned()).unwrap()),
        tokens: 1,
        ..Piece::default()
    };
    assert_eq!(on_llama(&spec("{}"), &prefix(vec![vector])), "X");
}

#[test]
fn weights_decide_what_may_be_tried() {
    let go = |theirs: Option<EngineRef>, ours: EngineRef| {
        let replica = replica(Continuation::Text, ours);
        let plan = plan(2, &spec("{}"), &said(3, false), theirs.as_ref(), &replica);
        let ladder = ladder(plan);
        (letters(&ladder), ladder.step().continued.verified)
    };
    let (a, b) = (Some("sha256:a"), Some("sha256:b"));
    let ways = |letters: &str, verified| (letters.to_owned(), verified);
    assert_eq!(
        go(Some(engine(LLAMA, a)), engine(LLAMA, a)),
        ways("TRX", true)
    );
    assert_eq!(
        go(Some(engine(LLAMA, None)), engine(LLAMA, None)),
        ways("TRX", false)
    );
    assert_eq!(
        go(Some(engine(LLAMA, a)), engine(LLAMA, b)),
        ways("X", false)
    );
    // A replay that repeats every word proves itself.
    assert_eq!(
        go(Some(engine(LLAMA, a)), engine(LLAMA, None)),
        ways("RX", true)
    );
    assert_eq!(
        go(Some(engine(LLAMA, None)), engine(OPENAI, None)),
        ways("RX", true)
    );
    assert_eq!(go(None, engine(LLAMA, None)), ways("RX", true));
}

#[test]
fn an_answer_that_was_started_over_belongs_to_its_last_engine() {
    let (old, new) = (
        engine(LLAMA, Some("sha256:a")),
        engine(LLAMA, Some("sha256:b")),
    );
    let mut prefix = said(3, false);
    let restart = Restart {
        attempt: 2,
        index: 3,
        engine: Some(new.clone()),
    };
    prefix.apply(2, Entry::Restart(restart)).unwrap();
    let frame = Frame {
        attempt: 2,
        index: 4,
        pieces: vec![text("new")],
    };
    prefix.apply(3, Entry::Frame(frame)).unwrap();
    let on = |engine: &EngineRef| {
        let replica = replica(Continuation::Text, engine.clone());
        letters(&ladder(plan(3, &spec("{}"), &prefix, Some(&old), &replica)))
    };
    assert_eq!(on(&new), "TRX");
    assert_eq!(on(&old), "X");
}

#[test]
fn each_way_asks_for_what_is_left_or_for_all() {
    let mut ladder = ladder(planned(
        LLAMA,
        Continuation::Text,
        &spec("{}"),
        &said(3, false),
    ));
    let text = ladder.step().clone();
    assert_eq!((text.way, text.max_tokens), (Way::Text, Some(7)));
    assert_ne!(
        text.seed,
        Some(42),
        "the random numbers of the beginning again"
    );
    assert_eq!(
        (text.continued.from_index, text.continued.verified),
        (3, true)
    );
    assert!(ladder.step_down(Obstacle::CannotGoOn));
    let replay = ladder.step().clone();
    assert_eq!((replay.way, replay.max_tokens), (Way::Replay, Some(10)));
    assert_eq!(replay.seed, Some(42));
    assert!(ladder.step_down(Obstacle::CannotGoOn));
    let restart = ladder.step().clone();
    assert_eq!((restart.way, restart.max_tokens), (Way::Restart, Some(10)));
    assert_eq!(restart.continued.strategy, Strategy::Restart);
    assert!(!ladder.step_down(Obstacle::CannotGoOn));
    let ids = planned(STARTER, Continuation::Ids, &spec("{}"), &said(3, true));
    let Plan::TakeUp(ids) = ids else { panic!() };
    assert_eq!(
        (ids.step().seed, ids.step().max_tokens),
        (Some(42), Some(7))
    );
}

#[test]
fn what_would_fail_again_is_not_tried_again() {
    let new = || {
        ladder(planned(
            LLAMA,
            Continuation::Text,
            &spec("{}"),
            &said(3, false),
        ))
    };
    // An engine that went away says nothing about the way.
    assert!(!new().step_down(Obstacle::Failed));
    // It refuses the beginning, and perhaps the request itself.
    let mut ladder = new();
    assert!(ladder.step_down(Obstacle::Refused));
    assert_eq!(ladder.step().way, Way::Replay);
    assert!(!ladder.step_down(Obstacle::Refused));
}

#[test]
fn usage_is_that_of_an_answer_that_was_never_cut() {
    let engine = |prompt_tokens, completion_tokens| Usage {
        prompt_tokens,
        completion_tokens,
        cached_tokens: None,
    };
    let mut ladder = ladder(planned(
        LLAMA,
        Continuation::Text,
        &spec("{}"),
        &said(3, false),
    ));
    let counted = |ladder: &Ladder, usage| ladder.step().usage(3, usage, 4).completion_tokens;
    let text = ladder.step().usage(3, Some(engine(52, 5)), 4);
    assert_eq!(text, engine(52, 8));
    assert_eq!(counted(&ladder, None), 7);
    ladder.step_down(Obstacle::CannotGoOn);
    assert_eq!(
        ladder.step().usage(3, Some(engine(52, 8)), 4),
        engine(52, 8)
    );
    assert_eq!(counted(&ladder, None), 7);
    ladder.step_down(Obstacle::CannotGoOn);
    assert_eq!(counted(&ladder, Some(engine(52, 9))), 9);
    // Nothing is shown any more.
    assert_eq!(ladder.step().usage(0, None, 4).completion_tokens, 4);
}

#[test]
fn an_answer_at_its_limit_is_complete() {
    let plan = planned(LLAMA, Continuation::None, &spec("{}"), &said(10, false));
    let Plan::End(end) = plan else {
        panic!("expected an end, got {plan:?}");
    };
    assert_eq!(
        (end.outcome, end.finish_reason.as_deref()),
        (Outcome::Completed, Some("length"))
    );
    assert_eq!(end.usage.completion_tokens, 10);
    // The limit is of each of several answers.
    assert_eq!(on_llama(&spec(r#"{"n":2}"#), &said(10, false)), "RX");
}

#[test]
fn an_answer_that_has_ended_is_left_alone() {
    let mut prefix = said(3, false);
    let end = at_the_limit(
        1,
        &prefix,
        &replica(Continuation::Text, engine(LLAMA, None)),
        Weights::Equal,
    );
    prefix.apply(2, Entry::Final(Box::new(end))).unwrap();
    let plan = planned(LLAMA, Continuation::Text, &spec("{}"), &prefix);
    assert_eq!(plan, Plan::HasEnded);
}
