//! Taking over: what is recorded and what is written.

use super::{Holder, Open, REMEMBERED};
use orchion_contract::JobId;
use orchion_contract::job::{Job, JobState};
use orchion_contract::transcript::Entry;
use orchion_scheduler_core::{Adopted, Ledger, Phase, adopt};
use std::time::{Duration, Instant};

impl Holder {
    /// An open job, as its record and its transcript tell.
    pub(crate) fn adopt(&mut self, mut job: Job, revision: u64, last: Option<&Entry>, now_ms: u64) {
        let (id, now) = (job.id, self.now());
        let adopted = adopt(&job, last, now_ms);
        let left = Duration::from_millis(job.deadline_at_ms.saturating_sub(now_ms));
        if let Adopted::Opened { attempt } = adopted {
            job.attempt = attempt;
            job.state = JobState::Pending;
        }
        if let Some(gateway) = &job.gateway {
            self.gateways.expect(gateway, Instant::now());
        }
        self.open.insert(
            id,
            Open {
                ledger: Ledger::new(revision),
                admissions: Vec::new(),
                cancelers: Vec::new(),
            },
        );
        self.state.insert(job, now + left, now);
        match adopted {
            Adopted::Ended(end) => self.end(&id, *end),
            Adopted::Opened { .. } => self.state.update(&id, |job| job.has_prefix = true),
            Adopted::AsRecorded { has_prefix } => {
                self.state.update(&id, |job| job.has_prefix |= has_prefix)
            }
        }
    }

    /// A job that ended a while ago.
    pub(crate) fn remember(&mut self, job: Job) {
        self.state.saw_queue_seq(job.queue_seq);
        self.ended_order.push_back(job.id);
        self.ended.insert(job.id, job);
        while self.ended_order.len() > REMEMBERED {
            if let Some(oldest) = self
                .ended_order
                .pop_front()
                .filter(|oldest| !self.open.contains_key(oldest))
            {
                self.ended.remove(&oldest);
            }
        }
    }

    /// Sends every order again: agents answer what they have, and learn our epoch.
    pub(crate) fn resume(&mut self) {
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
}
