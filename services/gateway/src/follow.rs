//! One caller's way through one transcript: live, or from the store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use orchion_bus::{Bus, From, Reading};
use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::subjects::TRANSCRIPT;
use orchion_contract::transcript::Entry;
use orchion_contract::{ErrorCode, JobId, ReaderId};
use orchion_transcript::{Reader, Shown};

use crate::error::Error;
use crate::feed::{Feed, Item, Overrun, Queue};

/// Pause before the store is asked again.
const RETRY: Duration = Duration::from_millis(100);

/// The last entry of a transcript, when there is one.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn last_entry(
    bus: &Bus,
    reader: &ReaderId,
    job: JobId,
) -> Result<Option<Entry>, Error> {
    let subject = TRANSCRIPT.to(&(reader.clone(), job));
    let last = bus.last(TRANSCRIPTS.name, &subject).await;
    let last = last.map_err(|_| Error::away("store of answers"))?;
    Ok(last.and_then(|last| serde_json::from_slice(&last.payload).ok()))
}

/// Whether the transcript of a job that has ended still has its end: it goes with
/// age, with room, or by a power cut.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn keeps_end(bus: &Bus, reader: &ReaderId, job: JobId) -> Result<bool, Error> {
    let last = last_entry(bus, reader, job).await?;
    Ok(matches!(last, Some(Entry::Final(_))))
}

/// Reads one transcript for one caller. Dropping it loses nothing.
pub(crate) struct Follower {
    bus: Bus,
    feed: Feed,
    job: JobId,
    subject: String,
    reader: Reader,
    source: Source,
    taken: VecDeque<Item>,
    rollbacks: u64,
}

enum Source {
    /// From the one reading of this process.
    Live(Arc<Queue>),
    /// Not open yet, or not any more.
    Closed,
    /// From the store, with a reading of its own.
    Stored {
        reading: Box<Reading>,
        /// Entries that stood there when it was opened and are still to come.
        backlog: u64,
    },
}

impl Follower {
    /// Follows a job that this gateway is about to submit.
    pub(crate) fn live(bus: &Bus, feed: &Feed, reader: &ReaderId, job: JobId) -> Self {
        let source = Source::Live(feed.register(job));
        Self::new(bus, feed, reader, job, Reader::new(), source)
    }

    /// Reads a job from the store, from piece `from` on, and goes on as it grows.
    pub(crate) fn stored(bus: &Bus, feed: &Feed, reader: &ReaderId, job: JobId, from: u64) -> Self {
        let reading = Reader::from_index(from);
        Self::new(bus, feed, reader, job, reading, Source::Closed)
    }

    fn new(
        bus: &Bus,
        feed: &Feed,
        reader_id: &ReaderId,
        job: JobId,
        reader: Reader,
        source: Source,
    ) -> Self {
        Self {
            bus: bus.clone(),
            feed: feed.clone(),
            job,
            subject: TRANSCRIPT.to(&(reader_id.clone(), job)),
            reader,
            source,
            taken: VecDeque::new(),
            rollbacks: feed.rollbacks(),
        }
    }

    /// The job.
    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    /// Index of the next piece.
    pub(crate) fn next_index(&self) -> u64 {
        self.reader.next_index()
    }

    /// Whether everything that stood in the store at the beginning was read.
    pub(crate) fn has_caught_up(&self) -> bool {
        match &self.source {
            Source::Live(_) => true,
            Source::Closed => false,
            Source::Stored { backlog, .. } => *backlog == 0,
        }
    }

    /// Waits for the end of a live answer without reading it; for ever when it is
    /// read from the store.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let queue = match &self.source {
            Source::Live(queue) => Some(queue.clone()),
            Source::Closed | Source::Stored { .. } => None,
        };
        async move {
            match queue {
                Some(queue) => queue.ended().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Waits for entries and appends to `out` what the caller sees of them,
    /// which may be nothing. May be dropped while it waits.
    ///
    /// # Errors
    /// When the entries cannot be a transcript, or differ from what was shown.
    pub(crate) async fn read(&mut self, out: &mut Vec<Shown>) -> Result<(), Error> {
        match &mut self.source {
            Source::Live(queue) => {
                // What was swapped out is applied before the next await.
                match queue.take(&mut self.taken).await {
                    Ok(()) => self.apply_taken(out)?,
                    Err(Overrun) => {
                        tracing::debug!(job.id = %self.job, "a caller of job {} reads slowly: it goes on from the store", self.job);
                        self.feed.remove(self.job);
                        self.source = Source::Closed;
                    }
                }
            }
            Source::Closed => self.open().await,
            Source::Stored { reading, backlog } => match reading.next().await {
                // This entry may be of another store: read anew once that is known.
                Ok(_) if !self.feed.knows_store(&self.bus) => self.source = Source::Closed,
                Ok(stored) => {
                    self.feed.saw(&stored);
                    *backlog = backlog.saturating_sub(1).min(stored.pending);
                    match serde_json::from_slice(&stored.payload) {
                        Ok(entry) => self.apply(stored.sequence, entry, out)?,
                        Err(error) => return Err(unreadable(self.job, &error)),
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, job.id = %self.job, "a reading of job {} is opened anew", self.job);
                    self.source = Source::Closed;
                    tokio::time::sleep(RETRY).await;
                }
            },
        }
        Ok(())
    }

    /// To be called once in a while: notices a store that was rolled back.
    pub(crate) fn look(&mut self) {
        let is_live = matches!(self.source, Source::Live(_));
        if !is_live && self.feed.rollbacks() != self.rollbacks {
            self.source = Source::Closed;
        }
    }

    async fn open(&mut self) {
        self.feed.store_known(&self.bus).await;
        let rollbacks = self.feed.rollbacks();
        if rollbacks != self.rollbacks {
            self.rollbacks = rollbacks;
            self.reader.reopen();
        }
        let opened = self
            .bus
            .read(TRANSCRIPTS.name, &self.subject, From::Beginning)
            .await;
        match opened {
            Ok(reading) => {
                self.source = Source::Stored {
                    backlog: reading.initially,
                    reading: Box::new(reading),
                };
            }
            Err(error) => {
                tracing::debug!(%error, job.id = %self.job, "the transcript of job {} cannot be opened yet", self.job);
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    fn apply_taken(&mut self, out: &mut Vec<Shown>) -> Result<(), Error> {
        while let Some(item) = self.taken.pop_front() {
            match item {
                Item::Entry(sequence, entry) => self.apply(sequence, entry, out)?,
                Item::Reopened => self.reader.reopen(),
            }
        }
        Ok(())
    }

    fn apply(&mut self, sequence: u64, entry: Entry, out: &mut Vec<Shown>) -> Result<(), Error> {
        self.reader.apply(sequence, entry, out).map_err(|error| {
            tracing::error!(%error, job.id = %self.job, "the transcript of job {} is not whole", self.job);
            Error::new(
                ErrorCode::WorkerReset,
                format!("the stored answer is not whole any more ({error}); ask again"),
            )
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if matches!(self.source, Source::Live(_)) {
            self.feed.remove(self.job);
        }
    }
}

fn unreadable(job: JobId, error: &serde_json::Error) -> Error {
    tracing::error!(%error, job.id = %job, "an entry of job {job} cannot be read");
    Error::new(
        ErrorCode::Internal,
        "the stored answer cannot be read; run the same version everywhere",
    )
}
