//! Header names: facts about delivery, never about the payload.

/// JetStream drops a message whose id it has seen within its window.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// Ties all messages, logs and answers of one request together.
pub const CORRELATION_ID: &str = "Orchion-Correlation-Id";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
