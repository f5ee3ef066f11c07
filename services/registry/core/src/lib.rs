//! Decides which nodes live and what is known of them.
//!
//! Two machines under one roof: [`liveness`] judges signs of life and their
//! absence, [`directory`] keeps the records. [`Registry`] joins them. None knows
//! a clock or a bus: `now` is monotonic time and `unix_ms` the wall clock, both
//! read by the shell when an input arrived. No node's own clock is ever looked at.
#![warn(missing_docs)]

pub mod directory;
pub mod liveness;
mod registry;

pub use registry::{Announcement, Effect, Registry};

use orchion_contract::UnixMs;
use std::time::Duration;

/// Monotonic time since an arbitrary start.
pub type Now = Duration;

/// When something happened, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic: all that is judged.
    pub now: Now,
    /// Wall clock, for people and history.
    pub unix_ms: UnixMs,
}

/// What the owner may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a node may be silent before it counts as lost.
    pub heartbeat_timeout: Duration,
    /// How often the list of connections and the bucket are compared with what
    /// is known.
    pub sweep_interval: Duration,
}
