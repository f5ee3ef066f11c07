//! Orders to agents, and what they answer.

use super::{CancelReason, Granted, JobEnd, JobSpec};
use crate::UnixMs;
use crate::error::ErrorBody;
use crate::id::{InstanceId, JobId, NodeId, ReaderId, ReplicaId};
use crate::node::EngineRef;
use serde::{Deserialize, Serialize};

/// The scheduler tells an agent to run an attempt (`cmd.node.run.{node}`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunOrder {
    /// The job.
    pub job: JobId,
    /// Where its transcript is.
    pub reader: ReaderId,
    /// Which attempt.
    pub attempt: u32,
    /// The agent process meant: another one answers `wrong_instance`.
    pub instance: InstanceId,
    /// The replica to use.
    pub replica: ReplicaId,
    /// Epoch of the scheduler's lease.
    pub epoch: u64,
    /// What to compute, seed included.
    pub spec: JobSpec,
    /// The engine that wrote the prefix, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_by: Option<EngineRef>,
    /// Time left until the deadline, in milliseconds.
    pub remaining_ms: u64,
    /// Ties messages, logs and answers together.
    pub correlation_id: String,
    /// When the gateway took the job that gives this order by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted_ms: Option<UnixMs>,
}

impl RunOrder {
    /// Whether its gateway has told nobody yet: it waits for a whole answer, and a final
    /// that comes soon takes the place of the answer to the order.
    #[must_use]
    pub fn is_untold(&self) -> bool {
        self.granted_ms.is_some() && self.spec.whole
    }
}

/// The agent's answer to a [`RunOrder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum RunReply {
    /// It starts now.
    Accepted,
    /// It had started already.
    Running,
    /// It had ended already.
    Ended {
        /// How.
        end: Box<AttemptEnd>,
    },
    /// No slot is free; not a failure.
    Busy,
    /// A scheduler with a higher epoch has spoken.
    Stale {
        /// The higher epoch.
        epoch: u64,
    },
    /// The order was for another process of this node.
    WrongInstance {
        /// The process that answers.
        instance: InstanceId,
    },
    /// It cannot be done here: no such replica.
    Refused {
        /// Why.
        error: ErrorBody,
    },
}

/// The scheduler tells an agent to stop an attempt (`cmd.node.cancel.{node}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelOrder {
    /// The job.
    pub job: JobId,
    /// Which attempt; every attempt up to this one is stopped.
    pub attempt: u32,
    /// Epoch of the scheduler's lease.
    pub epoch: u64,
    /// Why. `Superseded` and `Preempted` stop without writing a final.
    pub reason: CancelReason,
}

/// The agent's answer to a [`CancelOrder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum CancelReply {
    /// The engine is free and the attempt has ended.
    Ended {
        /// How.
        end: Box<AttemptEnd>,
    },
    /// No such attempt is in this agent's hands.
    NotRunning,
    /// A scheduler with a higher epoch has spoken.
    Stale {
        /// The higher epoch.
        epoch: u64,
    },
}

/// How an attempt ended, as its agent tells it (`rpc.scheduler.ended`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// The job.
    pub job: JobId,
    /// Which attempt.
    pub attempt: u32,
    /// How.
    #[serde(flatten)]
    pub how: AttemptOutcome,
    /// Sequence of the last entry the attempt stored; 0 when it stored none.
    pub sequence: u64,
    /// Whether the attempt itself stored any piece.
    pub stored: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The final is in the transcript: the job has ended.
    Final {
        /// What the final says.
        end: Box<JobEnd>,
    },
    /// No final was written; another attempt may help.
    Failed {
        /// Why.
        error: ErrorBody,
    },
    /// Somebody else wrote into the transcript: this attempt is void.
    Superseded,
    /// It made room for somebody who waits; all it said is stored, and the job
    /// goes on behind it. No failure.
    Preempted,
}

/// Ends of attempts, repeated until answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndedBatch {
    /// The host.
    pub node: NodeId,
    /// The agent process.
    pub instance: InstanceId,
    /// What ended.
    pub ends: Vec<AttemptEnd>,
    /// Those of their jobs that gateways have ordered by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<Granted>,
}
