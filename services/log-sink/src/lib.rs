//! Keeps log records and the history of jobs.
//!
//! Two durable consumers feed one database, which nobody else opens. A message
//! is acknowledged after the commit that holds it, and its id is its key: what
//! is delivered twice is kept once, and a killed process loses nothing.
//!
//! ```text
//! LOGS, HISTORY ──▶ consumers ──▶ writer thread ──▶ SQLite ──▶ reader thread ──▶ answers
//! ```
#![warn(missing_docs)]

mod config;
mod consume;
mod query;
mod store;
mod thread;

pub use config::{Config, PROGRAM, Settings};

use anyhow::Context;
use orchion_bus::{Bus, Identity};
use orchion_contract::rpc::{PAST_JOB, QUERY_LOGS};
use orchion_contract::streams::{HISTORY, LOGS};
use orchion_service::Tasks;
use store::Retention;

/// The queue group of all log sinks: any of them may answer.
const GROUP: &str = "log-sink";

/// Opens the database, connects, and starts the parts.
///
/// # Errors
/// When the database cannot be opened, the address of NATS cannot be read, its
/// credentials are refused, or the process stops before NATS was there.
pub async fn start(config: Config, tasks: &Tasks) -> anyhow::Result<()> {
    let settings = &config.log_sink;
    let retention = Retention {
        max_age: settings.max_age.get(),
        max_rows: settings.max_rows,
    };
    let writer = thread::start_writer(&settings.database(), retention, tasks)?;
    let reader = thread::start_reader(&settings.database(), tasks)?;

    let stop = tasks.stop();
    let bus = Bus::connect(&config.nats, Identity::of(tasks)?, stop)
        .await
        .context("connect to NATS")?;
    bus.attach(tasks);
    bus.ensure_patiently(stop).await.context("prepare NATS")?;

    for (name, stream) in [("logs", LOGS), ("history", HISTORY)] {
        let consumer = bus.consume(consume::durable(stream));
        let writer = writer.clone();
        tasks.spawn(name, move |stop| consume::run(consumer, writer, stop));
    }
    let service = bus
        .service("Keeps log records and the history of jobs")
        .await?;
    let about_logs = service.endpoint(QUERY_LOGS, GROUP).await?;
    let about_jobs = service.endpoint(PAST_JOB, GROUP).await?;
    let past = reader.clone();
    tasks.spawn("past jobs", move |stop| query::jobs(about_jobs, past, stop));
    tasks.spawn("query", move |stop| async move {
        let answered = query::logs(about_logs, reader, stop).await;
        drop(service);
        answered
    });
    Ok(())
}

/// Asks over NATS whether a log sink of this host answers.
///
/// # Errors
/// When NATS is away or no log sink of this host answers.
pub async fn healthcheck(config: Config) -> anyhow::Result<()> {
    orchion_bus::healthcheck(&config.nats, "log-sink").await
}
