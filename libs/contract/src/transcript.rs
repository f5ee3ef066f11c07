//! The transcript of a job: a chain of entries on one subject.
//!
//! Each entry is published with the sequence of the one before as expectation,
//! so there are no holes, no doubles and no second final.

use crate::UnixMs;
use crate::error::ErrorBody;
use crate::id::{InstanceId, NodeId};
use crate::job::{Outcome, Usage};
use crate::node::EngineRef;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Largest entry, in bytes: bigger answers are split over several.
pub const MAX_ENTRY_BYTES: usize = 256 * 1024;

/// One message of the chain.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A part of the answer.
    Frame(Frame),
    /// The scheduler opens an attempt after the first; what stands before is its prefix.
    Mark(Mark),
    /// What was shown so far is void.
    Restart(Restart),
    /// The end. Nothing follows.
    Final(Box<Final>),
}

impl Entry {
    /// The attempt that wrote it, or that it opens.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        match self {
            Self::Frame(frame) => frame.attempt,
            Self::Mark(mark) => mark.attempt,
            Self::Restart(restart) => restart.attempt,
            Self::Final(end) => end.attempt,
        }
    }
}

/// A part of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The attempt that wrote it.
    pub attempt: u32,
    /// Index of the first piece; counts pieces over all attempts, without gaps.
    pub index: u64,
    /// What the engine said, in order.
    pub pieces: Vec<Piece>,
}

/// What an engine said at once; never cut.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Piece {
    /// Which of several answers (`n` > 1).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub choice: u32,
    /// Text of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Text of the reasoning before the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Deltas of tool calls, in OpenAI's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Box<RawValue>>,
    /// A result that is not text (embeddings, scores).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// How many tokens; 1 where the engine does not say.
    pub tokens: u32,
    /// Log-probabilities, in OpenAI's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Box<RawValue>>,
    /// Token ids, where the engine tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<u32>>,
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        let raw = |raw: &Option<Box<RawValue>>| raw.as_ref().map(|raw| raw.get().to_owned());
        (self.choice, self.tokens) == (other.choice, other.tokens)
            && (&self.text, &self.reasoning, &self.ids)
                == (&other.text, &other.reasoning, &other.ids)
            && raw(&self.tool_calls) == raw(&other.tool_calls)
            && raw(&self.data) == raw(&other.data)
            && raw(&self.logprobs) == raw(&other.logprobs)
    }
}

fn is_zero<T: Default + PartialEq>(n: &T) -> bool {
    *n == T::default()
}

/// An attempt after the first begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The attempt that begins.
    pub attempt: u32,
    /// Where it runs.
    pub node: NodeId,
    /// The agent process that runs it.
    pub instance: InstanceId,
}

/// What was shown is void; takes an index of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// The attempt that starts over.
    pub attempt: u32,
    /// The index that this entry takes.
    pub index: u64,
    /// The engine that writes what follows, for whoever continues it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineRef>,
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Final {
    /// The attempt that ended it; 0 when no attempt had begun.
    pub attempt: u32,
    /// The last part of the answer, told together with the end: one message less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Frame>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why the engine stopped: `stop`, `length`, `tool_calls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Counted over all attempts.
    #[serde(default)]
    pub usage: Usage,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
    /// The engine of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineRef>,
    /// The node of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// How the answer went on after a cut, when it was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<Continued>,
    /// When things happened, by the clock of whoever wrote the final.
    #[serde(default)]
    pub times: Times,
}

/// How an answer went on after a cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Continued {
    /// What the last attempt did with the prefix.
    pub strategy: Strategy,
    /// Pieces that stood in the transcript before it.
    pub from_index: u64,
    /// Whether the seam is known to be good: the weights of both engines are
    /// equal, or the second one has repeated the beginning word for word.
    pub verified: bool,
    /// Tokens that were generated again and not shown a second time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub swallowed_tokens: u64,
}

/// What an attempt does with the prefix it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Generate on behind the prefix.
    Continue,
    /// Generate again and swallow what equals the prefix.
    Replay,
    /// Start over.
    Restart,
    /// A strategy from a newer version.
    #[serde(other)]
    Unknown,
}

/// When things happened in an attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Times {
    /// The agent took the order.
    pub started_ms: Option<UnixMs>,
    /// The engine's first piece.
    pub first_token_ms: Option<UnixMs>,
    /// The end.
    pub ended_ms: Option<UnixMs>,
}
