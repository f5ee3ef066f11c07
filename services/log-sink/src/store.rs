//! The database: what is written, and what is removed again.

mod read;
mod schema;

pub(crate) use read::Reader;

use anyhow::{Context, bail};
use orchion_contract::log::{Level, LogRecord};
use orchion_contract::{JobId, ModelName, NodeId, UnixMs};
use rusqlite::{Connection, params};
use serde_json::value::RawValue;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How many rows one step of the cleaning removes.
const STEP: u64 = 5_000;

/// Something to keep.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A log record; its id is its key, and the first one stays.
    Log(Box<LogRecord>),
    /// A job that ended; its id is its key, and the last one stays.
    Job(Box<PastJob>),
}

/// A job that ended: what it is looked up by, and the rest as it came.
#[derive(Debug)]
pub(crate) struct PastJob {
    pub(crate) id: JobId,
    pub(crate) created_ms: UnixMs,
    /// When its record does not say, it ended when it came.
    pub(crate) ended_ms: Option<UnixMs>,
    pub(crate) model: ModelName,
    pub(crate) node: Option<NodeId>,
    /// A [`JobSummary`](orchion_contract::job::JobSummary).
    pub(crate) summary: Box<RawValue>,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    /// Counted from when it was stored, by our own clock.
    pub(crate) max_age: Duration,
    /// Of log records.
    pub(crate) max_rows: u64,
}

/// What a step of the cleaning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cleaned {
    pub(crate) rows: u64,
    /// Whether there is more to remove.
    pub(crate) more: bool,
}

/// The database, open for writing.
pub(crate) struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the database, and makes it when there is none.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("create the folder {}", folder.display()))?;
        }
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            schema::prepare(&connection)?;
            Ok(connection)
        };
        let connection = open().with_context(|| {
            format!(
                "open the database {}; if it is damaged, move it away and start again",
                path.display()
            )
        })?;
        let version = schema::version(&connection)?;
        if version != schema::VERSION {
            bail!(
                "the database {} was made by another version (schema {version}, ours is {}): \
                 use that version, or move the file away to begin anew",
                path.display(),
                schema::VERSION
            );
        }
        Ok(Self { connection })
    }

    /// Stores entries in one transaction: all or none.
    pub(crate) fn insert(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let now = unix_ms();
        let transaction = self.connection.transaction().context("begin to write")?;
        for entry in entries {
            match entry {
                Entry::Log(record) => insert_log(&transaction, record, now)?,
                Entry::Job(job) => insert_job(&transaction, job, now)?,
            }
        }
        transaction.commit().context("write to the database")
    }

    /// Removes a step of what is too old or too much, oldest first.
    pub(crate) fn clean(&mut self, retention: Retention) -> anyhow::Result<Cleaned> {
        let age = u64::try_from(retention.max_age.as_millis()).unwrap_or(u64::MAX);
        let before = unix_ms().saturating_sub(age);
        let rows = self.connection.execute(
            "DELETE FROM logs WHERE row IN (SELECT row FROM logs ORDER BY row LIMIT ?1)
             AND (ingest_ms < ?2 OR row <= (SELECT max(row) FROM logs) - ?3)",
            params![signed(STEP), signed(before), signed(retention.max_rows)],
        )?;
        let jobs = self.connection.execute(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE ingest_ms < ?1 LIMIT ?2)",
            params![signed(before), signed(STEP)],
        )?;
        let (rows, jobs) = (rows as u64, jobs as u64);
        Ok(Cleaned {
            rows: rows + jobs,
            more: rows == STEP || jobs == STEP,
        })
    }
}

fn insert_log(connection: &Connection, record: &LogRecord, now: UnixMs) -> anyhow::Result<()> {
    let fields = serde_json::to_string(&record.fields).context("encode the fields of a record")?;
    let job = record.fields.get("job.id").and_then(|job| job.as_str());
    let mut insert = connection.prepare_cached(
        "INSERT INTO logs (id, ts_ms, ingest_ms, level, source, instance, job_id, message, fields)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING",
    )?;
    insert
        .execute(params![
            record.id,
            signed(record.ts_ms),
            signed(now),
            rank(record.level),
            record.source,
            record.instance,
            job,
            record.message,
            fields,
        ])
        .context("write a log record")?;
    Ok(())
}

fn insert_job(connection: &Connection, job: &PastJob, now: UnixMs) -> anyhow::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO jobs (id, created_ms, ended_ms, ingest_ms, model, node, summary)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET created_ms = ?2, ended_ms = ?3, ingest_ms = ?4, model = ?5,
             node = ?6, summary = ?7",
    )?;
    insert
        .execute(params![
            job.id.to_string(),
            signed(job.created_ms),
            signed(job.ended_ms.unwrap_or(now)),
            signed(now),
            job.model.as_str(),
            job.node.as_ref().map(NodeId::as_str),
            job.summary.get(),
        ])
        .context("write a job")?;
    Ok(())
}

/// Place of a level in the order of weight; never changes, for it is stored.
fn rank(level: Level) -> i64 {
    match level {
        Level::Debug => 0,
        Level::Info => 1,
        Level::Warn => 2,
        Level::Error => 3,
    }
}

/// SQLite knows signed numbers only.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unix_ms() -> UnixMs {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
}

#[cfg(test)]
mod tests;
