//! Every stream, as data: created idempotently by whoever starts first.

use std::time::Duration;

/// What happens to a full stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// New messages are refused: nothing is lost silently.
    RefuseNew,
    /// The oldest messages go.
    DropOldest,
}

/// A stream on file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name.
    pub name: &'static str,
    /// What it captures.
    pub subjects: &'static [&'static str],
    /// How long a message stays.
    pub max_age: Duration,
    /// How many bytes it may hold.
    pub max_bytes: i64,
    /// What happens beyond that.
    pub full: Full,
    /// How long a message id is remembered.
    pub duplicate_window: Duration,
    /// Whether its blocks are compressed.
    pub compressed: bool,
    /// Why it exists.
    pub why: &'static str,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MIB: i64 = 1024 * 1024;

/// Answers, as chains. Kept for the longest run, the retention of ended jobs and slack.
pub const TRANSCRIPTS: StreamSpec = StreamSpec {
    name: "TRANSCRIPTS",
    subjects: &["orchion.transcript.*.*"],
    max_age: Duration::from_secs(2 * 60 * 60),
    max_bytes: 4096 * MIB,
    full: Full::RefuseNew,
    duplicate_window: MINUTE,
    compressed: false,
    why: "a token is shown only after it is stored here",
};
/// Lives of nodes. Those of jobs stand in `HISTORY`, as timelines.
pub const EVENTS: StreamSpec = StreamSpec {
    name: "EVENTS",
    subjects: &[
        "orchion.evt.node.registered.*",
        "orchion.evt.node.online.*",
        "orchion.evt.node.suspect.*",
        "orchion.evt.node.lost.*",
        "orchion.evt.node.unregistered.*",
    ],
    max_age: Duration::from_secs(7 * 24 * 60 * 60),
    max_bytes: 512 * MIB,
    full: Full::DropOldest,
    duplicate_window: MINUTE,
    compressed: true,
    why: "what happened to nodes, for dashboards and triggers",
};
/// Jobs that ended.
pub const HISTORY: StreamSpec = StreamSpec {
    name: "HISTORY",
    subjects: &["orchion.evt.job.ended"],
    max_age: Duration::from_secs(30 * 24 * 60 * 60),
    max_bytes: 512 * MIB,
    full: Full::DropOldest,
    duplicate_window: Duration::from_secs(10 * 60),
    compressed: true,
    why: "the history of jobs, read by log-sink",
};
/// Log records on their way to log-sink, and for late listeners.
pub const LOGS: StreamSpec = StreamSpec {
    name: "LOGS",
    subjects: &["orchion.log.*.*.*"],
    max_age: DAY,
    max_bytes: 512 * MIB,
    full: Full::DropOldest,
    duplicate_window: MINUTE,
    compressed: true,
    why: "log records until log-sink has stored them",
};

/// Every stream.
pub const ALL: &[StreamSpec] = &[TRANSCRIPTS, EVENTS, HISTORY, LOGS];

const _: () =
    assert!(TRANSCRIPTS.max_age.as_secs() > HOUR.as_secs() + crate::job::ENDED_RETENTION_S);
