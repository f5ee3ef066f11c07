//! Puts an answer together for a caller who wants it at once.

use orchion_contract::job::Usage;
use orchion_contract::transcript::Piece;
use orchion_contract::{JobId, ModelName};
use serde_json::{Value, json};

use super::chunks::{counted, finished};
use super::tools::ToolCalls;

/// An answer as it grows.
#[derive(Default)]
pub(crate) struct Whole {
    text: String,
    reasoning: String,
    tools: ToolCalls,
    logprobs: Vec<Value>,
}

impl Whole {
    pub(crate) fn piece(&mut self, job: JobId, piece: &Piece) {
        self.text
            .push_str(piece.text.as_deref().unwrap_or_default());
        self.reasoning
            .push_str(piece.reasoning.as_deref().unwrap_or_default());
        if let Some(deltas) = &piece.tool_calls {
            self.tools.add(job, deltas.get());
        }
        let logprobs = piece.logprobs.as_ref();
        let logprobs = logprobs.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
        if let Some(Value::Array(content)) =
            logprobs.and_then(|mut all| all.get_mut("content").map(Value::take))
        {
            self.logprobs.extend(content);
        }
    }

    /// The text of the answer alone.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// The whole as OpenAI's `chat.completion`.
    pub(crate) fn into_completion(
        self,
        job: JobId,
        model: &ModelName,
        created: u64,
        finish_reason: Option<&str>,
        usage: &Usage,
    ) -> Value {
        let finish_reason = finished(finish_reason, &self.tools);
        let has_tools = !self.tools.is_empty();
        let content = if self.text.is_empty() && has_tools {
            Value::Null
        } else {
            self.text.into()
        };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = self.reasoning.into();
        }
        if has_tools {
            message["tool_calls"] = self.tools.into_calls().into();
        }
        let logprobs = match self.logprobs.is_empty() {
            true => Value::Null,
            false => json!({ "content": self.logprobs }),
        };
        json!({
            "id": format!("chatcmpl-{job}"),
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [{
                "index": 0,
                "message": message,
                "logprobs": logprobs,
                "finish_reason": finish_reason,
            }],
            "usage": counted(usage),
        })
    }
}
