//! The closed set of failures, the same on the bus and over HTTP.

use crate::id::JobId;
use serde::{Deserialize, Serialize};

/// What went wrong, as a stable word.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// A bad field, a limit of the model exceeded, a bad pin.
    InvalidParams,
    /// The deadline is impossible or has passed.
    DeadlineUnmet,
    /// Refused by queue policy or a limit.
    AdmissionReject,
    /// The queue is full and the oldest work was dropped.
    QueueFullDropLru,
    /// A pool exists but cannot take work yet.
    PoolUnready,
    /// No pool for this model, or it died.
    PoolUnavailable,
    /// No replica is left after all attempts.
    ReplicaExhausted,
    /// The engine was silent or ran for too long.
    DecodeTimeout,
    /// Engine or agent went away in mid-answer and the answer cannot be continued.
    WorkerReset,
    /// Unknown node, job, model or route.
    NotFound,
    /// An id used again with another body, a wrong revision.
    Conflict,
    /// It was there, but its answer is not kept any more.
    Gone,
    /// No token was given.
    MissingToken,
    /// The token is wrong.
    BadToken,
    /// The token is right but may not do this.
    Forbidden,
    /// The body or a part of it is over a limit.
    PayloadTooLarge,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// Anything else.
    Internal,
    /// A code from a newer version.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// Every code that is sent.
    pub const ALL: &'static [Self] = &[
        Self::InvalidParams,
        Self::DeadlineUnmet,
        Self::AdmissionReject,
        Self::QueueFullDropLru,
        Self::PoolUnready,
        Self::PoolUnavailable,
        Self::ReplicaExhausted,
        Self::DecodeTimeout,
        Self::WorkerReset,
        Self::NotFound,
        Self::Conflict,
        Self::Gone,
        Self::MissingToken,
        Self::BadToken,
        Self::Forbidden,
        Self::PayloadTooLarge,
        Self::MethodNotAllowed,
        Self::Internal,
    ];

    /// The HTTP status that goes with the code before a stream has begun.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidParams | Self::DeadlineUnmet => 400,
            Self::MissingToken | Self::BadToken => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::Gone => 410,
            Self::PayloadTooLarge => 413,
            Self::AdmissionReject | Self::QueueFullDropLru => 429,
            Self::WorkerReset => 502,
            Self::PoolUnready | Self::PoolUnavailable | Self::ReplicaExhausted => 503,
            Self::DecodeTimeout => 504,
            Self::Internal | Self::Unknown => 500,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn retriable(self) -> bool {
        match self {
            Self::AdmissionReject
            | Self::QueueFullDropLru
            | Self::PoolUnready
            | Self::PoolUnavailable
            | Self::ReplicaExhausted
            | Self::DecodeTimeout
            | Self::WorkerReset => true,
            Self::InvalidParams
            | Self::DeadlineUnmet
            | Self::NotFound
            | Self::Conflict
            | Self::Gone
            | Self::MissingToken
            | Self::BadToken
            | Self::Forbidden
            | Self::PayloadTooLarge
            | Self::MethodNotAllowed
            | Self::Internal
            | Self::Unknown => false,
        }
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidParams => "INVALID_PARAMS",
            Self::DeadlineUnmet => "DEADLINE_UNMET",
            Self::AdmissionReject => "ADMISSION_REJECT",
            Self::QueueFullDropLru => "QUEUE_FULL_DROP_LRU",
            Self::PoolUnready => "POOL_UNREADY",
            Self::PoolUnavailable => "POOL_UNAVAILABLE",
            Self::ReplicaExhausted => "REPLICA_EXHAUSTED",
            Self::DecodeTimeout => "DECODE_TIMEOUT",
            Self::WorkerReset => "WORKER_RESET",
            Self::NotFound => "NOT_FOUND",
            Self::Conflict => "CONFLICT",
            Self::Gone => "GONE",
            Self::MissingToken => "MISSING_TOKEN",
            Self::BadToken => "BAD_TOKEN",
            Self::Forbidden => "FORBIDDEN",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::Internal => "INTERNAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure as callers see it. Messages say what to do next and hold neither
/// secrets nor prompts.
#[derive(
    Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, utoipa::ToSchema,
)]
#[error("{code}: {message}")]
pub struct ErrorBody {
    /// The stable word.
    pub code: ErrorCode,
    /// One sentence for a person.
    pub message: String,
    /// The engine concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// The HTTP status with which the engine answered; 500, too, where it
    /// reported a failure in its stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_status: Option<u16>,
    /// The pool concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<String>,
    /// Whether a retry may help; the code's own answer when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retriable: Option<bool>,
    /// How long to wait before a retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Which policy refused; always present with status 429.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_label: Option<String>,
    /// The request field concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// The job concerned, where one exists or may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
}

impl ErrorBody {
    /// A failure with a code and a sentence.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            engine: None,
            engine_status: None,
            pool_id: None,
            retriable: None,
            retry_after_ms: None,
            policy_label: None,
            param: None,
            job_id: None,
        }
    }

    /// Names the request field concerned.
    #[must_use]
    pub fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says whether a retry may help, against the code's own answer.
    #[must_use]
    pub fn with_retriable(mut self, retriable: bool) -> Self {
        self.retriable = Some(retriable);
        self
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        self.retriable.unwrap_or(self.code.retriable())
    }
}
