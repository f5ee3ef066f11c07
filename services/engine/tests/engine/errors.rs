//! What goes wrong is told in OpenAI's envelope, with a status and a stable code.

use std::sync::Arc;

use orchion_engine::engine::Settings;
use orchion_engine::http::Service;
use orchion_engine::synth::Spec;
use serde_json::{Value, json};

use crate::server::{Answer, SETTINGS, chat, engine, serve, start, start_with};

fn told(answer: &Answer) -> (u16, &str, &str) {
    let error = &answer.json["error"];
    for field in ["message", "type", "code", "param"] {
        assert!(error.get(field).is_some(), "no {field} in {error}");
    }
    let text = |name: &str| error[name].as_str().unwrap_or_default();
    (answer.status.as_u16(), text("type"), text("code"))
}

#[tokio::test]
async fn wrong_requests_are_told_apart() {
    let server = start(1).await;
    let chats = "/v1/chat/completions";
    let unknown = chat(json!({"model": "gpt-9"})).to_string();
    let unserved = "{\"messages\": []}".to_owned();
    for (method, path, body, expected) in [
        (
            "POST",
            chats,
            "{not json".to_owned(),
            (400, "invalid_request_error", "invalid_json"),
        ),
        (
            "POST",
            chats,
            "[]".to_owned(),
            (400, "invalid_request_error", "invalid_json"),
        ),
        (
            "POST",
            chats,
            "{}".to_owned(),
            (400, "invalid_request_error", "invalid_value"),
        ),
        (
            "POST",
            chats,
            unserved,
            (400, "invalid_request_error", "invalid_value"),
        ),
        (
            "POST",
            chats,
            unknown,
            (404, "not_found_error", "model_not_found"),
        ),
        (
            "GET",
            "/v1/models/gpt-9",
            String::new(),
            (404, "not_found_error", "model_not_found"),
        ),
        (
            "GET",
            "/v1/nothing",
            String::new(),
            (404, "not_found_error", "unknown_route"),
        ),
        (
            "GET",
            chats,
            String::new(),
            (405, "invalid_request_error", "method_not_allowed"),
        ),
        (
            "POST",
            "/v1/completions",
            "{}".to_owned(),
            (400, "invalid_request_error", "invalid_value"),
        ),
    ] {
        let answer = server.send(method, path, body).await;
        assert_eq!(told(&answer), expected, "{method} {path}");
        assert!(
            answer.headers["server"]
                .to_str()
                .unwrap()
                .starts_with("orchion-engine/")
        );
    }
}

#[tokio::test]
async fn a_prompt_over_the_context_is_told_with_its_length() {
    let settings = Settings {
        context: 64,
        threads: 1,
    };
    let server = start_with(engine(&Spec::default(), &settings), 1).await;
    let long = "the cluster ".repeat(100);
    let body = json!({"messages": [{"role": "user", "content": long}]});
    let answer = server.post("/v1/chat/completions", body).await;
    assert_eq!(
        told(&answer),
        (400, "exceed_context_size_error", "context_length_exceeded")
    );
    assert_eq!(answer.json["error"]["n_ctx"], 64);
    assert!(answer.json["error"]["n_prompt_tokens"].as_u64().unwrap() > 64);

    // An answer that fills the context ends there.
    let full = server
        .chat(json!({"temperature": 0, "ignore_eos": true}))
        .await;
    assert_eq!(full["usage"]["total_tokens"], 64);
    assert_eq!(full["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn an_engine_that_is_loading_says_so() {
    let service = Arc::new(Service::new("orchion-starter".into(), 1));
    let server = serve(Arc::clone(&service)).await;
    for answer in [
        server.get("/health").await,
        server.get("/v1/models").await,
        server.post("/v1/chat/completions", chat(json!({}))).await,
    ] {
        assert_eq!(told(&answer), (503, "unavailable_error", "loading"));
        assert_eq!(answer.headers["retry-after"], "1");
    }
    let about = server.get("/v1/engine").await.json;
    assert_eq!(
        (&about["status"], &about["digest"]),
        (&json!("loading"), &Value::Null)
    );

    service.ready(engine(&Spec::default(), &SETTINGS));
    assert_eq!(server.get("/health").await.json, json!({"status": "ok"}));
}

#[tokio::test]
async fn a_probe_learns_what_this_is() {
    let server = start(3).await;
    let mut about = server.get("/v1/engine").await.json;
    let note = about["note"].take();
    assert!(note.as_str().unwrap().contains("llama-server"));
    assert_eq!(
        about,
        json!({
            "kind": "starter", "name": "orchion-engine", "version": env!("CARGO_PKG_VERSION"),
            "note": null, "status": "ok", "model": "orchion-starter",
            "digest": format!("sha256:{}", orchion_engine::starter::DIGEST),
            "ctx": 8192, "slots": 3, "busy": 0, "continuation": "ids",
        })
    );
    let models = server.get("/v1/models").await.json;
    assert_eq!(models["data"][0]["id"], "orchion-starter");
    assert_eq!(models["data"][0]["meta"]["n_ctx"], 8192);
    assert_eq!(models["data"][0]["meta"]["digest"], about["digest"]);
    assert_eq!(
        server.get("/v1/models/orchion-starter").await.json,
        models["data"][0]
    );
}

#[tokio::test]
async fn too_much_is_refused_before_it_is_read() {
    let server = start(1).await;
    let answer = server
        .send("POST", "/v1/chat/completions", "x".repeat(17 << 20))
        .await;
    assert_eq!(
        told(&answer),
        (413, "invalid_request_error", "unreadable_body")
    );
}
