//! Which request gets what.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde_json::json;

use super::answer::{Reply, error, json};
use super::{Engine, chat};

/// Ends the connection when it is returned.
pub(super) type Broken = Box<dyn std::error::Error + Send + Sync>;

pub(super) async fn handle(
    engine: Arc<Engine>,
    request: Request<Incoming>,
) -> Result<Reply, Broken> {
    let path = request.uri().path();
    if request.method() == Method::POST && path == "/v1/chat/completions" {
        return chat::chat(engine, request).await;
    }
    if request.method() != Method::GET {
        return Ok(no_route());
    }
    let model = engine.options.models.first().map_or("", String::as_str);
    let found = match path {
        "/v1/models" => models(&engine),
        "/health" | "/ping" | "/health_generate" | "/" => json!({"status": "ok"}),
        "/version" => json!({"version": "0.0.0-mock"}),
        "/get_model_info" | "/model_info" => json!({
            "model_path": model, "served_model_name": model, "is_generation": true,
        }),
        "/get_server_info" | "/server_info" => json!({
            "model_path": model, "served_model_name": model, "version": "0.0.0-mock",
            "max_running_requests": 4096, "dp_size": 1, "tp_size": 1,
        }),
        "/mock/stats" => json!(engine.counters.read(&engine.options.name)),
        _ => return Ok(no_route()),
    };
    Ok(json(StatusCode::OK, found.to_string()))
}

fn models(engine: &Engine) -> serde_json::Value {
    let models = engine.options.models.iter().map(|id| {
        json!({
            "id": id, "object": "model", "created": 0, "owned_by": "mock",
            "max_model_len": 131_072,
        })
    });
    json!({"object": "list", "data": models.collect::<Vec<_>>()})
}

fn no_route() -> Reply {
    error(StatusCode::NOT_FOUND, "not_found_error", "no such route")
}
