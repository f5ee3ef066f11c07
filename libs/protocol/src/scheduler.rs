//! The scheduler in charge: what it remembers of the job, and what it does.
//!
//! The record's ledger, what follows from an end or a refusal, and what a
//! takeover makes of record and transcript are the product's own functions.
//! Planning is wider than the product's: any node that is held for alive may be
//! chosen at any time.

mod attempt;
mod record;

use crate::agent::Reply;
use crate::faults::Planted;
use crate::real::Real;
use crate::state::{
    Asker, End, Held, Holder, How, Job, Message, Opening, Phase, Process, Record, Recorded,
    Scheduler, State, View,
};
use crate::wire;
use orchion_scheduler_core::{Adopted, ClusterState, JobView, Ledger, Now, Write, adopt};

impl Job {
    fn new(record: Record, revision: u8, phase: Phase) -> Self {
        Self {
            record,
            phase,
            ledger: Real::new(Ledger::new(revision.into())),
            written: None,
            reads_record: false,
            opens: None,
            finalizes: None,
            stops: false,
            held: Held::No,
        }
    }

    fn touch(&mut self) {
        self.ledger.with(Ledger::touch);
    }

    /// Whether the record wants to be written or read. It waits for a mark that
    /// goes first, and the first one for an end that may come soon.
    pub(crate) fn wants_write(&self, also_before_mark: bool) -> bool {
        let may = also_before_mark || !self.is_opening();
        let needs_none = self.phase == Phase::Ended && self.is_unrecorded();
        may && !self.waits_for_end()
            && !needs_none
            && self.ledger.get().clone().next_write().is_some()
    }

    /// Whether its first record still waits for its end.
    pub(crate) fn waits_for_end(&self) -> bool {
        self.held == Held::Waits && self.is_placed()
    }

    /// Whether its record waited for its end, and was never written.
    pub(crate) fn is_unrecorded(&self) -> bool {
        self.held != Held::No && self.written.is_none()
    }

    /// Whether it is a last record, behind one that is stored: such ones go together.
    pub(crate) fn may_write_unheard(&self) -> bool {
        let ledger = self.ledger.get();
        let write = ledger.clone().next_write();
        self.phase == Phase::Ended && ledger.is_stored() && matches!(write, Some(Write::Set { .. }))
    }

    /// Whether its next attempt waits for its mark: until then nothing else is written.
    fn is_opening(&self) -> bool {
        self.phase == Phase::Opening && self.opens.is_some()
    }

    /// The job as the core sees it.
    fn view(&self) -> Option<JobView> {
        let mut state = ClusterState::default();
        state.insert(wire::record(self.record), Now::MAX, Now::ZERO);
        state.job(&wire::job()).cloned()
    }

    /// Whether an agent's process has the job, as far as is known.
    pub(crate) fn is_placed(&self) -> bool {
        matches!(self.phase, Phase::Ordered | Phase::Running)
    }
}

impl State {
    pub(crate) fn holder(&self, scheduler: u8) -> Option<&Holder> {
        match &self.schedulers[usize::from(scheduler)] {
            Scheduler::InCharge(holder) => Some(holder),
            Scheduler::Standby | Scheduler::Reading { .. } => None,
        }
    }

    fn holder_mut(&mut self, scheduler: u8) -> Option<&mut Holder> {
        match &mut self.schedulers[usize::from(scheduler)] {
            Scheduler::InCharge(holder) => Some(holder),
            Scheduler::Standby | Scheduler::Reading { .. } => None,
        }
    }

    pub(crate) fn job_of(&self, scheduler: u8) -> Option<&Job> {
        self.holder(scheduler)?.job.as_ref()
    }

    fn job_mut(&mut self, scheduler: u8) -> Option<&mut Job> {
        self.holder_mut(scheduler)?.job.as_mut()
    }

    /// The lease is free: this one takes it.
    pub(crate) fn acquire(&mut self, scheduler: u8) {
        self.lease.epoch += 1;
        self.lease.holder = Some(scheduler);
        self.schedulers[usize::from(scheduler)] = Scheduler::Reading {
            epoch: self.lease.epoch,
            record: None,
        };
    }

    /// Its session is over; what it sent is under way.
    pub(crate) fn session_ends(&mut self, scheduler: u8, next: Scheduler) {
        self.schedulers[usize::from(scheduler)] = next;
        self.forget(|message| match message {
            Message::Append {
                from: Some(crate::state::Waits::Scheduler { scheduler: of, .. }),
                ..
            }
            | Message::Write { from: Some(of), .. }
            | Message::Order { from: Some(of), .. }
            | Message::Stop { from: Some(of), .. }
            | Message::Answer { to: Some(of), .. } => *of == scheduler,
            Message::Append { .. }
            | Message::Write { .. }
            | Message::Order { .. }
            | Message::Stop { .. }
            | Message::Granted { .. }
            | Message::Said(_)
            | Message::Ended { .. }
            | Message::Answer { .. } => false,
        });
        for running in self.agents.iter_mut().flat_map(|agent| &mut agent.attempts) {
            running.stopped_by.take_if(|waits| *waits == scheduler);
            let asker = Asker::Scheduler(scheduler);
            running.asker.take_if(|waits| *waits == asker);
        }
    }

    /// Reads the record, then the end of the transcript, then is in charge.
    pub(crate) fn take_over(&mut self, scheduler: u8, planted: Option<Planted>) {
        let (stored, nodes) = (self.record, [0, 1].map(|agent| self.view_of(agent)));
        let last = self.chain.last().map(wire::entry);
        let Scheduler::Reading { epoch, record } = &mut self.schedulers[usize::from(scheduler)]
        else {
            return;
        };
        let Some(record) = record else {
            *record = Some(stored);
            return;
        };
        let (epoch, found) = (*epoch, *record);
        let job = found.map(|(revision, record)| {
            let believed = planted == Some(Planted::RecordOverTranscript);
            adopted(record, revision, last.as_ref().filter(|_| !believed))
        });
        let resumes = job.as_ref().is_some_and(|job| job.phase == Phase::Ordered);
        self.schedulers[usize::from(scheduler)] =
            Scheduler::InCharge(Box::new(Holder { epoch, nodes, job }));
        if resumes {
            self.order(scheduler);
        }
        self.release_if_gone(scheduler);
    }

    fn view_of(&self, agent: u8) -> View {
        View {
            instance: self.agents[usize::from(agent)].instance,
            is_lost: false,
        }
    }

    /// The registry tells how an agent is.
    pub(crate) fn node_news(&mut self, scheduler: u8, agent: u8, is_lost: bool) {
        let truth = View {
            is_lost,
            ..self.view_of(agent)
        };
        if let Some(holder) = self.holder_mut(scheduler) {
            holder.nodes[usize::from(agent)] = truth;
        }
        self.release_if_gone(scheduler);
    }

    fn avoid(&mut self, scheduler: u8, to: Option<Process>) {
        if let (Some(holder), Some(to)) = (self.holder_mut(scheduler), to) {
            holder.nodes[usize::from(to.agent)].is_lost = true;
        }
    }

    /// Takes the job back from a node that is lost, or another process now.
    fn release_if_gone(&mut self, scheduler: u8) {
        let Some(holder) = self.holder(scheduler) else {
            return;
        };
        let Some(job) = holder.job.as_ref().filter(|job| job.is_placed()) else {
            return;
        };
        let is_gone = job.record.to.is_some_and(|to| {
            let view = holder.nodes[usize::from(to.agent)];
            view.is_lost || view.instance != to.instance
        });
        if is_gone {
            self.release(scheduler);
        }
    }

    fn release(&mut self, scheduler: u8) {
        if let Some(job) = self.job_mut(scheduler) {
            job.phase = Phase::Queued;
            job.record.state = Recorded::Pending;
            job.touch();
        }
    }

    /// A caller asks for the job, again until it is told that it is admitted. Its
    /// gateway may have ordered the first attempt, and know what was answered.
    pub(crate) fn submit(&mut self, scheduler: u8, reply: Option<Reply>, planted: Option<Planted>) {
        let Some(holder) = self.holder(scheduler) else {
            return;
        };
        let Some(job) = &holder.job else {
            return self.take_in(scheduler, reply, planted);
        };
        // Of an end without a record the transcript has the answer.
        let is_over = job.phase == Phase::Ended && job.is_unrecorded();
        self.is_admitted |= job.ledger.get().is_stored() || is_over;
    }

    /// Nobody here knew the job.
    fn take_in(&mut self, scheduler: u8, reply: Option<Reply>, planted: Option<Planted>) {
        let is_believed = planted != Some(Planted::FactIgnored);
        let to = self.granted.filter(|_| is_believed).map(|it| it.to);
        let is_brief = self.is_brief;
        let Some(holder) = self.holder_mut(scheduler) else {
            return;
        };
        let (state, attempt, phase) = match to {
            Some(_) => (Recorded::Assigned, 1, Phase::Ordered),
            None => (Recorded::Pending, 0, Phase::Queued),
        };
        let record = Record {
            state,
            attempt,
            to,
            failures: 0,
        };
        let mut job = Job::new(record, 0, phase);
        job.touch();
        if to.is_some() && is_brief {
            job.held = Held::Waits;
        }
        holder.job = Some(job);
        if reply.is_some() && to.is_some() {
            self.replied(scheduler, 1, reply);
        }
        self.release_if_gone(scheduler);
    }

    /// An agent tells of a job that its gateway has ordered, and that has ended.
    pub(crate) fn granted_ended(&mut self, scheduler: u8, end: End) {
        let is_brief = self.is_brief;
        let Some(holder) = self.holder_mut(scheduler) else {
            return;
        };
        let How::Final(outcome) = end.how else { return };
        if holder.job.is_none() {
            let record = Record {
                state: Recorded::Ended(outcome),
                attempt: end.attempt,
                to: Some(end.by),
                failures: 0,
            };
            let mut job = Job::new(record, 0, Phase::Ended);
            match is_brief {
                true => job.held = Held::Due,
                false => job.touch(),
            }
            holder.job = Some(job);
        }
    }

    /// Nobody has heard of an order: it is repeated.
    pub(crate) fn order_again(&mut self, scheduler: u8, planted: Option<Planted>) {
        if planted == Some(Planted::RepeatedElsewhere)
            && self.granted.is_some()
            && let Some(job) = self.job_mut(scheduler)
        {
            let to = job.record.to.map(|to| Process {
                agent: 1 - to.agent,
                instance: 0,
            });
            job.record.to = to;
            job.touch();
        }
        self.order(scheduler);
    }

    /// The plan places the waiting job.
    pub(crate) fn place(&mut self, scheduler: u8, agent: u8, planted: Option<Planted>) {
        let is_brief = self.is_brief;
        let Some(holder) = self.holder_mut(scheduler) else {
            return;
        };
        let to = Process {
            agent,
            instance: holder.nodes[usize::from(agent)].instance,
        };
        let Some(job) = &mut holder.job else { return };
        let is_first = job.record.attempt == 0;
        job.record.attempt += 1;
        job.record.state = Recorded::Assigned;
        job.record.to = Some(to);
        let attempt = job.record.attempt;
        let opens = Opening {
            attempt,
            to,
            is_sent: false,
        };
        match planted {
            _ if is_first => {}
            Some(Planted::NoMark) => {}
            Some(Planted::OrderBeforeMark) => job.opens = Some(opens),
            Some(_) | None => {
                job.opens = Some(opens);
                job.phase = Phase::Opening;
                return;
            }
        }
        job.phase = Phase::Ordered;
        if is_first && is_brief && job.written.is_none() && !job.ledger.get().is_stored() {
            job.held = Held::Waits;
        }
        let is_told = planted == Some(Planted::AdmittedUnrecorded) && job.waits_for_end();
        job.touch();
        self.is_admitted |= is_told;
        self.order(scheduler);
    }

    /// The end has not come soon: the record is written.
    pub(crate) fn record_is_due(&mut self, scheduler: u8) {
        if let Some(job) = self.job_mut(scheduler) {
            job.held = Held::Due;
        }
    }
}

/// What a takeover makes of a record and of the end of its transcript.
fn adopted(
    record: Record,
    revision: u8,
    last: Option<&orchion_contract::transcript::Entry>,
) -> Job {
    if let Recorded::Ended(_) = record.state {
        return Job::new(record, revision, Phase::Ended);
    }
    let phase = match record.state {
        Recorded::Assigned => Phase::Ordered,
        Recorded::Pending | Recorded::Ended(_) => Phase::Queued,
    };
    let mut job = Job::new(record, revision, phase);
    match adopt(&wire::record(record), last, 0) {
        Adopted::AsRecorded { .. } => {}
        Adopted::Opened { attempt } => {
            job.record.attempt = wire::small(attempt.into());
            job.record.state = Recorded::Pending;
            job.phase = Phase::Queued;
        }
        Adopted::Ended(end) => {
            job.record.state = Recorded::Ended(wire::outcome(end.outcome));
            job.phase = Phase::Ended;
            job.touch();
        }
    }
    job
}
