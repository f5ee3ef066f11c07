//! Runs one service from its start to its ordered end.
//!
//! The order of the end: parts that take in work are told to stop; work in
//! flight is finished; parts that it leaned on are told to stop; the last steps
//! run in reverse order. One deadline covers the whole.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::shutdown::Stop;
use crate::tasks::{Phase, Tasks};
use crate::telemetry::Source;

/// The condition of its health that a service holds between its start and the
/// wish to stop.
const RUNNING: &str = "running";

/// Why a service did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// `start` failed.
    #[error("start")]
    Start(#[source] anyhow::Error),
    /// A task returned an error.
    #[error("task {name} failed")]
    Failed {
        /// The name it was spawned with.
        name: &'static str,
        /// What it returned.
        #[source]
        cause: anyhow::Error,
    },
    /// A task panicked.
    #[error("task {name} panicked: {message}")]
    Panicked {
        /// The name it was spawned with.
        name: &'static str,
        /// What it said, without what it may have quoted.
        message: String,
    },
    /// A task returned before it was asked to stop.
    #[error("task {name} returned before it was asked to stop")]
    Returned {
        /// The name it was spawned with.
        name: &'static str,
    },
    /// The deadline of the shutdown passed.
    #[error("still running at the deadline of the shutdown: {names}")]
    Hung {
        /// What was running, by name.
        names: String,
    },
}

impl Failure {
    pub(crate) fn is_panic(&self) -> bool {
        matches!(self, Self::Panicked { .. })
    }

    /// The failure with its causes, on one line.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

/// Supervises one service. Several may run in one process, each with its own.
pub struct Supervisor {
    tasks: Tasks,
    grace: Duration,
}

impl Supervisor {
    /// A supervisor for the service of this name, with a fresh instance id.
    /// `grace` is the time from the wish to stop until the end.
    pub fn new(service: &str, grace: Duration) -> Self {
        Self::with_source(Source::new(service), grace)
    }

    /// A supervisor for a service whose source exists already, as that of the
    /// process does when [`crate::telemetry::start`] was given it.
    pub fn with_source(source: Arc<Source>, grace: Duration) -> Self {
        let tasks = Tasks::new(source);
        tasks.health().condition(RUNNING);
        Self { tasks, grace }
    }

    /// The stop of this service, for the one who runs it.
    pub fn stop(&self) -> Stop {
        self.tasks.stop().clone()
    }

    /// The handle that `start` will get.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Starts the service and runs it until it fails or is asked to stop.
    ///
    /// # Errors
    /// The first [`Failure`]; it has been logged. Being asked to stop is none,
    /// also while `start` is still under way.
    pub async fn run<S>(self, start: S) -> Result<(), Failure>
    where
        S: AsyncFnOnce(&Tasks) -> anyhow::Result<()>,
    {
        let source = self.tasks.shared().source.clone();
        source.scope(self.supervise(start)).await
    }

    async fn supervise<S>(self, start: S) -> Result<(), Failure>
    where
        S: AsyncFnOnce(&Tasks) -> anyhow::Result<()>,
    {
        let service = self.tasks.service();
        let stop = self.tasks.stop();
        let running = self.tasks.health().condition(RUNNING);
        let started = stop.unless_stopped(start(&self.tasks)).await;
        let failure = match started {
            Some(Ok(())) => {
                tracing::info!(service.version = crate::VERSION, "{service} is running");
                running.set(true);
                stop.stopped().await;
                running.set(false);
                None
            }
            // What it waited for did not come: nobody waits for it any more.
            Some(Err(cause)) if stop.is_stopping() => {
                tracing::debug!("{service} was stopped at its start: {cause:#}");
                None
            }
            Some(Err(cause)) => {
                let failure = Failure::Start(cause);
                tracing::error!("{service} cannot {}", failure.report());
                Some(failure)
            }
            None => None,
        };
        stop.request();
        let hung = self.shut_down().await;
        let failure = failure
            .or_else(|| self.tasks.shared().take_failure())
            .or(hung);
        tracing::debug!("{service} has stopped");
        failure.map_or(Ok(()), Err)
    }

    async fn shut_down(&self) -> Option<Failure> {
        let shared = self.tasks.shared();
        let deadline = Instant::now() + self.grace;
        // The last steps carry out the log lines that say what hung.
        let tasks_until = deadline - self.grace / 8;
        let ended = timeout_at(tasks_until, async {
            shared.idle(&[Phase::Intake, Phase::Work]).await;
            shared.stop_support.request();
            shared.idle(&[Phase::Support]).await;
        });
        let hung = match ended.await {
            Ok(()) => None,
            Err(_) => Some(self.give_up()),
        };
        while let Some(step) = shared.next_last_step() {
            match timeout_at(deadline, step.run).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(task.name = step.name, "{} failed: {error:#}", step.name)
                }
                Err(_) => {
                    tracing::warn!(task.name = step.name, "no time was left for {}", step.name)
                }
            }
        }
        shared.close();
        hung
    }

    fn give_up(&self) -> Failure {
        let shared = self.tasks.shared();
        shared.stop_support.request();
        let names: Vec<String> = shared
            .close()
            .into_iter()
            .map(|(name, count)| {
                if count == 1 {
                    name.to_owned()
                } else {
                    format!("{name} ({count})")
                }
            })
            .collect();
        let failure = Failure::Hung {
            names: names.join(", "),
        };
        tracing::warn!("{failure}; ending without them");
        failure
    }
}
