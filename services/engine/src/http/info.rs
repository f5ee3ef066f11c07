//! What this engine is, whether it is ready, and which model it has.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Service;
use super::error::Error;
use crate::engine::Engine;

/// Says what this engine is and what it is not.
pub(crate) const NOTE: &str =
    "a starter engine to try Orchion with; for daily use run llama-server, Ollama or vLLM";

/// 503 while the model is loading.
pub(super) async fn health(State(service): State<Arc<Service>>) -> Result<Json<Value>, Error> {
    service.engine()?;
    Ok(Json(json!({ "status": "ok" })))
}

/// Everything an agent has to know before it sends work here. Answers while loading, too.
pub(super) async fn engine(State(service): State<Arc<Service>>) -> Json<Value> {
    let engine = service.engine.get();
    Json(json!({
        "kind": "starter",
        "name": "orchion-engine",
        "version": env!("CARGO_PKG_VERSION"),
        "note": NOTE,
        "status": if engine.is_some() { "ok" } else { "loading" },
        "model": service.model,
        "digest": engine.map(|engine| digest(engine)),
        "ctx": engine.map(|engine| engine.context),
        "slots": service.slots.total(),
        "busy": service.slots.busy(),
        "continuation": "ids",
    }))
}

/// The one model, in OpenAI's list.
pub(super) async fn models(State(service): State<Arc<Service>>) -> Result<Json<Value>, Error> {
    let engine = service.engine()?;
    Ok(Json(
        json!({ "object": "list", "data": [entry(&service, engine)] }),
    ))
}

/// The one model by its name.
pub(super) async fn model(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    let engine = service.engine()?;
    check_name(&service, &id)?;
    Ok(Json(entry(&service, engine)))
}

/// Refuses a model that is not served here.
pub(super) fn check_name(service: &Service, name: &str) -> Result<(), Error> {
    if name == service.model {
        return Ok(());
    }
    let message = format!("no such model: this engine serves `{}`", service.model);
    Err(Error::new(StatusCode::NOT_FOUND, "not_found_error", message).code("model_not_found"))
}

fn entry(service: &Service, engine: &Engine) -> Value {
    json!({
        "id": service.model,
        "object": "model",
        "created": service.started,
        "owned_by": "orchion-engine",
        "meta": {
            "n_ctx": engine.context,
            "n_ctx_train": engine.decoder.context(),
            "n_embd": engine.decoder.dim(),
            "n_params": engine.decoder.parameters(),
            "n_vocab": engine.tokenizer.len(),
            "size": engine.file_bytes,
            "digest": digest(engine),
        },
    })
}

fn digest(engine: &Engine) -> String {
    format!("sha256:{}", engine.digest)
}
