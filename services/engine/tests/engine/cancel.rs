//! Slots: taken, refused, and free again as soon as nobody listens.

use serde_json::json;

use crate::server::{chat, eventually, start};

/// An answer that runs for seconds unless it is canceled.
fn endless() -> serde_json::Value {
    json!({"temperature": 0, "ignore_eos": true, "max_tokens": 8000})
}

#[tokio::test]
async fn hanging_up_frees_the_slot() {
    let server = start(1).await;
    let mut events = server.stream(endless()).await;
    // The opening and two pieces: it generates.
    for _ in 0..3 {
        events.next().await.unwrap();
    }
    eventually(&server, |engine| engine["busy"] == 1).await;
    drop(events);
    eventually(&server, |engine| engine["busy"] == 0).await;
}

#[tokio::test]
async fn hanging_up_on_a_whole_answer_frees_the_slot() {
    let server = start(1).await;
    {
        let body = chat(endless()).to_string();
        let asked = server.request("POST", "/v1/chat/completions", body);
        tokio::select! {
            _ = asked => panic!("8000 tokens within no time"),
            _ = eventually(&server, |engine| engine["busy"] == 1) => {}
        }
    }
    eventually(&server, |engine| engine["busy"] == 0).await;
}

#[tokio::test]
async fn who_does_not_read_stops_only_himself() {
    let server = start(2).await;
    let unread = server.stream(endless()).await;
    let other = server.chat(json!({"seed": 1, "max_tokens": 20})).await;
    assert_eq!(other["usage"]["completion_tokens"], 20);
    eventually(&server, |engine| engine["busy"] == 1).await;
    drop(unread);
    eventually(&server, |engine| engine["busy"] == 0).await;
}

#[tokio::test]
async fn beyond_the_slots_is_refused_at_once() {
    let server = start(2).await;
    let (first, second) = (
        server.stream(endless()).await,
        server.stream(endless()).await,
    );
    let refused = server.post("/v1/chat/completions", chat(json!({}))).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.json["error"]["code"], "slots_busy");
    drop(first);
    eventually(&server, |engine| engine["busy"] == 1).await;
    server.chat(json!({"max_tokens": 1})).await;
    drop(second);
}

#[tokio::test]
async fn a_finished_answer_has_freed_its_slot_before_its_end_is_seen() {
    let server = start(1).await;
    for seed in 0..20 {
        server.chat(json!({"seed": seed, "max_tokens": 3})).await;
        server
            .stream(json!({"seed": seed, "max_tokens": 3}))
            .await
            .all()
            .await;
    }
}

#[tokio::test]
async fn a_refused_request_gives_its_slot_back() {
    let server = start(1).await;
    for _ in 0..3 {
        let body = chat(json!({"orchion_continue": {"ids": [9_999]}}));
        assert_eq!(server.post("/v1/chat/completions", body).await.status, 400);
    }
    server.chat(json!({"max_tokens": 1})).await;
}

#[tokio::test]
async fn answers_side_by_side_do_not_mix() {
    let server = start(4).await;
    let answer = |seed: u64| server.chat(json!({"seed": seed, "max_tokens": 50}));
    let alone = [
        answer(1).await,
        answer(2).await,
        answer(3).await,
        answer(4).await,
    ];
    let (a, b, c, d) = tokio::join!(answer(1), answer(2), answer(3), answer(4));
    for (alone, together) in alone.iter().zip([a, b, c, d]) {
        assert_eq!(alone["orchion"], together["orchion"]);
        assert_eq!(alone["choices"], together["choices"]);
    }
}
