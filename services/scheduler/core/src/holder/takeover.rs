//! Taking over: what is recorded and what is written.
//!
//! Nodes and gateways first, then every record, then the last entry of the
//! transcript of every open job, which goes before its record. Only then is
//! anything planned or answered.
//!
//! What the scheduler before had sent may still be on its way. Whatever it would
//! change is refused, for its revision; but the first record of a job has nothing
//! to be compared with. So all records are read again after a while, and then
//! after twice as long each time: a record that comes late is found at latest
//! when it has been there for about as long as it was late.

use super::{Holder, Open, REMEMBERED};
use crate::{Adopted, Demand, Effect, Note, Phase, adopt};
use orchion_contract::JobId;
use orchion_contract::job::{ENDED_RETENTION_S, Job, JobState};
use orchion_contract::progress::ProgressEvent;
use orchion_contract::transcript::Entry;
use std::collections::BTreeMap;
use std::time::Duration;

/// Transcripts read at once.
const READ_AT_ONCE: usize = 64;
/// How long after a takeover the records are read again for the first time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How far the takeover is.
#[derive(Debug)]
pub(super) enum Stage {
    /// What is there, and who, is being told.
    Looking { nodes: bool, gateways: bool },
    /// Records are being read, or the transcripts of these.
    Reading {
        waiting: Vec<(Job, u64)>,
        asked: BTreeMap<JobId, (Job, u64)>,
    },
    /// Everything is read.
    InCharge,
    /// Somebody else has written: nothing is done any more.
    Void,
}

impl Default for Stage {
    fn default() -> Self {
        Self::Looking {
            nodes: false,
            gateways: false,
        }
    }
}

impl Holder {
    pub(super) fn nodes_loaded(&mut self) {
        if let Stage::Looking { nodes, .. } = &mut self.stage {
            *nodes = true;
        }
        self.looked();
    }

    pub(super) fn gateways_loaded(&mut self) {
        if let Stage::Looking { gateways, .. } = &mut self.stage {
            *gateways = true;
        }
        self.looked();
    }

    fn looked(&mut self) {
        if matches!(
            self.stage,
            Stage::Looking {
                nodes: true,
                gateways: true
            }
        ) {
            self.stage = Stage::Reading {
                waiting: Vec::new(),
                asked: BTreeMap::new(),
            };
            self.effects.push_back(Effect::LoadRecords);
        }
    }

    pub(super) fn records_loaded(&mut self, records: Vec<(Job, u64)>) {
        let revisions = records.iter().map(|(_, revision)| *revision);
        self.looked_upto = revisions.max().unwrap_or_default();
        let (ended, open): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|(job, _)| job.state.is_ended());
        for (job, _) in ended {
            if let Some((to, end)) = job.assigned.clone().zip(job.end.clone()) {
                // The prompt is gone; what is left still tells how fast things are.
                self.lesson(&job.model, &to, Demand::default(), &end, None);
            }
            self.remember(job);
        }
        if let Stage::Reading { waiting, .. } = &mut self.stage {
            *waiting = open;
        }
        self.read_on();
    }

    /// Looks at records again when it is time to: one of a scheduler that was in
    /// charge before may have been stored since.
    pub(super) fn look_again(&mut self) {
        let (due, pause) = self.look_again;
        if self.at.now >= due {
            self.look_again = (self.at.now + pause * 2, pause * 2);
            let after = self.looked_upto;
            self.effects.push_back(Effect::LookForOpen { after });
        }
    }

    /// An open record of a job that nobody here knows came after the takeover, or
    /// the job has ended meanwhile: its record tells. One of a job that has ended
    /// here was not written as it should be. One that is newer than ours is read, or
    /// looked at again where a write of ours is under way.
    pub(super) fn found_open(&mut self, jobs: Vec<(JobId, u64)>, upto: u64) {
        self.looked_upto = upto;
        for (job, revision) in jobs {
            if let Some(open) = self.open.get_mut(&job) {
                if open.ledger.is_behind(revision) {
                    if open.ledger.doubt() {
                        self.touched.insert(job);
                    } else {
                        self.looked_upto = self.looked_upto.min(revision - 1);
                    }
                }
                continue;
            }
            if !self.ended.contains_key(&job) {
                self.effects.push_back(Effect::ReadRecord { job });
                continue;
            }
            let mut known = Open::new(revision);
            known.told = true;
            self.open.insert(job, known);
            self.touch(&job);
        }
    }

    pub(super) fn last_read(&mut self, job: &JobId, last: Option<&Entry>) {
        let Stage::Reading { asked, .. } = &mut self.stage else {
            return;
        };
        if let Some((job, revision)) = asked.remove(job) {
            self.adopt(job, revision, last);
        }
        self.read_on();
    }

    fn read_on(&mut self) {
        let Stage::Reading { waiting, asked } = &mut self.stage else {
            return;
        };
        while asked.len() < READ_AT_ONCE
            && let Some((job, revision)) = waiting.pop()
        {
            self.effects.push_back(Effect::ReadLast {
                reader: job.reader.clone(),
                job: job.id,
            });
            asked.insert(job.id, (job, revision));
        }
        if asked.is_empty() {
            self.stage = Stage::InCharge;
            self.next_look = self.at.now + super::TICK;
            self.look_again = (self.at.now + LOOK_AGAIN, LOOK_AGAIN);
            self.note(Note::InCharge {
                open: self.state.open_jobs(),
            });
            self.resume();
        }
    }

    /// An open job, as its record and its transcript tell.
    fn adopt(&mut self, mut job: Job, revision: u64, last: Option<&Entry>) {
        let (id, at) = (job.id, self.at);
        let adopted = adopt(&job, last, at.unix_ms);
        let left = Duration::from_millis(job.deadline_at_ms.saturating_sub(at.unix_ms));
        if let Adopted::Opened { attempt } = adopted {
            job.attempt = attempt;
            job.state = JobState::Pending;
        }
        if let Some(gateway) = &job.gateway {
            self.gateways.expect(gateway, at.now);
        }
        let mut open = Open::new(revision);
        if job.state == JobState::Assigned {
            // Whoever was in charge before may have ordered it.
            open.ordered = (job.attempt, 1);
        }
        self.open.insert(id, open);
        if job.state == JobState::Pending {
            self.outlook
                .waits_again(&id, ProgressEvent::Takeover, at.now);
        }
        self.state.insert(job, at.now + left, at.now);
        match adopted {
            Adopted::Ended(end) => self.end(&id, *end),
            Adopted::Opened { .. } => self.state.update(&id, |job| job.has_prefix = true),
            Adopted::AsRecorded { has_prefix } => {
                self.state.update(&id, |job| job.has_prefix |= has_prefix);
            }
        }
    }

    /// A job that ended a while ago.
    pub(super) fn remember(&mut self, job: Job) {
        self.state.saw_queue_seq(job.queue_seq);
        self.forget_old();
        self.ended_order.push_back((self.at.now, job.id));
        self.ended.insert(job.id, Box::new(job));
    }

    /// Forgets jobs that are remembered as long as records are kept, and the oldest of
    /// too many; none whose end is still being written.
    pub(super) fn forget_old(&mut self) {
        while let Some((since, oldest)) = self.ended_order.front().copied() {
            let is_old = self.at.now.saturating_sub(since).as_secs() >= ENDED_RETENTION_S;
            let is_one_too_many = self.ended_order.len() > REMEMBERED;
            if self.open.contains_key(&oldest) || !(is_old || is_one_too_many) {
                return;
            }
            self.ended_order.pop_front();
            self.ended.remove(&oldest);
        }
    }

    /// Sends every order again: agents answer what they have, and learn our epoch.
    fn resume(&mut self) {
        let placed: Vec<JobId> = self
            .state
            .jobs()
            .filter(|job| job.phase == Phase::Ordered)
            .map(|job| job.record.id)
            .collect();
        for job in placed {
            self.order(&job);
        }
    }

    /// Nothing that is known here counts any more.
    pub(super) fn is_void(&mut self, job: JobId) {
        self.stage = Stage::Void;
        self.effects.clear();
        self.effects.push_back(Effect::Reread { job });
    }
}
