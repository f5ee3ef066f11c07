//! Writing the record.

use crate::faults::Planted;
use crate::real::Real;
use crate::state::{Held, Message, Phase, Scheduler, State};
use crate::wire;
use orchion_scheduler_core::{Ledger, Write};

impl State {
    /// Writes or reads the record. Unless it `hears`, nobody says what became of the
    /// write, and it is held for stored: last records go together.
    pub(crate) fn flush(&mut self, scheduler: u8, hears: bool) {
        let Some(job) = self.job_mut(scheduler) else {
            return;
        };
        match job.ledger.with(Ledger::next_write) {
            Some(Write::Set { expected }) => {
                let (expected, record) = (wire::small(expected), job.record);
                job.written = Some(record);
                if !hears {
                    job.ledger.with(Ledger::settled);
                }
                self.send(Message::Write {
                    from: hears.then_some(scheduler),
                    expected,
                    record,
                });
            }
            Some(Write::Read) => job.reads_record = true,
            None => {}
        }
    }

    /// Looks for records that say open what has ended, and writes them again; or that
    /// came after everything was read, and reads it anew.
    pub(crate) fn look_for_open(&mut self, scheduler: u8) {
        let Some((revision, _)) = self.record else {
            return;
        };
        let Some(job) = self.job_mut(scheduler) else {
            return self.reads_anew(scheduler);
        };
        job.held = Held::No;
        job.ledger = Real::new(Ledger::new(revision.into()));
        job.touch();
    }

    pub(crate) fn read_record(&mut self, scheduler: u8, planted: Option<Planted>) {
        let found = self.record;
        let Some(job) = self.job_mut(scheduler) else {
            return;
        };
        job.reads_record = false;
        let known = found.map(|(revision, record)| (revision.into(), Some(record) == job.written));
        if job.ledger.with(|ledger| ledger.read(known)) {
            return self.stored(scheduler, planted);
        }
        // Somebody else has written it.
        self.reads_anew(scheduler);
    }

    /// Somebody else is or was in charge: everything is read anew.
    pub(super) fn reads_anew(&mut self, scheduler: u8) {
        let epoch = self.holder(scheduler).map(|holder| holder.epoch);
        let epoch = epoch.unwrap_or_default();
        let record = None;
        self.session_ends(scheduler, Scheduler::Reading { epoch, record });
    }

    /// What became of a write of the record: its revision, or nobody knows.
    pub(crate) fn written(
        &mut self,
        scheduler: u8,
        revision: Option<u8>,
        planted: Option<Planted>,
    ) {
        let Some(job) = self.job_mut(scheduler) else {
            return;
        };
        match revision {
            Some(revision) => {
                job.ledger.with(|ledger| ledger.written(revision.into()));
                self.stored(scheduler, planted);
            }
            None => job.ledger.with(Ledger::unsure),
        }
    }

    pub(super) fn stored(&mut self, scheduler: u8, planted: Option<Planted>) {
        let Some(job) = self.job_of(scheduler) else {
            return;
        };
        let is_clean = job.ledger.get().is_clean();
        let is_marked = job.opens.is_none() || planted == Some(Planted::RecordBeforeMark);
        let goes_out = job.phase == Phase::Opening && is_clean && is_marked;
        let is_stored = job.ledger.get().is_stored();
        // Effects are performed after a look at the lease.
        if self.lease.holder != Some(scheduler) {
            return;
        }
        self.is_admitted |= is_stored;
        if goes_out {
            self.order(scheduler);
        }
    }
}
