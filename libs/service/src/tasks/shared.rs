//! The list of what runs, and what the end of a task means for the service.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::health::Health;
use crate::shutdown::Stop;
use crate::supervisor::Failure;
use crate::telemetry::{Source, panic_message};

/// What the handles and the supervisor of one service share.
pub(crate) struct Shared {
    pub(crate) source: Arc<Source>,
    pub(crate) stop: Stop,
    pub(crate) stop_support: Stop,
    pub(crate) changed: Notify,
    health: Health,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    running: BTreeMap<u64, Running>,
    last_steps: Vec<LastStep>,
    failure: Option<Failure>,
    closed: bool,
}

struct Running {
    name: &'static str,
    phase: Phase,
    abort: Option<AbortHandle>,
}

/// A step of the shutdown that runs when every task has ended.
pub(crate) struct LastStep {
    pub(crate) name: &'static str,
    pub(crate) run: BoxFuture<'static, anyhow::Result<()>>,
}

/// When a task is told to stop, or waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Intake,
    Work,
    Support,
}

/// What the end of a task means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Required,
    Optional,
}

/// Takes a task off the list however it ends.
pub(super) struct Ended {
    shared: Arc<Shared>,
    id: u64,
}

impl Ended {
    pub(super) fn new(shared: Arc<Shared>, id: u64) -> Self {
        Self { shared, id }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.shared.lock().running.remove(&self.id);
        if self.shared.stop.is_stopping() {
            self.shared.changed.notify_waiters();
        }
    }
}

impl Shared {
    pub(super) fn new(source: Arc<Source>) -> Self {
        Self {
            source,
            stop: Stop::new(),
            stop_support: Stop::new(),
            changed: Notify::new(),
            health: Health::new(),
            state: Mutex::default(),
        }
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    pub(super) fn add_last_step(
        &self,
        name: &'static str,
        run: BoxFuture<'static, anyhow::Result<()>>,
    ) {
        self.lock().last_steps.push(LastStep { name, run });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a task on the list; nothing is started any more once that is closed.
    pub(super) fn enlist(&self, name: &'static str, phase: Phase) -> Option<u64> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.running.insert(
            id,
            Running {
                name,
                phase,
                abort: None,
            },
        );
        Some(id)
    }

    pub(super) fn started(&self, id: u64, abort: AbortHandle) {
        let mut state = self.lock();
        if state.closed {
            abort.abort();
        } else if let Some(task) = state.running.get_mut(&id) {
            task.abort = Some(abort);
        }
    }

    pub(super) fn ended(
        &self,
        name: &'static str,
        policy: Policy,
        outcome: Result<anyhow::Result<()>, Box<dyn Any + Send>>,
    ) {
        let stopping = self.stop.is_stopping();
        let failure = match outcome {
            Ok(Ok(())) if stopping => return,
            Ok(Ok(())) if policy == Policy::Optional => {
                tracing::debug!(task.name = name, "task {name} has ended");
                return;
            }
            Ok(Ok(())) => Failure::Returned { name },
            Ok(Err(cause)) => Failure::Failed { name, cause },
            Err(panic) => Failure::Panicked {
                name,
                message: panic_message(&*panic),
            },
        };
        match policy {
            // What breaks because the rest is already gone is no reason to restart.
            Policy::Required if stopping && !failure.is_panic() => {
                tracing::warn!(
                    task.name = name,
                    "{:#} while stopping",
                    anyhow::Error::new(failure)
                );
            }
            Policy::Required => self.fail(failure),
            Policy::Optional => {
                tracing::warn!(
                    task.name = name,
                    "{:#}; going on without it",
                    anyhow::Error::new(failure)
                );
            }
        }
    }

    /// Keeps the first failure and stops the service.
    fn fail(&self, failure: Failure) {
        tracing::error!("{}; stopping", failure.report());
        self.lock().failure.get_or_insert(failure);
        self.stop.request();
    }

    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.lock().failure.take()
    }

    /// The step to run next; none is added or started once there is none left.
    pub(crate) fn next_last_step(&self) -> Option<LastStep> {
        self.lock().last_steps.pop()
    }

    /// Waits until nothing of these phases runs.
    pub(crate) async fn idle(&self, phases: &[Phase]) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self
                .lock()
                .running
                .values()
                .any(|task| phases.contains(&task.phase))
            {
                return;
            }
            changed.await;
        }
    }

    /// Ends what still runs and starts nothing more; says what it was.
    pub(crate) fn close(&self) -> Vec<(&'static str, usize)> {
        let names = self.running();
        let mut state = self.lock();
        state.closed = true;
        for task in state.running.values_mut() {
            if let Some(abort) = task.abort.take() {
                abort.abort();
            }
        }
        names
    }

    pub(super) fn running(&self) -> Vec<(&'static str, usize)> {
        let mut counts = BTreeMap::new();
        for task in self.lock().running.values() {
            *counts.entry(task.name).or_default() += 1;
        }
        counts.into_iter().collect()
    }
}
