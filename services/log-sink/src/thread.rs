//! The two threads that touch the database: one writes, one reads.

use crate::store::{Entry, Reader, Retention, Store};
use anyhow::{Context, anyhow};
use orchion_contract::JobId;
use orchion_contract::job::JobSummary;
use orchion_contract::log::{LogPage, LogQuery};
use orchion_service::Tasks;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often what is too old is removed.
const CLEANING: Duration = Duration::from_secs(60);

/// Something to do, and where its outcome goes.
type Job<Q, R> = (Q, oneshot::Sender<anyhow::Result<R>>);

/// Hands entries to the writer thread.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Job<Vec<Entry>, ()>>);

/// Hands queries to the reader thread.
#[derive(Clone)]
pub(crate) struct Asker(mpsc::Sender<Read>);

/// What is read: log records, or a job that ended.
enum Read {
    Logs(Job<LogQuery, LogPage>),
    Job(Job<JobId, Option<JobSummary>>),
}

impl Writer {
    /// Stores entries in one transaction; returns when they are committed.
    pub(crate) async fn store(&self, entries: Vec<Entry>) -> anyhow::Result<()> {
        ask(&self.0, |job| job, entries).await
    }
}

impl Asker {
    pub(crate) async fn query(&self, query: LogQuery) -> anyhow::Result<LogPage> {
        ask(&self.0, Read::Logs, query).await
    }

    /// A job that ended; `None` when history does not know it.
    pub(crate) async fn job(&self, id: JobId) -> anyhow::Result<Option<JobSummary>> {
        ask(&self.0, Read::Job, id).await
    }
}

async fn ask<Q, R, W>(
    thread: &mpsc::Sender<W>,
    wrap: impl FnOnce(Job<Q, R>) -> W,
    question: Q,
) -> anyhow::Result<R> {
    let (answer, answered) = oneshot::channel();
    let gone = || anyhow!("the database was closed");
    thread.send(wrap((question, answer))).map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}

/// Opens the database for writing and starts its thread, which ends when
/// nobody can hand it anything any more.
pub(crate) fn start_writer(
    path: &Path,
    retention: Retention,
    tasks: &Tasks,
) -> anyhow::Result<Writer> {
    let store = Store::open(path)?;
    let (entries, jobs) = mpsc::channel();
    tasks.spawn_blocking("writer", move |_| write(store, retention, &jobs));
    Ok(Writer(entries))
}

fn write(
    mut store: Store,
    retention: Retention,
    jobs: &mpsc::Receiver<Job<Vec<Entry>, ()>>,
) -> anyhow::Result<()> {
    let mut clean_at = Instant::now();
    loop {
        let wait = clean_at.saturating_duration_since(Instant::now());
        match jobs.recv_timeout(wait) {
            // Nobody waits for the outcome only when the process stops.
            Ok((entries, answer)) => drop(answer.send(store.insert(&entries))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if Instant::now() < clean_at {
            continue;
        }
        match store.clean(retention) {
            // More is left than one step removes: go on soon, but let writes pass.
            Ok(removed) if removed.more => clean_at = Instant::now() + Duration::from_millis(50),
            Ok(_) => clean_at = Instant::now() + CLEANING,
            Err(error) => {
                tracing::warn!(
                    "cannot remove old log records: {error:#}; trying again in a minute"
                );
                clean_at = Instant::now() + CLEANING;
            }
        }
    }
}

/// Opens the database for reading and starts its thread.
pub(crate) fn start_reader(path: &Path, tasks: &Tasks) -> anyhow::Result<Asker> {
    let reader = Reader::open(path).context("open the database for reading")?;
    let (queries, reads) = mpsc::channel();
    tasks.spawn_blocking("reader", move |_| {
        while let Ok(read) = reads.recv() {
            // Who asked may have gone.
            match read {
                Read::Logs((query, answer)) => drop(answer.send(reader.query(&query))),
                Read::Job((id, answer)) => drop(answer.send(reader.job(id))),
            }
        }
        Ok(())
    });
    Ok(Asker(queries))
}
