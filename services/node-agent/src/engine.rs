//! Engines: what they are asked, what they answer, and what goes wrong.
//!
//! One adapter per kind of engine ([`openai`], [`llamacpp`], [`starter`])
//! behind [`EngineAdapter`]. Answers are streamed: then closing the connection
//! frees the engine at once, and little is lost when it dies. Only a brief answer
//! that nobody reads along comes in one body, for a stream of it costs engine and
//! agent several times as much. A stream without `[DONE]` has failed, whatever
//! the transport says.

pub mod answer;
mod body;
pub mod chunk;
pub mod claim;
pub mod digest;
pub mod fleet;
pub mod http;
pub mod keeper;
pub mod launch;
pub mod llamacpp;
pub mod openai;
pub mod probe;
mod quote;
pub mod roster;
pub mod sse;
pub mod starter;
pub mod supervise;
mod trial;

use futures_util::future::BoxFuture;
use orchion_contract::job::JobSpec;
use orchion_contract::node::{Continuation, EngineKind};
use orchion_contract::{ErrorBody, ErrorCode};
use orchion_node_agent_core::{Obstacle, Way};
use orchion_transcript::Prefix;

pub use answer::{Answer, Said};

/// A kind of engine: how it is looked at and asked.
pub trait EngineAdapter: Send + Sync {
    /// Which kind it is.
    fn kind(&self) -> EngineKind;

    /// Where it is.
    fn client(&self) -> &http::Client;

    /// Whether it stops when its caller hangs up, even one that does not stream.
    /// Otherwise it is always asked to stream.
    fn notices_hang_ups(&self) -> bool {
        false
    }

    /// What it is and serves.
    ///
    /// # Errors
    /// When it does not answer, or is not of this kind.
    fn probe(&self) -> BoxFuture<'_, Result<Probed, Error>>;

    /// Whether it answers: cheap, asked every second.
    ///
    /// # Errors
    /// When it does not.
    fn look(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Asks for an answer, or for the rest of one.
    ///
    /// # Errors
    /// [`Error::Refused`] when asking elsewhere would not help; anything else
    /// may pass.
    fn open<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Answer, Error>>;
}

/// What an engine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Its version, when it tells.
    pub version: Option<String>,
    /// The models it serves.
    pub models: Vec<Served>,
    /// Requests at once, when it tells.
    pub slots: Option<u32>,
    /// How it can go on behind a beginning.
    pub continuation: Continuation,
}

/// A model that an engine serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// What callers ask for.
    pub name: String,
    /// Context of one request, in tokens, when known.
    pub ctx: Option<u32>,
    /// Digest of the weights, when known.
    pub digest: Option<String>,
}

/// What an engine is asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What the caller wants.
    pub spec: &'a JobSpec,
    /// How the answer is to come.
    pub delivery: Delivery,
    /// The beginning that is there already.
    pub rest: Option<Rest<'a>>,
    /// Whether the answer is to be the one that was given before, token by
    /// token: nothing may round otherwise than then.
    pub repeats: bool,
}

/// How an answer comes from its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As it is generated.
    Stream,
    /// In one body, when it is complete.
    Whole,
}

/// The rest of an answer that was cut.
#[derive(Debug, Clone, Copy)]
pub struct Rest<'a> {
    /// What was said.
    pub prefix: &'a Prefix,
    /// Behind what the engine goes on.
    pub behind: Way,
    /// Most tokens of the rest.
    pub max_tokens: Option<u32>,
    /// Seed of the sampler for the rest.
    pub seed: Option<u64>,
}

impl<'a> Ask<'a> {
    /// Asks for the whole answer.
    #[must_use]
    pub fn whole(spec: &'a JobSpec) -> Self {
        Self {
            spec,
            delivery: Delivery::Stream,
            rest: None,
            repeats: false,
        }
    }

    /// Asks for the rest of an answer.
    #[must_use]
    pub fn rest(spec: &'a JobSpec, rest: Rest<'a>) -> Self {
        Self {
            rest: Some(rest),
            ..Self::whole(spec)
        }
    }

    /// Most tokens to generate now.
    #[must_use]
    pub fn max_tokens(&self) -> Option<u32> {
        match &self.rest {
            Some(rest) => rest.max_tokens,
            None => self.spec.max_tokens,
        }
    }

    /// Seed of the sampler.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        match &self.rest {
            Some(rest) => rest.seed,
            None => self.spec.seed,
        }
    }
}

/// Why an engine gave no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be asked.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// It refused the request itself: another engine would, too.
    #[error("the engine refused the request (HTTP {status}): {message}")]
    Refused {
        /// Its status.
        status: u16,
        /// Why, without what the request said.
        message: String,
    },
    /// It cannot answer now.
    #[error("the engine cannot answer now (HTTP {status}): {message}")]
    Unavailable {
        /// Its status.
        status: u16,
        /// Why, without what the request said.
        message: String,
    },
    /// The stream ended before the answer did.
    #[error("the engine's stream broke off: {0}")]
    Cut(&'static str),
    /// It reported a failure in the middle of its answer.
    #[error("the engine failed in mid-answer: {0}")]
    Failed(String),
    /// It says something that nobody understands.
    #[error("read the engine's answer: {0}")]
    Strange(String),
    /// The job cannot be put to this engine.
    #[error("{0}")]
    Unfit(String),
    /// The beginning of the answer cannot be taken up here.
    #[error("the answer was cut and cannot be continued: {0}; ask again for a new answer")]
    CannotGoOn(String),
}

impl Error {
    /// Whether no other attempt would help: the job ends with this.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Unfit(_) | Self::CannotGoOn(_) => true,
            Self::Http(_)
            | Self::Unavailable { .. }
            | Self::Cut(_)
            | Self::Failed(_)
            | Self::Strange(_) => false,
        }
    }

    /// Whether the engine itself may be gone, so that it is looked at now.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        match self {
            Self::Http(_) | Self::Unavailable { .. } | Self::Cut(_) => true,
            Self::Refused { .. }
            | Self::Failed(_)
            | Self::Strange(_)
            | Self::Unfit(_)
            | Self::CannotGoOn(_) => false,
        }
    }

    /// What it says about the way in which an answer was to be taken up.
    #[must_use]
    pub fn obstacle(&self) -> Obstacle {
        match self {
            Self::Refused { .. } => Obstacle::Refused,
            Self::CannotGoOn(_) => Obstacle::CannotGoOn,
            // Older engines fail at what they do not know; one that is busy or
            // loads its model says another thing.
            Self::Unavailable {
                status: 404 | 405 | 500 | 501,
                ..
            } => Obstacle::CannotGoOn,
            Self::Http(_)
            | Self::Unavailable { .. }
            | Self::Cut(_)
            | Self::Failed(_)
            | Self::Strange(_)
            | Self::Unfit(_) => Obstacle::Failed,
        }
    }

    /// The HTTP status with which it answered instead of an answer. A failure
    /// that it reports in its stream is the one that it would have begun with.
    fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::Unavailable { status, .. } => Some(*status),
            Self::Failed(_) => Some(500),
            Self::Http(_)
            | Self::Cut(_)
            | Self::Strange(_)
            | Self::Unfit(_)
            | Self::CannotGoOn(_) => None,
        }
    }

    /// As the caller sees it: without any part of the request.
    #[must_use]
    pub fn body(&self, kind: EngineKind, request: &str) -> ErrorBody {
        let code = match self {
            Self::Http(http::Error::Connect(..) | http::Error::ConnectTimeout(_))
            | Self::Unavailable { .. } => ErrorCode::PoolUnready,
            Self::Http(
                http::Error::Broken(..) | http::Error::Timeout(_) | http::Error::TooLarge(_),
            )
            | Self::Cut(_)
            | Self::Failed(_)
            | Self::Strange(_)
            | Self::CannotGoOn(_) => ErrorCode::WorkerReset,
            Self::Refused { .. } | Self::Unfit(_) => ErrorCode::InvalidParams,
        };
        let message = self.to_string();
        let message = match quote::holds_part_of(&message, request) {
            true => "the engine failed; its own message quotes the request and is left out",
            false => &message,
        };
        let mut body = ErrorBody::new(code, message);
        body.engine = Some(kind.to_string());
        body.engine_status = self.status();
        body
    }
}
