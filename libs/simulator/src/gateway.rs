//! A gateway process: its lease, and the one feed of all its live answers.

use crate::mutant::Mutant;
use crate::net::{Follows, Net};
use crate::outcome::Outcome;
use crate::purpose::Purpose;
use crate::scheduler::{REQUEST, read, written};
use crate::wire::{Answer, Call, Key, Life, MS, SECOND, Time, Value, span, time};
use orchion_contract::JobId;
use orchion_contract::lease::GATEWAY_TTL_S;
use orchion_contract::transcript::Entry;
use orchion_lease::{Contender, Effect as LeaseEffect, Input as LeaseInput};
use std::time::Duration;

const LEASE_PATIENCE: Time = 400 * MS;

pub(crate) struct Gateway {
    pub(crate) life: Life,
    born: Time,
    contender: Contender,
    pub(crate) feed: u64,
    /// The last entry that anybody here has read.
    latest: Option<Place>,
    /// Held back until the store was looked at.
    looking: Option<Vec<(Place, JobId, Entry)>>,
}

/// Sequence of an entry, and when it was stored.
type Place = (u64, Time);

/// What the feed has for callers.
pub(crate) enum Fed {
    Entry(u64, JobId, Entry),
    /// The store was rolled back.
    Reopened,
}

impl Gateway {
    pub(crate) fn new(net: &mut Net, life: Life) -> Self {
        let mut gateway = Self {
            life,
            born: net.now,
            contender: Contender::new(Duration::from_secs(GATEWAY_TTL_S)),
            feed: net.follow(life, Follows::Feed(life)),
            latest: None,
            looking: None,
        };
        gateway.contender.handle(LeaseInput::Tick, span(0));
        gateway.pump(net);
        gateway
    }

    pub(crate) fn wake(&mut self, net: &mut Net) {
        let age = span(net.now - self.born);
        if age >= self.contender.next_deadline() {
            self.contender.handle(LeaseInput::Tick, age);
        }
        self.pump(net);
    }

    /// The connection is a new one: the store may be another.
    pub(crate) fn reconnected(&mut self, net: &mut Net) {
        if net.has(Mutant::RollbackUnnoticed) {
            return;
        }
        if net.has(Mutant::FeedWithHole) {
            let last = net.server.last;
            net.advance(self.feed, last);
        }
        self.looking.get_or_insert_default();
        self.look(net);
    }

    fn look(&self, net: &mut Net) {
        let sequence = self.latest.map_or(0, |(sequence, _)| sequence);
        let call = Call::StoredAt(sequence);
        net.call(self.life, call, REQUEST, Purpose::FeedState);
    }

    pub(crate) fn entry(&mut self, place: Place, job: JobId, entry: Entry) -> Vec<Fed> {
        match &mut self.looking {
            Some(held) => {
                held.push((place, job, entry));
                Vec::new()
            }
            None => {
                self.saw(place);
                vec![Fed::Entry(place.0, job, entry)]
            }
        }
    }

    /// Somebody has read this entry: a store without it is another one.
    pub(crate) fn saw(&mut self, place: Place) {
        if self.looking.is_none() {
            self.latest = self.latest.max(Some(place));
        }
    }

    pub(crate) fn answered(
        &mut self,
        net: &mut Net,
        purpose: Purpose,
        outcome: Outcome,
    ) -> Vec<Fed> {
        let age = span(net.now - self.born);
        let mut fed = Vec::new();
        match purpose {
            Purpose::LeaseRead => {
                let input = read(self.life, outcome);
                self.contender.handle(input, age);
            }
            Purpose::LeaseWrite => {
                let input = written(outcome);
                self.contender.handle(input, age);
            }
            Purpose::FeedState => {
                if let Outcome::Answer(Answer::StoredAt(at)) = outcome {
                    fed = self.looked(net, at);
                } else {
                    self.look(net);
                }
            }
            Purpose::Charge(..)
            | Purpose::TakeOverAgain
            | Purpose::Attempt(..)
            | Purpose::TellEnds(_)
            | Purpose::TellLater
            | Purpose::Register
            | Purpose::EngineBack(_)
            | Purpose::Registry(..)
            | Purpose::Client(..) => {}
        }
        self.pump(net);
        fed
    }

    fn looked(&mut self, net: &mut Net, at: Option<Time>) -> Vec<Fed> {
        let held = self.looking.take().unwrap_or_default();
        if self.latest.is_some_and(|(_, known)| at != Some(known)) {
            self.latest = None;
            net.unfollow(self.feed);
            self.feed = net.follow(self.life, Follows::Feed(self.life));
            return vec![Fed::Reopened];
        }
        held.into_iter()
            .flat_map(|(place, job, entry)| self.entry(place, job, entry))
            .collect()
    }

    fn pump(&mut self, net: &mut Net) {
        let key = Key::GatewayLease(self.life);
        while let Some(effect) = self.contender.next_effect() {
            match effect {
                LeaseEffect::Read => {
                    net.call(
                        self.life,
                        Call::Get(key),
                        LEASE_PATIENCE,
                        Purpose::LeaseRead,
                    );
                }
                LeaseEffect::Write { expected } => {
                    let call = Call::Set {
                        key,
                        value: Some(Value::Lease(self.life)),
                        expected,
                        ttl: Some(GATEWAY_TTL_S * SECOND),
                    };
                    net.call(self.life, call, LEASE_PATIENCE, Purpose::LeaseWrite);
                }
                LeaseEffect::Acquired { .. } | LeaseEffect::Lost => {}
            }
        }
        net.wake(self.life, self.born + time(self.contender.next_deadline()));
    }
}
