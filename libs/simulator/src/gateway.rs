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
    /// Last sequence that the feed handed out.
    last: u64,
    /// Held back until the store was looked at.
    looking: Option<Vec<(u64, JobId, Entry)>>,
    looked_at: Time,
}

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
            last: 0,
            looking: None,
            looked_at: net.now,
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
        net.call(self.life, Call::State, REQUEST, Purpose::FeedState);
    }

    pub(crate) fn entry(&mut self, sequence: u64, job: JobId, entry: Entry) -> Vec<Fed> {
        match &mut self.looking {
            Some(held) => {
                held.push((sequence, job, entry));
                Vec::new()
            }
            None => {
                self.last = sequence;
                vec![Fed::Entry(sequence, job, entry)]
            }
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
                if let Outcome::Answer(Answer::State(last)) = outcome {
                    fed = self.looked(net, last);
                } else {
                    net.call(self.life, Call::State, REQUEST, Purpose::FeedState);
                }
            }
            Purpose::Charge(..)
            | Purpose::TakeOverAgain
            | Purpose::Attempt(..)
            | Purpose::TellEnds(_)
            | Purpose::Register
            | Purpose::EngineBack(_)
            | Purpose::Registry(..)
            | Purpose::Client(..) => {}
        }
        self.pump(net);
        fed
    }

    fn looked(&mut self, net: &mut Net, last: u64) -> Vec<Fed> {
        let held = self.looking.take().unwrap_or_default();
        if last < self.last {
            self.last = 0;
            net.unfollow(self.feed);
            self.feed = net.follow(self.life, Follows::Feed(self.life));
            self.looked_at = net.now;
            return vec![Fed::Reopened];
        }
        if net.oracle.tail_lost_at > self.looked_at {
            net.oracle.unaware.insert(self.life);
        }
        self.looked_at = net.now;
        if let Some((sequence, _, _)) = held.last() {
            self.last = *sequence;
        }
        held.into_iter()
            .map(|(sequence, job, entry)| Fed::Entry(sequence, job, entry))
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
