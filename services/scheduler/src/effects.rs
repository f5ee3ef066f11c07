//! Everything the holder does on the bus, as futures that say what came of it.

use futures_util::future::BoxFuture;
use orchion_bus::{AppendError, Bus, Change, Error, Kv};
use orchion_contract::buckets::JOBS;
use orchion_contract::job::{
    CancelOrder, ENDED_RETENTION_S, EndedJobs, Grants, Job, JobEvents, RunOrder,
};
use orchion_contract::progress::Progress;
use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::subjects::{GRANTS, JOB_PROGRESS, JOB_STATES, JOBS_ENDED, TRANSCRIPT};
use orchion_contract::transcript::{Entry, Final, Mark};
use orchion_contract::{JobId, NodeId, ReaderId, rpc};
use orchion_scheduler_core::{Behind, Input, Reply, Token, WriteError, behind};
use std::time::Duration;

/// One thing under way, and what the core hears of it.
pub(crate) type UnderWay = BoxFuture<'static, Option<Input>>;

const ORDER_TRY: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(50);

/// The last record of a job.
pub(crate) struct End {
    pub(crate) record: Box<Job>,
    pub(crate) expected: u64,
}

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

    /// Reads every record, until there is an answer.
    pub(crate) fn load_records(&self) -> UnderWay {
        let jobs = self.jobs.clone();
        Box::pin(async move {
            loop {
                match all(&jobs).await {
                    Ok(records) => return Some(Input::Records(records)),
                    Err(error) => tracing::debug!(%error, "the records cannot be read now"),
                }
                pause().await;
            }
        })
    }

    /// Looks for open records that were stored after one, until there is an answer.
    pub(crate) fn look_for_open(&self, after: u64) -> UnderWay {
        let jobs = self.jobs.clone();
        Box::pin(async move {
            loop {
                match jobs.lasting(after).await {
                    Ok((jobs, upto)) => return Some(Input::FoundOpen { jobs, upto }),
                    Err(error) => tracing::debug!(%error, "the records cannot be read now"),
                }
                pause().await;
            }
        })
    }

    /// Reads the last entry of a transcript, until there is an answer.
    pub(crate) fn read_last(&self, reader: ReaderId, job: JobId) -> UnderWay {
        let bus = self.bus.clone();
        Box::pin(async move {
            let last = last_entry(&bus, &reader, job).await;
            let last = last.map(|(_, entry)| Box::new(entry));
            Some(Input::Last { job, last })
        })
    }

    /// Writes a record; an ended one expires by itself.
    pub(crate) fn write(&self, record: Box<Job>, expected: u64, ttl: Option<Duration>) -> UnderWay {
        let jobs = self.jobs.clone();
        Box::pin(async move {
            let job = record.id;
            let result = jobs.set(&job, &record, expected, ttl).await;
            let result = result.map_err(|error| match error {
                AppendError::Full { .. } => WriteError::Full(error.to_string()),
                AppendError::WrongSequence { .. } | AppendError::Unsure { .. } => {
                    tracing::debug!(%error, job.id = %job, "a record may not be stored: reading it");
                    WriteError::Unsure
                }
            });
            Some(Input::Written { job, result })
        })
    }

    /// Writes the last records of jobs, together.
    pub(crate) fn write_ends(&self, ends: Vec<End>) -> UnderWay {
        let jobs = self.jobs.clone();
        Box::pin(async move {
            let ttl = Duration::from_secs(ENDED_RETENTION_S);
            let values = ends
                .iter()
                .map(|end| (&end.record.id, &*end.record, end.expected));
            let written = jobs.set_all(values, ttl).await;
            if let Err(error) = &written {
                tracing::debug!(%error, "last records may not be stored: reading them");
            }
            Some(Input::EndsWritten {
                jobs: ends.iter().map(|end| end.record.id).collect(),
                is_sure: written.is_ok(),
            })
        })
    }

    /// Reads a record, until there is an answer.
    pub(crate) fn read(&self, job: JobId) -> UnderWay {
        let jobs = self.jobs.clone();
        Box::pin(async move {
            loop {
                match jobs.get(&job).await {
                    Ok(found) => {
                        let found = found.map(|found| (found.revision, found.value.map(Box::new)));
                        return Some(Input::Read { job, found });
                    }
                    Err(error) => {
                        tracing::debug!(%error, job.id = %job, "the record cannot be read now");
                    }
                }
                pause().await;
            }
        })
    }

    /// Sends an order, twice when no answer comes.
    pub(crate) fn order(&self, node: NodeId, order: Box<RunOrder>) -> UnderWay {
        let bus = self.bus.clone();
        Box::pin(async move {
            let mut reply = bus.ask(&rpc::RUN, &node, &*order, ORDER_TRY).await;
            let may_have_come = matches!(reply, Err(Error::Timeout { .. }));
            if may_have_come {
                reply = bus.ask(&rpc::RUN, &node, &*order, ORDER_TRY).await;
            }
            let reply = match reply {
                Ok(reply) => Reply::Said(reply),
                Err(Error::NoResponders { .. }) if !may_have_come => Reply::Nobody,
                Err(error) => {
                    tracing::debug!(%error, job.id = %order.job, "an order was not answered");
                    Reply::Silence
                }
            };
            Some(Input::Replied {
                job: order.job,
                attempt: order.attempt,
                reply,
            })
        })
    }

    /// Tells a gateway which slots it may fill by itself.
    pub(crate) fn grant(&self, gateway: ReaderId, grants: Grants) -> UnderWay {
        let bus = self.bus.clone();
        Box::pin(async move {
            if let Err(error) = bus.publish(&GRANTS, &gateway, &grants).await {
                tracing::debug!(%error, gateway.id = %gateway, "slots were not granted");
            }
            None
        })
    }

    /// Opens an attempt in the transcript: whoever wrote before is fenced off.
    pub(crate) fn open(&self, reader: ReaderId, job: JobId, mark: Mark) -> UnderWay {
        let bus = self.bus.clone();
        Box::pin(async move {
            let attempt = mark.attempt;
            let written = write_behind_last(&bus, &reader, job, &Entry::Mark(mark)).await;
            Some(match written {
                Wrote::Ours => Input::Opened {
                    job,
                    attempt,
                    end: None,
                },
                Wrote::HasEnded(end) => Input::Opened {
                    job,
                    attempt,
                    end: Some(end),
                },
                Wrote::Overtaken => Input::Overtaken { job },
            })
        })
    }

    /// Writes the end into the transcript; an end that is there already stays.
    pub(crate) fn finalize(&self, reader: ReaderId, job: JobId, end: Box<Final>) -> UnderWay {
        let bus = self.bus.clone();
        Box::pin(async move {
            let written = write_behind_last(&bus, &reader, job, &Entry::Final(end.clone())).await;
            let end = match written {
                Wrote::HasEnded(found) => found,
                Wrote::Ours | Wrote::Overtaken => end,
            };
            Some(Input::Finalized { job, end })
        })
    }

    /// Tells an agent to stop; no answer in time is an answer.
    pub(crate) fn cancel(&self, node: NodeId, order: CancelOrder) -> UnderWay {
        let bus = self.bus.clone();
        Box::pin(async move {
            let reply = bus.ask(&rpc::CANCEL, &node, &order, ORDER_TRY).await.ok();
            let job = order.job;
            Some(Input::Canceled { job, reply })
        })
    }

    /// Tells an agent to drop what is not its own any more.
    pub(crate) fn drop_attempt(&self, node: NodeId, order: CancelOrder) -> UnderWay {
        let bus = self.bus.clone();
        Box::pin(async move {
            if let Err(error) = bus.ask(&rpc::CANCEL, &node, &order, ORDER_TRY).await {
                tracing::debug!(%error, job.id = %order.job, "a stop order was not answered");
            }
            None
        })
    }

    /// Reads the record of a job that is not in memory, once.
    pub(crate) fn look_up(&self, token: Token, job: JobId) -> UnderWay {
        let jobs = self.jobs.clone();
        Box::pin(async move {
            let found = jobs
                .get(&job)
                .await
                .map(|found| found.map(|found| found.value.map(Box::new)))
                .map_err(|error| error.to_string());
            Some(Input::LookedUp { token, job, found })
        })
    }

    /// Tells history, until it is stored. History takes twice for once.
    pub(crate) fn tell_ends(&self, ended: EndedJobs) -> UnderWay {
        let bus = self.bus.clone();
        Box::pin(async move {
            while let Err(error) = bus.store(&JOBS_ENDED, &(), &ended).await {
                tracing::debug!(%error, jobs = ended.jobs.len(), "history does not answer");
                pause().await;
            }
            let jobs = ended.jobs.iter().map(|job| job.id).collect();
            Some(Input::Told { jobs })
        })
    }

    /// Tells whoever follows a job where it stands.
    pub(crate) fn tell_progress(&self, reader: ReaderId, progress: Box<Progress>) -> UnderWay {
        let bus = self.bus.clone();
        Box::pin(async move {
            let to = (reader, progress.job);
            if let Err(error) = bus.publish(&JOB_PROGRESS, &to, &*progress).await {
                tracing::debug!(%error, "progress was not published");
            }
            None
        })
    }

    /// Tells whoever listens.
    pub(crate) fn tell_states(&self, events: JobEvents) -> UnderWay {
        let bus = self.bus.clone();
        Box::pin(async move {
            if let Err(error) = bus.publish(&JOB_STATES, &(), &events).await {
                tracing::debug!(%error, "changes of states were not published");
            }
            None
        })
    }
}

async fn all(jobs: &Kv<JobId, Job>) -> Result<Vec<(Job, u64)>, Error> {
    let mut records = jobs.watch().await?;
    let mut found = Vec::new();
    loop {
        match records.next().await? {
            Change::Loaded => return Ok(found),
            Change::Set { found: record, .. } => {
                found.extend(record.value.map(|job| (job, record.revision)));
            }
        }
    }
}

/// The last entry of a transcript, asked for until there is an answer.
async fn last_entry(bus: &Bus, reader: &ReaderId, job: JobId) -> Option<(u64, Entry)> {
    let subject = TRANSCRIPT.to(&(reader.clone(), job));
    loop {
        match bus.last(TRANSCRIPTS.name, &subject).await {
            Ok(None) => return None,
            Ok(Some(stored)) => match serde_json::from_slice(&stored.payload) {
                Ok(entry) => return Some((stored.sequence, entry)),
                Err(error) => {
                    tracing::error!(%error, job.id = %job, "the last entry of a transcript cannot be read");
                }
            },
            Err(error) => {
                tracing::debug!(%error, job.id = %job, "the transcript cannot be read now");
            }
        }
        pause().await;
    }
}

/// What came of writing into a transcript.
enum Wrote {
    /// It stands there.
    Ours,
    /// The transcript had ended before.
    HasEnded(Box<Final>),
    /// Another scheduler has opened this attempt or a later one.
    Overtaken,
}

/// Appends `entry` behind whatever stands last, repeating when somebody was
/// faster.
async fn write_behind_last(bus: &Bus, reader: &ReaderId, job: JobId, entry: &Entry) -> Wrote {
    let subject = TRANSCRIPT.to(&(reader.clone(), job));
    // An entry of plain values always serializes.
    let payload: Vec<u8> = serde_json::to_vec(entry).unwrap_or_default();
    loop {
        let after = match behind(entry, last_entry(bus, reader, job).await) {
            Behind::Append { after } => after,
            Behind::Stands => return Wrote::Ours,
            Behind::Ended(end) => return Wrote::HasEnded(end),
            Behind::Overtaken => return Wrote::Overtaken,
        };
        match bus.append(&subject, payload.clone().into(), after).await {
            Ok(_) => return Wrote::Ours,
            Err(AppendError::WrongSequence { .. }) => {}
            Err(error) => {
                tracing::warn!(%error, job.id = %job, "the transcript takes no entry now: trying again");
                pause().await;
            }
        }
    }
}

/// NATS is away or busy: the pace of asking again.
async fn pause() {
    tokio::time::sleep(PAUSE).await;
}
