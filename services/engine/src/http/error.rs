//! Errors as clients get them: OpenAI's envelope with a stable code.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A refused or failed request. Never carries what the request said.
#[derive(Debug)]
pub(super) struct Error {
    status: StatusCode,
    kind: &'static str,
    message: String,
    code: Option<&'static str>,
    param: Option<String>,
    facts: Vec<(&'static str, usize)>,
    retry: bool,
}

impl Error {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            code: None,
            param: None,
            facts: Vec::new(),
            retry: false,
        }
    }

    /// The request itself is wrong.
    pub(super) fn invalid(param: &str, message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message);
        Self {
            param: Some(param.to_owned()),
            ..error
        }
        .code("invalid_value")
    }

    /// The request asks for what only a grown-up engine does.
    pub(super) fn unsupported(param: &str, what: &str) -> Self {
        let advice = "not supported by the starter engine: use llama-server, Ollama or vLLM";
        Self::invalid(param, format!("{what} is {advice}")).code("unsupported_value")
    }

    /// The model is not there yet.
    pub(super) fn loading() -> Self {
        let message = "the model is loading: try again in a moment";
        let error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable_error",
            message,
        );
        Self {
            retry: true,
            ..error
        }
        .code("loading")
    }

    /// All slots are taken.
    pub(super) fn busy(slots: usize) -> Self {
        let message = format!("all {slots} slots are busy: try again in a moment");
        let error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable_error",
            message,
        );
        Self {
            retry: true,
            ..error
        }
        .code("slots_busy")
    }

    /// The prompt leaves no room for an answer.
    pub(super) fn too_long(prompt: usize, context: usize) -> Self {
        let message = format!(
            "the prompt has {prompt} tokens, the context holds {context}: shorten the prompt"
        );
        let error = Self::new(
            StatusCode::BAD_REQUEST,
            "exceed_context_size_error",
            message,
        );
        let facts = vec![("n_prompt_tokens", prompt), ("n_ctx", context)];
        Self { facts, ..error }.code("context_length_exceeded")
    }

    /// The engine failed.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message).code("engine_failed")
    }

    pub(super) fn code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// The envelope.
    pub(super) fn body(&self) -> Value {
        let mut error = json!({
            "message": self.message,
            "type": self.kind,
            "code": self.code,
            "param": self.param,
        });
        for &(name, value) in &self.facts {
            error[name] = value.into();
        }
        json!({ "error": error })
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body = Json(self.body());
        if self.retry {
            return (self.status, [(header::RETRY_AFTER, "1")], body).into_response();
        }
        (self.status, body).into_response()
    }
}
