//! The engine that everybody's tests believe in.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::time::{Duration, Instant};

use orchion_testkit::http::{Answer, Error};
use orchion_testkit::mock_engine::{Options, WhenFull};
use orchion_testkit::wire::{Ask, Check, Continuation, Fault, FaultKind, Verifier};
use orchion_testkit::{HttpClient, MockEngine, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);
const CHAT: &str = "/v1/chat/completions";

/// What a client got from a stream.
#[derive(Debug, Default)]
struct Got {
    text: String,
    finish: Option<String>,
    usage: Option<Value>,
    error: Option<Value>,
    malformed: usize,
    is_done: bool,
    is_broken: bool,
}

fn client(engine: &MockEngine) -> HttpClient {
    HttpClient::new(&engine.url()).patience(SOON)
}

fn request(ask: &Ask) -> Value {
    json!({
        "model": "mock", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": format!("{} hello", ask.marker())}],
    })
}

fn continued(ask: &Ask, prefix: &str) -> Value {
    let mut body = request(ask);
    let message = json!({"role": "assistant", "content": prefix});
    body["messages"].as_array_mut().unwrap().push(message);
    body["continue_final_message"] = true.into();
    body["add_generation_prompt"] = false.into();
    body
}

async fn stream(engine: &MockEngine, body: &Value) -> Got {
    let mut events = client(engine).post_events(CHAT, body).await.unwrap();
    let mut got = Got::default();
    loop {
        let event = match events.next().await {
            Ok(Some(event)) => event,
            Ok(None) => return got,
            Err(_) => {
                got.is_broken = true;
                return got;
            }
        };
        got.is_done |= event.data == "[DONE]";
        let Ok(chunk) = serde_json::from_str::<Value>(&event.data) else {
            got.malformed += usize::from(event.data != "[DONE]");
            continue;
        };
        let choice = &chunk["choices"][0];
        got.text += choice["delta"]["content"].as_str().unwrap_or("");
        got.finish = got
            .finish
            .or(choice["finish_reason"].as_str().map(str::to_owned));
        got.usage = got.usage.or(chunk.get("usage").cloned());
        got.error = got.error.or(chunk.get("error").cloned());
    }
}

async fn refused(engine: &MockEngine, body: &Value) -> Answer {
    match client(engine).post_events(CHAT, body).await {
        Err(Error::Status(answer)) => *answer,
        other => panic!("{other:?}"),
    }
}

fn verdict(ask: &Ask, text: &str) -> Option<&'static str> {
    let mut verifier = Verifier::new(Check::Full, ask.nonce);
    verifier.feed(text, |_| {});
    verifier.finish(ask.tokens, |_| {}).map(|flaw| flaw.class())
}

fn failing(kind: FaultKind) -> Ask {
    Ask::new(10).fault(Fault::new(kind).at(4))
}

#[tokio::test]
async fn a_stream_is_whole() {
    let engine = MockEngine::named("x");
    let ask = Ask::new(20);
    let got = stream(&engine, &request(&ask)).await;
    assert_eq!(verdict(&ask, &got.text), None);
    assert_eq!(got.finish.as_deref(), Some("stop"));
    assert_eq!(got.usage.unwrap()["completion_tokens"], 20);
    assert!(got.is_done);
    assert_eq!(engine.stats().completed, 1);
    assert_eq!(engine.stats().tokens, 20);
}

#[tokio::test]
async fn a_plain_answer_is_whole() {
    let engine = MockEngine::named("x");
    let ask = Ask::new(20);
    let mut body = request(&ask);
    body["stream"] = false.into();
    let answer = client(&engine).post(CHAT, &body).await.unwrap();
    let answer: Value = answer.json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(verdict(&ask, text), None);
    assert_eq!(answer["usage"]["completion_tokens"], 20);
}

#[tokio::test]
async fn tokens_keep_their_pace() {
    let engine = MockEngine::named("x");
    let start = Instant::now();
    stream(&engine, &request(&Ask::new(11).pace_us(10_000))).await;
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn the_limit_of_tokens_is_kept() {
    let engine = MockEngine::named("x");
    let mut body = request(&Ask::new(20));
    body["max_tokens"] = 5.into();
    let got = stream(&engine, &body).await;
    assert_eq!(got.usage.unwrap()["completion_tokens"], 5);
    assert_eq!(got.finish.as_deref(), Some("length"));
}

#[tokio::test]
async fn a_cut_answer_is_continued_without_a_seam() {
    let engine = MockEngine::named("x");
    let ask = Ask::new(12);
    let cut = stream(&engine, &request(&failing(FaultKind::Truncate))).await;
    assert!(cut.is_broken);
    let cut = stream(
        &engine,
        &request(&ask.clone().fault(Fault::new(FaultKind::EndEarly).at(5))),
    )
    .await;
    let mut body = continued(&ask, &cut.text);
    body["max_tokens"] = 7.into();
    let rest = stream(&engine, &body).await;
    assert_eq!(verdict(&ask, &(cut.text + &rest.text)), None);
    assert_eq!(rest.usage.unwrap()["completion_tokens"], 7);
    assert_eq!(rest.finish.as_deref(), Some("stop"));
    assert_eq!(engine.stats().resumed, 1);
}

#[tokio::test]
async fn a_bare_last_message_is_repeated_first() {
    let engine = MockEngine::named("x");
    let ask = Ask::new(6);
    let prefix = stream(
        &engine,
        &request(&ask.clone().fault(Fault::new(FaultKind::EndEarly))),
    )
    .await
    .text;
    let mut body = continued(&ask, &prefix);
    body["continue_final_message"] = false.into();
    let got = stream(&engine, &body).await;
    assert!(got.text.starts_with(&prefix));
    assert_eq!(verdict(&ask, &got.text), None);
}

#[tokio::test]
async fn continuation_can_be_refused_ignored_and_repeated() {
    let engine = MockEngine::named("x");
    let ask = Ask::new(6);
    let prefix = stream(
        &engine,
        &request(&ask.clone().fault(Fault::new(FaultKind::EndEarly))),
    )
    .await
    .text;
    let with = |continuation| {
        let ask = Ask {
            continuation: Some(continuation),
            ..ask.clone()
        };
        continued(&ask, &prefix)
    };
    assert_eq!(
        refused(&engine, &with(Continuation::Refuse)).await.status,
        400
    );
    for continuation in [Continuation::Ignore, Continuation::Repeat] {
        let got = stream(&engine, &with(continuation)).await;
        assert_eq!(verdict(&ask, &got.text), None, "{continuation}");
    }
    let repeated = stream(&engine, &with(Continuation::Repeat)).await;
    assert!(repeated.text.starts_with(&prefix));
}

#[tokio::test]
async fn half_a_wish_to_continue_is_refused() {
    let engine = MockEngine::named("x");
    let ask = Ask::new(6);
    let mut body = continued(&ask, "text");
    body["add_generation_prompt"] = true.into();
    assert_eq!(refused(&engine, &body).await.status, 400);
    let mut body = request(&ask);
    body["continue_final_message"] = true.into();
    body["add_generation_prompt"] = false.into();
    assert_eq!(refused(&engine, &body).await.status, 400);
}

#[tokio::test]
async fn a_prompt_without_a_marker_gets_the_same_answer_twice() {
    let engine = MockEngine::named("x");
    let body = json!({
        "model": "mock", "stream": true, "max_tokens": 6,
        "messages": [{"role": "user", "content": "say abc"}],
    });
    let whole = stream(&engine, &body).await.text;
    assert_eq!(stream(&engine, &body).await.text, whole);
    let (beginning, rest) = whole.split_at(whole.find(' ').unwrap() + 1);
    let mut body = body;
    body["messages"] = json!([
        {"role": "user", "content": "say abc"},
        {"role": "assistant", "content": beginning},
    ]);
    body["max_tokens"] = 5.into();
    body["continue_final_message"] = true.into();
    body["add_generation_prompt"] = false.into();
    assert_eq!(stream(&engine, &body).await.text, rest);
}

#[tokio::test]
async fn errors_come_before_the_answer() {
    let engine = MockEngine::named("x");
    assert_eq!(
        refused(&engine, &request(&failing(FaultKind::Error)))
            .await
            .status,
        500
    );
    let overloaded = refused(&engine, &request(&failing(FaultKind::Overloaded))).await;
    assert_eq!(
        (overloaded.status, overloaded.header("retry-after")),
        (503, Some("1"))
    );
    let dropped = client(&engine)
        .post_events(CHAT, &request(&failing(FaultKind::Drop)))
        .await;
    assert!(matches!(dropped, Err(Error::BeforeHead(_))));
    assert_eq!(engine.stats().failed, 3);
    assert_eq!(engine.stats().inflight, 0);
}

#[tokio::test]
async fn streams_go_wrong_as_asked() {
    let engine = MockEngine::named("x");
    let run = async |kind| {
        let ask = failing(kind);
        (stream(&engine, &request(&ask)).await, ask)
    };
    let (got, ask) = run(FaultKind::Truncate).await;
    assert!(got.is_broken && verdict(&ask, &got.text) == Some("content:truncated"));
    let (got, _) = run(FaultKind::EndEarly).await;
    assert!(!got.is_broken && !got.is_done && got.finish.is_none());
    assert_eq!(got.text.split_whitespace().count(), 4);
    let (got, ask) = run(FaultKind::NoDone).await;
    assert!(!got.is_done && got.finish.is_some() && verdict(&ask, &got.text).is_none());
    let (got, _) = run(FaultKind::ErrorEvent).await;
    assert!(got.error.is_some() && !got.is_done);
    let (got, ask) = run(FaultKind::Malformed).await;
    assert!(got.malformed == 1 && verdict(&ask, &got.text).is_none());
    let (got, ask) = run(FaultKind::NoUsage).await;
    assert!(got.usage.is_none() && got.is_done && verdict(&ask, &got.text).is_none());
}

#[tokio::test]
async fn a_hanging_stream_ends_when_the_client_leaves() {
    let engine = MockEngine::named("x");
    let body = request(&failing(FaultKind::Hang));
    let mut events = client(&engine).patience(Duration::from_millis(200));
    events = events.clone();
    let mut stream = events.post_events(CHAT, &body).await.unwrap();
    let end = loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(end, Err(Error::Timeout(_))));
    assert_eq!(engine.stats().inflight, 1);
    drop(stream);
    eventually("the engine to notice", SOON, async || {
        engine.stats().cancelled == 1 && engine.stats().inflight == 0
    })
    .await;
}

#[tokio::test]
async fn a_slow_first_token_is_late() {
    let engine = MockEngine::named("x");
    let start = Instant::now();
    let ask = Ask::new(2).fault(Fault::new(FaultKind::Slow).late_ms(80));
    stream(&engine, &request(&ask)).await;
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn faults_can_be_limited_in_number_and_to_an_engine() {
    let engine = MockEngine::named("x");
    let once = Ask::new(3).fault(Fault::new(FaultKind::Error).times(1));
    assert_eq!(refused(&engine, &request(&once)).await.status, 500);
    assert!(stream(&engine, &request(&once)).await.is_done);
    let elsewhere = Ask::new(3).fault(Fault::new(FaultKind::Error).on("y"));
    assert!(stream(&engine, &request(&elsewhere)).await.is_done);
}

#[tokio::test]
async fn a_fault_can_be_set_for_everybody() {
    let engine = MockEngine::named("x");
    engine.set_fault(Some(Fault::new(FaultKind::Overloaded)));
    assert_eq!(refused(&engine, &request(&Ask::new(3))).await.status, 503);
    engine.set_fault(None);
    assert!(stream(&engine, &request(&Ask::new(3))).await.is_done);
}

#[tokio::test]
async fn a_full_engine_rejects_or_queues() {
    let options = |when_full| Options {
        slots: 1,
        when_full,
        ..Options::default()
    };
    let held = request(&failing(FaultKind::Hang));
    let engine = MockEngine::start(options(WhenFull::Reject));
    let stream_held = client(&engine).post_events(CHAT, &held).await.unwrap();
    assert_eq!(refused(&engine, &request(&Ask::new(3))).await.status, 503);
    drop(stream_held);
    let engine = MockEngine::start(options(WhenFull::Queue));
    let stream_held = client(&engine).post_events(CHAT, &held).await.unwrap();
    let body = request(&Ask::new(3));
    let waiting = stream(&engine, &body);
    let release = async {
        eventually("a queued request", SOON, async || {
            engine.stats().inflight == 2
        })
        .await;
        drop(stream_held);
    };
    assert!(tokio::join!(waiting, release).0.is_done);
}

#[tokio::test]
async fn it_says_what_it_serves_and_did() {
    let engine = MockEngine::named("x");
    let client = client(&engine);
    let models: Value = client.get("/v1/models").await.unwrap().json();
    assert_eq!(models["data"][0]["id"], "mock");
    assert_eq!(client.get("/health").await.unwrap().status, 200);
    assert_eq!(client.get("/nothing").await.unwrap().status, 404);
    let stats: Value = client.get("/mock/stats").await.unwrap().json();
    assert_eq!(
        (&stats["name"], &stats["requests"]),
        (&json!("x"), &json!(0))
    );
    let broken = client.post(CHAT, &json!("text")).await.unwrap();
    assert_eq!(broken.status, 400);
}

#[tokio::test]
async fn the_program_can_be_killed_and_started_again_on_its_port() {
    let port = orchion_testkit::free_port();
    let start = || {
        let program = orchion_testkit::Program::at(env!("CARGO_BIN_EXE_mock-engine").as_ref());
        program
            .args(["--name", "p", "--listen", &format!("127.0.0.1:{port}")])
            .start()
    };
    let client = HttpClient::new(&format!("http://127.0.0.1:{port}"));
    let mut engine = start();
    let is_up = async || client.get("/health").await.is_ok();
    eventually("the engine", SOON, is_up).await;
    engine.kill();
    assert!(matches!(
        client.get("/health").await,
        Err(Error::Connect(_))
    ));
    let _engine = start();
    eventually("the engine again", SOON, is_up).await;
}
