//! The one conversion of failures to HTTP.
//!
//! Handlers return an [`Error`]; the answer that leaves them carries it as an
//! extension, and [`render`] writes the body at the very end, when it is known
//! which family of clients asked: OpenAI's expect `{"error": {…}}`, all others
//! the envelope itself.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use orchion_contract::job::JobSummary;
use orchion_contract::{ErrorBody, ErrorCode, JobId};
use serde_json::{Value, json};

/// A failure on its way to the caller.
#[derive(Debug, Clone)]
pub(crate) struct Error(pub(crate) Box<ErrorBody>);

/// What every handler returns.
pub(crate) type Result<T = Response> = std::result::Result<T, Error>;

/// What is still known of a job whose answer is gone; stands beside the failure.
#[derive(Debug, Clone)]
pub(crate) struct StillKnown(pub(crate) Box<JobSummary>);

/// Longest time that OpenAI's clients are told to wait, in milliseconds: they
/// take a longer one for none.
const LONGEST_WAIT_MS: u64 = 30_000;
/// How long to wait when whoever refused did not say.
const USUAL_WAIT_MS: u64 = 1000;

/// Who asks, and so how failures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `{"error": {"message", "type", "code", "param", …}}`
    OpenAi,
    /// `{"code", "message", …}`
    Own,
}

impl Dialect {
    pub(crate) fn of(path: &str) -> Self {
        let is_openai = path.starts_with("/v1/") && !path.starts_with("/v1/tasks")
            || path == "/api/chat/completions";
        if is_openai { Self::OpenAi } else { Self::Own }
    }
}

/// A failure as OpenAI's clients read it.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes the body, which is written by `openai`")]
pub(crate) struct OpenAiError {
    /// The envelope; it also has OpenAI's `type`.
    error: ErrorBody,
}

impl Error {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Box::new(ErrorBody::new(code, message)))
    }

    /// A field that is not as it must be.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidParams, message).about(param)
    }

    pub(crate) fn about(mut self, param: impl Into<String>) -> Self {
        self.0.param = Some(param.into());
        self
    }

    /// About a job that exists, or may.
    pub(crate) fn of(mut self, job: JobId) -> Self {
        self.0.job_id = Some(job);
        self
    }

    /// A part of the cluster that does not answer.
    pub(crate) fn away(part: &str) -> Self {
        let message = format!(
            "the {part} does not answer; see that it runs and is connected to NATS, then try again"
        );
        let mut body = ErrorBody::new(ErrorCode::PoolUnready, message);
        body.retry_after_ms = Some(1000);
        Self(Box::new(body))
    }

    /// The gateway is not connected yet.
    pub(crate) fn starting() -> Self {
        let message = "the gateway is starting: NATS does not answer, or has no room for its streams; is nats-server running, and its disk not full?";
        let mut body = ErrorBody::new(ErrorCode::PoolUnready, message);
        body.retry_after_ms = Some(1000);
        Self(Box::new(body))
    }

    /// What went wrong when `part` was asked.
    pub(crate) fn from_bus(error: orchion_bus::Error, part: &str) -> Self {
        match error {
            orchion_bus::Error::Remote(body) => Self(Box::new(body)),
            orchion_bus::Error::NoResponders { .. }
            | orchion_bus::Error::Timeout { .. }
            | orchion_bus::Error::Nats { .. } => {
                tracing::warn!(%error, "the {part} does not answer");
                Self::away(part)
            }
            orchion_bus::Error::Payload { .. } => {
                tracing::error!(%error, "the {part} gave an answer that cannot be read");
                Self::new(
                    ErrorCode::Internal,
                    format!(
                        "the {part} gave an answer that cannot be read; run the same version everywhere"
                    ),
                )
            }
        }
    }
}

impl From<ErrorBody> for Error {
    fn from(body: ErrorBody) -> Self {
        Self(Box::new(body))
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = status(&self.0).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

fn status(body: &ErrorBody) -> StatusCode {
    StatusCode::from_u16(body.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Writes the body of a failure; whatever refuses without saying why in our
/// words (the router itself) gets an envelope here.
pub(crate) fn render(response: &mut Response, method_and_path: (&str, &str)) {
    let given = response.extensions_mut().remove::<Error>();
    let is_failure = response.status().as_u16() >= 400;
    let Some(error) = given.or_else(|| is_failure.then(|| unnamed(response, method_and_path)))
    else {
        return;
    };
    let known = response.extensions_mut().remove::<StillKnown>();
    let dialect = Dialect::of(method_and_path.1);
    let body = written_out(&error.0, dialect);
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    hints(headers, &body);
    let text = match (dialect, known) {
        (Dialect::OpenAi, _) => openai(&body).to_string(),
        (Dialect::Own, None) => serde_json::to_string(&body).unwrap_or_default(),
        (Dialect::Own, Some(StillKnown(job))) => {
            let mut value = serde_json::to_value(&body).unwrap_or_default();
            value["job"] = serde_json::to_value(job).unwrap_or_default();
            value.to_string()
        }
    };
    *response.body_mut() = Body::from(text);
}

fn unnamed(response: &Response, (method, path): (&str, &str)) -> Error {
    // Somebody's path may be long, and it goes into a message.
    let path: String = path.chars().take(120).collect();
    match response.status() {
        StatusCode::NOT_FOUND => Error::new(
            ErrorCode::NotFound,
            format!("there is no route {path}; GET /openapi.json lists the routes"),
        ),
        StatusCode::METHOD_NOT_ALLOWED => {
            let allow = response.headers().get(ALLOW);
            let allow = allow
                .and_then(|allow| allow.to_str().ok())
                .unwrap_or("another method");
            Error::new(
                ErrorCode::MethodNotAllowed,
                format!("{method} is not possible on {path}; use {allow}"),
            )
        }
        StatusCode::BAD_REQUEST => Error::new(
            ErrorCode::InvalidParams,
            "the request cannot be read; check its path and query",
        ),
        _ => Error::new(ErrorCode::Internal, "the request failed inside the gateway"),
    }
}

/// Headers that tell a client whether and when to try again, and what it may ask for.
fn hints(headers: &mut HeaderMap, body: &ErrorBody) {
    let status = body.code.http_status();
    if status == 401 {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(job) = &body.job_id
        && let Ok(job) = HeaderValue::from_str(&job.to_string())
    {
        headers.insert(HeaderName::from_static("x-orchion-job"), job);
    }
    if let Some(wait_ms) = body.retry_after_ms {
        headers.insert(RETRY_AFTER, wait_ms.div_ceil(1000).max(1).into());
        headers.insert(HeaderName::from_static("retry-after-ms"), wait_ms.into());
        headers.insert(HeaderName::from_static("x-backoff-ms"), wait_ms.into());
    }
    // Official clients try these again unless they are told that it is useless.
    if !body.is_retriable() && (matches!(status, 409 | 429) || status >= 500) {
        headers.insert(
            HeaderName::from_static("x-should-retry"),
            HeaderValue::from_static("false"),
        );
    }
}

/// The envelope as it is sent before an answer has begun: whether, when and why
/// (not) to try again, so that headers and body say the same.
fn written_out(body: &ErrorBody, dialect: Dialect) -> ErrorBody {
    let mut body = own(body);
    if !body.is_retriable() {
        body.retry_after_ms = None;
    } else if matches!(body.code.http_status(), 429 | 503) {
        body.retry_after_ms.get_or_insert(USUAL_WAIT_MS);
    }
    if dialect == Dialect::OpenAi {
        body.retry_after_ms = body.retry_after_ms.map(|wait| wait.min(LONGEST_WAIT_MS));
    }
    body
}

/// The envelope with its answer on retries written out.
pub(crate) fn own(body: &ErrorBody) -> ErrorBody {
    let mut body = body.clone();
    body.retriable = Some(body.is_retriable());
    if body.code.http_status() == 429 && body.policy_label.is_none() {
        let label = match body.code == ErrorCode::QueueFullDropLru {
            true => "drop-lru",
            false => "reject",
        };
        body.policy_label = Some(label.to_owned());
    }
    body
}

/// The envelope as OpenAI's clients read it.
pub(crate) fn openai(body: &ErrorBody) -> Value {
    let status = body.code.http_status();
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    };
    let mut error = serde_json::to_value(own(body)).unwrap_or_default();
    error["type"] = kind.into();
    error["param"] = body.param.clone().into();
    json!({ "error": error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_of_clients_gets_its_own_form() {
        for path in [
            "/v1/chat/completions",
            "/v1/models/x",
            "/api/chat/completions",
            "/v1/nope",
        ] {
            assert_eq!(Dialect::of(path), Dialect::OpenAi, "{path}");
        }
        for path in ["/v1/tasks", "/v1/tasks/1/stream", "/api/nodes", "/nope"] {
            assert_eq!(Dialect::of(path), Dialect::Own, "{path}");
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        let headers = hinted(ErrorCode::AdmissionReject, Some(1001), Dialect::Own);
        assert_eq!(headers["retry-after"], "2");
        assert_eq!(headers["x-backoff-ms"], "1001");
        assert!(!headers.contains_key("x-should-retry"));
        let headers = hinted(ErrorCode::AdmissionReject, Some(0), Dialect::Own);
        assert_eq!(headers["retry-after"], "1");
    }

    #[test]
    fn a_long_wait_is_cut_for_clients_that_would_not_believe_it() {
        let headers = hinted(ErrorCode::AdmissionReject, Some(90_000), Dialect::OpenAi);
        assert_eq!(headers["retry-after"], "30");
        assert_eq!(headers["x-backoff-ms"], "30000");
        let headers = hinted(ErrorCode::AdmissionReject, Some(90_000), Dialect::Own);
        assert_eq!(headers["retry-after"], "90");
    }

    #[test]
    fn whoever_may_come_back_is_told_when() {
        for code in ErrorCode::ALL {
            let headers = hinted(*code, None, Dialect::Own);
            let waits = matches!(code.http_status(), 429 | 503);
            assert_eq!(headers.contains_key("retry-after"), waits, "{code}");
        }
    }

    #[test]
    fn a_useless_retry_is_called_so() {
        let headers = hinted(ErrorCode::Conflict, Some(5), Dialect::Own);
        assert_eq!(headers["x-should-retry"], "false");
        assert!(!headers.contains_key("retry-after"));
    }

    fn hinted(code: ErrorCode, wait_ms: Option<u64>, dialect: Dialect) -> HeaderMap {
        let mut body = ErrorBody::new(code, "no");
        body.retry_after_ms = wait_ms;
        let mut headers = HeaderMap::new();
        hints(&mut headers, &written_out(&body, dialect));
        headers
    }
}
