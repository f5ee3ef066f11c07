//! The scheduler in charge: what it remembers of the job, and what it does.
//!
//! The record's ledger, what follows from an end or a refusal, and what a
//! takeover makes of record and transcript are the product's own functions.
//! Planning is wider than the product's: any node that is held for alive may be
//! chosen at any time.

use crate::agent::{Reply, loop_of};
use crate::faults::Planted;
use crate::real::Real;
use crate::state::{
    Author, End, Finalizing, Holder, Job, Link, Loop, Message, Opening, Outcome, Phase, Process,
    Record, Recorded, Scheduler, State, View,
};
use crate::wire;
use orchion_contract::job::RunReply;
use orchion_scheduler_core::{
    Adopted, ClusterState, JobView, Ledger, Next, Now, Write, adopt, after_end, after_reply,
};

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
        }
    }

    fn touch(&mut self) {
        self.ledger.with(Ledger::touch);
    }

    /// Whether the record wants to be written or read. It waits for a mark that
    /// goes first.
    pub(crate) fn wants_write(&self, also_before_mark: bool) -> bool {
        let may = also_before_mark || !self.is_opening();
        may && self.ledger.get().clone().next_write().is_some()
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
            | Message::Stop { from: Some(of), .. } => *of == scheduler,
            Message::Append { .. }
            | Message::Write { .. }
            | Message::Order { .. }
            | Message::Stop { .. }
            | Message::Ended(_) => false,
        });
        for running in self.agents.iter_mut().flat_map(|agent| &mut agent.attempts) {
            if running.stopped_by == Some(scheduler) {
                running.stopped_by = None;
            }
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

    /// A caller asks for the job, again until it is told that it is admitted.
    pub(crate) fn submit(&mut self, scheduler: u8) {
        let Some(holder) = self.holder_mut(scheduler) else {
            return;
        };
        let is_stored = match &mut holder.job {
            Some(job) => job.ledger.get().is_stored(),
            None => {
                let record = Record {
                    state: Recorded::Pending,
                    attempt: 0,
                    to: None,
                    failures: 0,
                };
                let mut job = Job::new(record, 0, Phase::Queued);
                job.touch();
                holder.job = Some(job);
                false
            }
        };
        self.is_admitted |= is_stored;
    }

    /// The plan places the waiting job.
    pub(crate) fn place(&mut self, scheduler: u8, agent: u8, planted: Option<Planted>) {
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
        job.touch();
        self.order(scheduler);
    }

    /// Sends the order of the job's attempt.
    pub(crate) fn order(&mut self, scheduler: u8) {
        let Some(holder) = self.holder_mut(scheduler) else {
            return;
        };
        let epoch = holder.epoch;
        let Some(job) = &mut holder.job else { return };
        if job.phase == Phase::Opening {
            job.phase = Phase::Ordered;
        }
        let attempt = job.record.attempt;
        let Some(to) = job.record.to else { return };
        let is_open = self
            .chain
            .iter()
            .any(|link| matches!(link, Link::Mark { .. }) && link.attempt() >= attempt);
        self.seen.ordered_before_mark |= attempt > 1 && !is_open && !self.has_final();
        self.send(Message::Order {
            from: Some(scheduler),
            epoch,
            attempt,
            to,
        });
    }

    /// Writes or reads the record.
    pub(crate) fn flush(&mut self, scheduler: u8) {
        let Some(job) = self.job_mut(scheduler) else {
            return;
        };
        match job.ledger.with(Ledger::next_write) {
            Some(Write::Set { expected }) => {
                let (expected, record) = (wire::small(expected), job.record);
                job.written = Some(record);
                self.send(Message::Write {
                    from: Some(scheduler),
                    expected,
                    record,
                });
            }
            Some(Write::Read) => job.reads_record = true,
            None => {}
        }
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
    fn reads_anew(&mut self, scheduler: u8) {
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

    fn stored(&mut self, scheduler: u8, planted: Option<Planted>) {
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

    /// The next step of the loop that writes behind whatever stands last.
    pub(crate) fn loop_step(&mut self, scheduler: u8, loops: Loop, planted: Option<Planted>) {
        let last = self.last().map(|(at, link)| (at, link.clone()));
        let after = last.as_ref().map_or(0, |(at, _)| *at);
        let ended = match &last {
            Some((_, Link::Final { outcome, .. }))
                if planted != Some(Planted::RecordOverTranscript) =>
            {
                Some(*outcome)
            }
            Some((_, Link::Final { .. } | Link::Frame { .. } | Link::Mark { .. })) | None => None,
        };
        let Some(job) = self.job_mut(scheduler) else {
            return;
        };
        let link = match loops {
            Loop::Open => job.opens.as_mut().map(|opens| {
                opens.is_sent = true;
                Link::Mark {
                    attempt: opens.attempt,
                    to: opens.to,
                }
            }),
            Loop::Finalize => job.finalizes.as_mut().map(|finalizes| {
                finalizes.is_sent = true;
                Link::Final {
                    attempt: job.record.attempt,
                    index: 0,
                    rest: Vec::new(),
                    outcome: finalizes.outcome,
                    by: Author::Scheduler(scheduler),
                }
            }),
        };
        let Some(link) = link else { return };
        let is_ours = loops == Loop::Open && last.as_ref().map(|(_, last)| last) == Some(&link);
        let is_late = loops == Loop::Open
            && planted != Some(Planted::MarkBehindNewer)
            && last.is_some_and(|(_, last)| last.attempt() >= link.attempt());
        match ended {
            Some(outcome) => self.end(scheduler, outcome),
            None if is_ours => self.opened(scheduler),
            // Somebody else has opened this attempt or a later one.
            None if is_late => self.reads_anew(scheduler),
            None => self.send(Message::Append {
                from: loop_of(scheduler, loops),
                after,
                link,
            }),
        }
    }

    /// What became of the loop's append.
    pub(crate) fn loop_answered(&mut self, scheduler: u8, loops: Loop, is_stored: bool) {
        let Some(job) = self.job_mut(scheduler) else {
            return;
        };
        match loops {
            Loop::Open if is_stored => self.opened(scheduler),
            Loop::Open => {
                if let Some(opens) = &mut job.opens {
                    opens.is_sent = false;
                }
            }
            Loop::Finalize if is_stored => {
                if let Some(outcome) = job.finalizes.map(|finalizes| finalizes.outcome) {
                    self.end(scheduler, outcome);
                }
            }
            Loop::Finalize => {
                if let Some(finalizes) = &mut job.finalizes {
                    finalizes.is_sent = false;
                }
            }
        }
    }

    fn opened(&mut self, scheduler: u8) {
        let Some(job) = self.job_mut(scheduler) else {
            return;
        };
        let Some(opens) = job.opens.take() else {
            return;
        };
        if job.record.attempt == opens.attempt && job.phase == Phase::Opening {
            job.touch();
        }
    }

    /// An agent answers an order.
    pub(crate) fn replied(&mut self, scheduler: u8, attempt: u8, reply: Option<Reply>) {
        let Some(job) = self.job_of(scheduler) else {
            return;
        };
        if matches!(job.phase, Phase::Ending | Phase::Ended) {
            return;
        }
        let to = job.record.to;
        let is_current = job.record.attempt == attempt;
        if reply == Some(Reply::WrongInstance) && is_current {
            // The next try is elsewhere, or after the registry has told.
            self.avoid(scheduler, to);
        }
        let Some(job) = self.job_of(scheduler) else {
            return;
        };
        let reply = reply.map(|reply| match reply {
            Reply::Accepted => RunReply::Accepted,
            Reply::Running => RunReply::Running,
            Reply::Ended(end) => RunReply::Ended {
                end: Box::new(wire::attempt_end(end)),
            },
            Reply::Busy => RunReply::Busy,
            Reply::Stale(epoch) => RunReply::Stale {
                epoch: epoch.into(),
            },
            Reply::WrongInstance => RunReply::WrongInstance {
                instance: wire::instance(Process {
                    agent: 0,
                    instance: 0,
                }),
            },
        });
        let view = job.view();
        let next = view.map(|view| after_reply(&view, attempt.into(), reply.as_ref(), Now::ZERO));
        self.follow(scheduler, next.unwrap_or(Next::Nothing));
    }

    /// An agent tells how an attempt ended.
    pub(crate) fn attempt_ended(&mut self, scheduler: u8, end: End) {
        let Some(job) = self.job_of(scheduler) else {
            return;
        };
        let is_final = matches!(end.how, crate::state::How::Final(_));
        let is_meant = job.record.to == Some(end.by);
        if job.phase == Phase::Ended || !is_final && (job.phase == Phase::Ending || !is_meant) {
            return;
        }
        let view = job.view();
        let next = view.map(|view| after_end(&view, &wire::attempt_end(end), Now::ZERO));
        self.follow(scheduler, next.unwrap_or(Next::Nothing));
    }

    fn follow(&mut self, scheduler: u8, next: Next) {
        match next {
            Next::Nothing => {}
            Next::Running => self.mark_running(scheduler),
            Next::Ended(end) => self.end(scheduler, wire::outcome(end.outcome)),
            // Somebody else holds the lease: this one learns that it does not.
            Next::Outranked(_) => self.session_ends(scheduler, Scheduler::Standby),
            Next::GiveUp(_) => {
                if let Some(job) = self.job_mut(scheduler) {
                    job.phase = Phase::Ending;
                    job.finalizes = Some(Finalizing {
                        outcome: Outcome::Failed,
                        is_sent: false,
                    });
                }
            }
            Next::Again { counts, .. } => {
                if let Some(job) = self.job_mut(scheduler) {
                    job.record.failures += u8::from(counts);
                }
                self.release(scheduler);
            }
        }
    }

    pub(crate) fn mark_running(&mut self, scheduler: u8) {
        if let Some(job) = self.job_mut(scheduler)
            && job.phase == Phase::Ordered
        {
            job.phase = Phase::Running;
        }
    }

    /// A caller does not want the job any more.
    pub(crate) fn cancel(&mut self, scheduler: u8) {
        let Some(holder) = self.holder_mut(scheduler) else {
            return;
        };
        let epoch = holder.epoch;
        let Some(job) = &mut holder.job else { return };
        let to = job.record.to.filter(|_| job.is_placed());
        job.phase = Phase::Ending;
        match to {
            Some(to) => {
                job.stops = true;
                let attempt = job.record.attempt;
                self.send(Message::Stop {
                    from: Some(scheduler),
                    epoch,
                    attempt,
                    agent: to.agent,
                    is_superseded: false,
                });
            }
            None => {
                job.finalizes = Some(Finalizing {
                    outcome: Outcome::Canceled,
                    is_sent: false,
                });
            }
        }
    }

    /// An agent answers a stop order, or does not in time.
    pub(crate) fn stop_answered(&mut self, scheduler: u8, end: Option<End>) {
        let Some(job) = self.job_mut(scheduler).filter(|job| job.stops) else {
            return;
        };
        job.stops = false;
        match end.map(|end| end.how) {
            Some(crate::state::How::Final(outcome)) => self.end(scheduler, outcome),
            Some(crate::state::How::Failed | crate::state::How::Superseded) | None => {
                if job.phase == Phase::Ending {
                    job.finalizes = Some(Finalizing {
                        outcome: Outcome::Canceled,
                        is_sent: false,
                    });
                }
            }
        }
    }

    /// The job has ended: then the record.
    fn end(&mut self, scheduler: u8, outcome: Outcome) {
        let Some(job) = self.job_mut(scheduler) else {
            return;
        };
        if job.phase == Phase::Ended {
            return;
        }
        job.phase = Phase::Ended;
        job.record.state = Recorded::Ended(outcome);
        job.opens = None;
        job.finalizes = None;
        job.stops = false;
        job.touch();
        self.forget(|message| {
            matches!(message, Message::Append { from: Some(crate::state::Waits::Scheduler { scheduler: of, .. }), .. } if *of == scheduler)
        });
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
