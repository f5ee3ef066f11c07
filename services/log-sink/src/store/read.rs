//! Reading stored log records.

use super::{rank, signed};
use anyhow::Context;
use orchion_contract::JobId;
use orchion_contract::job::JobSummary;
use orchion_contract::log::{Level, LogPage, LogQuery, LogRecord};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params_from_iter};
use std::path::Path;
use std::time::Duration;

/// How many records a query gets that names no limit.
const DEFAULT_LIMIT: u32 = 100;
/// How many records one query gets at most.
const MAX_LIMIT: u32 = 1000;
/// How large an answer may become: a message of the bus holds no more.
const MAX_BYTES: usize = 900_000;

/// The database, open for reading.
pub(crate) struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens a database that a [`super::Store`] has made.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(Self { connection })
    }

    /// The newest records that match, oldest first: as many as the limit and
    /// the size of a message allow.
    pub(crate) fn query(&self, query: &LogQuery) -> anyhow::Result<LogPage> {
        let (sql, values) = statement(query);
        let mut select = self
            .connection
            .prepare_cached(&sql)
            .context("prepare the query")?;
        let mut rows = select
            .query(params_from_iter(values))
            .context("query log records")?;
        let (mut records, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next().context("read log records")? {
            match read(row) {
                Ok((record, size)) => {
                    bytes += size;
                    if bytes > MAX_BYTES {
                        break;
                    }
                    records.push(record);
                }
                Err(error) => tracing::warn!("passed over a stored log record: {error:#}"),
            }
        }
        records.reverse();
        Ok(LogPage { records })
    }

    /// A job that ended; `None` when it is not in history.
    pub(crate) fn job(&self, id: JobId) -> anyhow::Result<Option<JobSummary>> {
        let mut select = self
            .connection
            .prepare_cached("SELECT summary FROM jobs WHERE id = ?")
            .context("prepare the question for a job")?;
        let found = select
            .query_row([id.to_string()], |row| row.get::<_, String>(0))
            .optional()
            .context("look a job up")?;
        let read = |summary: String| serde_json::from_str(&summary).context("read a job");
        found.map(read).transpose()
    }
}

/// How the database would go about a query.
#[cfg(test)]
pub(super) fn plan(connection: &Connection, query: &LogQuery) -> rusqlite::Result<String> {
    let (sql, values) = statement(query);
    let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    let steps = explain.query_map(params_from_iter(values), |row| row.get::<_, String>(3))?;
    steps
        .collect::<rusqlite::Result<Vec<_>>>()
        .map(|steps| steps.join("\n"))
}

fn statement(query: &LogQuery) -> (String, Vec<Value>) {
    let mut conditions: Vec<&str> = Vec::new();
    let mut values = Vec::new();
    let mut add = |condition, value: Value| {
        conditions.push(condition);
        values.push(value);
    };
    if let Some(source) = &query.source {
        add("source = ?", source.clone().into());
    }
    if let Some(job) = query.job {
        add("job_id = ?", job.to_string().into());
    }
    match query.level {
        // Written out, so that the index of what weighs is found.
        Some(level @ (Level::Warn | Level::Error)) => {
            add("level >= 2 AND level >= ?", rank(level).into());
        }
        Some(level @ Level::Info) => add("level >= ?", rank(level).into()),
        Some(Level::Debug) | None => {}
    }
    if let Some(since) = query.since_ms {
        add("ts_ms >= ?", signed(since).into());
    }
    if let Some(until) = query.until_ms {
        add("ts_ms < ?", signed(until).into());
    }
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
    values.push(i64::from(limit).into());
    let filter = match conditions.as_slice() {
        [] => String::new(),
        conditions => format!("WHERE {}", conditions.join(" AND ")),
    };
    let sql = format!(
        "SELECT id, ts_ms, level, source, instance, message, fields FROM logs {filter}
         ORDER BY ts_ms DESC, row DESC LIMIT ?"
    );
    (sql, values)
}

/// A record and about how large it is as JSON.
fn read(row: &Row<'_>) -> anyhow::Result<(LogRecord, usize)> {
    let level: i64 = row.get(2)?;
    let found = Level::ALL.iter().find(|known| rank(**known) == level);
    let fields: String = row.get(6)?;
    let record = LogRecord {
        id: row.get(0)?,
        ts_ms: u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default(),
        level: *found.with_context(|| format!("{level} is no level"))?,
        source: row.get(3)?,
        instance: row.get(4)?,
        message: row.get(5)?,
        fields: serde_json::from_str(&fields).context("read its fields")?,
    };
    // Escapes may double a message; names and punctuation take the rest.
    let texts = [
        &record.id,
        &record.source,
        &record.instance,
        &record.message,
    ];
    let size = texts.iter().map(|text| escaped(text)).sum::<usize>() + fields.len() + 120;
    Ok((record, size))
}

/// Length of a text in JSON, rounded up.
fn escaped(text: &str) -> usize {
    let long = |byte: u8| byte < 0x20;
    let short = |byte: u8| byte == b'"' || byte == b'\\';
    text.len()
        + text
            .bytes()
            .map(|byte| usize::from(short(byte)) + 5 * usize::from(long(byte)))
            .sum::<usize>()
}
