//! What to compute.

use super::MAX_DEADLINE_MS;
use crate::id::{JobId, ModelName};
use crate::placement::PlacementSpec;
use crate::stores::{BlobRef, hex};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// What kind of work.
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
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// A conversation: `messages`.
    Chat,
    /// A text to go on with: `prompt`.
    Completion,
    /// Work from a newer version.
    #[serde(other)]
    Unknown,
}

/// Who goes first.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// A person waits.
    #[default]
    Interactive,
    /// Nobody waits.
    Batch,
}

/// Through which door a job came, and so who may go away without ending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// An OpenAI route: the job ends when its caller or its gateway is gone.
    Chat,
    /// A task: it ends by itself.
    Task,
}

/// What to compute.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobSpec {
    /// What kind of work.
    pub workload: Workload,
    /// Which model.
    pub model: ModelName,
    /// The request in OpenAI's form, keys sorted, without `model`, `stream`,
    /// `stream_options`, `seed` and the token limits, which stand beside it.
    /// Empty (`{}`) when it lies in the object store.
    pub body: Box<RawValue>,
    /// Where the body lies when it is larger than [`MAX_BODY_BYTES`](super::MAX_BODY_BYTES).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_ref: Option<BlobRef>,
    /// Most tokens to generate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Seed of the sampler; the scheduler draws one when the caller gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Whether the scheduler drew the seed: nobody was promised its answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub seed_drawn: bool,
    /// Who goes first.
    #[serde(default)]
    pub priority: Priority,
    /// From admission to end, in milliseconds.
    pub deadline_ms: u64,
    /// How long an engine may work on it, where that is less than the node allows.
    #[serde(default, skip_serializing_if = "Timeouts::is_none")]
    pub timeouts: Timeouts,
    /// Tokens that the caller expects; sharpens the prediction, limits nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_tokens: Option<u32>,
    /// Where it may run; anywhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Box<PlacementSpec>>,
    /// Whether the caller wants the answer at once, at its end: its pieces may
    /// then be gathered into fewer frames.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// How long an engine may take for an answer before it is given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Timeouts {
    /// For one attempt from its beginning to its end, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// Between two pieces, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Timeouts {
    /// Whether it limits nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl JobSpec {
    /// Digest of what is asked: equal requests have equal digests.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let fixed = (
            self.workload,
            &self.model,
            self.max_tokens,
            // A drawn one is none that was asked for.
            self.seed.filter(|_| !self.seed_drawn),
            self.priority,
            self.deadline_ms,
        );
        // A tuple of plain values always serializes.
        hash.update(serde_json::to_vec(&fixed).unwrap_or_default());
        if !self.timeouts.is_none() {
            hash.update(serde_json::to_vec(&self.timeouts).unwrap_or_default());
        }
        match &self.body_ref {
            Some(blob) => hash.update(blob.digest.as_bytes()),
            None => hash.update(self.body.get().as_bytes()),
        }
        // Only when given, so that digests of earlier versions stay what they are.
        if let Some(placement) = &self.placement {
            hash.update(serde_json::to_vec(placement).unwrap_or_default());
        }
        hex(&hash.finalize())
    }

    /// The request with a seed, which every attempt shares: engines never tell the
    /// one they draw. It comes from the random part of the job's id, in the 31 bits
    /// that every engine takes.
    #[must_use]
    pub fn seeded(mut self, job: &JobId) -> Self {
        let (_, low) = job.uuid().as_u64_pair();
        self.seed_drawn = self.seed.is_none();
        self.seed = self.seed.or(Some(low & 0x7fff_ffff));
        self
    }

    /// Whether a gateway may send such a chat to a slot that it was granted: a person
    /// waits, any replica will do, and every other check would let it pass.
    #[must_use]
    pub fn may_be_granted(&self) -> bool {
        self.workload == Workload::Chat
            && self.priority == Priority::Interactive
            && self.placement.is_none()
            && self.body_ref.is_none()
            && self.max_tokens != Some(0)
            && (1..=MAX_DEADLINE_MS).contains(&self.deadline_ms)
    }

    /// Length of the body, wherever it lies.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        let inline = self.body.get().len() as u64;
        self.body_ref.as_ref().map_or(inline, |blob| blob.bytes)
    }
}
