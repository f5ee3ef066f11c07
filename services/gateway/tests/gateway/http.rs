//! What goes in over HTTP, and how that which comes out is looked at.

use orchion_testkit::http::Answer;
use serde_json::{Value, json};

/// A chat that is valid.
pub(crate) fn chat(stream: bool) -> Value {
    json!({"model": "tiny", "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

/// Status and body of an answer, for snapshots.
pub(crate) fn shown(answer: &Answer) -> String {
    format!("{} {}", answer.status, answer.text())
}
