//! Tables and indexes.

use rusqlite::Connection;

/// Version of the tables, kept in the file; changed together with them.
pub(super) const VERSION: i64 = 1;

/// A commit survives the death of the process. A power cut may undo the last
/// ones, but never damages the file: `synchronous = FULL` would cost a sync per
/// batch, and every record is on NATS for a while, too.
///
/// Rows come in bunches and are read in order, so pages are large: each is two
/// writes to the log of the database. A file that exists keeps its own.
const PRAGMAS: &str = "
    PRAGMA page_size = 16384;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA journal_size_limit = 67108864;
";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS logs (
        row       INTEGER PRIMARY KEY,  -- order of arrival
        id        TEXT NOT NULL UNIQUE,
        ts_ms     INTEGER NOT NULL,     -- by the writer's clock
        ingest_ms INTEGER NOT NULL,     -- by ours
        level     INTEGER NOT NULL,     -- 0 debug, 1 info, 2 warn, 3 error
        source    TEXT NOT NULL,
        instance  TEXT NOT NULL,
        job_id    TEXT,
        message   TEXT NOT NULL,
        fields    TEXT NOT NULL         -- a JSON object
    );
    CREATE INDEX IF NOT EXISTS logs_by_time ON logs (ts_ms);
    CREATE INDEX IF NOT EXISTS logs_by_source ON logs (source, ts_ms);
    CREATE INDEX IF NOT EXISTS logs_by_weight ON logs (ts_ms) WHERE level >= 2;
    CREATE INDEX IF NOT EXISTS logs_by_job ON logs (job_id, ts_ms) WHERE job_id IS NOT NULL;

    CREATE TABLE IF NOT EXISTS jobs (
        id         TEXT PRIMARY KEY,
        created_ms INTEGER NOT NULL,
        ended_ms   INTEGER NOT NULL,
        ingest_ms  INTEGER NOT NULL,
        model      TEXT NOT NULL,
        node       TEXT,
        summary    TEXT NOT NULL        -- the job as JSON, without its prompt
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS jobs_by_ingest ON jobs (ingest_ms);
";

/// Sets the connection up and creates what is missing in a new file.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(PRAGMAS)?;
    if version(connection)? == 0 {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"
        ))?;
    }
    Ok(())
}

/// The version that the file says; 0 for a new one.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}
