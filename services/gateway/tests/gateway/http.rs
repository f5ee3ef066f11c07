//! What goes in over HTTP, and how that which comes out is looked at.

use orchion_testkit::http::Answer;
use serde_json::{Value, json};

/// A chat that is valid.
pub(crate) fn chat(stream: bool) -> Value {
    json!({"model": "tiny", "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

/// Status and body of an answer, for snapshots; its job is `{job}`.
pub(crate) fn shown(answer: &Answer) -> String {
    let text = match answer.header("x-orchion-job") {
        Some(job) => answer.text().replace(job, "{job}"),
        None => answer.text(),
    };
    format!("{} {text}", answer.status)
}
