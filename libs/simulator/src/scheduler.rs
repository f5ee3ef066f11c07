//! A scheduler process: the real lease and the real holder, on the simulated bus.

mod duty;

use crate::check::Property;
use crate::mutant::Mutant;
use crate::names;
use crate::net::{Follows, Net};
use crate::outcome::Outcome;
use crate::purpose::{Duty, Purpose};
use crate::wire::{
    Answer, Ask, Bucket, Call, Key, Life, MS, News, Parcel, Reader, Refusal, SECOND, Said, Time,
    Value, Whom, span, time,
};
use orchion_contract::JobId;
use orchion_contract::job::{AttemptOutcome, Job, RunReply};
use orchion_contract::lease::SERVICE_TTL_S;
use orchion_contract::transcript::Entry;
use orchion_lease::{Contender, Effect as LeaseEffect, Input as LeaseInput, Seen};
use orchion_scheduler_core::{
    Behind, Effect, Holder, Input, Moment, Note, Question, Reply, Settings, Token, WriteError,
    behind,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long the server may take to answer.
pub(crate) const REQUEST: Time = 2 * SECOND;
const LEASE_PATIENCE: Time = 400 * MS;
const ORDER_TRY: Time = 300 * MS;
const PAUSE: Time = 50 * MS;

pub(crate) struct Scheduler {
    pub(crate) life: Life,
    born: Time,
    contender: Contender,
    watch: u64,
    settings: Settings,
    charges: u32,
    charge: Option<Charge>,
    again_at: Option<Time>,
    last_epoch: Option<u64>,
}

struct Charge {
    number: u32,
    epoch: u64,
    began: Time,
    holder: Holder,
    desk: BTreeMap<Token, (Life, u64)>,
    next_token: u64,
    nodes: u64,
    leases: u64,
    nodes_loaded: bool,
    leases_loaded: bool,
}

impl Scheduler {
    pub(crate) fn new(net: &mut Net, life: Life, settings: Settings) -> Self {
        let watch = net.follow(life, Follows::Watch(Bucket::Leases));
        let ttl = std::time::Duration::from_secs(SERVICE_TTL_S);
        let mut scheduler = Self {
            life,
            born: net.now,
            contender: Contender::new(ttl),
            watch,
            settings,
            charges: 0,
            charge: None,
            again_at: None,
            last_epoch: None,
        };
        scheduler.contender.handle(LeaseInput::Tick, span(0));
        scheduler.pump(net);
        scheduler
    }

    pub(crate) fn holder(&self) -> Option<&Holder> {
        self.charge.as_ref().map(|charge| &charge.holder)
    }

    /// Whether it holds the lease and has read everything.
    pub(crate) fn is_in_charge(&self, net: &Net) -> bool {
        let may_act = self.contender.epoch(self.age(net)).is_some();
        may_act && self.holder().is_some_and(Holder::is_in_charge)
    }

    fn age(&self, net: &Net) -> std::time::Duration {
        span(net.now - self.born)
    }

    pub(crate) fn wake(&mut self, net: &mut Net) {
        let age = self.age(net);
        if age >= self.contender.next_deadline() {
            self.contender.handle(LeaseInput::Tick, age);
        }
        self.look(net);
        self.pump(net);
    }

    fn look(&mut self, net: &mut Net) {
        let connected = net
            .connected_since(self.life)
            .map(|since| span(net.now - since));
        let connected = if net.has(Mutant::AbsenceAfterReconnect) {
            Some(std::time::Duration::from_secs(3600))
        } else {
            connected
        };
        let Some(charge) = &mut self.charge else {
            return;
        };
        let at = moment(net, self.life, charge.began);
        if charge
            .holder
            .next_deadline()
            .is_some_and(|due| due <= at.now)
        {
            charge.holder.handle(
                Input::Time {
                    connected_for: connected,
                },
                at,
            );
        }
    }

    fn hear(&mut self, net: &mut Net, input: Input) {
        let life = self.life;
        if let Some(job) = net.watched {
            let text = format!("{input:?}");
            if text.contains(&job.to_string()) {
                net.tell(job, || {
                    format!(
                        "{life:?} hears {}",
                        text.chars().take(300).collect::<String>()
                    )
                });
            }
        }
        if let Some(charge) = &mut self.charge {
            let at = moment(net, life, charge.began);
            charge.holder.handle(input, at);
        }
    }

    pub(crate) fn parcel(&mut self, net: &mut Net, parcel: Parcel) {
        match parcel {
            Parcel::Ask { from, op, ask } => self.asked(net, from, op, ask),
            Parcel::News(News::Beat(beat)) => {
                if !net.has(Mutant::HeartbeatsIgnored) {
                    self.hear(net, Input::Beat(Box::new(beat)));
                }
            }
            Parcel::News(News::Answered(_, job, reply)) => {
                let reply = Reply::Said(*reply);
                let attempt = 1;
                self.hear(
                    net,
                    Input::Replied {
                        job,
                        attempt,
                        reply,
                    },
                );
            }
            Parcel::Change {
                consumer,
                revision,
                key,
                value,
            } => {
                if net.advance(consumer, revision) {
                    self.changed(net, consumer, key, revision, value);
                }
            }
            Parcel::Loaded(consumer) => {
                if net.loaded(consumer) {
                    self.loaded(net, consumer);
                }
            }
            Parcel::News(_)
            | Parcel::Entry { .. }
            | Parcel::Answer(..)
            | Parcel::Said(..)
            | Parcel::Nobody(_)
            | Parcel::Connected(..)
            | Parcel::Disconnected(..) => {}
        }
        self.pump(net);
    }

    fn changed(
        &mut self,
        net: &mut Net,
        consumer: u64,
        key: Key,
        revision: u64,
        value: Option<Value>,
    ) {
        if consumer == self.watch {
            if key == Key::SchedulerLease && value.is_none() {
                let age = self.age(net);
                let seen = LeaseInput::Seen(Seen::Free(revision));
                self.contender.handle(seen, age);
            }
            return;
        }
        match (key, value) {
            (Key::Node(node), Some(Value::Node(record))) => {
                let node = Some(Box::new((*record).clone())).map(|record| (node, record));
                if let Some((node, record)) = node {
                    self.hear(
                        net,
                        Input::Node {
                            id: names::node(node),
                            node: Some(record),
                        },
                    );
                }
            }
            (Key::Node(node), _) => {
                self.hear(
                    net,
                    Input::Node {
                        id: names::node(node),
                        node: None,
                    },
                );
            }
            (Key::GatewayLease(gateway), value) => {
                let gateway = names::reader(gateway);
                self.hear(
                    net,
                    Input::Gateway {
                        gateway,
                        lives: value.is_some(),
                    },
                );
            }
            (Key::Job(_) | Key::SchedulerLease | Key::RegistryLease, _) => {}
        }
    }

    fn loaded(&mut self, net: &mut Net, consumer: u64) {
        let Some(charge) = &mut self.charge else {
            return;
        };
        if consumer == charge.nodes && !charge.nodes_loaded {
            charge.nodes_loaded = true;
            self.hear(net, Input::NodesLoaded);
        } else if consumer == charge.leases && !charge.leases_loaded {
            charge.leases_loaded = true;
            self.hear(net, Input::GatewaysLoaded);
        }
    }

    fn asked(&mut self, net: &mut Net, from: Life, op: u64, ask: Ask) {
        let Some(charge) = self
            .charge
            .as_mut()
            .filter(|charge| charge.holder.is_in_charge())
        else {
            return;
        };
        let question = match ask {
            Ask::Submit(submit) => Question::Submit(Box::new(submit)),
            Ask::Get(job) => Question::Get(job),
            Ask::Cancel(cancel) => Question::Cancel(cancel),
            Ask::Ended(batch) => Question::Ended(batch),
            Ask::Run(_) | Ask::Stop(_) | Ask::Register(_) => return,
        };
        charge.next_token += 1;
        let token = Token(charge.next_token);
        charge.desk.insert(token, (from, op));
        self.hear(net, Input::Asked { token, question });
    }

    /// Leases, then what the holder wants, until nothing is left.
    fn pump(&mut self, net: &mut Net) {
        self.contend(net);
        self.stand(net);
        while let Some(effect) = self
            .charge
            .as_mut()
            .and_then(|charge| charge.holder.next_effect())
        {
            self.perform(net, effect);
            if self.charge.is_none() {
                break;
            }
        }
        let due = self.born + time(self.contender.next_deadline());
        net.wake(self.life, due);
        if let Some(charge) = &self.charge
            && let Some(at) = charge.holder.next_deadline()
        {
            net.wake(self.life, charge.began + time(at).saturating_sub(MS));
        }
    }

    fn contend(&mut self, net: &mut Net) {
        while let Some(effect) = self.contender.next_effect() {
            match effect {
                LeaseEffect::Read => {
                    let call = Call::Get(Key::SchedulerLease);
                    net.call(self.life, call, LEASE_PATIENCE, Purpose::LeaseRead);
                }
                LeaseEffect::Write { expected } => {
                    let call = Call::Set {
                        key: Key::SchedulerLease,
                        value: Some(Value::Lease(self.life)),
                        expected,
                        ttl: Some(SERVICE_TTL_S * SECOND),
                    };
                    net.call(self.life, call, LEASE_PATIENCE, Purpose::LeaseWrite);
                }
                LeaseEffect::Acquired { .. } | LeaseEffect::Lost => {}
            }
        }
    }

    /// In charge while the lease lasts.
    fn stand(&mut self, net: &mut Net) {
        let mut epoch = self.contender.epoch(self.age(net));
        if net.has(Mutant::LeaseOutlived) {
            self.last_epoch = epoch.or(self.last_epoch);
            epoch = self.last_epoch;
        }
        let held = self.charge.as_ref().map(|charge| charge.epoch);
        if held.is_some() && held != epoch {
            self.leave(net);
        }
        let waits = self.again_at.is_some_and(|at| net.now < at);
        if let (Some(epoch), None, false) = (epoch, &self.charge, waits) {
            self.charges += 1;
            self.charge = Some(Charge {
                number: self.charges,
                epoch,
                began: net.now,
                holder: Holder::new(epoch, self.settings.clone()),
                desk: BTreeMap::new(),
                next_token: 0,
                nodes: net.follow(self.life, Follows::Watch(Bucket::Nodes)),
                leases: net.follow(self.life, Follows::Watch(Bucket::Leases)),
                nodes_loaded: false,
                leases_loaded: false,
            });
        }
    }

    fn leave(&mut self, net: &mut Net) {
        if let Some(charge) = self.charge.take() {
            net.unfollow(charge.nodes);
            net.unfollow(charge.leases);
        }
    }

    fn note(&mut self, net: &mut Net, note: &Note) {
        match note {
            Note::InCharge { .. } => net.counts.takeovers += 1,
            Note::Preempted { .. } => net.counts.preempted += 1,
            Note::WaitsAgain { .. } => {}
            Note::OrderedAgain { .. } => net.counts.ordered_again += 1,
            Note::GatewayGone { gateway, jobs } => {
                net.counts.gateways_gone += *jobs as u64;
                let gateway = names::life(gateway);
                let link = &net.links[gateway.process];
                let lives = link.is_alive && link.number == gateway.number;
                let kept = net.now.saturating_sub(link.last_own);
                if lives && link.is_up && kept > 15 * SECOND {
                    net.broken(Property::Alive, || {
                        "a gateway that lives was declared dead".to_owned()
                    });
                }
            }
            Note::NotStored { job, .. } => {
                // Submitted again, it begins anew.
                net.oracle.positions.remove(job);
            }
            Note::Ended { .. } => {}
        }
    }

    fn answer(&mut self, net: &mut Net, token: Token, said: Said) {
        let charge = self.charge.as_mut();
        if let Some((to, op)) = charge.and_then(|charge| charge.desk.remove(&token)) {
            net.reply(self.life, to, op, said);
        }
    }

    pub(crate) fn answered(&mut self, net: &mut Net, purpose: Purpose, outcome: Outcome) {
        let age = self.age(net);
        match purpose {
            Purpose::LeaseRead => {
                let input = read(self.life, outcome);
                self.contender.handle(input, age);
            }
            Purpose::LeaseWrite => {
                let input = written(outcome);
                self.contender.handle(input, age);
            }
            Purpose::Charge(number, duty) => {
                if self
                    .charge
                    .as_ref()
                    .is_some_and(|charge| charge.number == number)
                {
                    self.done(net, number, duty, outcome);
                }
            }
            Purpose::TakeOverAgain
            | Purpose::Attempt(..)
            | Purpose::TellEnds(_)
            | Purpose::TellLater
            | Purpose::Register
            | Purpose::EngineBack(_)
            | Purpose::Registry(..)
            | Purpose::Client(..)
            | Purpose::FeedState => {}
        }
        self.pump(net);
    }
}

fn moment(net: &Net, life: Life, began: Time) -> Moment {
    Moment {
        now: span(net.now - began + MS),
        unix_ms: net.unix_ms(life),
    }
}

/// What a reading of a lease tells its contender.
pub(crate) fn read(life: Life, outcome: Outcome) -> LeaseInput {
    match outcome {
        Outcome::Answer(Answer::Got(None)) => LeaseInput::Seen(Seen::Free(0)),
        Outcome::Answer(Answer::Got(Some((revision, None)))) => {
            LeaseInput::Seen(Seen::Free(revision))
        }
        Outcome::Answer(Answer::Got(Some((revision, Some(Value::Lease(holder))))))
            if holder == life =>
        {
            LeaseInput::Seen(Seen::Mine(revision))
        }
        Outcome::Answer(Answer::Got(Some((revision, Some(_))))) => {
            LeaseInput::Seen(Seen::Held(revision))
        }
        Outcome::Answer(_) | Outcome::Said(_) | Outcome::Nobody | Outcome::TimedOut => {
            LeaseInput::NoAnswer
        }
    }
}

/// What a write of a lease tells its contender.
pub(crate) fn written(outcome: Outcome) -> LeaseInput {
    match outcome {
        Outcome::Answer(Answer::Stored(Ok(revision))) => LeaseInput::Written(revision),
        Outcome::Answer(Answer::Stored(Err(Refusal::WrongSequence))) => LeaseInput::Refused,
        Outcome::Answer(_) | Outcome::Said(_) | Outcome::Nobody | Outcome::TimedOut => {
            LeaseInput::NoAnswer
        }
    }
}
