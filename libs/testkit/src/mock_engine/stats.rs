//! What an engine has done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::Engine;
use crate::clock::mono_us;

/// Counts since the start, as `GET /mock/stats` tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The engine's name.
    pub name: String,
    /// Chat requests received.
    pub requests: u64,
    /// Being answered now, or waiting for a slot.
    pub inflight: u64,
    /// Answered to the end.
    pub completed: u64,
    /// Left by their client before the end.
    pub cancelled: u64,
    /// Told to fail.
    pub failed: u64,
    /// Continued behind the beginning of an answer.
    pub resumed: u64,
    /// Tokens written.
    pub tokens: u64,
    /// When a client last left, in microseconds on the shared clock.
    pub last_cancel_us: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) inflight: AtomicU64,
    pub(super) completed: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) resumed: AtomicU64,
    pub(super) tokens: AtomicU64,
    pub(super) last_cancel_us: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self, name: &str) -> Stats {
        Stats {
            name: name.to_owned(),
            requests: self.requests.load(Relaxed),
            inflight: self.inflight.load(Relaxed),
            completed: self.completed.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            failed: self.failed.load(Relaxed),
            resumed: self.resumed.load(Relaxed),
            tokens: self.tokens.load(Relaxed),
            last_cancel_us: self.last_cancel_us.load(Relaxed),
        }
    }
}

/// How an answer ended, unless somebody says otherwise: its client left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Cancelled,
    Completed,
    /// Broken off by the engine itself.
    Failed,
}

/// Counts how a request ended, whichever way its future or body is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) engine: Arc<Engine>,
    pub(super) ending: Ending,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Guard {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        engine.counters.inflight.fetch_add(1, Relaxed);
        Self {
            engine,
            ending: Ending::Cancelled,
            permit: None,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let counters = &self.engine.counters;
        counters.inflight.fetch_sub(1, Relaxed);
        match self.ending {
            Ending::Completed => {
                counters.completed.fetch_add(1, Relaxed);
            }
            Ending::Cancelled => {
                counters.cancelled.fetch_add(1, Relaxed);
                counters.last_cancel_us.store(mono_us(), Relaxed);
            }
            Ending::Failed => {}
        }
    }
}
