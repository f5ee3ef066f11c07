//! A registry process: the real lease and the real registry.

use crate::check::Property;
use crate::names;
use crate::net::{Follows, Net};
use crate::outcome::Outcome;
use crate::purpose::{Office, Purpose};
use crate::scheduler::{REQUEST, read, written};
use crate::wire::{
    Answer, Ask, Bucket, Call, Key, Life, MS, News, Parcel, SECOND, Said, Time, Value, span, time,
};
use orchion_contract::lease::SERVICE_TTL_S;
use orchion_contract::node::{Node, client_name};
use orchion_lease::{Contender, Effect as LeaseEffect, Input as LeaseInput, Seen};
use orchion_registry_core::{Announcement, Effect, Moment, Registry as Core, Settings};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

const LEASE_PATIENCE: Time = 400 * MS;
const RETRY: Time = 100 * MS;
const SETTINGS: Settings = Settings {
    heartbeat_timeout: Duration::from_secs(30),
    sweep_interval: Duration::from_secs(10),
};

pub(crate) struct Registry {
    pub(crate) life: Life,
    born: Time,
    contender: Contender,
    watch: u64,
    stays: u64,
    active: Option<Active>,
}

struct Active {
    number: u64,
    began: Time,
    core: Option<Core>,
    revisions: BTreeMap<usize, u64>,
    owed: VecDeque<Effect>,
    is_busy: bool,
    asked: Vec<(Life, u64)>,
}

impl Registry {
    pub(crate) fn new(net: &mut Net, life: Life) -> Self {
        let mut registry = Self {
            life,
            born: net.now,
            contender: Contender::new(Duration::from_secs(SERVICE_TTL_S)),
            watch: net.follow(life, Follows::Watch(Bucket::Leases)),
            stays: 0,
            active: None,
        };
        registry.contender.handle(LeaseInput::Tick, span(0));
        registry.pump(net);
        registry
    }

    pub(crate) fn wake(&mut self, net: &mut Net) {
        let age = span(net.now - self.born);
        if age >= self.contender.next_deadline() {
            self.contender.handle(LeaseInput::Tick, age);
        }
        self.with_core(net, |core, _, at| {
            if at.now >= core.next_deadline() {
                core.tick(at);
            }
        });
        self.pump(net);
    }

    /// Tells the core how long its eyes have been open, then something else.
    fn with_core(&mut self, net: &Net, tell: impl FnOnce(&mut Core, &mut Questions<'_>, Moment)) {
        let life = self.life;
        let Some(active) = &mut self.active else {
            return;
        };
        let Some(core) = &mut active.core else { return };
        let at = Moment {
            now: span(net.now - active.began),
            unix_ms: net.unix_ms(life),
        };
        let since = net
            .connected_since(life)
            .map(|since| span(since.saturating_sub(active.began)));
        core.watching(since, since, at);
        let mut rest = Questions {
            asked: &mut active.asked,
        };
        tell(core, &mut rest, at);
    }

    pub(crate) fn parcel(&mut self, net: &mut Net, parcel: Parcel) {
        match parcel {
            Parcel::Ask {
                from,
                op,
                ask: Ask::Register(registration),
            } => {
                self.with_core(net, |core, rest, at| {
                    if core.register(registration, at).is_ok() {
                        rest.asked.push((from, op));
                    }
                });
            }
            Parcel::News(News::Beat(beat)) => {
                self.with_core(net, |core, _, at| core.heartbeat(&beat, at));
            }
            Parcel::News(News::Capability(registration)) => {
                self.with_core(net, |core, _, at| core.capability(*registration, at));
            }
            Parcel::Connected(agent, conn) => {
                let client = client_name(&names::node(net.links[agent.process].index));
                self.with_core(net, |core, _, at| core.connected(&client, number(conn), at));
            }
            Parcel::Disconnected(agent, conn) => {
                let client = client_name(&names::node(net.links[agent.process].index));
                self.with_core(net, |core, _, at| {
                    core.disconnected(&client, number(conn), "Client Closed".to_owned(), at);
                });
            }
            Parcel::Change {
                consumer,
                revision,
                key,
                value,
            } => {
                let is_news = consumer == self.watch && net.advance(consumer, revision);
                if is_news && key == Key::RegistryLease && value.is_none() {
                    let age = span(net.now - self.born);
                    self.contender
                        .handle(LeaseInput::Seen(Seen::Free(revision)), age);
                }
            }
            Parcel::Ask { .. }
            | Parcel::News(_)
            | Parcel::Entry { .. }
            | Parcel::Loaded(_)
            | Parcel::Answer(..)
            | Parcel::Said(..)
            | Parcel::Nobody(_) => {}
        }
        self.pump(net);
    }

    fn pump(&mut self, net: &mut Net) {
        while let Some(effect) = self.contender.next_effect() {
            match effect {
                LeaseEffect::Read => {
                    net.call(
                        self.life,
                        Call::Get(Key::RegistryLease),
                        LEASE_PATIENCE,
                        Purpose::LeaseRead,
                    );
                }
                LeaseEffect::Write { expected } => {
                    let call = Call::Set {
                        key: Key::RegistryLease,
                        value: Some(Value::Lease(self.life)),
                        expected,
                        ttl: Some(SERVICE_TTL_S * SECOND),
                    };
                    net.call(self.life, call, LEASE_PATIENCE, Purpose::LeaseWrite);
                }
                LeaseEffect::Acquired { .. } | LeaseEffect::Lost => {}
            }
        }
        let holds = self.contender.epoch(span(net.now - self.born)).is_some();
        if !holds {
            self.active = None;
        } else if self.active.is_none() {
            self.stays += 1;
            self.active = Some(Active {
                number: self.stays,
                began: net.now,
                core: None,
                revisions: BTreeMap::new(),
                owed: VecDeque::new(),
                is_busy: false,
                asked: Vec::new(),
            });
            self.load(net);
        }
        self.carry_out(net);
        net.wake(self.life, self.born + time(self.contender.next_deadline()));
        if let Some(Active {
            core: Some(core),
            began,
            ..
        }) = &self.active
        {
            net.wake(self.life, began + time(core.next_deadline()));
        }
    }

    fn load(&mut self, net: &mut Net) {
        // One reading of the bucket; its keys are few, so they come as one answer.
        net.later(self.life, MS, Purpose::Registry(self.stays, Office::Load));
    }

    fn loaded(&mut self, net: &mut Net) {
        let up = net.server_is_up && net.connected_since(self.life).is_some();
        let life = self.life;
        let Some(active) = &mut self.active else {
            return;
        };
        if !up {
            net.later(life, RETRY, Purpose::Registry(active.number, Office::Load));
            return;
        }
        let mut stored: Vec<Node> = Vec::new();
        for (key, slot) in &net.server.keys {
            if let Key::Node(node) = key {
                active.revisions.insert(*node, slot.revision);
                if let Some(Value::Node(record)) = &slot.value {
                    stored.push((**record).clone());
                }
            }
        }
        let at = Moment {
            now: span(net.now - active.began),
            unix_ms: net.unix_ms(life),
        };
        active.core = Some(Core::new(SETTINGS, stored, at));
        net.publish(life, News::Hello);
        self.with_core(net, |_, _, _| {});
    }

    /// Carries out what is owed, in order; one write is under way at a time.
    fn carry_out(&mut self, net: &mut Net) {
        let life = self.life;
        let Some(active) = &mut self.active else {
            return;
        };
        let Some(core) = &mut active.core else { return };
        active
            .owed
            .extend(std::iter::from_fn(|| core.next_effect()));
        while !active.is_busy
            && let Some(effect) = active.owed.front()
        {
            match effect {
                Effect::Save(node) => {
                    let index = names::index(node);
                    let record = core.directory().get(node).cloned();
                    let call = Call::Set {
                        key: Key::Node(index),
                        value: record.map(|record| Value::Node(Arc::new(record))),
                        expected: active.revisions.get(&index).copied().unwrap_or(0),
                        ttl: None,
                    };
                    active.is_busy = true;
                    let purpose = Purpose::Registry(active.number, Office::Save(index));
                    net.call(life, call, REQUEST, purpose);
                }
                Effect::Announce(what, event) => {
                    if *what == Announcement::Lost {
                        died(net, names::index(&event.node));
                    }
                    active.owed.pop_front();
                }
                Effect::AskToRegister(node) => {
                    let node = names::index(node);
                    active.owed.pop_front();
                    net.publish(life, News::RegisterAgain(node));
                }
                Effect::List => {
                    active.owed.pop_front();
                    let purpose = Purpose::Registry(active.number, Office::List(net.now));
                    net.call(life, Call::Connections, REQUEST, purpose);
                }
            }
        }
        if active.owed.is_empty() && !active.is_busy {
            for (to, op) in std::mem::take(&mut active.asked) {
                net.reply(life, to, op, Said::Registered);
            }
        }
    }

    pub(crate) fn answered(&mut self, net: &mut Net, purpose: Purpose, outcome: Outcome) {
        let age = span(net.now - self.born);
        match purpose {
            Purpose::LeaseRead => {
                let input = read(self.life, outcome);
                self.contender.handle(input, age);
            }
            Purpose::LeaseWrite => {
                let input = written(outcome);
                self.contender.handle(input, age);
            }
            Purpose::Registry(number, office) => {
                if self
                    .active
                    .as_ref()
                    .is_some_and(|active| active.number == number)
                {
                    self.done(net, office, outcome);
                }
            }
            Purpose::Charge(..)
            | Purpose::TakeOverAgain
            | Purpose::Attempt(..)
            | Purpose::TellEnds(_)
            | Purpose::TellLater
            | Purpose::Register
            | Purpose::EngineBack(_)
            | Purpose::Client(..)
            | Purpose::FeedState => {}
        }
        self.pump(net);
    }

    fn done(&mut self, net: &mut Net, office: Office, outcome: Outcome) {
        let life = self.life;
        let Some(active) = &mut self.active else {
            return;
        };
        let again = |office| Purpose::Registry(active.number, office);
        match (office, outcome) {
            (Office::Load, _) => self.loaded(net),
            (Office::Save(node), Outcome::Answer(Answer::Stored(Ok(revision)))) => {
                active.revisions.insert(node, revision);
                active.is_busy = false;
                active.owed.pop_front();
            }
            (Office::Save(node), _) => {
                net.call(
                    life,
                    Call::Get(Key::Node(node)),
                    REQUEST,
                    again(Office::Revision(node)),
                );
            }
            (Office::Revision(node), outcome) => {
                if let Outcome::Answer(Answer::Got(found)) = outcome {
                    active
                        .revisions
                        .insert(node, found.map_or(0, |(revision, _)| revision));
                }
                net.later(life, RETRY, again(Office::Again));
            }
            (Office::Again, _) => active.is_busy = false,
            (Office::List(asked), Outcome::Answer(Answer::Connections(agents))) => {
                let asked = span(asked.saturating_sub(active.began));
                let clients: Vec<_> = agents
                    .into_iter()
                    .map(|agent| {
                        let link = &net.links[agent.process];
                        (client_name(&names::node(link.index)), number(link.conn))
                    })
                    .collect();
                self.with_core(net, |core, _, at| core.listed(asked, clients, at));
            }
            (Office::List(asked), _) => {
                let _ = asked;
                let purpose = again(Office::List(net.now));
                net.call(life, Call::Connections, REQUEST, purpose);
            }
        }
    }
}

/// What is answered once everything is saved.
struct Questions<'a> {
    asked: &'a mut Vec<(Life, u64)>,
}

fn number(conn: u32) -> (String, u64) {
    ("S".to_owned(), u64::from(conn))
}

/// A node is declared lost: it must have given cause.
fn died(net: &mut Net, node: usize) {
    let Some(link) = net
        .links
        .iter()
        .find(|link| link.role == crate::scenario::Role::Agent && link.index == node)
    else {
        return;
    };
    let calm = net.now.saturating_sub(link.last_bad.max(net.nats_was_down));
    if link.is_alive && link.is_up && !link.is_paused && calm > 40 * SECOND {
        net.broken(Property::Alive, || {
            format!("node {node} lives and was declared lost")
        });
    }
}
