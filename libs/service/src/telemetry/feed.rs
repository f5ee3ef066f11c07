//! The bounded feed of log lines: whoever logs never waits for whoever publishes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

/// How many lines wait at most.
const MAX_LINES: usize = 4096;
/// How many bytes of lines wait at most.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// One log record as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The service it comes from.
    pub service: Arc<str>,
    /// The run of that service.
    pub instance: Arc<str>,
    /// `error`, `warn`, `info` or `debug`.
    pub level: &'static str,
    /// The record, one JSON object without a line end.
    pub json: Vec<u8>,
}

/// The reading end of a service's log lines; clones share them.
#[derive(Clone)]
pub struct Feed(Arc<Queue>);

impl Feed {
    /// Waits for the next line. Dropping this future loses nothing.
    pub async fn recv(&self) -> LogLine {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(line) = self.0.pop() {
                return line;
            }
            arrived.await;
        }
    }

    /// The next line, if one is waiting.
    pub fn try_recv(&self) -> Option<LogLine> {
        self.0.pop()
    }

    /// How many lines found no room since this was last asked.
    pub fn take_dropped(&self) -> u64 {
        self.0.dropped.swap(0, Ordering::Relaxed)
    }
}

/// The lines of one source between the layer and the feed.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    dropped: AtomicU64,
    ignored: OnceLock<&'static [&'static str]>,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<LogLine>,
    bytes: usize,
}

impl Queue {
    /// The reading end; from now on, targets that begin with `ignored` are left out.
    pub(crate) fn open(self: &Arc<Self>, ignored: &'static [&'static str]) -> Feed {
        self.ignored.get_or_init(|| ignored);
        Feed(self.clone())
    }

    /// Whether records of this target belong into the feed.
    pub(super) fn wants(&self, target: &str) -> bool {
        !self
            .ignored
            .get()
            .is_some_and(|ignored| ignored.iter().any(|prefix| target.starts_with(prefix)))
    }

    /// Adds a line, or counts it when there is no room.
    pub(super) fn push(&self, line: LogLine) {
        let mut waiting = self.lock();
        if waiting.lines.len() >= MAX_LINES || waiting.bytes + line.json.len() > MAX_BYTES {
            drop(waiting);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += line.json.len();
        waiting.lines.push_back(line);
        drop(waiting);
        self.arrived.notify_one();
    }

    fn pop(&self) -> Option<LogLine> {
        let mut waiting = self.lock();
        let line = waiting.lines.pop_front()?;
        waiting.bytes -= line.json.len();
        Some(line)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
