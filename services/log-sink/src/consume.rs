//! From the streams to the writer thread, and back with an acknowledgement.

use crate::store::Entry;
use crate::thread::Writer;
use orchion_bus::{Consumer, Disposition, Durable, Message};
use orchion_contract::job::EndedJobs;
use orchion_contract::log::LogRecord;
use orchion_contract::streams::StreamSpec;
use orchion_contract::subjects::{JOBS_ENDED, LOG};
use orchion_service::Stop;
use std::time::Duration;

/// How many messages go into one commit at most.
const BATCH: usize = 256;
/// How long a batch may take before it is delivered again.
const PATIENCE: Duration = Duration::from_secs(5);
/// When to try again what the database did not take.
const LATER: Duration = Duration::from_secs(1);

pub(crate) fn durable(stream: StreamSpec) -> Durable {
    Durable {
        stream,
        name: "log-sink",
        batch: BATCH,
        patience: PATIENCE,
    }
}

/// Stores what comes until `stop`.
pub(crate) async fn run(mut consumer: Consumer, writer: Writer, stop: Stop) -> anyhow::Result<()> {
    let mut failures = 0_u32;
    while let Some(batch) = stop.unless_stopped(consumer.next()).await {
        let read: Vec<_> = batch.messages().iter().map(read).collect();
        let entries = read.iter().filter_map(|read| read.as_ref().ok()).flatten();
        let stored = writer.store(entries.cloned().collect()).await;
        match &stored {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                if failures.is_power_of_two() {
                    tracing::error!(
                        "cannot store log records: {error:#}; they stay in NATS and are tried again"
                    );
                }
            }
        }
        let dispositions = read.into_iter().map(|read| match (read, &stored) {
            (Ok(_), Ok(())) => Disposition::Ack,
            (Ok(_), Err(_)) => Disposition::Nak(LATER),
            (Err(reason), _) => Disposition::Term(reason),
        });
        batch.settle(dispositions).await;
    }
    Ok(())
}

/// What a message holds that is to be kept.
fn read(message: &Message) -> Result<Vec<Entry>, String> {
    if JOBS_ENDED.parse(&message.subject).is_some() {
        return serde_json::from_slice::<EndedJobs>(&message.payload)
            .map(|ended| {
                let jobs = ended.jobs.into_iter();
                jobs.map(|job| Entry::Job(Box::new(job))).collect()
            })
            .map_err(|error| unreadable(&error));
    }
    if LOG.parse(&message.subject).is_none() {
        return Err("it is on no subject of log records".to_owned());
    }
    serde_json::from_slice::<LogRecord>(&message.payload)
        .map(|record| vec![Entry::Log(Box::new(record))])
        .map_err(|error| unreadable(&error))
}

/// Where it went wrong, and nothing of what was there: it may be anything.
fn unreadable(error: &serde_json::Error) -> String {
    format!(
        "it cannot be read ({:?} error at line {}, column {})",
        error.classify(),
        error.line(),
        error.column()
    )
}
