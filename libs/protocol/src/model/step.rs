//! What a step makes of a state.

use super::{Action, GRANTED_BY};
use crate::agent::Reply;
use crate::faults::Planted;
use crate::state::{Agent, Asker, End, Loop, Message, Phase, Running, Scheduler, State, Waits};

impl State {
    /// No agent has been told anything, nor has anything happened to one.
    pub(super) fn is_untouched(&self) -> bool {
        let asks = |message: &Message| {
            matches!(
                message,
                Message::Order { .. } | Message::Granted { .. } | Message::Stop { .. }
            )
        };
        let is_new = |agent: &Agent| agent.heard == 0 && agent.instance == 0;
        self.agents.iter().all(is_new)
            && !self.net.iter().any(asks)
            && self.chain.is_empty()
            && self.record.is_none_or(|(_, record)| record.to.is_none())
    }

    /// Whether nobody has to take this step, though it is no fault: who has read the
    /// end of a whole answer need not ask for its admission.
    pub(crate) fn may_never_come(&self, action: Action) -> bool {
        let asks = matches!(action, Action::Submit(_) | Action::SubmitAnswered(_));
        asks && self.is_brief && self.has_final()
    }

    pub(super) fn take(&mut self, action: Action, planted: Option<Planted>) {
        if action.is_fault() {
            self.left.together -= 1;
        }
        let by = action
            .scheduler()
            .filter(|by| self.lease.holder != Some(*by));
        if by.is_some_and(|by| self.holder(by).is_some()) {
            self.left.zombie_steps -= 1;
        }
        match action {
            Action::Acquire(scheduler) => self.acquire(scheduler),
            Action::TakeOver(scheduler) => self.take_over(scheduler, planted),
            Action::Notice(scheduler) => self.session_ends(scheduler, Scheduler::Standby),
            Action::Submit(scheduler) => self.submit(scheduler, None, planted),
            Action::SubmitAnswered(scheduler) => {
                let reply = self.granted.and_then(|granted| granted.said);
                self.submit(scheduler, reply, planted);
            }
            Action::Cancel(scheduler) => self.cancel(scheduler),
            Action::Place(scheduler, agent) => self.place(scheduler, agent, planted),
            Action::Flush(scheduler) => self.flush(scheduler, true),
            Action::FlushUnheard(scheduler) => self.flush(scheduler, false),
            Action::RecordIsDue(scheduler) => self.record_is_due(scheduler),
            Action::LookForOpen(scheduler) => self.look_for_open(scheduler),
            Action::Accept(agent, attempt) => self.accept(agent, attempt),
            Action::ReadRecord(scheduler) => self.read_record(scheduler, planted),
            Action::Loop(scheduler, true) => self.loop_step(scheduler, Loop::Open, planted),
            Action::Loop(scheduler, false) => self.loop_step(scheduler, Loop::Finalize, planted),
            Action::StopTimesOut(scheduler) => self.stop_answered(scheduler, None),
            Action::News(scheduler, agent) => self.node_news(scheduler, agent, false),
            Action::Beat(scheduler, agent) => self.beat(scheduler, agent, planted),
            Action::Speak(scheduler, agent) => self.speak(scheduler, agent),
            Action::Find(agent, attempt) => self.find(agent, attempt, planted),
            Action::Says(agent, attempt) => self.says(agent, attempt),
            Action::ReadLast(agent, attempt) => self.read_last(agent, attempt),
            Action::Tell(agent, scheduler) => self.tell(agent, scheduler, true),
            Action::Deliver(at) => {
                let message = self.net.remove(at);
                self.deliver(message, true, planted);
            }
            Action::LoseAnswer(at) => {
                self.left.network -= 1;
                let message = self.net.remove(at);
                self.deliver(message, false, planted);
            }
            Action::Lose(at) => {
                self.left.network -= 1;
                let message = self.net.remove(at);
                self.unanswered(&message, planted);
            }
            Action::Late(at) => {
                self.left.network -= 1;
                let message = self.net.remove(at);
                self.send(without_sender(message.clone()));
                self.unanswered(&message, planted);
            }
            Action::Double(at) => {
                self.left.network -= 1;
                let message = self.net.remove(at);
                self.send(without_sender(message.clone()));
                self.deliver(message, true, planted);
            }
            Action::TellInVain(agent, scheduler) => {
                self.left.network -= 1;
                self.tell(agent, scheduler, false);
            }
            Action::CrashScheduler(scheduler) => {
                self.left.scheduler_crashes -= 1;
                self.session_ends(scheduler, Scheduler::Standby);
                if self.lease.holder == Some(scheduler) {
                    self.lease.holder = None;
                }
            }
            Action::LoseLease => {
                self.left.lost_leases -= 1;
                self.lease.holder = None;
            }
            Action::CrashAgent(agent) => {
                self.left.agent_crashes -= 1;
                self.agent_crashes(agent);
            }
            Action::Suspect(scheduler, agent) => {
                self.left.suspicions -= 1;
                self.node_news(scheduler, agent, true);
            }
            Action::EngineFails(agent, attempt) => {
                self.left.engine_failures -= 1;
                self.engine_fails(agent, attempt);
            }
            Action::Stranger(scheduler, agent) => {
                self.left.suspicions -= 1;
                self.stop_stranger(scheduler, agent);
            }
            Action::WantCancel => {
                self.left.cancels -= 1;
                self.wants_cancel = true;
                self.hang_up();
            }
        }
    }

    /// The agent that the gateway has ordered the job of hears from it, too, that
    /// nobody wants it.
    fn hang_up(&mut self) {
        if let Some(granted) = self.granted {
            self.send(Message::Stop {
                from: None,
                epoch: GRANTED_BY,
                attempt: 1,
                agent: granted.to.agent,
                is_superseded: false,
            });
        }
    }

    /// Forgets messages that can do nothing any more.
    pub(super) fn tidy(&mut self, planted: Option<Planted>) {
        let length = self.chain.len();
        let revision = self.record.map_or(0, |(revision, _)| revision);
        let agents =
            [0, 1].map(|agent| (self.process(agent), self.agents[usize::from(agent)].heard));
        if let Some(granted) = self.granted.as_mut().filter(|_| self.is_admitted) {
            granted.said = None;
        }
        self.net.retain(|message| match message {
            Message::Append {
                from: None, after, ..
            } => usize::from(*after) >= length || planted == Some(Planted::NoExpectedSequence),
            Message::Write {
                from: None,
                expected,
                ..
            } => *expected >= revision || planted == Some(Planted::NoCompareAndSet),
            Message::Order {
                from: None,
                epoch,
                to,
                ..
            }
            | Message::Granted {
                hears: false,
                epoch,
                to,
            } => {
                let (process, heard) = agents[usize::from(to.agent)];
                let is_obeyed = *epoch >= heard || planted == Some(Planted::EpochIgnored);
                let is_meant = process == *to || planted == Some(Planted::SameAttemptNewProcess);
                *epoch > heard || is_obeyed && is_meant
            }
            Message::Stop {
                from: None,
                epoch,
                agent,
                ..
            } => *epoch >= agents[usize::from(*agent)].1,
            Message::Answer { to, .. } => to.is_some(),
            Message::Append { .. }
            | Message::Write { .. }
            | Message::Order { .. }
            | Message::Stop { .. }
            | Message::Granted { .. }
            | Message::Said(_)
            | Message::Ended { .. } => true,
        });
    }

    fn deliver(&mut self, message: Message, is_answered: bool, planted: Option<Planted>) {
        let hears = message.waiting_scheduler().filter(|_| is_answered);
        self.arrive(message, is_answered, planted);
        if let Some(scheduler) = hears {
            self.notice_after_answer(scheduler);
        }
    }

    /// Whoever lost its lease looks at its clock before it acts on an answer. Only
    /// what writes into the transcript goes on by itself, as long as it is refused.
    fn notice_after_answer(&mut self, scheduler: u8) {
        let is_zombie = self.lease.holder != Some(scheduler);
        let goes_on = self.job_of(scheduler).is_some_and(|job| {
            job.opens.is_some_and(|opens| !opens.is_sent)
                || job.finalizes.is_some_and(|finalizes| !finalizes.is_sent)
        });
        if is_zombie && self.holder(scheduler).is_some() && !goes_on {
            self.session_ends(scheduler, Scheduler::Standby);
        }
    }

    fn arrive(&mut self, message: Message, is_answered: bool, planted: Option<Planted>) {
        match message {
            Message::Append { from, after, link } => {
                let fits = usize::from(after) == self.chain.len()
                    || planted == Some(Planted::NoExpectedSequence);
                if fits {
                    self.chain.push(link);
                }
                let sequence = self.last().map(|(at, _)| at);
                self.append_answered(from, sequence.filter(|_| fits && is_answered));
            }
            Message::Write {
                from,
                expected,
                record,
            } => {
                let revision = self.record.map_or(0, |(revision, _)| revision);
                let fits = revision == expected || planted == Some(Planted::NoCompareAndSet);
                if fits {
                    let had_ended = self.record.is_some_and(|(_, before)| before.has_ended());
                    self.seen.record_went_back |= had_ended && !record.has_ended();
                    self.record = Some((revision + 1, record));
                }
                if let Some(scheduler) = from {
                    let answer = (fits && is_answered).then_some(revision + 1);
                    self.written(scheduler, answer, planted);
                }
            }
            Message::Order {
                from,
                epoch,
                attempt,
                to,
            } => {
                let from = from.filter(|_| is_answered);
                let asker = from.map(Asker::Scheduler);
                let reply = self.ordered(to, attempt, epoch, asker, planted);
                if let (Some(scheduler), Some(reply)) = (from, reply) {
                    self.replied(scheduler, attempt, Some(reply));
                }
            }
            Message::Granted { epoch, to, hears } => {
                let hears = hears && is_answered;
                let asker = Some(Asker::Gateway { hears });
                let reply = self.ordered(to, 1, epoch, asker, planted);
                if let Some(reply) = reply.filter(|_| hears) {
                    self.say(reply);
                }
            }
            Message::Stop {
                from,
                epoch,
                attempt,
                agent,
                is_superseded,
            } => {
                let waits = from.filter(|_| is_answered && !is_superseded);
                let answer = self.told_to_stop(agent, attempt, epoch, is_superseded, waits);
                if let (Some(scheduler), Some(end)) = (waits, answer) {
                    self.stop_answered(scheduler, end);
                }
            }
            Message::Answer { to, end } => {
                if let Some(scheduler) = to {
                    self.replied(scheduler, end.attempt, Some(Reply::Ended(end)));
                }
            }
            Message::Said(reply) => {
                if let Some(scheduler) = self.lease.holder {
                    self.replied(scheduler, 1, Some(reply));
                }
            }
            Message::Ended { end, is_granted } => {
                if let Some(scheduler) = self.lease.holder {
                    self.told_of_end(scheduler, end, is_granted);
                }
            }
        }
    }

    fn append_answered(&mut self, from: Option<Waits>, sequence: Option<u8>) {
        match from {
            Some(Waits::Attempt { agent, attempt }) => self.appended(agent, attempt, sequence),
            Some(Waits::Scheduler { scheduler, loops }) => {
                self.loop_answered(scheduler, loops, sequence.is_some());
            }
            None => {}
        }
    }

    /// Its sender will get no answer.
    fn unanswered(&mut self, message: &Message, planted: Option<Planted>) {
        match message {
            Message::Append { from, .. } => self.append_answered(*from, None),
            Message::Write {
                from: Some(scheduler),
                ..
            } => self.written(*scheduler, None, planted),
            // Heartbeats tell whether it arrived; a stop order times out.
            Message::Write { from: None, .. }
            | Message::Order { .. }
            | Message::Stop { .. }
            | Message::Granted { .. }
            | Message::Said(_)
            | Message::Ended { .. }
            | Message::Answer { .. } => {}
        }
    }

    fn beat(&mut self, scheduler: u8, agent: u8, planted: Option<Planted>) {
        let us = self.process(agent);
        let in_hand = self.agents[usize::from(agent)].in_hand();
        let Some(holder) = self.holder(scheduler) else {
            return;
        };
        let epoch = holder.epoch;
        let job = holder.job.as_ref().filter(|job| job.phase != Phase::Ended);
        let mine = job
            .filter(|job| job.record.to == Some(us))
            .map(|job| job.record.attempt);
        let is_placed = job.is_some_and(crate::state::Job::is_placed);
        for attempt in &in_hand {
            if mine == Some(*attempt) {
                self.mark_running(scheduler);
            } else if !self.is_stranger(scheduler) {
                // The stop order takes as long as the heartbeat before it.
                self.told_to_stop(agent, *attempt, epoch, true, None);
            }
        }
        if let Some(attempt) = mine.filter(|attempt| is_placed && !in_hand.contains(attempt)) {
            let is_under_way = self.net.iter().any(|message| {
                matches!(message, Message::Order { attempt: found, epoch: of, .. } if *found == attempt && *of == epoch)
            });
            if !is_under_way && !self.is_waited_for(attempt, epoch) {
                self.order_again(scheduler, planted);
            }
        }
    }

    /// Whether the scheduler does not know the job, of which the gateway will tell; it
    /// may be late where another one was in charge before.
    pub(crate) fn is_stranger(&self, scheduler: u8) -> bool {
        let holder = self.holder(scheduler);
        let is_unknown = holder.is_some_and(|holder| holder.job.is_none() && holder.epoch == 1);
        self.granted.is_some() && is_unknown
    }

    /// Whether the order of the gateway is answered before one would be repeated.
    fn is_waited_for(&self, attempt: u8, epoch: u8) -> bool {
        let is_asked = |running: &Running| {
            running.attempt == attempt && running.asker == Some(Asker::Gateway { hears: true })
        };
        let mut running = self.agents.iter().flat_map(|agent| &agent.attempts);
        let is_sent = |message: &Message| matches!(message, Message::Granted { hears: true, epoch: of, .. } if *of == epoch);
        attempt == 1 && (running.any(is_asked) || self.net.iter().any(is_sent))
    }

    /// The scheduler gives the agent an order for another job: it learns the epoch.
    fn speak(&mut self, scheduler: u8, agent: u8) {
        if let Some(epoch) = self.holder(scheduler).map(|holder| holder.epoch) {
            self.told_to_stop(agent, 0, epoch, false, None);
        }
    }

    /// Two heartbeats of the agent tell of an attempt of which the scheduler does not
    /// know.
    fn stop_stranger(&mut self, scheduler: u8, agent: u8) {
        let Some(epoch) = self.holder(scheduler).map(|holder| holder.epoch) else {
            return;
        };
        for attempt in self.agents[usize::from(agent)].in_hand() {
            self.told_to_stop(agent, attempt, epoch, true, None);
        }
    }

    /// The agent tells its ends, and learns that they are known.
    fn tell(&mut self, agent: u8, scheduler: u8, is_answered: bool) {
        let told = self.untold(agent);
        if is_answered {
            let ledger = &mut self.agents[usize::from(agent)].ledger;
            let ends = ledger.get().untold(8);
            ledger.with(|ledger| ledger.acknowledged(&ends, std::time::Duration::ZERO));
        }
        for (end, is_granted) in told {
            self.told_of_end(scheduler, end, is_granted);
        }
    }

    fn told_of_end(&mut self, scheduler: u8, end: End, is_granted: bool) {
        if is_granted {
            self.granted_ended(scheduler, end);
        }
        self.attempt_ended(scheduler, end);
    }
}

fn without_sender(mut message: Message) -> Message {
    match &mut message {
        Message::Append { from, .. } => *from = None,
        Message::Write { from, .. } | Message::Order { from, .. } | Message::Stop { from, .. } => {
            *from = None;
        }
        Message::Answer { to, .. } => *to = None,
        Message::Granted { hears, .. } => *hears = false,
        Message::Said(_) | Message::Ended { .. } => {}
    }
    message
}
