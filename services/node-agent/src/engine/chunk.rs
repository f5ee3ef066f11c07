//! One chunk of a streamed answer, in the forms that engines use. An answer in
//! one body is a chunk that says everything.
//!
//! Read into typed structs, not into a tree: this runs for every token.

use orchion_contract::transcript::Piece;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A chunk of `/v1/chat/completions` or `/v1/completions`, with what
/// llama-server, vLLM and the starter add to it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Chunk<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
    usage: Option<EngineUsage>,
    timings: Option<Timings>,
    orchion: Option<Orchion>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// What the starter adds: the ids of exactly the tokens of this chunk's text.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Orchion {
    ids: Vec<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice<'a> {
    index: u32,
    #[serde(borrow, alias = "message")]
    delta: Option<Delta<'a>>,
    text: Option<String>,
    finish_reason: Option<String>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    token_ids: Option<Vec<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    content: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

/// Tokens as engines count them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EngineUsage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of this answer.
    pub completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

impl EngineUsage {
    /// Tokens of the prompt that the engine had in its cache.
    #[must_use]
    pub fn cached_tokens(&self) -> Option<u64> {
        self.prompt_tokens_details?.cached_tokens
    }
}

/// llama-server's count of tokens so far.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Timings {
    predicted_n: Option<u32>,
}

/// A chunk of llama-server's own `/completion`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawChunk<'a> {
    content: String,
    tokens: Vec<u32>,
    stop: bool,
    stop_type: Option<String>,
    tokens_predicted: Option<u64>,
    tokens_evaluated: Option<u64>,
    timings: Option<Timings>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// What has come of an answer, apart from its pieces.
#[derive(Debug, Default)]
pub struct Seen {
    /// Why the engine stopped, once it said so.
    pub finish_reason: Option<String>,
    /// What it counted, once it said so.
    pub usage: Option<EngineUsage>,
    /// Tokens of this answer so far, as the engine counts them.
    counted: u32,
    /// Tokens that came without a piece of their own: they count with the next.
    held_ids: Vec<u32>,
}

/// The engine reports a failure in the middle of its answer.
#[derive(Debug)]
pub struct Failure(pub String);

impl Seen {
    /// Takes what a chunk says; its pieces are added to `pieces`.
    ///
    /// # Errors
    /// The failure that the chunk reports.
    pub fn take(&mut self, chunk: Chunk<'_>, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        if let Some(error) = chunk.error {
            return Err(Failure(message_of(error.get())));
        }
        if chunk.usage.is_some() {
            self.usage = chunk.usage;
        }
        let so_far = chunk.timings.and_then(|timings| timings.predicted_n);
        // The starter gives one choice.
        let mut of_starter = chunk.orchion.map(|orchion| orchion.ids);
        for choice in chunk.choices {
            if let Some(reason) = choice.finish_reason {
                self.finish_reason.get_or_insert(reason);
            }
            let delta = choice.delta.unwrap_or_default();
            let said = |text: Option<String>| text.filter(|text| !text.is_empty());
            let piece = Piece {
                choice: choice.index,
                text: said(delta.content).or_else(|| said(choice.text)),
                reasoning: said(delta.reasoning_content).or_else(|| said(delta.reasoning)),
                tool_calls: delta.tool_calls.filter(|raw| !is_empty(raw)).map(owned),
                data: None,
                tokens: 0,
                logprobs: choice.logprobs.filter(|raw| !is_empty(raw)).map(owned),
                ids: choice
                    .token_ids
                    .or_else(|| of_starter.take())
                    .filter(|ids| !ids.is_empty()),
            };
            self.add(piece, so_far, pieces);
        }
        Ok(())
    }

    /// The same for an answer in one body, of which nothing was seen before.
    ///
    /// # Errors
    /// The failure that it reports.
    pub fn take_whole(&mut self, chunk: Chunk<'_>, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        let begin = pieces.len();
        self.take(chunk, pieces)?;
        let whole = pieces.get_mut(begin..).unwrap_or_default();
        if let Some(usage) = &self.usage {
            share(usage.completion_tokens, whole);
        }
        for piece in whole {
            piece.tool_calls = piece.tool_calls.take().map(numbered);
        }
        Ok(())
    }

    /// The same for a chunk of `/completion`.
    ///
    /// # Errors
    /// The failure that the chunk reports.
    pub fn take_raw(
        &mut self,
        chunk: RawChunk<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), Failure> {
        if let Some(error) = chunk.error {
            return Err(Failure(message_of(error.get())));
        }
        if chunk.stop {
            let reason = match chunk.stop_type.as_deref() {
                Some("limit") => "length",
                Some(_) | None => "stop",
            };
            self.finish_reason = Some(reason.to_owned());
            self.usage = Some(EngineUsage {
                prompt_tokens: chunk.tokens_evaluated.unwrap_or_default(),
                completion_tokens: chunk.tokens_predicted.unwrap_or_default(),
                prompt_tokens_details: None,
            });
        }
        let so_far = chunk.timings.and_then(|timings| timings.predicted_n);
        let piece = Piece {
            text: Some(chunk.content).filter(|text| !text.is_empty()),
            ids: Some(chunk.tokens).filter(|ids| !ids.is_empty()),
            ..Piece::default()
        };
        self.add(piece, so_far, pieces);
        Ok(())
    }

    fn add(&mut self, mut piece: Piece, so_far: Option<u32>, pieces: &mut Vec<Piece>) {
        let says_something =
            piece.text.is_some() || piece.reasoning.is_some() || piece.tool_calls.is_some();
        if !says_something {
            // Held back until it is clear that no stop string begins here.
            self.held_ids.extend(piece.ids.take().unwrap_or_default());
            return;
        }
        if !self.held_ids.is_empty() {
            let mut ids = std::mem::take(&mut self.held_ids);
            ids.extend(piece.ids.take().unwrap_or_default());
            piece.ids = Some(ids);
        }
        let by_ids = piece.ids.as_ref().map(|ids| ids.len() as u32);
        piece.tokens = match so_far {
            Some(so_far) => so_far.saturating_sub(self.counted).max(1),
            None => by_ids.unwrap_or(1),
        };
        self.counted += piece.tokens;
        pieces.push(piece);
    }
}

/// Engines count all choices together.
fn share(tokens: u64, pieces: &mut [Piece]) {
    let mut left = u32::try_from(tokens).unwrap_or(u32::MAX);
    let mut takers = pieces.len() as u32;
    for piece in pieces {
        piece.tokens = left.div_ceil(takers.max(1));
        left -= piece.tokens;
        takers -= 1;
    }
}

/// Calls as a stream has them: each says which one it is.
fn numbered(calls: Box<RawValue>) -> Box<RawValue> {
    let Ok(mut all) = serde_json::from_str::<Vec<serde_json::Map<_, _>>>(calls.get()) else {
        return calls;
    };
    for (number, call) in all.iter_mut().enumerate() {
        call.entry("index").or_insert_with(|| number.into());
    }
    serde_json::value::to_raw_value(&all).unwrap_or(calls)
}

fn is_empty(raw: &RawValue) -> bool {
    matches!(raw.get(), "null" | "[]")
}

fn owned(raw: &RawValue) -> Box<RawValue> {
    raw.to_owned()
}

/// The sentence in an error of an engine, whatever its shape: nested, flat, or
/// a bare text.
pub fn message_of(json: &str) -> String {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Shape {
        Nested { error: Box<Shape> },
        Flat { message: String },
        Text(String),
    }
    fn sentence(shape: Shape) -> String {
        match shape {
            Shape::Nested { error } => sentence(*error),
            Shape::Flat { message } | Shape::Text(message) => message,
        }
    }
    serde_json::from_str(json).map_or_else(|_| "no reason given".to_owned(), sentence)
}

#[cfg(test)]
mod tests;
