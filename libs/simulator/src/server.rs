//! The simulated NATS: chains with an expected sequence, buckets with revisions
//! and lifetimes, and a tail that a power cut may take.

use crate::wire::{Bucket, Key, Life, Reader, Refusal, SECOND, Time, Value};
use orchion_contract::JobId;
use orchion_contract::job::{Job, JobState};
use orchion_contract::transcript::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What was written longer ago has reached the disk.
const SYNCED_AFTER: Time = 10 * SECOND;

/// An entry, and who wrote it.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    /// When it was stored.
    pub(crate) at: Time,
    pub(crate) entry: Entry,
    pub(crate) by: Life,
}

/// What stands under a key.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) revision: u64,
    pub(crate) value: Option<Value>,
    pub(crate) expires: Option<Time>,
}

#[derive(Debug)]
enum Undo {
    Appended(Reader, JobId),
    Set(Key, Option<Slot>),
    History(JobId),
}

#[derive(Debug, Default)]
pub(crate) struct Server {
    pub(crate) chains: BTreeMap<(Reader, JobId), Vec<Stored>>,
    pub(crate) keys: BTreeMap<Key, Slot>,
    pub(crate) history: BTreeMap<JobId, JobState>,
    pub(crate) last: u64,
    pub(crate) is_full: bool,
    revisions: BTreeMap<Bucket, u64>,
    undo: VecDeque<(Time, Undo)>,
}

impl Server {
    pub(crate) fn append(
        &mut self,
        at: (Reader, JobId),
        entry: Entry,
        after: Option<u64>,
        by: Life,
        now: Time,
    ) -> Result<u64, Refusal> {
        if self.is_full {
            return Err(Refusal::Full);
        }
        let chain = self.chains.entry(at).or_default();
        let last = chain.last().map_or(0, |stored| stored.sequence);
        if after.is_some_and(|after| after != last) {
            return Err(Refusal::WrongSequence);
        }
        self.last += 1;
        chain.push(Stored {
            sequence: self.last,
            at: now,
            entry,
            by,
        });
        self.done(now, Undo::Appended(at.0, at.1));
        Ok(self.last)
    }

    pub(crate) fn chain(&self, reader: Reader, job: JobId) -> &[Stored] {
        self.chains.get(&(reader, job)).map_or(&[], Vec::as_slice)
    }

    /// When the entry with this sequence was stored.
    pub(crate) fn stored_at(&self, sequence: u64) -> Option<Time> {
        let entries = self.chains.values().flatten();
        entries
            .into_iter()
            .find(|stored| stored.sequence == sequence)
            .map(|stored| stored.at)
    }

    /// Whether a transcript holds its end.
    pub(crate) fn has_ended(&self, reader: Reader, job: JobId) -> bool {
        let last = self.chain(reader, job).last();
        last.is_some_and(|last| matches!(last.entry, Entry::Final(_)))
    }

    /// Whether a job is on record.
    pub(crate) fn has_record(&self, job: JobId) -> bool {
        let slot = self.keys.get(&Key::Job(job));
        slot.is_some_and(|slot| slot.value.is_some())
    }

    pub(crate) fn set(
        &mut self,
        key: Key,
        value: Option<Value>,
        expected: Option<u64>,
        ttl: Option<Time>,
        now: Time,
    ) -> Result<u64, Refusal> {
        if self.is_full && key.bucket() == Bucket::Jobs {
            return Err(Refusal::Full);
        }
        let before = self.keys.get(&key);
        let found = before.map_or(0, |slot| slot.revision);
        if expected.is_some_and(|expected| expected != found) {
            return Err(Refusal::WrongSequence);
        }
        let before = before.cloned();
        let revision = self.revisions.entry(key.bucket()).or_default();
        *revision += 1;
        let slot = Slot {
            revision: *revision,
            value,
            expires: ttl.map(|ttl| now + ttl),
        };
        let revision = slot.revision;
        self.keys.insert(key, slot);
        self.done(now, Undo::Set(key, before));
        Ok(revision)
    }

    /// The lifetime of a key is over.
    pub(crate) fn expire(&mut self, key: Key, revision: u64, now: Time) -> Option<u64> {
        let slot = self.keys.get(&key)?;
        let is_due = slot.revision == revision && slot.expires.is_some_and(|at| at <= now);
        if !is_due {
            return None;
        }
        self.set(key, None, None, None, now).ok()
    }

    /// Keys whose lifetime ended while nobody looked.
    pub(crate) fn overdue(&self, now: Time) -> Vec<(Key, u64)> {
        let overdue =
            |(key, slot): (&Key, &Slot)| (slot.expires? <= now).then_some((*key, slot.revision));
        self.keys.iter().filter_map(overdue).collect()
    }

    pub(crate) fn jobs(&self) -> Vec<(Arc<Job>, u64)> {
        let job = |slot: &Slot| match &slot.value {
            Some(Value::Job(job)) => Some((job.clone(), slot.revision)),
            Some(Value::Node(_) | Value::Lease(_)) | None => None,
        };
        self.keys.values().filter_map(job).collect()
    }

    /// Records that stay for good and were written after a revision.
    pub(crate) fn open_jobs(&self, after: u64) -> (Vec<(JobId, u64)>, u64) {
        let last = self.revisions.get(&Bucket::Jobs).copied();
        let last = last.unwrap_or_default();
        let after = if last < after { 0 } else { after };
        let job = |slot: &Slot| match &slot.value {
            Some(Value::Job(job)) if slot.expires.is_none() && slot.revision > after => {
                Some((job.id, slot.revision))
            }
            Some(_) | None => None,
        };
        (self.keys.values().filter_map(job).collect(), last)
    }

    pub(crate) fn tell_history(&mut self, job: JobId, state: JobState, now: Time) {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.history.entry(job) {
            entry.insert(state);
            self.done(now, Undo::History(job));
        }
    }

    fn done(&mut self, now: Time, undo: Undo) {
        self.undo.push_back((now, undo));
        while let Some((at, _)) = self.undo.front()
            && *at + SYNCED_AFTER < now
        {
            self.undo.pop_front();
        }
    }

    /// A power cut: what was stored after `since` never was.
    pub(crate) fn forget(&mut self, since: Time) {
        while let Some((at, _)) = self.undo.back()
            && *at >= since
        {
            let Some((_, undo)) = self.undo.pop_back() else {
                return;
            };
            match undo {
                Undo::Appended(reader, job) => {
                    if let Some(chain) = self.chains.get_mut(&(reader, job)) {
                        chain.pop();
                    }
                    self.last -= 1;
                }
                Undo::Set(key, before) => {
                    if let Some(revision) = self.revisions.get_mut(&key.bucket()) {
                        *revision -= 1;
                    }
                    match before {
                        Some(slot) => self.keys.insert(key, slot),
                        None => self.keys.remove(&key),
                    };
                }
                Undo::History(job) => {
                    self.history.remove(&job);
                }
            }
        }
    }
}
