//! The JSON of answers, whole and in chunks, for both kinds of request.

use serde_json::{Value, json};

use crate::generate::Finish;

/// Which of OpenAI's two shapes an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
}

/// What all chunks of one answer share.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    pub(super) id: u64,
    pub(super) created: u64,
    pub(super) model: String,
}

/// Which tokens a text is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    /// Ids of the tokens of this very text.
    pub(super) ids: Vec<u32>,
    /// Tokens of the answer so far, this text and a continued prefix included.
    pub(super) so_far: usize,
}

/// Token counts of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Of the original prompt, without the prefix of a continued answer.
    pub(super) prompt: usize,
    /// Made for this request.
    pub(super) completion: usize,
}

impl Shape {
    /// The opening chunk of a stream.
    pub(super) fn opening(&self, so_far: usize, seed: u64) -> Value {
        let mut chunk = match self.kind {
            Kind::Chat => self.chunk(
                json!({ "delta": { "role": "assistant", "content": "" } }),
                None,
            ),
            Kind::Completion => self.chunk(json!({ "text": "" }), None),
        };
        chunk["orchion"] = json!({ "ids": [], "n": so_far, "seed": seed });
        chunk
    }

    /// A chunk with text.
    pub(super) fn piece(&self, text: &str, tokens: &Tokens) -> Value {
        let choice = match self.kind {
            Kind::Chat => json!({ "delta": { "content": text } }),
            Kind::Completion => json!({ "text": text }),
        };
        self.with_tokens(self.chunk(choice, None), tokens)
    }

    /// The last chunk with a choice; `rest` is text that belongs to the end.
    pub(super) fn ending(&self, rest: Option<&str>, tokens: &Tokens, finish: Finish) -> Value {
        let choice = match (self.kind, rest) {
            (Kind::Chat, Some(text)) => json!({ "delta": { "content": text } }),
            (Kind::Chat, None) => json!({ "delta": {} }),
            (Kind::Completion, text) => json!({ "text": text.unwrap_or_default() }),
        };
        self.with_tokens(self.chunk(choice, Some(finish)), tokens)
    }

    /// The chunk with the counts.
    pub(super) fn usage(&self, usage: Usage) -> Value {
        let mut chunk = self.envelope(json!([]), true);
        chunk["usage"] = usage.body();
        chunk
    }

    /// A whole answer.
    pub(super) fn whole(&self, text: &str, tokens: &Tokens, finish: Finish, usage: Usage) -> Value {
        let mut choice = match self.kind {
            Kind::Chat => json!({ "message": { "role": "assistant", "content": text } }),
            Kind::Completion => json!({ "text": text }),
        };
        complete(&mut choice, Some(finish));
        let mut answer = self.envelope(json!([choice]), false);
        answer["usage"] = usage.body();
        self.with_tokens(answer, tokens)
    }

    fn chunk(&self, mut choice: Value, finish: Option<Finish>) -> Value {
        complete(&mut choice, finish);
        self.envelope(json!([choice]), true)
    }

    fn envelope(&self, choices: Value, chunk: bool) -> Value {
        let (prefix, object) = match (self.kind, chunk) {
            (Kind::Chat, true) => ("chatcmpl", "chat.completion.chunk"),
            (Kind::Chat, false) => ("chatcmpl", "chat.completion"),
            (Kind::Completion, _) => ("cmpl", "text_completion"),
        };
        json!({
            "id": format!("{prefix}-{:016x}", self.id),
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    fn with_tokens(&self, mut chunk: Value, tokens: &Tokens) -> Value {
        chunk["orchion"] = json!({ "ids": tokens.ids, "n": tokens.so_far });
        chunk
    }
}

impl Usage {
    fn body(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        })
    }
}

fn complete(choice: &mut Value, finish: Option<Finish>) {
    choice["index"] = 0.into();
    choice["logprobs"] = Value::Null;
    choice["finish_reason"] = match finish {
        None => Value::Null,
        Some(Finish::Length) => "length".into(),
        // Nobody reads the end of a canceled answer.
        Some(Finish::Stop | Finish::Canceled) => "stop".into(),
    };
}
