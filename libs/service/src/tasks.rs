//! What a service's `start` gets: where its parts are put to run.
//!
//! Nothing is detached. A part is spawned by what its end means and by when it
//! is told to stop:
//!
//! | spawned with | when it ends early | told to stop |
//! |---|---|---|
//! | [`Tasks::spawn`], [`Tasks::spawn_blocking`] | the process stops, exit 1 | first: it takes in no more work |
//! | [`Tasks::spawn_optional`] | it is logged | first |
//! | [`Tasks::spawn_work`] | that is its purpose | never: it is waited for |
//! | [`Tasks::spawn_support`] | the process stops, exit 1 | when all the above have ended |
//! | [`Tasks::after_all`] | | runs last, in reverse order |

mod shared;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::health::Health;
use crate::shutdown::Stop;
use crate::telemetry::{Feed, Source, panic_message};
use shared::{Ended, Policy, Shared};

pub(crate) use shared::Phase;

/// A handle to the supervisor of one service; clones share it.
#[derive(Clone)]
pub struct Tasks(Arc<Shared>);

impl Tasks {
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Self(Arc::new(Shared::new(source)))
    }

    /// Runs a part that takes in work: a server, a consumer, a loop. It is told
    /// to stop first. If it fails, panics or returns before it is told to, the
    /// whole process stops with exit 1.
    pub fn spawn<F, T>(&self, name: &'static str, task: F)
    where
        F: FnOnce(Stop) -> T,
        T: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.run(
            name,
            Phase::Intake,
            Policy::Required,
            task(self.0.stop.clone()),
        );
    }

    /// Runs a part that the work in flight leans on: renewals, heartbeats,
    /// readers that feed open streams, the publisher of the log. It is told to
    /// stop when that work has ended; apart from this it is like [`Tasks::spawn`].
    pub fn spawn_support<F, T>(&self, name: &'static str, task: F)
    where
        F: FnOnce(Stop) -> T,
        T: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.run(
            name,
            Phase::Support,
            Policy::Required,
            task(self.0.stop_support.clone()),
        );
    }

    /// Runs a part that the service can do without: it may end or fail alone,
    /// which is logged.
    pub fn spawn_optional<F, T>(&self, name: &'static str, task: F)
    where
        F: FnOnce(Stop) -> T,
        T: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.run(
            name,
            Phase::Intake,
            Policy::Optional,
            task(self.0.stop.clone()),
        );
    }

    /// Runs one piece of work, such as a request or a job, to its end: the
    /// shutdown waits for it. It answers for its own errors; a panic is logged
    /// and ends nothing else. Cheap enough for every request.
    pub fn spawn_work<T>(&self, name: &'static str, work: T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        // Boxed before it is wrapped: each wrapper would hold it twice.
        let work = Box::pin(work);
        let work = async move {
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                tracing::error!(
                    task.name = name,
                    "{name} panicked: {}",
                    panic_message(&*panic)
                );
            }
        };
        self.register(name, Phase::Work, work);
    }

    /// Runs a part that blocks its thread, such as a database writer. It looks
    /// at its [`Stop`] by itself; for the rest it is like [`Tasks::spawn`].
    pub fn spawn_blocking<F>(&self, name: &'static str, task: F)
    where
        F: FnOnce(Stop) -> anyhow::Result<()> + Send + 'static,
    {
        let stop = self.0.stop.clone();
        let source = self.0.source.clone();
        let thread = tokio::task::spawn_blocking(move || source.enter(|| task(stop)));
        self.run(name, Phase::Intake, Policy::Required, async move {
            match thread.await {
                Ok(outcome) => outcome,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => Err(error.into()),
                },
            }
        });
    }

    /// Runs `step` in the shutdown when every task has ended; the step that was
    /// given last runs first, as what was opened last is closed first.
    pub fn after_all<T>(&self, name: &'static str, step: T)
    where
        T: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.0.add_last_step(name, Box::pin(step));
    }

    /// The stop of this service: to watch it, or to ask for an orderly end.
    pub fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// The readiness of this service.
    pub fn health(&self) -> &Health {
        self.0.health()
    }

    /// The name of this service.
    pub fn service(&self) -> &str {
        self.0.source.service()
    }

    /// The id of this run of the service, fresh at each start: a UUID in version 7.
    pub fn instance(&self) -> &str {
        self.0.source.instance()
    }

    /// The log lines of this service, to be published. Lines are kept from the
    /// start on; those whose target begins with one of `ignored` are left out
    /// from now on, so that publishing does not log into its own feed.
    pub fn log_feed(&self, ignored: &'static [&'static str]) -> Feed {
        self.0.source.feed().open(ignored)
    }

    /// Marks what `work` logs as of this service, for futures that run on tasks
    /// which some library spawns. Tasks spawned here are marked already.
    pub fn scoped<T: Future>(&self, work: T) -> impl Future<Output = T::Output> {
        self.0.source.scope(work)
    }

    /// What runs now: names in order, each with how often.
    pub fn running(&self) -> Vec<(&'static str, usize)> {
        self.0.running()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    fn run<T>(&self, name: &'static str, phase: Phase, policy: Policy, task: T)
    where
        T: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let shared = self.0.clone();
        self.register(name, phase, async move {
            let outcome = AssertUnwindSafe(task).catch_unwind().await;
            shared.ended(name, policy, outcome);
        });
    }

    fn register<T>(&self, name: &'static str, phase: Phase, task: T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let Some(id) = self.0.enlist(name, phase) else {
            tracing::warn!(
                task.name = name,
                "task {name} was not started: the service has stopped"
            );
            return;
        };
        let ended = Ended::new(self.0.clone(), id);
        let task = self.0.source.scope(async move {
            let _ended = ended;
            task.await;
        });
        // Not under the lock: a runtime that shuts down drops the task right here.
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the supervisor that every other task goes through"
        )]
        let spawned = tokio::spawn(task);
        self.0.started(id, spawned.abort_handle());
    }
}
