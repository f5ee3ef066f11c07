//! Writing records: one compare-and-set at a time, answered when stored.

use super::{Holder, Open, RECORD_WAITS};
use crate::view::{taken, unknown};
use crate::{Effect, Note, Phase, Token, Write, WriteError};
use orchion_contract::job::{ENDED_RETENTION_S, Job, JobState};
use orchion_contract::{
    ErrorBody, ErrorCode, InstanceId, JobId, NodeId, ReaderId, ReplicaId, UnixMs,
};
use std::time::Duration;

/// What a record said when it was written, as far as two writes of one job differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    state: JobState,
    attempt: u32,
    failures: u32,
    assigned: Option<(NodeId, InstanceId, ReplicaId, UnixMs)>,
    gateway: Option<ReaderId>,
    queue_seq: u64,
    created_ms: UnixMs,
}

impl Stamp {
    fn of(job: &Job) -> Self {
        let assigned = job.assigned.as_ref().map(|to| {
            (
                to.node.clone(),
                to.instance.clone(),
                to.replica.clone(),
                to.at_ms,
            )
        });
        Self {
            state: job.state,
            attempt: job.attempt,
            failures: job.failures,
            assigned,
            gateway: job.gateway.clone(),
            queue_seq: job.queue_seq,
            created_ms: job.created_ms,
        }
    }
}

impl Stamp {
    fn is_ended(&self) -> bool {
        self.state.is_ended()
    }
}

impl Open {
    /// Whether its record waited for its end, and was never written.
    pub(super) fn is_unrecorded(&self) -> bool {
        self.held.is_some() && self.written.is_none()
    }

    /// Whether whoever takes over finds all that there has to be of the job.
    pub(super) fn is_kept(&self) -> bool {
        self.told && self.is_unrecorded() || self.ledger.is_stored()
    }
}

impl Holder {
    pub(super) fn touch(&mut self, id: &JobId) {
        if let Some(open) = self.open.get_mut(id) {
            open.ledger.touch();
            self.touched.insert(*id);
        }
    }

    pub(super) fn told(&mut self, id: &JobId) {
        let mut is_kept = true;
        if let Some(open) = self.open.get_mut(id) {
            open.told = true;
            is_kept = open.is_kept();
        }
        if is_kept {
            self.tellers_are_told(id);
        }
        self.touch(id);
    }

    fn record_of(&self, id: &JobId) -> Option<&Job> {
        match self.state.job(id) {
            Some(job) => Some(&job.record),
            None => self.ended.get(id).map(|job| &**job),
        }
    }

    /// Whether the job's next attempt waits for its mark. Its record goes behind
    /// the mark, and its order behind the record.
    pub(super) fn waits_for_mark(&self, id: &JobId) -> bool {
        let opening = self.state.job(id).filter(|job| job.phase == Phase::Opening);
        let open = self.open.get(id);
        opening
            .zip(open)
            .is_some_and(|(job, open)| open.marked != job.record.attempt)
    }

    /// Lets the first record of a job wait for its end, where the caller sees
    /// nothing before that: a whole answer to a chat of its gateway. Whoever takes
    /// over meanwhile is asked by the gateway once more.
    pub(super) fn hold_back(&mut self, id: &JobId) {
        let record = self.state.job(id).map(|job| &job.record);
        let sees_the_end_alone = |record: &Job| {
            let is_whole = record.spec.as_ref().is_some_and(|spec| spec.whole);
            is_whole && record.gateway.is_some()
        };
        if let Some(open) = self.open.get_mut(id)
            && open.written.is_none()
            && !open.ledger.is_stored()
            && record.is_some_and(sees_the_end_alone)
        {
            let until = self.at.now + RECORD_WAITS;
            open.held = Some(until);
            self.held.insert((until, *id));
            #[cfg(feature = "planted-faults")]
            if crate::planted::unrecorded_are_admitted() {
                let tokens = std::mem::take(&mut open.admissions);
                let admission = self.admission(id);
                self.admit_all(tokens, &admission.ok_or_else(|| unknown(id)));
            }
        }
    }

    /// Writes the records that have waited long enough.
    pub(super) fn write_held(&mut self) {
        while let Some((until, job)) = self.held.first().copied()
            && until <= self.at.now
        {
            self.held.pop_first();
            self.touch(&job);
        }
    }

    /// The job has ended: what waits for that need not be written any more. Its
    /// transcript holds the end, and who submitted it reads it there.
    pub(super) fn needs_no_record(&mut self, id: &JobId) {
        let Some(open) = self.open.get_mut(id) else {
            return;
        };
        if let Some(until) = open.held {
            self.held.remove(&(until, *id));
        }
        if open.is_unrecorded() {
            let tokens = std::mem::take(&mut open.admissions);
            let admission = self.admission(id).ok_or_else(|| unknown(id));
            self.admit_all(tokens, &admission);
        }
    }

    fn waits_for_end(&self, id: &JobId) -> bool {
        let held = self.open.get(id).and_then(|open| open.held);
        let phase = self.state.job(id).map(|job| job.phase);
        held.is_some_and(|until| until > self.at.now)
            && matches!(phase, Some(Phase::Ordered | Phase::Running))
    }

    pub(super) fn write(&mut self, id: &JobId) {
        let told = self.open.get(id).is_some_and(|open| open.told);
        let is_untold = self.state.job(id).is_none() && !told;
        if self.waits_for_mark(id) || self.waits_for_end(id) || is_untold {
            // Written when the mark stands, when it has waited long enough for the
            // end, or when history knows of that.
            return;
        }
        if told && self.open.get(id).is_some_and(|open| open.is_unrecorded()) {
            self.open.remove(id);
            return;
        }
        let next = self
            .open
            .get_mut(id)
            .and_then(|open| open.ledger.next_write());
        match next {
            Some(Write::Set { expected }) => {
                let Some(record) = self.record_of(id).cloned() else {
                    return;
                };
                if let Some(open) = self.open.get_mut(id) {
                    open.written = Some(Stamp::of(&record));
                }
                let is_ended = record.state.is_ended();
                let record = Box::new(record);
                // Who waits for the admission must hear whether it is stored.
                self.effects.push_back(if is_ended && expected > 0 {
                    Effect::WriteEnd { record, expected }
                } else {
                    Effect::Write {
                        record,
                        expected,
                        ttl: is_ended.then(|| Duration::from_secs(ENDED_RETENTION_S)),
                    }
                });
            }
            Some(Write::Read) => self.effects.push_back(Effect::ReadRecord { job: *id }),
            None => {}
        }
    }

    pub(super) fn written(&mut self, job: &JobId, result: Result<u64, WriteError>) {
        let Some(open) = self.open.get_mut(job) else {
            return;
        };
        match result {
            Ok(revision) => {
                open.ledger.written(revision);
                self.stored(job);
            }
            Err(WriteError::Full(error)) if !open.ledger.is_stored() => {
                self.not_admitted(job, error);
            }
            Err(WriteError::Full(_) | WriteError::Unsure) => {
                open.ledger.unsure();
                self.touched.insert(*job);
            }
        }
    }

    pub(super) fn end_written(&mut self, job: &JobId, is_sure: bool) {
        let Some(open) = self.open.get_mut(job) else {
            return;
        };
        if is_sure {
            open.ledger.settled();
            self.stored(job);
        } else {
            open.ledger.unsure();
            self.touched.insert(*job);
        }
    }

    pub(super) fn read(&mut self, job: &JobId, found: Option<(u64, Option<Box<Job>>)>) {
        let digest = self
            .record_of(job)
            .map(|record| record.request_digest.clone());
        let Some(open) = self.open.get_mut(job) else {
            return self.read_of_unknown(job, found);
        };
        match found {
            Some((revision, None)) => open.ledger.is_free(revision),
            Some((revision, Some(found))) => {
                // Compared with what was written, not with what is to be written next.
                let ours = open.written.as_ref() == Some(&Stamp::of(&found))
                    && digest.as_ref() == Some(&found.request_digest);
                if !ours && !open.ledger.is_stored() && found.state.is_ended() {
                    return self.was_known(job, *found);
                }
                if !open.ledger.read(Some((revision, ours))) {
                    return self.is_void(*job);
                }
            }
            None => {
                if !open.ledger.read(None) {
                    return self.is_void(*job);
                }
            }
        }
        self.touched.insert(*job);
        self.stored(job);
    }

    /// What stands there of a job that is not open here.
    fn read_of_unknown(&mut self, job: &JobId, found: Option<(u64, Option<Box<Job>>)>) {
        let record = found.and_then(|(_, record)| record);
        let is_open = record.is_some_and(|record| !record.state.is_ended());
        if is_open && !self.ended.contains_key(job) {
            self.is_void(*job);
        }
    }

    /// The record is stored as far as it goes.
    fn stored(&mut self, id: &JobId) {
        let Some(open) = self.open.get_mut(id) else {
            return;
        };
        if open.ledger.is_stored() && !open.admissions.is_empty() {
            let tokens = std::mem::take(&mut open.admissions);
            if let Some(admission) = self.admission(id) {
                self.admit_all(tokens, &Ok(admission));
            }
        }
        let open = self.open.get(id);
        if open.is_some_and(|open| open.told && open.is_kept()) {
            self.tellers_are_told(id);
        }
        let Some(open) = self.open.get(id) else {
            return;
        };
        if !open.ledger.is_clean() {
            self.touched.insert(*id);
            return;
        }
        match self.state.job(id).map(|job| job.phase) {
            Some(Phase::Opening) if !self.waits_for_mark(id) => self.order(id),
            Some(
                Phase::Opening
                | Phase::Queued
                | Phase::Ordered
                | Phase::Running
                | Phase::Yielding
                | Phase::Ending,
            ) => {}
            // Once the end is on record nothing is open any more; until history
            // knows of it, what was stored is an older record.
            None if open.written.as_ref().is_some_and(Stamp::is_ended) => {
                self.open.remove(id);
            }
            None => {}
        }
    }

    /// The store is full: nothing of the job may stay.
    fn not_admitted(&mut self, id: &JobId, error: String) {
        self.note(Note::NotStored { job: *id, error });
        let (_, askers) = self.take_back(id);
        let message =
            "the job store takes nothing now: free disk space on the NATS host, then try again";
        let failure = ErrorBody::new(ErrorCode::PoolUnready, message);
        self.admit_all(askers, &Err(failure));
    }

    /// The id is that of a job that ended and was forgotten here, but not on
    /// record: whoever asks again gets the answer that one would give.
    fn was_known(&mut self, id: &JobId, found: Job) {
        let (digest, askers) = self.take_back(id);
        let is_same = digest.as_ref() == Some(&found.request_digest);
        self.remember(found);
        let answer = match is_same {
            true => self.admission(id).ok_or_else(|| unknown(id)),
            false => Err(taken(id)),
        };
        self.admit_all(askers, &answer);
    }

    /// Undoes the admission of a job that was never stored: the digest of its
    /// request, and who waits for an answer.
    fn take_back(&mut self, id: &JobId) -> (Option<String>, Vec<Token>) {
        self.outlook.forget(id);
        let record = self.state.remove(id).map(|job| job.record);
        // It may have ended meanwhile.
        let ended = self.ended.remove(id);
        if ended.is_some() {
            self.ended_order.retain(|(_, ended)| ended != id);
        }
        let either = record.as_ref().or(ended.as_deref());
        let digest = either.map(|record| record.request_digest.clone());
        if let Some((to, attempt)) = record.and_then(|it| Some((it.assigned?, it.attempt))) {
            self.drop_attempt(&to.node, *id, attempt);
        }
        let open = self.open.remove(id);
        (digest, open.map_or_else(Vec::new, |open| open.admissions))
    }

    fn admit_all(
        &mut self,
        tokens: Vec<Token>,
        answer: &Result<orchion_contract::job::Admission, ErrorBody>,
    ) {
        for token in tokens {
            self.admit(token, answer.clone());
        }
    }
}
