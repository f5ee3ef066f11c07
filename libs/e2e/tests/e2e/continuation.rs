//! Answers that cannot be continued, and engines that take too long.

use orchion_e2e::{SOON, alone, ended};
use orchion_testkit::mock_engine::Stats;
use orchion_testkit::sse::Event;
use orchion_testkit::wire::{Ask, Continuation, Fault, FaultKind};
use orchion_testkit::{Cluster, HttpClient, eventually};
use serde_json::{Value, json};

const TOKENS: u32 = 40;

/// A request whose engine breaks off once, and takes up nothing.
fn stubborn() -> Value {
    let fault = Fault::new(FaultKind::Truncate).at(8).times(1);
    let ask = Ask {
        continuation: Some(Continuation::Refuse),
        ..Ask::new(TOKENS).pace_us(5_000).fault(fault)
    };
    asking(&ask)
}

fn asking(ask: &Ask) -> Value {
    json!({"model": "mock", "messages": [{"role": "user", "content": ask.marker()}]})
}

/// The numbers of the tokens in a text.
fn numbers(text: &str) -> Vec<u32> {
    let number = |token: &str| token.split('.').nth(1).unwrap().parse().unwrap();
    text.split_whitespace().map(number).collect()
}

fn all() -> Vec<u32> {
    (0..TOKENS).collect()
}

/// Everything that the stream of a new task says.
async fn task(gateway: &HttpClient, body: &Value) -> Vec<Event> {
    let task: Value = gateway.post("/v1/tasks", body).await.unwrap().json();
    let path = format!("/v1/tasks/{}/stream", task["task_id"].as_str().unwrap());
    let stream = gateway.events(&path, &[]).await.unwrap();
    stream.collect().await.unwrap()
}

fn data(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

async fn until_free(cluster: &Cluster) {
    let engine = HttpClient::new(&format!("http://{}", cluster.engine_addr(0)));
    eventually("the engine to be free", SOON, async || {
        let stats: Stats = engine.get("/mock/stats").await.unwrap().json();
        stats.inflight == 0
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_continued_starts_over_where_its_reader_can_bear_it() {
    let _alone = alone().await;
    let cluster = Cluster::builder().agents(1).start().await;
    let gateway = cluster.gateway(0);

    // A task is told, and its text begins again.
    let events = task(&gateway, &stubborn()).await;
    let restarts = events.iter().filter(|event| event.event == "restart");
    assert_eq!(restarts.count(), 1, "{events:?}");
    let mut text = String::new();
    for event in &events {
        match event.event.as_str() {
            "restart" => text.clear(),
            "token" => text += data(event)["t"].as_str().unwrap(),
            _ => {}
        }
    }
    assert_eq!(numbers(&text), all());
    let end = data(events.last().unwrap());
    assert_eq!(end["continued"]["strategy"], "restart", "{end}");
    assert_eq!(end["usage"]["completion_tokens"], TOKENS);

    // Nobody has seen anything of a chat that is not streamed.
    let answer = gateway.post("/v1/chat/completions", &stubborn()).await;
    let answer: Value = answer.unwrap().json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(numbers(text), all());

    // A streamed one cannot take back what it has shown.
    let mut body = stubborn();
    body["stream"] = true.into();
    let stream = gateway
        .post_events("/v1/chat/completions", &body)
        .await
        .unwrap();
    let job = stream.headers["x-orchion-job"].to_str().unwrap().to_owned();
    let events = stream.collect().await.unwrap();
    let last = data(events.last().unwrap());
    assert_eq!(last["error"]["code"], "WORKER_RESET", "{last}");
    // Its job goes on, and ends with an answer.
    assert_eq!(ended(&gateway, &job).await["state"], "completed");
    until_free(&cluster).await;
}

#[tokio::test]
async fn a_task_may_say_how_long_an_engine_works_on_it() {
    let _alone = alone().await;
    let cluster = Cluster::builder().agents(1).start().await;
    let mut body = asking(&Ask::new(10_000).pace_us(5_000));
    body["wall_timeout_ms"] = 300.into();
    let events = task(&cluster.gateway(0), &body).await;
    let last = events.last().unwrap();
    assert_eq!(last.event, "error", "{last:?}");
    assert_eq!(data(last)["code"], "DECODE_TIMEOUT");
    until_free(&cluster).await;

    // In the middle of what is left, at each attempt.
    let hangs = Fault::new(FaultKind::Hang);
    let mut body = asking(&Ask::new(30).fault(hangs));
    body["idle_timeout_ms"] = 200.into();
    let events = task(&cluster.gateway(0), &body).await;
    let last = events.last().unwrap();
    assert_eq!(data(last)["code"], "DECODE_TIMEOUT", "{last:?}");
    until_free(&cluster).await;
}
