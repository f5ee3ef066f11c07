//! Ready-made answers.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::stream::TokenBody;

pub(super) type Reply = Response<Either<Full<Bytes>, TokenBody>>;

pub(super) fn json(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Either::Left(Full::new(text.into())));
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}

pub(super) fn error(status: StatusCode, kind: &str, message: &str) -> Reply {
    json(status, error_object(kind, message))
}

pub(super) fn error_object(kind: &str, message: &str) -> String {
    json!({"error": {"message": message, "type": kind, "param": null, "code": null}}).to_string()
}

pub(super) fn bad_request(message: &str) -> Reply {
    error(StatusCode::BAD_REQUEST, "invalid_request_error", message)
}

pub(super) fn internal() -> Reply {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    error(status, "internal_error", "mock failure")
}

pub(super) fn overloaded() -> Reply {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut reply = error(status, "overloaded_error", "no free slot");
    let soon = HeaderValue::from_static("1");
    reply.headers_mut().insert(RETRY_AFTER, soon);
    reply
}
