//! The lease: two contenders, one key with a time to live, and time.
//!
//! `orchion_lease::Contender` is the product's own. The key ends when its time
//! to live has passed since the server took the last write. Writes and their
//! answers take any time, get lost, and a contender may be paused. Time goes in
//! steps of a fifth of the time to live.

use crate::real::Real;
use orchion_lease::{Contender, Effect, Input, Seen};
use stateright::{Model, Property};
use std::time::Duration;

const TTL: Duration = Duration::from_millis(1000);
const STEP: Duration = Duration::from_millis(200);

/// Two contenders for one lease.
#[derive(Clone, Copy, Debug)]
pub struct Leases {
    /// Steps of time, five to a time to live.
    pub steps: u8,
    /// Answers that may get lost.
    pub losses: u8,
}

impl Leases {
    /// What is checked each time.
    pub const USUAL: Self = Self {
        steps: 6,
        losses: 1,
    };
}

/// What stands under the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    revision: u8,
    holder: Option<u8>,
    /// The step at which it ends.
    until: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct One {
    machine: Real<Contender>,
    /// Effects taken from the machine and not yet done.
    reads: bool,
    writes: Option<u8>,
    /// An answer under way.
    answer: Option<Answer>,
    /// A write nobody waits for.
    stray: Option<u8>,
    epoch: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Free(u8),
    Held(u8),
    Mine(u8),
    Written(u8),
    Refused,
}

/// The key, its contenders and the time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    now: u8,
    key: Key,
    contenders: [One; 2],
    losses: u8,
    highest: u8,
    went_back: bool,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A fifth of the time to live passes.
    Time,
    /// A contender looks at its clock.
    Tick(u8),
    /// The server answers its read.
    Read(u8),
    /// The server takes or refuses its write.
    Write(u8),
    /// The answer arrives.
    Answer(u8),
    /// It gives up waiting: its write is still under way.
    GiveUp(u8),
    /// A write that nobody waits for arrives.
    Stray(u8),
}

impl Model for Leases {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let one = One {
            machine: Real::new(Contender::new(TTL)),
            reads: false,
            writes: None,
            answer: None,
            stray: None,
            epoch: 0,
        };
        let mut state = State {
            now: 0,
            key: Key {
                revision: 0,
                holder: None,
                until: 0,
            },
            contenders: [one.clone(), one],
            losses: self.losses,
            highest: 0,
            went_back: false,
        };
        // Who is first does not matter: they are equal.
        for first in [
            Action::Tick(0),
            Action::Read(0),
            Action::Answer(0),
            Action::Write(0),
            Action::Answer(0),
        ] {
            state.take(first);
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < self.steps {
            actions.push(Action::Time);
        }
        for (number, one) in (0..).zip(&state.contenders) {
            actions.push(Action::Tick(number));
            if one.reads {
                actions.push(Action::Read(number));
            }
            if one.writes.is_some() {
                actions.push(Action::Write(number));
            }
            if one.answer.is_some() {
                actions.push(Action::Answer(number));
            }
            let waits = one.reads || one.writes.is_some() || one.answer.is_some();
            if waits && state.losses > 0 {
                actions.push(Action::GiveUp(number));
            }
            if one.stray.is_some() {
                actions.push(Action::Stray(number));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.take(action);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never two act at once", |_, state: &State| {
                state.acting().count() <= 1
            }),
            Property::always("a later holder has a higher epoch", |_, state: &State| {
                !state.went_back
            }),
            Property::sometimes("the second takes over", |_, state: &State| {
                state.contenders.iter().all(|one| one.epoch > 0)
            }),
        ]
    }
}

impl State {
    fn time(&self) -> Duration {
        STEP * u32::from(self.now)
    }

    fn acting(&self) -> impl Iterator<Item = u64> {
        let now = self.time();
        self.contenders
            .iter()
            .filter_map(move |one| one.machine.get().epoch(now))
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Time => {
                self.now += 1;
                if self.key.holder.is_some() && self.now >= self.key.until {
                    self.key.holder = None;
                    self.key.revision += 1;
                }
            }
            Action::Tick(number) => self.input(number, Input::Tick),
            Action::Read(number) => {
                let Key {
                    revision, holder, ..
                } = self.key;
                let one = self.one(number);
                one.reads = false;
                one.answer = Some(match holder {
                    None => Answer::Free(revision),
                    Some(holder) if holder == number => Answer::Mine(revision),
                    Some(_) => Answer::Held(revision),
                });
            }
            Action::Write(number) => {
                if let Some(expected) = self.one(number).writes.take() {
                    let answer = self.write(number, expected);
                    self.one(number).answer = Some(answer);
                }
            }
            Action::Stray(number) => {
                if let Some(expected) = self.one(number).stray.take() {
                    self.write(number, expected);
                }
            }
            Action::Answer(number) => {
                let input = match self.one(number).answer.take() {
                    Some(Answer::Free(revision)) => Input::Seen(Seen::Free(revision.into())),
                    Some(Answer::Held(revision)) => Input::Seen(Seen::Held(revision.into())),
                    Some(Answer::Mine(revision)) => Input::Seen(Seen::Mine(revision.into())),
                    Some(Answer::Written(revision)) => Input::Written(revision.into()),
                    Some(Answer::Refused) => Input::Refused,
                    None => return,
                };
                self.input(number, input);
            }
            Action::GiveUp(number) => {
                self.losses -= 1;
                let one = self.one(number);
                one.reads = false;
                one.answer = None;
                one.stray = one.writes.take().or(one.stray);
                self.input(number, Input::NoAnswer);
            }
        }
    }

    fn one(&mut self, number: u8) -> &mut One {
        &mut self.contenders[usize::from(number)]
    }

    fn write(&mut self, number: u8, expected: u8) -> Answer {
        if self.key.revision != expected {
            return Answer::Refused;
        }
        let steps = TTL.as_millis() / STEP.as_millis();
        self.key = Key {
            revision: expected + 1,
            holder: Some(number),
            until: self.now + crate::wire::small(steps as u64),
        };
        Answer::Written(self.key.revision)
    }

    fn input(&mut self, number: u8, input: Input) {
        let now = self.time();
        let one = self.one(number);
        one.machine.with(|machine| machine.handle(input, now));
        while let Some(effect) = one.machine.with(Contender::next_effect) {
            match effect {
                Effect::Read => one.reads = true,
                Effect::Write { expected } => one.writes = Some(crate::wire::small(expected)),
                Effect::Acquired { epoch } => one.epoch = crate::wire::small(epoch),
                Effect::Lost => {}
            }
        }
        let epoch = one.epoch;
        let acts = one.machine.get().epoch(now).is_some();
        if acts && epoch < self.highest {
            self.went_back = true;
        }
        if acts {
            self.highest = self.highest.max(epoch);
        }
    }
}
