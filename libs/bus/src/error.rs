//! What can go wrong on the bus.

use orchion_contract::ErrorBody;

/// A failed operation on the bus.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side answered with a failure.
    #[error(transparent)]
    Remote(#[from] ErrorBody),
    /// Nobody listens on the subject.
    #[error("no service answers {subject}")]
    NoResponders {
        /// The subject asked.
        subject: String,
    },
    /// No answer came in time.
    #[error("no answer from {subject} in time")]
    Timeout {
        /// The subject asked.
        subject: String,
    },
    /// A payload is not what the contract says.
    #[error("read payload of {subject}")]
    Payload {
        /// The subject or key.
        subject: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The client or the server refused.
    #[error("{operation}")]
    Nats {
        /// What was tried, on what.
        operation: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    pub(crate) fn nats(
        operation: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Nats {
            operation: operation.into(),
            source: source.into(),
        }
    }

    pub(crate) fn payload(subject: impl Into<String>, source: serde_json::Error) -> Self {
        Self::Payload {
            subject: subject.into(),
            source,
        }
    }

    /// What the cause below all others says, for a log record.
    #[must_use]
    pub fn reason(&self) -> String {
        root(self)
    }

    /// Whether the same call may succeed when it is made again.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NoResponders { .. } | Self::Timeout { .. } | Self::Nats { .. } => true,
            Self::Remote(error) => error.is_retriable(),
            Self::Payload { .. } => false,
        }
    }
}

/// Why an entry was not appended, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The last sequence of the subject is another one. Also the answer to a
    /// second try whose first answer was lost.
    #[error("append to {subject}: another entry stands there")]
    WrongSequence {
        /// The subject.
        subject: String,
    },
    /// The stream is full, or the message too large: trying again will not help soon.
    #[error("append to {subject}: {reason}; free disk space or raise the stream's limits")]
    Full {
        /// The subject.
        subject: String,
        /// What the server said.
        reason: String,
    },
    /// Nobody knows whether it was stored.
    #[error("append to {subject}: no answer ({reason})")]
    Unsure {
        /// The subject.
        subject: String,
        /// What the client said.
        reason: String,
    },
}

/// What the cause below all others says. The client's own errors repeat their
/// causes in their text, so a printed chain would say everything twice.
pub(crate) fn root(error: &dyn std::error::Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}
