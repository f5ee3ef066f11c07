//! Which attempts are in this agent's hands, and how orders are answered.
//!
//! An order may come twice, late, from a scheduler that is no longer in charge,
//! or for an earlier process of this node; each of these has an answer of its
//! own. An attempt stays in hand until its end was acknowledged, and its end is
//! remembered a while longer, so that a repeated order gets the same answer. An
//! order may wait for its answer until a brief attempt has ended: then the end is
//! the answer, and nothing else need be told.

use orchion_contract::job::{AttemptEnd, AttemptOutcome, GRANTED_TELLS_AFTER, Granted};
use orchion_contract::node::RunningAttempt;
use orchion_contract::{InstanceId, JobId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How long an acknowledged end is remembered.
const REMEMBERED: Duration = Duration::from_secs(120);
/// How long the ends of jobs wait for each other that their gateways had ordered.
const GATHERED: Duration = Duration::from_millis(100);
/// How many acknowledged ends are remembered.
const REMEMBERED_ENDS: usize = 10_000;

/// An order to run an attempt, as far as it matters here.
#[derive(Debug, Clone)]
pub struct Order {
    /// The job.
    pub job: JobId,
    /// Which attempt.
    pub attempt: u32,
    /// The process meant.
    pub instance: InstanceId,
    /// Epoch of the scheduler's lease.
    pub epoch: u64,
    /// Whether its gateway has given it, and has told nobody yet.
    pub is_untold: bool,
}

/// Where an attempt would run: an engine and how much it takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The engine; replicas of one engine share its slots.
    pub engine: u32,
    /// Requests that the engine takes at once.
    pub slots: u32,
    /// Whether it takes requests now.
    pub is_ready: bool,
}

/// The answer to an [`Order`].
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Run it; its slot is taken. Older attempts of the job are void.
    Accept {
        /// Attempts of the same job that still run here: stop them at once,
        /// their slots are given away.
        void: Vec<RunningAttempt>,
    },
    /// It runs already.
    Running,
    /// It has ended.
    Ended(Box<AttemptEnd>),
    /// No slot is free, or the agent is stopping.
    Busy,
    /// A scheduler with this higher epoch has spoken.
    Stale(u64),
    /// The order was for another process.
    WrongInstance,
    /// There is no such replica.
    NoReplica,
    /// The replica's engine does not answer.
    NotReady,
}

/// The answer to an order to stop.
#[derive(Debug, Clone, PartialEq)]
pub enum StopOrder {
    /// These attempts must stop; the last one's end is the answer.
    Stop(Vec<RunningAttempt>),
    /// It has ended.
    Ended(Box<AttemptEnd>),
    /// No such attempt is known.
    NotRunning,
    /// A scheduler with this higher epoch has spoken.
    Stale(u64),
}

/// The attempts of one agent process.
#[derive(Debug, Clone)]
pub struct Ledger {
    instance: InstanceId,
    epoch: u64,
    is_stopping: bool,
    running: BTreeMap<RunningAttempt, u32>,
    /// Those of which only their gateways know: nobody else is told.
    hidden: BTreeSet<RunningAttempt>,
    /// Those whose order came more than once, perhaps from two schedulers.
    repeated: BTreeSet<RunningAttempt>,
    ended: BTreeMap<RunningAttempt, Box<AttemptEnd>>,
    untold: BTreeSet<RunningAttempt>,
    /// When they are to be told, at latest.
    due: Option<Duration>,
    /// The jobs of those that were ordered by their gateways.
    granted: BTreeMap<RunningAttempt, Box<Granted>>,
    told: VecDeque<(Duration, RunningAttempt)>,
    busy: BTreeMap<u32, u32>,
}

impl Ledger {
    /// Nothing is in the hands of this process yet.
    #[must_use]
    pub fn new(instance: InstanceId) -> Self {
        Self {
            instance,
            epoch: 0,
            is_stopping: false,
            running: BTreeMap::new(),
            hidden: BTreeSet::new(),
            repeated: BTreeSet::new(),
            ended: BTreeMap::new(),
            untold: BTreeSet::new(),
            due: None,
            granted: BTreeMap::new(),
            told: VecDeque::new(),
            busy: BTreeMap::new(),
        }
    }

    /// Answers an order to run; `seat` is the replica it names, if there is one.
    pub fn order(&mut self, order: &Order, seat: Option<Seat>) -> Verdict {
        if order.epoch < self.epoch {
            return Verdict::Stale(self.epoch);
        }
        self.epoch = order.epoch;
        if order.instance != self.instance {
            return Verdict::WrongInstance;
        }
        let key = RunningAttempt {
            job: order.job,
            attempt: order.attempt,
        };
        if self.running.contains_key(&key) {
            self.repeated.insert(key);
            self.hidden.remove(&key);
            return Verdict::Running;
        }
        if let Some(end) = self.ended.get(&key) {
            return Verdict::Ended(end.clone());
        }
        if self.knows_later_than(key) {
            return Verdict::Ended(Box::new(superseded(key)));
        }
        let Some(seat) = seat else {
            return Verdict::NoReplica;
        };
        if self.is_stopping {
            return Verdict::Busy;
        }
        if !seat.is_ready {
            return Verdict::NotReady;
        }
        let void = self.running_up_to(key);
        let is_here = |attempt: &&RunningAttempt| self.running.get(attempt) == Some(&seat.engine);
        let given_back = void.iter().filter(is_here).count();
        if self.busy(seat.engine) as usize >= seat.slots as usize + given_back {
            return Verdict::Busy;
        }
        for attempt in &void {
            self.free_slot_of(*attempt);
        }
        *self.busy.entry(seat.engine).or_default() += 1;
        self.running.insert(key, seat.engine);
        if order.is_untold {
            self.hidden.insert(key);
        }
        Verdict::Accept { void }
    }

    /// Answers an order to stop every attempt of a job up to this one.
    pub fn stop(&mut self, upto: RunningAttempt, epoch: u64) -> StopOrder {
        if epoch < self.epoch {
            return StopOrder::Stale(self.epoch);
        }
        self.epoch = epoch;
        let running = self.running_up_to(upto);
        if !running.is_empty() {
            return StopOrder::Stop(running);
        }
        let ended = self.ended.range(first_of(upto)..=upto).next_back();
        match ended {
            Some((_, end)) => StopOrder::Ended(end.clone()),
            None => StopOrder::NotRunning,
        }
    }

    /// An attempt has ended and its order still waits for its answer. Returns
    /// whether the end is the answer; otherwise it is to be told, as ever.
    ///
    /// An answer that gets lost is asked for again, and who takes over meanwhile
    /// finds the final in the transcript. So this holds for finals alone, and
    /// where only one has ordered the attempt.
    pub fn answered(&mut self, end: AttemptEnd, now: Duration) -> bool {
        let is_final = matches!(end.how, AttemptOutcome::Final { .. });
        let is_told = is_final && !self.repeated.contains(&key_of(&end));
        self.ended(end.clone(), now);
        if is_told {
            self.acknowledged(std::slice::from_ref(&end), now);
        }
        is_told
    }

    /// By now others than its gateway know of an attempt.
    pub fn is_known(&mut self, attempt: RunningAttempt) {
        self.hidden.remove(&attempt);
    }

    /// An attempt has ended, `took` after its order, of which nobody but its gateway
    /// may know. A final that came before the gateway told waits for others, to be told
    /// with them.
    pub fn granted_ended(
        &mut self,
        end: AttemptEnd,
        granted: Box<Granted>,
        took: Duration,
        now: Duration,
    ) {
        let is_final = matches!(end.how, AttemptOutcome::Final { .. });
        let is_untold = granted.whole && took < GRANTED_TELLS_AFTER;
        let wait = match is_final && is_untold {
            true => GATHERED,
            false => Duration::ZERO,
        };
        self.granted.insert(key_of(&end), granted);
        self.ended(end, now + wait);
    }

    /// An attempt has ended: its slot is free, its end is to be told from `due` on.
    pub fn ended(&mut self, end: AttemptEnd, due: Duration) {
        let key = key_of(&end);
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
        self.free_slot_of(key);
        self.repeated.remove(&key);
        self.untold.insert(key);
        self.ended.insert(key, Box::new(end));
    }

    /// When ends are to be told; `None` while there are none.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        self.due.filter(|_| !self.untold.is_empty())
    }

    /// Jobs of these ends that their gateways had ordered.
    #[must_use]
    pub fn granted(&self, ends: &[AttemptEnd]) -> Vec<Granted> {
        let granted = ends.iter().filter_map(|end| self.granted.get(&key_of(end)));
        granted.map(|granted| (**granted).clone()).collect()
    }

    /// Ends that nobody has acknowledged, at most `limit`.
    #[must_use]
    pub fn untold(&self, limit: usize) -> Vec<AttemptEnd> {
        let ends = self.untold.iter().filter_map(|key| self.ended.get(key));
        ends.take(limit).map(|end| (**end).clone()).collect()
    }

    /// The scheduler knows these ends now. Forgets what it knew long enough.
    pub fn acknowledged(&mut self, ends: &[AttemptEnd], now: Duration) {
        for key in ends.iter().map(key_of) {
            if self.untold.remove(&key) {
                self.told.push_back((now, key));
                self.granted.remove(&key);
            }
        }
        if self.untold.is_empty() {
            self.due = None;
        }
        let is_old = |at: Duration| now.saturating_sub(at) >= REMEMBERED;
        while let Some((at, key)) = self.told.front().copied() {
            if self.told.len() <= REMEMBERED_ENDS && !is_old(at) {
                break;
            }
            self.told.pop_front();
            self.ended.remove(&key);
        }
    }

    /// From now on every new attempt is refused as busy.
    pub fn stopping(&mut self) {
        self.is_stopping = true;
    }

    /// Attempts whose end was not yet acknowledged, for the heartbeat.
    #[must_use]
    pub fn in_hand(&self) -> Vec<RunningAttempt> {
        let is_known =
            |key: &&RunningAttempt| !self.granted.contains_key(key) && !self.hidden.contains(key);
        let all = self.running.keys().chain(&self.untold).filter(is_known);
        let mut all: Vec<_> = all.copied().collect();
        all.sort_unstable();
        all
    }

    /// Attempts that run on an engine.
    #[must_use]
    pub fn busy(&self, engine: u32) -> u32 {
        self.busy.get(&engine).copied().unwrap_or_default()
    }

    /// Attempts that run on an engine and that others than their gateways know of.
    #[must_use]
    pub fn known_busy(&self, engine: u32) -> u32 {
        let is_here = |attempt: &&RunningAttempt| self.running.get(attempt) == Some(&engine);
        let hidden = self.hidden.iter().filter(is_here).count();
        let hidden = u32::try_from(hidden).unwrap_or(u32::MAX);
        self.busy(engine).saturating_sub(hidden)
    }

    /// How many attempts run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    fn free_slot_of(&mut self, attempt: RunningAttempt) {
        self.hidden.remove(&attempt);
        if let Some(engine) = self.running.remove(&attempt)
            && let Some(busy) = self.busy.get_mut(&engine)
        {
            *busy = busy.saturating_sub(1);
        }
    }

    fn running_up_to(&self, upto: RunningAttempt) -> Vec<RunningAttempt> {
        let range = self.running.range(first_of(upto)..=upto);
        range.map(|(key, _)| *key).collect()
    }

    fn knows_later_than(&self, key: RunningAttempt) -> bool {
        let last = RunningAttempt {
            attempt: u32::MAX,
            ..key
        };
        let running = self.running.range(key..=last).next().is_some();
        running || self.ended.range(key..=last).next().is_some()
    }
}

fn first_of(key: RunningAttempt) -> RunningAttempt {
    RunningAttempt { attempt: 0, ..key }
}

fn key_of(end: &AttemptEnd) -> RunningAttempt {
    RunningAttempt {
        job: end.job,
        attempt: end.attempt,
    }
}

fn superseded(key: RunningAttempt) -> AttemptEnd {
    AttemptEnd {
        job: key.job,
        attempt: key.attempt,
        how: AttemptOutcome::Superseded,
        sequence: 0,
        stored: false,
    }
}

#[cfg(test)]
mod tests;
