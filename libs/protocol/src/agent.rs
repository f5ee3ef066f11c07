//! An agent: the product's ledger and writers, and the loop around them.

use crate::faults::Planted;
use crate::real::Real;
use crate::state::{
    Agent, Asker, Author, End, How, Link, Loop, Message, Outcome, Process, Running, State, TOKENS,
    Token, Waits,
};
use crate::wire;
use orchion_node_agent_core::{Ledger, Order, Seat, StopOrder, Verdict};
use orchion_transcript::{Effect, Prefix, Stop, Writer};
use std::time::Duration;

/// What an agent answers to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reply {
    Accepted,
    Running,
    Ended(End),
    Busy,
    Stale(u8),
    WrongInstance,
}

impl Agent {
    pub(crate) fn new(process: Process) -> Self {
        Self {
            instance: process.instance,
            ledger: Real::new(Ledger::new(wire::instance(process))),
            attempts: Vec::new(),
            heard: 0,
        }
    }

    /// Attempts whose end nobody has acknowledged.
    pub(crate) fn in_hand(&self) -> Vec<u8> {
        let all = self.ledger.get().in_hand();
        all.iter()
            .map(|one| wire::small(one.attempt.into()))
            .collect()
    }

    fn attempt(&mut self, attempt: u8) -> Option<&mut Running> {
        self.attempts.iter_mut().find(|one| one.attempt == attempt)
    }
}

impl Running {
    fn new(attempt: u8) -> Self {
        // The first attempt need not look at what was said before.
        let writer = (attempt == 1).then(|| Real::new(Writer::new(1, 0, 0)));
        Self {
            attempt,
            writer,
            said: 0,
            is_in_flight: false,
            has_failed: false,
            is_closed: false,
            end: None,
            stopped_by: None,
            asker: None,
            is_granted: false,
        }
    }

    /// Whether the engine may say another token, or the end.
    pub(crate) fn may_say(&self) -> bool {
        self.writer.is_some() && !self.is_closed
    }

    /// Whether the writer asks to read the end of the chain.
    pub(crate) fn reads(&self) -> bool {
        let writer = self.writer.as_ref();
        !self.is_in_flight
            && writer.is_some_and(|writer| writer.get().clone().next_effect().is_some())
    }
}

impl State {
    pub(crate) fn process(&self, agent: u8) -> Process {
        Process {
            agent,
            instance: self.agents[usize::from(agent)].instance,
        }
    }

    fn agent(&mut self, agent: u8) -> &mut Agent {
        &mut self.agents[usize::from(agent)]
    }

    /// An order arrives.
    pub(crate) fn ordered(
        &mut self,
        to: Process,
        attempt: u8,
        epoch: u8,
        asker: Option<Asker>,
        planted: Option<Planted>,
    ) -> Option<Reply> {
        let is_brief = self.is_brief;
        let is_granted = matches!(asker, Some(Asker::Gateway { .. }));
        let us = self.process(to.agent);
        let agent = &mut self.agents[usize::from(to.agent)];
        let obeyed = match planted {
            Some(Planted::EpochIgnored) => epoch.max(agent.heard),
            _ => epoch,
        };
        let meant = match planted {
            Some(Planted::SameAttemptNewProcess) => us,
            _ => to,
        };
        let order = Order {
            job: wire::job(),
            attempt: attempt.into(),
            instance: wire::instance(meant),
            epoch: obeyed.into(),
            is_untold: is_brief && is_granted,
        };
        let seat = Seat {
            engine: 0,
            slots: 1,
            is_ready: true,
        };
        let is_older = epoch < agent.heard;
        let verdict = agent.ledger.with(|ledger| ledger.order(&order, Some(seat)));
        agent.heard = agent.heard.max(epoch);
        let is_refused = matches!(verdict, Verdict::Stale(_));
        self.seen.older_epoch_obeyed |= is_older && !is_refused;
        Some(match verdict {
            Verdict::Accept { void } => {
                let asker = asker.filter(|_| is_brief);
                agent.attempts.push(Running {
                    asker,
                    is_granted,
                    ..Running::new(attempt)
                });
                agent.attempts.sort_by_key(|one| one.attempt);
                for one in void {
                    self.superseded(to.agent, wire::small(one.attempt.into()));
                }
                // The end may be the answer.
                return (!is_brief).then_some(Reply::Accepted);
            }
            Verdict::Running => Reply::Running,
            Verdict::Ended(end) => Reply::Ended(wire::end(&end, us)),
            Verdict::Busy | Verdict::NoReplica | Verdict::NotReady => Reply::Busy,
            Verdict::Stale(epoch) => Reply::Stale(wire::small(epoch)),
            Verdict::WrongInstance => Reply::WrongInstance,
        })
    }

    /// The end has not come soon: the order is answered without it.
    pub(crate) fn accept(&mut self, agent: u8, attempt: u8) {
        let running = self.agent(agent).attempt(attempt);
        match running.and_then(|running| running.asker.take()) {
            Some(Asker::Scheduler(scheduler)) => {
                self.replied(scheduler, attempt, Some(Reply::Accepted));
            }
            Some(Asker::Gateway { .. }) => {
                let known = wire::running(attempt);
                self.agent(agent).ledger.with(|it| it.is_known(known));
            }
            None => {}
        }
    }

    /// An agent answers the order of the gateway: both gateway and scheduler hear it,
    /// each in its own time. That it has the attempt is no news: heartbeats tell, too.
    pub(crate) fn say(&mut self, reply: Reply) {
        if matches!(reply, Reply::Accepted | Reply::Running) {
            return;
        }
        self.send(Message::Said(reply));
        // Of a streamed answer the scheduler is told beside the order.
        if let Some(granted) = self.granted.as_mut().filter(|_| self.is_brief) {
            granted.said = Some(reply);
        }
    }

    /// A stop order arrives: what can be answered at once, and by whom else.
    pub(crate) fn told_to_stop(
        &mut self,
        agent: u8,
        attempt: u8,
        epoch: u8,
        is_superseded: bool,
        from: Option<u8>,
    ) -> Option<Option<End>> {
        let us = self.process(agent);
        let known = self.agent(agent);
        let answer = known
            .ledger
            .with(|ledger| ledger.stop(wire::running(attempt), epoch.into()));
        if !matches!(answer, StopOrder::Stale(_)) {
            known.heard = known.heard.max(epoch);
        }
        match answer {
            StopOrder::Stop(running) => {
                for one in running {
                    let attempt = wire::small(one.attempt.into());
                    match is_superseded {
                        true => self.superseded(agent, attempt),
                        false => self.canceled(us, attempt, from),
                    }
                }
                is_superseded.then_some(None)
            }
            StopOrder::Ended(end) => Some(Some(wire::end(&end, us))),
            StopOrder::NotRunning | StopOrder::Stale(_) => Some(None),
        }
    }

    fn canceled(&mut self, us: Process, attempt: u8, from: Option<u8>) {
        let Some(running) = self.agent(us.agent).attempt(attempt) else {
            return;
        };
        running.is_closed = true;
        running.stopped_by = from;
        match running.writer.is_some() {
            true => finish(running, us, Outcome::Canceled),
            // It finds the chain first, then writes its end.
            false => running.end = Some(Outcome::Canceled),
        }
    }

    /// Somebody else has the job now: nothing more is written.
    fn superseded(&mut self, agent: u8, attempt: u8) {
        let stored = self.has_stored(agent, attempt);
        self.ended(agent, attempt, How::Superseded, stored);
    }

    fn has_stored(&mut self, agent: u8, attempt: u8) -> bool {
        let running = self.agent(agent).attempt(attempt);
        let writer = running.and_then(|running| running.writer.as_ref());
        writer.is_some_and(|writer| writer.get().has_stored())
    }

    fn ended(&mut self, agent: u8, attempt: u8, how: How, stored: bool) {
        let by = self.process(agent);
        let end = End {
            by,
            attempt,
            how,
            stored,
        };
        let us = self.agent(agent);
        let running = us.attempt(attempt);
        let (stopped_by, asker, is_granted) = running.map_or((None, None, false), |running| {
            (running.stopped_by, running.asker, running.is_granted)
        });
        us.attempts.retain(|running| running.attempt != attempt);
        let is_answer = us.ledger.with(|ledger| {
            let end = wire::attempt_end(end);
            match asker {
                Some(Asker::Scheduler(_)) => ledger.answered(end, Duration::ZERO),
                Some(Asker::Gateway { .. }) | None if is_granted => {
                    ledger.granted_ended(end, wire::granted(by), Duration::MAX, Duration::ZERO);
                    false
                }
                Some(Asker::Gateway { .. }) | None => {
                    ledger.ended(end, Duration::ZERO);
                    false
                }
            }
        });
        match asker {
            Some(Asker::Scheduler(scheduler)) if is_answer => self.send(Message::Answer {
                to: Some(scheduler),
                end,
            }),
            // A final is read in the transcript.
            Some(Asker::Gateway { hears: true }) if !matches!(how, How::Final(_)) => {
                self.say(Reply::Ended(end));
            }
            Some(_) | None => {}
        }
        let waits = Waits::Attempt { agent, attempt };
        self.forget(
            |message| matches!(message, Message::Append { from, .. } if *from == Some(waits)),
        );
        if let Some(scheduler) = stopped_by {
            self.stop_answered(scheduler, Some(end));
        }
    }

    /// An attempt after the first reads what was said before.
    pub(crate) fn find(&mut self, agent: u8, attempt: u8, planted: Option<Planted>) {
        let us = self.process(agent);
        let mark = Link::Mark { attempt, to: us };
        let looks = planted != Some(Planted::OrderBeforeMark) && planted != Some(Planted::NoMark);
        let last = self.chain.last();
        if let Some(Link::Final { outcome, .. }) = last {
            let outcome = *outcome;
            return self.ended(agent, attempt, How::Final(outcome), false);
        }
        let is_ours = last == Some(&mark)
            || planted == Some(Planted::SameAttemptNewProcess)
                && matches!(last, Some(Link::Mark { attempt: found, .. }) if *found == attempt);
        if looks && !is_ours {
            return self.ended(agent, attempt, How::Superseded, false);
        }
        let mut prefix = Prefix::new();
        for (sequence, link) in (1..).zip(&self.chain) {
            if prefix.apply(sequence, wire::entry(link)).is_err() {
                return self.ended(agent, attempt, How::Superseded, false);
            }
        }
        let Some(running) = self.agent(agent).attempt(attempt) else {
            return;
        };
        let next = prefix.next_index();
        running.said = wire::small(next);
        running.writer = Some(Real::new(Writer::new(
            attempt.into(),
            next,
            prefix.sequence(),
        )));
        if let Some(outcome) = running.end.take() {
            finish(running, us, outcome);
        }
    }

    /// The engine says the next token, or that it is done.
    pub(crate) fn says(&mut self, agent: u8, attempt: u8) {
        let maker = self.process(agent);
        let Some(running) = self.agent(agent).attempt(attempt) else {
            return;
        };
        if running.said >= TOKENS {
            running.is_closed = true;
            return finish(running, maker, Outcome::Completed);
        }
        let token = Token {
            place: running.said,
            maker,
        };
        running.said += 1;
        if let Some(writer) = &mut running.writer {
            writer.with(|writer| writer.push(wire::piece(token)));
        }
    }

    /// The engine fails: what it said is stored, and no final.
    pub(crate) fn engine_fails(&mut self, agent: u8, attempt: u8) {
        if let Some(running) = self.agent(agent).attempt(attempt) {
            running.is_closed = true;
            running.has_failed = true;
        }
        self.look_for_end(agent, attempt);
    }

    /// Whatever a writer wants to publish is under way at once: how long it
    /// takes to arrive is the network's affair.
    pub(crate) fn publish(&mut self) {
        for agent in [0, 1] {
            let attempts = self.agents[usize::from(agent)].attempts.iter();
            let attempts: Vec<u8> = attempts.map(|running| running.attempt).collect();
            for attempt in attempts {
                self.publish_of(agent, attempt);
            }
        }
    }

    fn publish_of(&mut self, agent: u8, attempt: u8) {
        let Some(running) = self.agent(agent).attempt(attempt) else {
            return;
        };
        let Some(writer) = running.writer.as_mut().filter(|_| !running.is_in_flight) else {
            return;
        };
        let mut next = writer.get().clone();
        if let Some(Effect::Publish { after, entry }) = next.next_effect() {
            *writer = Real::new(next);
            running.is_in_flight = true;
            self.send(Message::Append {
                from: Some(Waits::Attempt { agent, attempt }),
                after: wire::small(after),
                link: wire::link(&entry),
            });
        }
    }

    /// The writer reads the end of the chain.
    pub(crate) fn read_last(&mut self, agent: u8, attempt: u8) {
        let last = self.last().map(|(at, link)| (at, wire::entry(link)));
        let Some(running) = self.agent(agent).attempt(attempt) else {
            return;
        };
        let Some(writer) = &mut running.writer else {
            return;
        };
        if matches!(writer.with(Writer::next_effect), Some(Effect::ReadLast)) {
            let last = last.as_ref().map(|(at, entry)| (u64::from(*at), entry));
            writer.with(|writer| writer.last_is(last));
            self.look_for_end(agent, attempt);
        }
    }

    /// What became of an append: its sequence, or nobody knows.
    pub(crate) fn appended(&mut self, agent: u8, attempt: u8, sequence: Option<u8>) {
        let Some(running) = self.agent(agent).attempt(attempt) else {
            return;
        };
        running.is_in_flight = false;
        if let Some(writer) = &mut running.writer {
            writer.with(|writer| match sequence {
                Some(sequence) => writer.acked(sequence.into()),
                None => writer.unsure(),
            });
        }
        self.look_for_end(agent, attempt);
    }

    /// The end of an attempt, once the chain has it or nothing is left to store.
    fn look_for_end(&mut self, agent: u8, attempt: u8) {
        let Some(running) = self.agent(agent).attempt(attempt) else {
            return;
        };
        let Some(writer) = &running.writer else {
            return;
        };
        let writer = writer.get();
        let stored = writer.has_stored();
        let how = match (writer.stopped(), running.end) {
            (Some(Stop::Finished), Some(outcome)) => How::Final(outcome),
            (Some(Stop::Finished | Stop::Superseded), _) => How::Superseded,
            (None, _) if running.has_failed && writer.is_idle() => How::Failed,
            (None, _) => return,
        };
        self.ended(agent, attempt, how, stored);
    }

    /// Ends that nobody has acknowledged, and whether nobody may know of their jobs.
    pub(crate) fn untold(&self, agent: u8) -> Vec<(End, bool)> {
        let by = self.process(agent);
        let ledger = self.agents[usize::from(agent)].ledger.get();
        let ends = ledger.untold(8).into_iter();
        ends.map(|end| {
            let is_granted = !ledger.granted(std::slice::from_ref(&end)).is_empty();
            (wire::end(&end, by), is_granted)
        })
        .collect()
    }

    /// The process dies; what it told before may still arrive.
    pub(crate) fn agent_crashes(&mut self, agent: u8) {
        for (end, is_granted) in self.untold(agent) {
            self.send(Message::Ended { end, is_granted });
        }
        let is_ours = |waits: &Option<Waits>| matches!(waits, Some(Waits::Attempt { agent: of, .. }) if *of == agent);
        self.forget(|message| matches!(message, Message::Append { from, .. } if is_ours(from)));
        let mut process = self.process(agent);
        process.instance += 1;
        *self.agent(agent) = Agent::new(process);
    }
}

fn finish(running: &mut Running, us: Process, outcome: Outcome) {
    // An end once taken stays, and a failure gives way to it.
    running.has_failed = false;
    if running.end.is_some() {
        return;
    }
    running.end = Some(outcome);
    let end = wire::end_entry(running.attempt, outcome, Author::Agent(us));
    if let Some(writer) = &mut running.writer {
        writer.with(|writer| writer.finish(end));
    }
}

/// Whose loop it is.
pub(crate) fn loop_of(scheduler: u8, loops: Loop) -> Option<Waits> {
    Some(Waits::Scheduler { scheduler, loops })
}
