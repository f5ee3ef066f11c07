//! Slots that gateways may fill by themselves.
//!
//! The scheduler decides beforehand where the next chats of a gateway go and
//! grants it slots there for a moment, as radio networks grant their terminals
//! time slots before they have anything to send (3GPP TS 38.321, "configured
//! grant"). The gateway sends such a chat to the agent at once; the scheduler
//! hears of it from the agent when it has ended, or from the gateway when it has
//! not ended soon.

use super::{Assignment, Door, Job, JobState, RunOrder, RunReply, Submit};
use crate::UnixMs;
use crate::id::ModelName;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a gateway waits for the end of a chat that it has ordered by itself
/// before it tells the scheduler, where nothing is shown before the end.
pub const GRANTED_TELLS_AFTER: Duration = Duration::from_millis(25);

/// How long an agent waits for the end of such a chat before it answers the order:
/// by then the scheduler knows of the job.
pub const GRANTED_HELD: Duration = Duration::from_millis(35);

/// What a gateway may give orders for (`evt.gateway.grants.{gateway}`); in place
/// of all that it was granted before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Epoch of the scheduler's lease: that of the orders.
    pub epoch: u64,
    /// From now, in milliseconds.
    pub for_ms: u64,
    /// For chats with each of these models.
    pub models: Vec<ModelGrants>,
}

/// Where the next chats with a model go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelGrants {
    /// The model.
    pub model: ModelName,
    /// The places.
    pub places: Vec<Grant>,
    /// The places of the next chats, one after the other, by their numbers in
    /// `places`. A place takes as many at a time as it has turns.
    pub turns: Vec<u8>,
}

/// A place where chats go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The replica and its agent's process.
    pub to: Assignment,
    /// Longest request, in bytes of its body and tokens of its answer together:
    /// it certainly fits into the context.
    pub longest: u64,
}

impl ModelGrants {
    /// The place of the next chat, while `used` tells how many are under way at each
    /// place: that of the first turn that nobody has.
    #[must_use]
    pub fn next(&self, used: impl Fn(&Grant) -> u32) -> Option<&Grant> {
        let mut taken: Vec<u32> = self.places.iter().map(used).collect();
        let is_free = |place: &&u8| match taken.get_mut(usize::from(**place)) {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        let turn = self.turns.iter().find(is_free)?;
        self.places.get(usize::from(*turn))
    }
}

impl Grant {
    /// The order of the first attempt of a job that goes there, sent at `now`.
    #[must_use]
    pub fn order(&self, epoch: u64, submit: &Submit, now: UnixMs) -> RunOrder {
        let spec = submit.spec.clone().seeded(&submit.job);
        RunOrder {
            job: submit.job,
            reader: submit.reader.clone(),
            attempt: 1,
            instance: self.to.instance.clone(),
            replica: self.to.replica.clone(),
            epoch,
            remaining_ms: spec.deadline_ms,
            granted_ms: Some(now),
            spec,
            prefix_by: None,
            correlation_id: submit.correlation_id.clone(),
        }
    }
}

/// A gateway has ordered the first attempt of a job by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ordered {
    /// Of whom.
    pub to: Assignment,
    /// What came of it, if that is known and is not that the agent has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declined: Option<Declined>,
}

/// Why an attempt that was ordered does not run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Declined {
    /// Its agent says so.
    Said(RunReply),
    /// Nobody was there to take it.
    Nobody,
}

/// A job of which nobody but its gateway and its agent may know, for whoever is told
/// of its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Granted {
    /// As it would have been on record, without what it computes.
    pub job: Job,
    /// Whether its answer is wanted whole: who has read it need not come back.
    #[serde(default)]
    pub whole: bool,
    /// Size of the request, in bytes.
    pub prompt_bytes: u64,
    /// Most tokens to generate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

impl Granted {
    /// The job of an order that its gateway gave at `to.at_ms`.
    #[must_use]
    pub fn new(order: &RunOrder, to: Assignment) -> Self {
        let spec = &order.spec;
        let job = Job {
            id: order.job,
            reader: order.reader.clone(),
            door: Door::Chat,
            gateway: order.reader.gateway().cloned(),
            spec: None,
            workload: spec.workload,
            model: spec.model.clone(),
            priority: spec.priority,
            request_digest: spec.digest(),
            correlation_id: order.correlation_id.clone(),
            state: JobState::Assigned,
            queue_seq: 0,
            attempt: order.attempt,
            failures: 0,
            created_ms: to.at_ms,
            deadline_at_ms: to.at_ms + spec.deadline_ms,
            assigned: Some(to),
            prefix_by: None,
            end: None,
        };
        Self {
            job,
            whole: spec.whole,
            prompt_bytes: spec.body_bytes(),
            max_tokens: spec.max_tokens,
        }
    }
}
