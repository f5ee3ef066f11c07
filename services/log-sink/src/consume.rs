//! From the streams to the writer thread, and back with an acknowledgement.

use crate::store::{Entry, PastJob};
use crate::thread::Writer;
use orchion_bus::{Consumer, Disposition, Durable, Message};
use orchion_contract::log::LogRecord;
use orchion_contract::streams::StreamSpec;
use orchion_contract::subjects::{JOBS_ENDED, LOG};
use orchion_contract::{JobId, ModelName, NodeId, UnixMs};
use orchion_service::Stop;
use serde::Deserialize;
use serde_json::value::RawValue;
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
        let mut entries = Vec::new();
        let mut take = |message| read(message).map(|read| entries.extend(read));
        let read: Vec<_> = batch.messages().iter().map(&mut take).collect();
        let stored = writer.store(entries).await;
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
            (Ok(()), Ok(())) => Disposition::Ack,
            (Ok(()), Err(_)) => Disposition::Nak(LATER),
            (Err(reason), _) => Disposition::Term(reason),
        });
        batch.settle(dispositions).await;
    }
    Ok(())
}

/// What a message holds that is to be kept.
fn read(message: &Message) -> Result<Vec<Entry>, String> {
    if JOBS_ENDED.parse(&message.subject).is_some() {
        let jobs = past_jobs(&message.payload).map_err(|error| unreadable(&error))?;
        return Ok(jobs.into_iter().map(Box::new).map(Entry::Job).collect());
    }
    if LOG.parse(&message.subject).is_none() {
        return Err("it is on no subject of log records".to_owned());
    }
    serde_json::from_slice::<LogRecord>(&message.payload)
        .map(|record| vec![Entry::Log(Box::new(record))])
        .map_err(|error| unreadable(&error))
}

/// The jobs of an [`EndedJobs`](orchion_contract::job::EndedJobs), each read as
/// far as it is looked up by.
fn past_jobs(payload: &[u8]) -> serde_json::Result<Vec<PastJob>> {
    #[derive(Deserialize)]
    struct Ended<'a> {
        #[serde(borrow)]
        jobs: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Key {
        id: JobId,
        created_ms: UnixMs,
        model: ModelName,
        node: Option<NodeId>,
        end: Option<End>,
    }
    #[derive(Deserialize)]
    struct End {
        at_ms: UnixMs,
    }
    let ended: Ended<'_> = serde_json::from_slice(payload)?;
    let jobs = ended.jobs.into_iter().map(|summary| {
        let key: Key = serde_json::from_str(summary.get())?;
        Ok(PastJob {
            id: key.id,
            created_ms: key.created_ms,
            ended_ms: key.end.map(|end| end.at_ms),
            model: key.model,
            node: key.node,
            summary: summary.to_owned(),
        })
    });
    jobs.collect()
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
