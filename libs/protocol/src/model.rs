//! Every step that the system, its network and its faults may take.

use crate::faults::{Faults, Planted};
use crate::property::{self, has_ended_everywhere};
use crate::state::{Agent, Lease, Loop, Message, Phase, Process, Scheduler, Seen, State, Waits};
use stateright::{Model, Property};

/// The job protocol: two schedulers, two agents, one job of three tokens.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// What may go wrong.
    pub faults: Faults,
    /// The rule that is left out.
    pub planted: Option<Planted>,
}

/// One step. Schedulers and agents are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A standby takes the free lease.
    Acquire(u8),
    /// It reads the record, then the end of the transcript.
    TakeOver(u8),
    /// One that lost its lease notices.
    Notice(u8),
    /// The caller asks this scheduler for the job.
    Submit(u8),
    /// The caller asks this scheduler to cancel.
    Cancel(u8),
    /// The scheduler places the job on the agent.
    Place(u8, u8),
    /// The scheduler writes the record.
    Flush(u8),
    /// The scheduler reads the record.
    ReadRecord(u8),
    /// The scheduler's loop reads the end of the transcript and writes behind it.
    Loop(u8, bool),
    /// The stop order was not answered in time.
    StopTimesOut(u8),
    /// The registry tells the scheduler the truth about an agent.
    News(u8, u8),
    /// A heartbeat of the agent reaches the scheduler.
    Beat(u8, u8),
    /// The agent's attempt reads the beginning of the answer.
    Find(u8, u8),
    /// The engine of the agent's attempt says a token, or that it is done.
    Says(u8, u8),
    /// The writer of the agent's attempt reads the end of the transcript.
    ReadLast(u8, u8),
    /// The agent tells the scheduler its ends.
    Tell(u8, u8),
    /// The message arrives and is answered.
    Deliver(usize),
    /// Fault: it arrives, and its answer is lost.
    LoseAnswer(usize),
    /// Fault: it never arrives, and its sender learns nothing.
    Lose(usize),
    /// Fault: its sender gives up waiting, and it is still under way.
    Late(usize),
    /// Fault: it arrives, and will arrive again.
    Double(usize),
    /// Fault: the agent's ends are known, and it does not learn that they are.
    TellInVain(u8, u8),
    /// Fault: the scheduler dies.
    CrashScheduler(u8),
    /// Fault: the lease ends unnoticed.
    LoseLease,
    /// Fault: the agent dies.
    CrashAgent(u8),
    /// Fault: the scheduler holds a living agent for lost.
    Suspect(u8, u8),
    /// Fault: the engine of the agent's attempt fails.
    EngineFails(u8, u8),
    /// The caller does not want the answer any more.
    WantCancel,
}

impl Action {
    /// Whether it is none that the system takes by itself.
    #[must_use]
    pub fn is_fault(self) -> bool {
        match self {
            Self::LoseAnswer(_)
            | Self::Lose(_)
            | Self::Late(_)
            | Self::Double(_)
            | Self::TellInVain(..)
            | Self::CrashScheduler(_)
            | Self::LoseLease
            | Self::CrashAgent(_)
            | Self::Suspect(..)
            | Self::EngineFails(..)
            | Self::WantCancel => true,
            Self::Acquire(_)
            | Self::TakeOver(_)
            | Self::Notice(_)
            | Self::Submit(_)
            | Self::Cancel(_)
            | Self::Place(..)
            | Self::Flush(_)
            | Self::ReadRecord(_)
            | Self::Loop(..)
            | Self::StopTimesOut(_)
            | Self::News(..)
            | Self::Beat(..)
            | Self::Find(..)
            | Self::Says(..)
            | Self::ReadLast(..)
            | Self::Tell(..)
            | Self::Deliver(_) => false,
        }
    }
}

impl Action {
    /// The scheduler in charge, or so it thinks, that takes this step by itself.
    fn scheduler(self) -> Option<u8> {
        match self {
            Self::Submit(scheduler)
            | Self::Cancel(scheduler)
            | Self::Place(scheduler, _)
            | Self::Flush(scheduler)
            | Self::ReadRecord(scheduler)
            | Self::Loop(scheduler, _)
            | Self::StopTimesOut(scheduler)
            | Self::News(scheduler, _)
            | Self::Beat(scheduler, _)
            | Self::Tell(_, scheduler) => Some(scheduler),
            Self::Acquire(_)
            | Self::TakeOver(_)
            | Self::Notice(_)
            | Self::Find(..)
            | Self::Says(..)
            | Self::ReadLast(..)
            | Self::Deliver(_)
            | Self::LoseAnswer(_)
            | Self::Lose(_)
            | Self::Late(_)
            | Self::Double(_)
            | Self::TellInVain(..)
            | Self::CrashScheduler(_)
            | Self::LoseLease
            | Self::CrashAgent(_)
            | Self::Suspect(..)
            | Self::EngineFails(..)
            | Self::WantCancel => None,
        }
    }
}

const BOTH: [u8; 2] = [0, 1];

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let agent = |agent| Agent::new(Process { agent, instance: 0 });
        vec![State {
            chain: Vec::new(),
            record: None,
            lease: Lease {
                holder: None,
                epoch: 0,
            },
            schedulers: [Scheduler::Standby, Scheduler::Standby],
            agents: [agent(0), agent(1)],
            net: Vec::new(),
            is_admitted: false,
            wants_cancel: false,
            left: self.faults,
            seen: Seen::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for scheduler in BOTH {
            // A round of the scheduler ends with writing what it changed. Nobody
            // else can tell when that leaves, so nobody else moves before.
            let allowed = self.planted == Some(Planted::RecordBeforeMark);
            if let Some(job) = state.job_of(scheduler)
                && state.lease.holder == Some(scheduler)
                && !job.reads_record
                && job.wants_write(allowed)
            {
                actions.push(Action::Flush(scheduler));
                places(state, scheduler, actions);
                return;
            }
        }
        for scheduler in BOTH {
            scheduler_actions(state, scheduler, actions);
        }
        for agent in BOTH {
            agent_actions(state, agent, actions);
        }
        for (at, message) in state.net.iter().enumerate() {
            if at == 0 || state.net[at - 1] != *message {
                actions.push(Action::Deliver(at));
            }
        }
        if state.left.together > 0 && !has_ended_everywhere(state) {
            faults(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.take(action, self.planted);
        next.publish();
        next.tidy(self.planted);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        property::all()
    }
}

fn scheduler_actions(state: &State, scheduler: u8, actions: &mut Vec<Action>) {
    let holds = state.lease.holder == Some(scheduler);
    match &state.schedulers[usize::from(scheduler)] {
        // Who is first does not matter: they are equal.
        Scheduler::Standby if state.lease.epoch == 0 && scheduler != 0 => {}
        Scheduler::Standby if state.lease.holder.is_none() => {
            actions.push(Action::Acquire(scheduler));
        }
        Scheduler::Standby => {}
        Scheduler::Reading { .. } => match holds {
            true => actions.push(Action::TakeOver(scheduler)),
            false => actions.push(Action::Notice(scheduler)),
        },
        Scheduler::InCharge(_) => {
            if !holds {
                actions.push(Action::Notice(scheduler));
            }
            match holds {
                true => in_charge(state, scheduler, actions),
                false if state.left.zombie_steps > 0 => loops(state, scheduler, actions),
                false => {}
            }
        }
    }
}

fn in_charge(state: &State, scheduler: u8, actions: &mut Vec<Action>) {
    let Some(holder) = state.holder(scheduler) else {
        return;
    };
    if !state.is_admitted {
        actions.push(Action::Submit(scheduler));
    }
    for agent in BOTH {
        let view = holder.nodes[usize::from(agent)];
        if view.is_lost || view.instance != state.agents[usize::from(agent)].instance {
            actions.push(Action::News(scheduler, agent));
        }
        actions.push(Action::Beat(scheduler, agent));
        if !state.agents[usize::from(agent)]
            .ledger
            .get()
            .untold(1)
            .is_empty()
        {
            actions.push(Action::Tell(agent, scheduler));
        }
    }
    let Some(job) = &holder.job else { return };
    if state.wants_cancel && !matches!(job.phase, Phase::Ending | Phase::Ended) {
        actions.push(Action::Cancel(scheduler));
    }
    places(state, scheduler, actions);
    if job.reads_record {
        actions.push(Action::ReadRecord(scheduler));
    }
    loops(state, scheduler, actions);
    if job.stops {
        actions.push(Action::StopTimesOut(scheduler));
    }
}

/// The next steps of what writes into the transcript. These go on by themselves,
/// and look at no lease.
fn loops(state: &State, scheduler: u8, actions: &mut Vec<Action>) {
    let Some(job) = state.job_of(scheduler) else {
        return;
    };
    if job.opens.is_some_and(|opens| !opens.is_sent) {
        actions.push(Action::Loop(scheduler, true));
    }
    if job.finalizes.is_some_and(|finalizes| !finalizes.is_sent) {
        actions.push(Action::Loop(scheduler, false));
    }
}

fn places(state: &State, scheduler: u8, actions: &mut Vec<Action>) {
    let Some(holder) = state.holder(scheduler) else {
        return;
    };
    let Some(job) = &holder.job else { return };
    if job.phase == Phase::Queued {
        // Which agent is first does not matter either.
        let is_first = state.is_untouched() && job.record.attempt == 0;
        let alive = BOTH
            .into_iter()
            .filter(|agent| *agent == 0 || !is_first)
            .filter(|agent| !holder.nodes[usize::from(*agent)].is_lost);
        actions.extend(alive.map(|agent| Action::Place(scheduler, agent)));
    }
}

fn agent_actions(state: &State, agent: u8, actions: &mut Vec<Action>) {
    for running in &state.agents[usize::from(agent)].attempts {
        if running.writer.is_none() {
            actions.push(Action::Find(agent, running.attempt));
        }
        if running.may_say() {
            actions.push(Action::Says(agent, running.attempt));
        }
        if running.reads() {
            actions.push(Action::ReadLast(agent, running.attempt));
        }
    }
}

fn faults(state: &State, actions: &mut Vec<Action>) {
    let left = state.left;
    if left.network > 0 {
        for (at, message) in state.net.iter().enumerate() {
            let (is_awaited, is_told) = match message {
                Message::Append { from, .. } => (from.is_some(), true),
                Message::Write { from, .. }
                | Message::Order { from, .. }
                | Message::Stop { from, .. } => (from.is_some(), true),
                Message::Ended(_) => (false, false),
            };
            actions.push(Action::Lose(at));
            if is_awaited {
                actions.extend([Action::LoseAnswer(at), Action::Late(at)]);
            }
            if is_told {
                actions.push(Action::Double(at));
            }
        }
    }
    for scheduler in BOTH {
        let is_standby = state.schedulers[usize::from(scheduler)] == Scheduler::Standby;
        if left.scheduler_crashes > 0 && !is_standby {
            actions.push(Action::CrashScheduler(scheduler));
        }
        for agent in BOTH {
            if left.suspicions > 0
                && state
                    .holder(scheduler)
                    .is_some_and(|holder| !holder.nodes[usize::from(agent)].is_lost)
            {
                actions.push(Action::Suspect(scheduler, agent));
            }
            if left.network > 0
                && state.holder(scheduler).is_some()
                && !state.agents[usize::from(agent)]
                    .ledger
                    .get()
                    .untold(1)
                    .is_empty()
            {
                actions.push(Action::TellInVain(agent, scheduler));
            }
        }
    }
    if left.lost_leases > 0 && state.lease.holder.is_some() {
        actions.push(Action::LoseLease);
    }
    for agent in BOTH {
        if left.agent_crashes > 0 {
            actions.push(Action::CrashAgent(agent));
        }
        if left.engine_failures > 0 {
            let running = state.agents[usize::from(agent)].attempts.iter();
            let saying = running.filter(|running| running.may_say());
            actions.extend(saying.map(|running| Action::EngineFails(agent, running.attempt)));
        }
    }
    if left.cancels > 0 && state.is_admitted && !state.has_final() {
        actions.push(Action::WantCancel);
    }
}

impl State {
    /// No agent has been told anything, nor has anything happened to one.
    fn is_untouched(&self) -> bool {
        let asks =
            |message: &Message| matches!(message, Message::Order { .. } | Message::Stop { .. });
        let is_new = |agent: &Agent| agent.heard == 0 && agent.instance == 0;
        self.agents.iter().all(is_new)
            && !self.net.iter().any(asks)
            && self.chain.is_empty()
            && self.record.is_none_or(|(_, record)| record.to.is_none())
    }

    fn take(&mut self, action: Action, planted: Option<Planted>) {
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
            Action::Submit(scheduler) => self.submit(scheduler),
            Action::Cancel(scheduler) => self.cancel(scheduler),
            Action::Place(scheduler, agent) => self.place(scheduler, agent, planted),
            Action::Flush(scheduler) => self.flush(scheduler),
            Action::ReadRecord(scheduler) => self.read_record(scheduler, planted),
            Action::Loop(scheduler, true) => self.loop_step(scheduler, Loop::Open, planted),
            Action::Loop(scheduler, false) => self.loop_step(scheduler, Loop::Finalize, planted),
            Action::StopTimesOut(scheduler) => self.stop_answered(scheduler, None),
            Action::News(scheduler, agent) => self.node_news(scheduler, agent, false),
            Action::Beat(scheduler, agent) => self.beat(scheduler, agent),
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
            Action::WantCancel => {
                self.left.cancels -= 1;
                self.wants_cancel = true;
            }
        }
    }

    /// Forgets messages that can do nothing any more.
    fn tidy(&mut self, planted: Option<Planted>) {
        let length = self.chain.len();
        let revision = self.record.map_or(0, |(revision, _)| revision);
        let agents =
            [0, 1].map(|agent| (self.process(agent), self.agents[usize::from(agent)].heard));
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
            Message::Append { .. }
            | Message::Write { .. }
            | Message::Order { .. }
            | Message::Stop { .. }
            | Message::Ended(_) => true,
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
                let reply = self.ordered(to, attempt, epoch, planted);
                if let Some(scheduler) = from.filter(|_| is_answered) {
                    self.replied(scheduler, attempt, Some(reply));
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
            Message::Ended(end) => {
                for scheduler in BOTH {
                    if self.lease.holder == Some(scheduler) {
                        self.attempt_ended(scheduler, end);
                    }
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
            | Message::Ended(_) => {}
        }
    }

    fn beat(&mut self, scheduler: u8, agent: u8) {
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
            } else {
                // The stop order takes as long as the heartbeat before it.
                self.told_to_stop(agent, *attempt, epoch, true, None);
            }
        }
        if let Some(attempt) = mine.filter(|attempt| is_placed && !in_hand.contains(attempt)) {
            let is_under_way = self.net.iter().any(|message| {
                matches!(message, Message::Order { attempt: found, epoch: of, .. } if *found == attempt && *of == epoch)
            });
            if !is_under_way {
                self.order(scheduler);
            }
        }
    }

    /// The agent tells its ends, and learns that they are known.
    fn tell(&mut self, agent: u8, scheduler: u8, is_answered: bool) {
        let ledger = &mut self.agents[usize::from(agent)].ledger;
        let ends = ledger.get().untold(8);
        if is_answered {
            ledger.with(|ledger| ledger.acknowledged(&ends, std::time::Duration::ZERO));
        }
        let by = self.process(agent);
        for end in &ends {
            self.attempt_ended(scheduler, crate::wire::end(end, by));
        }
    }
}

fn without_sender(mut message: Message) -> Message {
    match &mut message {
        Message::Append { from, .. } => *from = None,
        Message::Write { from, .. } | Message::Order { from, .. } | Message::Stop { from, .. } => {
            *from = None;
        }
        Message::Ended(_) => {}
    }
    message
}
