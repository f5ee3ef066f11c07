//! Writes an answer as OpenAI's stream of chunks.
//!
//! What is the same in every chunk is written once; a piece costs one escape
//! of its text. No `id:` and no `retry:` lines: they break official clients.

use std::io::Write;

use orchion_contract::job::Usage;
use orchion_contract::transcript::Piece;
use orchion_contract::{ErrorBody, JobId, ModelName};
use serde::Serialize;
use serde_json::json;

use super::tools::ToolCalls;
use crate::error;

/// One answer on its way to one caller.
pub(crate) struct Chunks {
    job: JobId,
    /// From `data: {` to the beginning of `choices`.
    head: Vec<u8>,
    has_role: bool,
    tools: ToolCalls,
}

impl Chunks {
    pub(crate) fn new(job: JobId, model: &ModelName, created: u64) -> Self {
        let mut head = Vec::with_capacity(160);
        let id = format!("chatcmpl-{job}");
        put(&mut head, b"data: {\"id\":");
        put_json(&mut head, &id);
        put(
            &mut head,
            b",\"object\":\"chat.completion.chunk\",\"created\":",
        );
        put_json(&mut head, &created);
        put(&mut head, b",\"model\":");
        put_json(&mut head, model);
        put(&mut head, b",\"choices\":[");
        Self {
            job,
            head,
            has_role: false,
            tools: ToolCalls::default(),
        }
    }

    /// Whether any of the answer was written.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_role
    }

    /// What was written is void.
    pub(crate) fn begin_again(&mut self) {
        self.has_role = false;
        self.tools = ToolCalls::default();
    }

    /// One piece; the first one is preceded by the role.
    pub(crate) fn piece(&mut self, out: &mut Vec<u8>, piece: &Piece) {
        self.role(out);
        let has_delta =
            piece.text.is_some() || piece.reasoning.is_some() || piece.tool_calls.is_some();
        if !has_delta {
            return;
        }
        put(out, &self.head);
        put(out, b"{\"index\":");
        put_json(out, &piece.choice);
        put(out, b",\"delta\":{");
        let mut comma: &[u8] = b"";
        if let Some(text) = &piece.text {
            put(out, b"\"content\":");
            put_json(out, text);
            comma = b",";
        }
        if let Some(reasoning) = &piece.reasoning {
            put(out, comma);
            put(out, b"\"reasoning_content\":");
            put_json(out, reasoning);
            comma = b",";
        }
        if let Some(deltas) = &piece.tool_calls {
            put(out, comma);
            put(out, b"\"tool_calls\":");
            put_json(out, &self.tools.add(self.job, deltas.get()));
        }
        put(out, b"},\"logprobs\":");
        match &piece.logprobs {
            Some(logprobs) => put(out, logprobs.get().as_bytes()),
            None => put(out, b"null"),
        }
        put(out, b",\"finish_reason\":null}]}\n\n");
    }

    /// The end of a whole answer; nothing follows.
    pub(crate) fn end(
        &mut self,
        out: &mut Vec<u8>,
        finish_reason: Option<&str>,
        usage: Option<&Usage>,
    ) {
        self.role(out);
        put(out, &self.head);
        put(
            out,
            b"{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":",
        );
        put_json(out, finished(finish_reason, &self.tools));
        put(out, b"}]}\n\n");
        if let Some(usage) = usage {
            put(out, &self.head);
            put(out, b"],\"usage\":");
            put_json(out, &counted(usage));
            put(out, b"}\n\n");
        }
        put(out, b"data: [DONE]\n\n");
    }

    /// The end of an answer that failed; without `[DONE]`, so that nobody takes it for whole.
    pub(crate) fn failure(out: &mut Vec<u8>, error: &ErrorBody) {
        put(out, b"data: ");
        put_json(out, &error::openai(error));
        put(out, b"\n\n");
    }

    fn role(&mut self, out: &mut Vec<u8>) {
        if self.has_role {
            return;
        }
        self.has_role = true;
        put(out, &self.head);
        put(
            out,
            b"{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
        );
    }
}

/// Why an answer ended; an answer with tool calls never just stops, or agents
/// would not run them.
pub(crate) fn finished<'a>(reason: Option<&'a str>, tools: &ToolCalls) -> &'a str {
    match reason {
        None | Some("stop") if !tools.is_empty() => "tool_calls",
        None => "stop",
        Some(reason) => reason,
    }
}

/// Counts as OpenAI writes them.
pub(crate) fn counted(usage: &Usage) -> serde_json::Value {
    let mut counted = json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    });
    if let Some(cached) = usage.cached_tokens {
        counted["prompt_tokens_details"] = json!({ "cached_tokens": cached });
    }
    counted
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

fn put_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Texts, numbers and JSON values can always be written to memory.
    if serde_json::to_writer(&mut *out, value).is_err() {
        let _ = out.write_all(b"null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks() -> Chunks {
        let job = "01900000-0000-7000-8000-000000000001".parse().unwrap();
        Chunks::new(job, &ModelName::from("m\"1"), 7)
    }

    fn events(out: &[u8]) -> Vec<serde_json::Value> {
        let text = std::str::from_utf8(out).unwrap();
        let event = |event: &str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).ok();
        text.split_terminator("\n\n").filter_map(event).collect()
    }

    #[test]
    fn a_stream_has_role_pieces_reason_usage_and_end() {
        let (mut chunks, mut out) = (chunks(), Vec::new());
        let piece = Piece {
            text: Some("a\n\"é".to_owned()),
            tokens: 1,
            ..Piece::default()
        };
        chunks.piece(&mut out, &piece);
        let usage = Usage {
            prompt_tokens: 2,
            completion_tokens: 3,
            cached_tokens: Some(1),
        };
        chunks.end(&mut out, Some("length"), Some(&usage));
        assert!(out.ends_with(b"\n\ndata: [DONE]\n\n"));
        let events = events(&out);
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(
            events[1]["choices"][0]["delta"],
            json!({"content": "a\n\"é"})
        );
        assert_eq!(events[2]["choices"][0]["finish_reason"], "length");
        assert_eq!(events[3]["choices"], json!([]));
        assert_eq!(events[3]["usage"]["total_tokens"], 5);
        for event in &events {
            assert_eq!(event["id"], "chatcmpl-01900000-0000-7000-8000-000000000001");
            assert_eq!(
                (&event["model"], &event["created"]),
                (&json!("m\"1"), &json!(7))
            );
        }
    }

    #[test]
    fn tool_calls_end_as_tool_calls() {
        let (mut chunks, mut out) = (chunks(), Vec::new());
        let deltas = r#"[{"id":"a","function":{"name":"f","arguments":"{}"}}]"#;
        let tool_calls = serde_json::value::RawValue::from_string(deltas.to_owned()).ok();
        chunks.piece(
            &mut out,
            &Piece {
                tool_calls,
                tokens: 1,
                ..Piece::default()
            },
        );
        chunks.end(&mut out, Some("stop"), None);
        let events = events(&out);
        assert_eq!(
            events[1]["choices"][0]["delta"]["tool_calls"][0]["index"],
            0
        );
        assert_eq!(events[2]["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn a_failure_has_no_done() {
        let mut out = Vec::new();
        let error = ErrorBody::new(orchion_contract::ErrorCode::WorkerReset, "gone");
        Chunks::failure(&mut out, &error);
        assert_eq!(events(&out)[0]["error"]["code"], "WORKER_RESET");
        assert!(!out.windows(6).any(|w| w == b"[DONE]"));
    }
}
