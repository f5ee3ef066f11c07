//! Holding a lease: a key with a TTL that its holder overwrites in time.
//!
//! The machine knows no clock and no bus: `now` is a monotonic time that the
//! shell read when the input arrived. The epoch of a holder is the revision of
//! its *acquiring* write; renewals keep it. A holder stops acting when 60 % of
//! the TTL have passed since it *sent* its last accepted write, so that it is
//! silent before anybody else can hold the lease.
#![warn(missing_docs)]

use std::time::Duration;

/// Monotonic time since an arbitrary start.
pub type Now = Duration;

/// What stands under the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing, or a marker of an expired or deleted value with this revision (0: never written).
    Free(u64),
    /// A value of somebody else, with this revision.
    Held(u64),
    /// A value of our own, with this revision: an answer of ours got lost.
    Mine(u64),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The key was read, or a watch told its state.
    Seen(Seen),
    /// A write was accepted with this revision.
    Written(u64),
    /// A write was refused: somebody else was faster.
    Refused,
    /// A read or a write got no answer.
    NoAnswer,
    /// An agent has been told of a higher epoch than ours: acquire anew above it.
    Outranked(u64),
    /// Somebody acts who can only be another holder: after a power cut the store
    /// may have forgotten that the lease is ours. Acquire anew before acting.
    Doubted,
    /// Time has passed.
    Tick,
}

/// What the shell owes the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Read the key and answer with [`Input::Seen`] or [`Input::NoAnswer`].
    Read,
    /// Write with this expected revision and the TTL; answer with
    /// [`Input::Written`], [`Input::Refused`] or [`Input::NoAnswer`].
    Write {
        /// Expected revision.
        expected: u64,
    },
    /// We hold the lease from now on.
    Acquired {
        /// Our epoch.
        epoch: u64,
    },
    /// We must not act any more.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Somebody else holds it, or nobody knows.
    Waiting,
    Reading,
    Acquiring {
        sent: Now,
    },
    Held {
        epoch: u64,
        revision: u64,
        good_since: Now,
    },
    Renewing {
        epoch: u64,
        revision: u64,
        good_since: Now,
        sent: Now,
    },
}

/// One contender for one lease.
#[derive(Debug, Clone)]
pub struct Contender {
    ttl: Duration,
    state: State,
    /// Try again at.
    wake: Now,
    above: u64,
    owed: Vec<Effect>,
}

impl Contender {
    /// A contender for a lease of this TTL, who tries at once.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            state: State::Waiting,
            wake: Now::ZERO,
            above: 0,
            owed: Vec::new(),
        }
    }

    /// The epoch, while acting is allowed.
    #[must_use]
    pub fn epoch(&self, now: Now) -> Option<u64> {
        match self.state {
            State::Held {
                epoch, good_since, ..
            }
            | State::Renewing {
                epoch, good_since, ..
            } if now < good_since + self.acting_time() => Some(epoch),
            State::Held { .. }
            | State::Renewing { .. }
            | State::Waiting
            | State::Reading
            | State::Acquiring { .. } => None,
        }
    }

    /// The revision of the last accepted write, to release the lease with.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        match self.state {
            State::Held { revision, .. } | State::Renewing { revision, .. } => Some(revision),
            State::Waiting | State::Reading | State::Acquiring { .. } => None,
        }
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Now {
        match self.state {
            State::Waiting | State::Reading | State::Acquiring { .. } => self.wake,
            State::Held { good_since, .. } => good_since + self.renewal(),
            State::Renewing { good_since, .. } => good_since + self.acting_time(),
        }
    }

    /// What the shell must do now, if anything.
    pub fn next_effect(&mut self) -> Option<Effect> {
        (!self.owed.is_empty()).then(|| self.owed.remove(0))
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.expire(now);
        match input {
            Input::Tick => self.tick(now),
            Input::Seen(seen) => self.seen(seen, now),
            Input::Written(revision) => self.written(revision, now),
            Input::Refused => self.refused(now),
            Input::NoAnswer => self.no_answer(now),
            Input::Outranked(epoch) => self.outranked(epoch, now),
            Input::Doubted => self.acquire_anew(now),
        }
    }

    fn acting_time(&self) -> Duration {
        self.ttl * 3 / 5
    }

    fn renewal(&self) -> Duration {
        self.ttl / 5
    }

    fn expire(&mut self, now: Now) {
        let over = match self.state {
            State::Held { good_since, .. } | State::Renewing { good_since, .. } => {
                now >= good_since + self.acting_time()
            }
            State::Waiting | State::Reading | State::Acquiring { .. } => false,
        };
        if over {
            self.lose(now);
        }
    }

    fn lose(&mut self, now: Now) {
        self.state = State::Waiting;
        self.wake = now;
        self.owed.push(Effect::Lost);
    }

    fn tick(&mut self, now: Now) {
        match self.state {
            State::Waiting | State::Reading | State::Acquiring { .. } if now >= self.wake => {
                self.state = State::Reading;
                self.wake = now + self.ttl / 4;
                self.owed.push(Effect::Read);
            }
            State::Held {
                epoch,
                revision,
                good_since,
            } if now >= good_since + self.renewal() => {
                self.state = State::Renewing {
                    epoch,
                    revision,
                    good_since,
                    sent: now,
                };
                self.owed.push(Effect::Write { expected: revision });
            }
            State::Waiting
            | State::Reading
            | State::Acquiring { .. }
            | State::Held { .. }
            | State::Renewing { .. } => {}
        }
    }

    fn seen(&mut self, seen: Seen, now: Now) {
        match (self.state, seen) {
            (State::Waiting | State::Reading, Seen::Free(expected) | Seen::Mine(expected)) => {
                self.state = State::Acquiring { sent: now };
                self.wake = now + self.ttl / 4;
                self.owed.push(Effect::Write { expected });
            }
            (State::Reading, Seen::Held(_)) => {
                self.state = State::Waiting;
                self.wake = now + self.ttl / 4;
            }
            (
                State::Waiting
                | State::Acquiring { .. }
                | State::Held { .. }
                | State::Renewing { .. },
                Seen::Free(_) | Seen::Held(_) | Seen::Mine(_),
            ) => {}
        }
    }

    fn written(&mut self, revision: u64, now: Now) {
        match self.state {
            State::Acquiring { sent } if now < sent + self.acting_time() => {
                if revision > self.above {
                    self.owed.push(Effect::Acquired { epoch: revision });
                    self.state = State::Held {
                        epoch: revision,
                        revision,
                        good_since: sent,
                    };
                } else {
                    // Ours, but not above the epoch that outranked us: write once more.
                    self.state = State::Acquiring { sent: now };
                    self.owed.push(Effect::Write { expected: revision });
                }
            }
            State::Renewing { epoch, sent, .. } => {
                self.state = State::Held {
                    epoch,
                    revision,
                    good_since: sent,
                };
            }
            State::Acquiring { .. } | State::Waiting | State::Reading | State::Held { .. } => {}
        }
    }

    fn refused(&mut self, now: Now) {
        match self.state {
            State::Renewing { .. } => self.lose(now),
            State::Acquiring { .. } => {
                self.state = State::Waiting;
                self.wake = now + self.ttl / 4;
            }
            State::Waiting | State::Reading | State::Held { .. } => {}
        }
    }

    fn no_answer(&mut self, now: Now) {
        match self.state {
            State::Renewing { .. } => {
                // Stored or not, nobody knows: only a fresh start is safe.
                self.lose(now);
            }
            State::Reading | State::Acquiring { .. } => {
                self.state = State::Waiting;
                self.wake = now + self.ttl / 8;
            }
            State::Waiting | State::Held { .. } => {}
        }
    }

    fn outranked(&mut self, epoch: u64, now: Now) {
        self.above = self.above.max(epoch);
        let is_outranked = match self.state {
            State::Held { epoch: ours, .. } | State::Renewing { epoch: ours, .. } => epoch > ours,
            State::Waiting | State::Reading | State::Acquiring { .. } => false,
        };
        if is_outranked {
            self.acquire_anew(now);
        }
    }

    /// The lease is given up and written again as if it were free: whoever has
    /// it meanwhile keeps it.
    fn acquire_anew(&mut self, now: Now) {
        if let Some(expected) = self.revision() {
            self.owed.push(Effect::Lost);
            self.state = State::Acquiring { sent: now };
            self.wake = now + self.ttl / 4;
            self.owed.push(Effect::Write { expected });
        }
    }
}

#[cfg(test)]
mod tests;
