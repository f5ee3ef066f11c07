//! Reads what earlier attempts left in the transcript.

use std::time::Duration;

use orchion_bus::{Bus, From, Stored};
use orchion_contract::InstanceId;
use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::transcript::{Entry, Final};
use orchion_transcript::Prefix;

/// How long one try may take.
const TRY: Duration = Duration::from_secs(3);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// What an attempt finds.
#[derive(Debug)]
pub(super) enum Found {
    /// The answer so far; its last entry is the mark of this attempt.
    Prefix(Box<Prefix>),
    /// The job has ended.
    Ended(Box<Final>),
    /// Somebody else owns the chain, or this attempt was never opened.
    NotOurs,
}

/// Reads the chain on `subject` for `attempt` of `instance`; waits as long as
/// NATS is away.
pub(super) async fn find(bus: &Bus, subject: &str, attempt: u32, instance: &InstanceId) -> Found {
    loop {
        let read = read(bus, subject, attempt, instance);
        match tokio::time::timeout(TRY, read).await {
            Ok(Ok(found)) => return found,
            Ok(Err(error)) => {
                tracing::debug!("cannot read the beginning of an answer yet: {error:#}");
            }
            Err(_) => tracing::debug!("reading the beginning of an answer took too long: again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read(
    bus: &Bus,
    subject: &str,
    attempt: u32,
    instance: &InstanceId,
) -> anyhow::Result<Found> {
    let Some(last) = bus.last(TRANSCRIPTS.name, subject).await? else {
        return Ok(Found::NotOurs);
    };
    match entry(&last)? {
        Entry::Mark(mark) if mark.attempt == attempt && mark.instance == *instance => {}
        Entry::Final(end) => return Ok(Found::Ended(end)),
        Entry::Mark(_) | Entry::Frame(_) | Entry::Restart(_) => return Ok(Found::NotOurs),
    }
    let mut prefix = Prefix::new();
    let mut reading = bus.read(TRANSCRIPTS.name, subject, From::Beginning).await?;
    loop {
        let stored = reading.next().await?;
        prefix.apply(stored.sequence, entry(&stored)?)?;
        if stored.sequence >= last.sequence {
            return Ok(Found::Prefix(Box::new(prefix)));
        }
    }
}

pub(super) fn entry(stored: &Stored) -> serde_json::Result<Entry> {
    serde_json::from_slice(&stored.payload)
}
