//! Log records: one readable JSON object per message.

use crate::UnixMs;
use crate::id::JobId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::str::FromStr;

/// How much a record matters. `trace` exists in a process but is never shipped.
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
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A deviation worth knowing when looking closer.
    Debug,
    /// A change of state.
    Info,
    /// Something failed and we recovered.
    Warn,
    /// Someone must act.
    Error,
}

impl Level {
    /// Every level, least first.
    pub const ALL: &'static [Self] = &[Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The word in subjects and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no log level: use debug, info, warn or error")]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;
    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        let found = Self::ALL.iter().find(|level| level.as_str() == text);
        found
            .copied()
            .ok_or_else(|| UnknownLevel(text.chars().take(40).collect()))
    }
}

/// Name of a service: `registry`, `scheduler`, `gateway`, `log-sink`, `node-agent`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(crate::NodeId);

impl ServiceName {
    /// Checks that the name is a safe subject token.
    ///
    /// # Errors
    /// When it is empty, too long or has a character that may not stand in a subject.
    pub fn new(name: impl AsRef<str>) -> Result<Self, crate::id::Invalid> {
        crate::NodeId::new(name).map(Self)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ServiceName {
    type Err = crate::id::Invalid;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = crate::id::Invalid;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> String {
        name.as_str().to_owned()
    }
}

/// One log record, the same on stdout and on `orchion.log.…`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogRecord {
    /// Unique; a record delivered twice is kept once.
    pub id: String,
    /// When it was written, by its writer's clock.
    pub ts_ms: UnixMs,
    /// How much it matters.
    pub level: Level,
    /// The service that wrote it.
    pub source: String,
    /// The process that wrote it.
    #[serde(default)]
    pub instance: String,
    /// A sentence that reads alone.
    pub message: String,
    /// Named values, dotted: `job.id`, `node.id`, `duration_ms`.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub fields: Map<String, Value>,
}

/// Which stored records to return, newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    /// Only this service.
    pub source: Option<String>,
    /// This level and above.
    pub level: Option<Level>,
    /// Written at or after.
    pub since_ms: Option<UnixMs>,
    /// Written before.
    pub until_ms: Option<UnixMs>,
    /// Only records that carry this job's id.
    pub job: Option<JobId>,
    /// At most this many, the newest ones; the answerer's own limit when absent.
    pub limit: Option<u32>,
}

/// The answer to a [`LogQuery`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogPage {
    /// Oldest first.
    pub records: Vec<LogRecord>,
}
