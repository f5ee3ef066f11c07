//! Jobs, replicas and nodes as planning sees them.

use super::ReplicaKey;
use crate::Now;
use crate::breaker::Breaker;
use crate::doubt::Denials;
use crate::experience::Demand;
use crate::report::Decided;
use crate::score::Score;
use orchion_contract::job::{CancelReason, Job, JobState};
use orchion_contract::node::{NodeState, Replica};
use orchion_contract::placement::MAX_DECISIONS;
use orchion_contract::{InstanceId, ReplicaId, UnixMs};
use std::collections::{BTreeMap, VecDeque};

/// Where an open job is on its way, beyond what its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It waits for a slot.
    Queued,
    /// Its next attempt is being opened: mark, then record, then order.
    Opening,
    /// The order is under way or must be sent.
    Ordered,
    /// Its agent has it.
    Running,
    /// It was asked to give its slot to an interactive job.
    Yielding,
    /// Its end is being written.
    Ending,
}

/// An open job.
#[derive(Debug, Clone)]
pub struct JobView {
    /// The record, as it is or is being written.
    pub record: Job,
    /// Where it is on its way.
    pub phase: Phase,
    /// Not to be placed before: back-off after a failure.
    pub not_before: Now,
    /// Failures in a row, stored or not, but for denials; decides the back-off.
    pub tries: u32,
    /// Engines that live and gave it no answer, since it stored something last.
    pub denials: Denials,
    /// The replica that failed last: others first.
    pub avoid: Option<ReplicaKey>,
    /// Whether an attempt has stored a piece, or may have: another one must continue.
    pub has_prefix: bool,
    /// Why it is being stopped.
    pub stop_reason: Option<CancelReason>,
    /// When its agent took the order, once that is known.
    pub started_ms: Option<UnixMs>,
    /// When the order was sent last.
    pub ordered_at: Now,
    /// When it must have ended.
    pub deadline: Now,
    /// How much work it is.
    pub demand: Demand,
    /// Whether it is placed and no heartbeat has shown it yet.
    pub unseen: bool,
    /// Memory set aside for it until a heartbeat shows it, in bytes.
    pub reserved: u64,
    /// How often it gave its slot away.
    pub yields: u32,
    /// What was decided about it, oldest first.
    pub decisions: VecDeque<Decided>,
}

impl JobView {
    /// Whether it may go anywhere: nothing stored, nothing failed, nothing wished.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let wishes = self
            .record
            .spec
            .as_ref()
            .is_some_and(|spec| spec.placement.is_some());
        !self.has_prefix && self.avoid.is_none() && self.not_before == Now::ZERO && !wishes
    }

    /// When its agent took it, while it runs.
    #[must_use]
    pub fn running_since(&self) -> Option<UnixMs> {
        let runs = matches!(self.phase, Phase::Running | Phase::Yielding);
        self.started_ms.filter(|_| runs)
    }

    /// Where it stands, as people and programs are told.
    #[must_use]
    pub fn state(&self) -> JobState {
        match self.running_since() {
            Some(_) => JobState::Running,
            None => self.record.state,
        }
    }

    /// Keeps a decision, and forgets the oldest.
    pub fn decided(&mut self, decision: Decided) {
        if self.decisions.len() == MAX_DECISIONS {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision);
    }
}

/// A replica and its load.
#[derive(Debug, Clone)]
pub struct ReplicaView {
    /// What it is.
    pub replica: Replica,
    /// Jobs that our records place on it.
    pub recorded: u32,
    /// Requests that its agent last reported.
    pub reported: u32,
    /// Jobs placed on it that no heartbeat has shown yet.
    pub unseen: u32,
    /// Graphics memory free, as last reported, in bytes.
    pub memory_free: u64,
    /// Memory given to jobs that no heartbeat has shown yet, in bytes.
    pub reserved: u64,
    /// Whether its weights are in memory.
    pub loaded: bool,
    /// When it was ready last.
    pub ready_at: Now,
    /// Its failures in a row.
    pub breaker: Breaker,
    /// When it was chosen last, counted in choices.
    pub turn: u64,
    /// Its rank among those with a free slot; `None` when it cannot take any.
    pub(super) rank: Option<Score>,
}

impl ReplicaView {
    /// Slots in use: what we recorded, or what was reported and what came since,
    /// whichever is more.
    #[must_use]
    pub fn occupied(&self) -> u32 {
        self.recorded.max(self.reported + self.unseen)
    }
}

/// A node and its replicas.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// The name of its host.
    pub hostname: String,
    /// The agent process that is registered.
    pub instance: InstanceId,
    /// Whether it is there.
    pub state: NodeState,
    /// When it was last seen in another state than lost.
    pub seen_at: Now,
    /// What it serves.
    pub replicas: BTreeMap<ReplicaId, ReplicaView>,
}
