//! Everything the holder does on the bus, as futures that say how it went.

use crate::answers::{expired, unknown};
use crate::view::summary;
use futures_util::future::BoxFuture;
use orchion_bus::{AppendError, Bus, Error, Kv, Question};
use orchion_contract::buckets::JOBS;
use orchion_contract::job::{
    CancelOrder, CancelReply, ENDED_RETENTION_S, Job, JobEnd, JobEvent, JobSummary, RunOrder,
    RunReply,
};
use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::subjects::{JOB_ENDED, JOB_STATE, TRANSCRIPT};
use orchion_contract::transcript::{Entry, Final, Mark};
use orchion_contract::{ErrorBody, ErrorCode, JobId, NodeId, ReaderId, rpc};
use orchion_scheduler_core::job_end;
use std::time::Duration;

/// How something went.
pub(crate) enum Done {
    /// A record was written, or not.
    Written {
        job: JobId,
        result: Result<u64, AppendError>,
    },
    /// A record was read: its revision, and whether it is what we wrote.
    Read {
        job: JobId,
        found: Option<(u64, Found)>,
    },
    /// An agent answered an order: `Ok(None)` when nobody answers its subject.
    Replied {
        job: JobId,
        attempt: u32,
        reply: Result<Option<RunReply>, Error>,
    },
    /// An attempt was opened, or the job has ended meanwhile.
    Opened {
        job: JobId,
        attempt: u32,
        end: Option<Box<JobEnd>>,
    },
    /// The final is in the transcript.
    Finalized { job: JobId, end: Box<JobEnd> },
    /// An agent answered a stop order.
    Canceled {
        job: JobId,
        end: Option<Box<JobEnd>>,
    },
    /// History knows of the end.
    Told { job: JobId },
    /// Nothing hangs on it.
    Nothing,
}

/// What stands under a job's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Ours,
    Other,
    Marker,
}

/// One thing under way.
pub(crate) type Effect = BoxFuture<'static, Done>;

const ORDER_TRY: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(50);

/// The holder's hands.
#[derive(Clone)]
pub(crate) struct Hands {
    bus: Bus,
    jobs: Kv<JobId, Job>,
}

impl Hands {
    pub(crate) fn new(bus: &Bus) -> Self {
        Self {
            bus: bus.clone(),
            jobs: bus.bucket(JOBS),
        }
    }

    /// Writes a record; an ended one expires by itself.
    pub(crate) fn write(&self, record: Job, expected: u64) -> Effect {
        let jobs = self.jobs.clone();
        Box::pin(async move {
            let ttl = record
                .state
                .is_ended()
                .then(|| Duration::from_secs(ENDED_RETENTION_S));
            let result = jobs.set(&record.id, &record, expected, ttl).await;
            Done::Written {
                job: record.id,
                result,
            }
        })
    }

    /// Reads a record until there is an answer, and compares it with ours.
    pub(crate) fn read(&self, record: Job) -> Effect {
        let jobs = self.jobs.clone();
        Box::pin(async move {
            loop {
                match jobs.get(&record.id).await {
                    Ok(found) => {
                        let compare = |stored: Option<Job>| match stored {
                            None => Found::Marker,
                            Some(stored) if is_same(&stored, &record) => Found::Ours,
                            Some(_) => Found::Other,
                        };
                        let found = found.map(|found| (found.revision, compare(found.value)));
                        return Done::Read {
                            job: record.id,
                            found,
                        };
                    }
                    Err(error) => {
                        tracing::debug!(%error, job.id = %record.id, "the record cannot be read now")
                    }
                }
                pause().await;
            }
        })
    }

    /// Sends an order, twice when no answer comes.
    pub(crate) fn order(&self, node: NodeId, order: RunOrder) -> Effect {
        let bus = self.bus.clone();
        Box::pin(async move {
            let mut reply = bus.ask(&rpc::RUN, &node, &order, ORDER_TRY).await;
            if matches!(reply, Err(Error::Timeout { .. })) {
                reply = bus.ask(&rpc::RUN, &node, &order, ORDER_TRY).await;
            }
            let reply = match reply {
                Err(Error::NoResponders { .. }) => Ok(None),
                Err(error) => Err(error),
                Ok(reply) => Ok(Some(reply)),
            };
            Done::Replied {
                job: order.job,
                attempt: order.attempt,
                reply,
            }
        })
    }

    /// Opens an attempt in the transcript: whoever wrote before is fenced off.
    pub(crate) fn open(&self, reader: ReaderId, job: JobId, mark: Mark) -> Effect {
        let bus = self.bus.clone();
        Box::pin(async move {
            let attempt = mark.attempt;
            let is_ours = |last: &Entry| matches!(last, Entry::Mark(found) if *found == mark);
            let end =
                write_behind_last(&bus, &reader, job, &Entry::Mark(mark.clone()), is_ours).await;
            Done::Opened { job, attempt, end }
        })
    }

    /// Writes the end into the transcript; an end that is there already stays.
    pub(crate) fn finalize(&self, reader: ReaderId, job: JobId, end: Final) -> Effect {
        let bus = self.bus.clone();
        Box::pin(async move {
            let ours = job_end(&end, crate::view::unix_ms());
            let found =
                write_behind_last(&bus, &reader, job, &Entry::Final(Box::new(end)), |_| false)
                    .await;
            Done::Finalized {
                job,
                end: found.unwrap_or_else(|| Box::new(ours)),
            }
        })
    }

    /// Tells an agent to stop; no answer in time is an answer.
    pub(crate) fn cancel(&self, node: NodeId, order: CancelOrder) -> Effect {
        let bus = self.bus.clone();
        Box::pin(async move {
            let reply = bus.ask(&rpc::CANCEL, &node, &order, ORDER_TRY).await;
            let end = match reply {
                Ok(CancelReply::Ended { end }) => match end.how {
                    orchion_contract::job::AttemptOutcome::Final { end } => Some(end),
                    orchion_contract::job::AttemptOutcome::Failed { .. }
                    | orchion_contract::job::AttemptOutcome::Superseded
                    | orchion_contract::job::AttemptOutcome::Preempted => None,
                },
                Ok(CancelReply::NotRunning | CancelReply::Stale { .. }) | Err(_) => None,
            };
            Done::Canceled {
                job: order.job,
                end,
            }
        })
    }

    /// Tells an agent to drop what is not its own any more.
    pub(crate) fn drop_attempt(&self, node: NodeId, order: CancelOrder) -> Effect {
        let bus = self.bus.clone();
        Box::pin(async move {
            if let Err(error) = bus.ask(&rpc::CANCEL, &node, &order, ORDER_TRY).await {
                tracing::debug!(%error, job.id = %order.job, "a stop order was not answered");
            }
            Done::Nothing
        })
    }

    /// Answers with what the record says of a job that is not in memory.
    pub(crate) fn answer_from_record(
        &self,
        id: JobId,
        question: Question<(), (), JobSummary>,
    ) -> Effect {
        let jobs = self.jobs.clone();
        Box::pin(async move {
            let found = jobs
                .get(&id)
                .await
                .map(|found| found.map(|found| found.value));
            let answer = match found {
                Ok(Some(Some(record))) => Ok(summary(&record, false, None)),
                Ok(Some(None)) => Err(expired(&id)),
                Ok(None) => Err(unknown(&id)),
                Err(error) => Err(ErrorBody::new(
                    ErrorCode::PoolUnready,
                    format!("the job store does not answer: {error}"),
                )),
            };
            question.answer(answer).await;
            Done::Nothing
        })
    }

    /// Tells history, until it is stored.
    pub(crate) fn tell_end(&self, summary: JobSummary) -> Effect {
        let bus = self.bus.clone();
        Box::pin(async move {
            let id = summary.id.to_string();
            while let Err(error) = bus.store(&JOB_ENDED, &(), &id, &summary).await {
                tracing::debug!(%error, job.id = id, "history does not answer");
                pause().await;
            }
            Done::Told { job: summary.id }
        })
    }

    /// Tells whoever listens.
    pub(crate) fn tell_state(&self, event: JobEvent) -> Effect {
        let bus = self.bus.clone();
        Box::pin(async move {
            if let Err(error) = bus.publish(&JOB_STATE, &event.job, &event).await {
                tracing::debug!(%error, "an event was not published");
            }
            Done::Nothing
        })
    }
}

/// The last entry of a transcript, asked for until there is an answer.
pub(crate) async fn last_entry(bus: &Bus, reader: &ReaderId, job: JobId) -> Option<(u64, Entry)> {
    let subject = TRANSCRIPT.to(&(reader.clone(), job));
    loop {
        match bus.last(TRANSCRIPTS.name, &subject).await {
            Ok(None) => return None,
            Ok(Some(stored)) => match serde_json::from_slice(&stored.payload) {
                Ok(entry) => return Some((stored.sequence, entry)),
                Err(error) => {
                    tracing::error!(%error, job.id = %job, "the last entry of a transcript cannot be read")
                }
            },
            Err(error) => {
                tracing::debug!(%error, job.id = %job, "the transcript cannot be read now")
            }
        }
        pause().await;
    }
}

/// Appends `entry` behind whatever stands last, repeating when somebody was
/// faster; returns the end when the transcript has one already.
async fn write_behind_last(
    bus: &Bus,
    reader: &ReaderId,
    job: JobId,
    entry: &Entry,
    is_ours: impl Fn(&Entry) -> bool,
) -> Option<Box<JobEnd>> {
    let subject = TRANSCRIPT.to(&(reader.clone(), job));
    // An entry of plain values always serializes.
    let payload: Vec<u8> = serde_json::to_vec(entry).unwrap_or_default();
    loop {
        let after = match last_entry(bus, reader, job).await {
            Some((_, Entry::Final(end))) => {
                return Some(Box::new(job_end(&end, crate::view::unix_ms())));
            }
            Some((_, last)) if is_ours(&last) => return None,
            Some((sequence, _)) => sequence,
            None => 0,
        };
        match bus.append(&subject, payload.clone().into(), after).await {
            Ok(_) => return None,
            Err(AppendError::WrongSequence { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, job.id = %job, "the transcript takes no entry now: trying again");
                pause().await;
            }
        }
    }
}

fn is_same(stored: &Job, ours: &Job) -> bool {
    let key = |job: &Job| {
        (
            job.queue_seq,
            job.state,
            job.attempt,
            job.failures,
            job.created_ms,
            job.assigned.clone(),
            job.gateway.clone(),
        )
    };
    stored.request_digest == ours.request_digest && key(stored) == key(ours)
}

/// NATS is away or busy: the pace of asking again.
async fn pause() {
    tokio::time::sleep(PAUSE).await;
}
