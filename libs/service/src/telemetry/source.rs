//! Which service of the process a log record comes from.

use std::sync::Arc;

use super::feed::Queue;

tokio::task_local! {
    static CURRENT: Arc<Source>;
}

/// One run of one service: its name, its instance, and its log feed.
pub struct Source {
    service: Arc<str>,
    instance: Arc<str>,
    feed: Arc<Queue>,
}

impl Source {
    /// A source with a fresh instance id, a UUID in version 7.
    pub fn new(service: &str) -> Arc<Self> {
        Self::with_instance(service, &uuid::Uuid::now_v7().to_string())
    }

    pub(crate) fn with_instance(service: &str, instance: &str) -> Arc<Self> {
        Arc::new(Self {
            service: service.into(),
            instance: instance.into(),
            feed: Arc::default(),
        })
    }

    /// The name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The id of this run.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    pub(super) fn shared_names(&self) -> (Arc<str>, Arc<str>) {
        (self.service.clone(), self.instance.clone())
    }

    pub(crate) fn feed(&self) -> &Arc<Queue> {
        &self.feed
    }

    /// Marks what `work` logs as of this source.
    pub(crate) fn scope<T: Future>(
        self: &Arc<Self>,
        work: T,
    ) -> impl Future<Output = T::Output> + use<T> {
        CURRENT.scope(self.clone(), work)
    }

    /// Marks what `work` logs on this thread as of this source.
    pub(crate) fn enter<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// The source of the running task, else `other`.
    pub(super) fn current_or(other: &Arc<Self>) -> Arc<Self> {
        CURRENT
            .try_with(Arc::clone)
            .unwrap_or_else(|_| other.clone())
    }
}
