//! Writing records: one compare-and-set at a time, answered when stored.

use super::Holder;
use crate::effects::{Done, Found};
use crate::view::unix_ms;
use anyhow::bail;
use orchion_bus::AppendError;
use orchion_contract::{ErrorBody, ErrorCode, JobId};
use orchion_scheduler_core::{Phase, Write};

impl Holder {
    pub(crate) fn touch(&mut self, id: &JobId) {
        if let Some(open) = self.open.get_mut(id) {
            open.ledger.touch();
            self.touched.insert(*id);
        }
    }

    pub(super) fn write(&mut self, id: &JobId) {
        let record = match self.state.job(id) {
            Some(job) => Some(&job.record),
            None => self.ended.get(id),
        };
        let (Some(open), Some(record)) = (self.open.get_mut(id), record) else {
            return;
        };
        match open.ledger.next_write() {
            Some(Write::Set { expected }) => self
                .under_way
                .push(self.hands.write(record.clone(), expected)),
            Some(Write::Read) => self.under_way.push(self.hands.read(record.clone())),
            None => {}
        }
    }

    pub(super) fn written(&mut self, job: &JobId, result: Result<u64, AppendError>) {
        let Some(open) = self.open.get_mut(job) else {
            return;
        };
        match result {
            Ok(revision) => {
                open.ledger.written(revision);
                self.stored(job);
            }
            Err(error @ AppendError::Full { .. }) if !open.ledger.is_stored() => {
                self.not_admitted(job, &error)
            }
            Err(error) => {
                tracing::debug!(%error, job.id = %job, "a record may not be stored: reading it");
                open.ledger.unsure();
                self.touched.insert(*job);
            }
        }
    }

    pub(super) fn read(&mut self, job: &JobId, found: Option<(u64, Found)>) -> anyhow::Result<()> {
        let Some(open) = self.open.get_mut(job) else {
            return Ok(());
        };
        if let Some((revision, Found::Marker)) = found {
            open.ledger.is_free(revision);
        } else {
            let known = found.map(|(revision, found)| (revision, found == Found::Ours));
            if !open.ledger.read(known) {
                bail!("the record of job {job} was written by somebody else");
            }
        }
        self.touched.insert(*job);
        self.stored(job);
        Ok(())
    }

    /// The record is stored as far as it goes.
    pub(super) fn stored(&mut self, id: &JobId) {
        let now_ms = unix_ms();
        let Some(open) = self.open.get_mut(id) else {
            return;
        };
        if open.ledger.is_stored() && !open.admissions.is_empty() {
            let questions = std::mem::take(&mut open.admissions);
            if let Some(admission) = self.admission(id, now_ms) {
                for question in questions {
                    let admission = admission.clone();
                    self.under_way.push(Box::pin(async move {
                        question.answer(Ok(admission)).await;
                        Done::Nothing
                    }));
                }
            }
        }
        let Some(open) = self.open.get(id) else {
            return;
        };
        if !open.ledger.is_clean() {
            self.touched.insert(*id);
            return;
        }
        match self.state.job(id).map(|job| job.phase) {
            Some(Phase::Opening) => self.order(id),
            Some(Phase::Queued | Phase::Ordered | Phase::Running | Phase::Ending) => {}
            // The end is on record: nothing is open any more.
            None => {
                self.open.remove(id);
            }
        }
    }

    /// The store is full: nothing of the job may stay.
    pub(super) fn not_admitted(&mut self, id: &JobId, error: &AppendError) {
        tracing::error!(%error, job.id = %id, "a job could not be stored and was refused");
        let assigned = self
            .state
            .remove(id)
            .and_then(|job| job.record.assigned.map(|to| (to, job.record.attempt)));
        if let Some((to, attempt)) = assigned {
            self.drop_attempt(&to.node, *id, attempt);
        }
        let message =
            "the job store takes nothing now: free disk space on the NATS host, then try again";
        let failure = ErrorBody::new(ErrorCode::PoolUnready, message);
        for question in self
            .open
            .remove(id)
            .into_iter()
            .flat_map(|open| open.admissions)
        {
            let failure = failure.clone();
            self.under_way.push(Box::pin(async move {
                question.answer(Err(failure)).await;
                Done::Nothing
            }));
        }
    }
}
