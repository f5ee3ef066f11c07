//! From the streams to the writer thread, and back with an acknowledgement.

use crate::store::Entry;
use crate::thread::Writer;
use orchion_bus::{Consumer, Disposition, Durable, Message};
use orchion_contract::log::LogRecord;
use orchion_contract::streams::StreamSpec;
use orchion_contract::subjects::{JOB_ENDED, LOG};
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
        let entries = read.iter().filter_map(|read| read.as_ref().ok());
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

fn read(message: &Message) -> Result<Entry, String> {
    if JOB_ENDED.parse(&message.subject).is_some() {
        let summary = serde_json::from_slice(&message.payload);
        return summary
            .map(|summary| Entry::Job(Box::new(summary)))
            .map_err(|error| unreadable(&error));
    }
    if LOG.parse(&message.subject).is_none() {
        return Err("it is on no subject of log records".to_owned());
    }
    serde_json::from_slice::<LogRecord>(&message.payload)
        .map(|record| Entry::Log(Box::new(record)))
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
