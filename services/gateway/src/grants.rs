//! Slots that this gateway may fill by itself, and the chats that fill them.
//!
//! The scheduler grants them for a moment. A chat that goes there is ordered at
//! once; what its agent answers, if it declines or fails, comes back here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use orchion_bus::{Bus, Error};
use orchion_contract::job::{
    Assignment, AttemptOutcome, CancelOrder, CancelReason, CancelReply, Declined, Grant, Grants,
    JobSpec, ModelGrants, Ordered, RunReply, Submit,
};
use orchion_contract::rpc::{CANCEL, RUN};
use orchion_contract::subjects::{GRANTS, JOB_ANSWERED};
use orchion_contract::{JobId, ModelName, NodeId, ReaderId, ReplicaId, UnixMs};
use orchion_service::Stop;
use tokio::sync::oneshot;

/// How long an agent has to answer that an attempt is stopped.
const STOP_TRY: Duration = Duration::from_secs(1);
/// Pause before an agent is told once more to stop what it does not know.
const STOP_AGAIN: Duration = Duration::from_millis(100);

/// What this gateway was granted; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Slots(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    epoch: u64,
    until: Option<Instant>,
    grants: HashMap<ModelName, ModelGrants>,
    /// Chats that are under way, by where they went.
    used: HashMap<Place, u32>,
    /// Those that the scheduler was told of since it granted, and counts the next time.
    told: HashMap<Place, u32>,
    /// Those of which the agent may still decline.
    waiting: HashMap<JobId, oneshot::Sender<Declined>>,
}

type Place = (NodeId, ReplicaId);

/// A chat in a granted slot; dropping it gives the slot back.
pub(crate) struct Permit {
    slots: Slots,
    job: JobId,
    epoch: u64,
    grant: Grant,
    declined: oneshot::Receiver<Declined>,
}

/// Where a chat went that this gateway has ordered.
pub(crate) struct Sent {
    job: JobId,
    node: NodeId,
    epoch: u64,
}

impl Slots {
    /// Takes in what is granted, and what agents decline, until `stop`.
    ///
    /// # Errors
    /// When the connection is closed for good.
    pub(crate) async fn listen(self, bus: Bus, reader: ReaderId, stop: Stop) -> anyhow::Result<()> {
        let mut grants = bus.subscribe_to(GRANTS, &reader).await?;
        let mut answers = bus.answers_to(JOB_ANSWERED, &reader).await?;
        loop {
            tokio::select! {
                () = stop.stopped() => return Ok(()),
                Some((_, told)) = grants.next() => self.set(told),
                Some(((_, job), reply)) = answers.next() => self.answered(job, reply),
                else => anyhow::bail!("the connection to NATS was closed"),
            }
        }
    }

    fn set(&self, told: Grants) {
        let mut state = self.lock();
        state.epoch = told.epoch;
        state.until = Some(Instant::now() + Duration::from_millis(told.for_ms));
        let models = told.models.into_iter();
        state.grants = models.map(|of| (of.model.clone(), of)).collect();
        state.told.clear();
    }

    /// An agent has answered an order. That it has the attempt is no news.
    fn answered(&self, job: JobId, reply: Result<RunReply, Error>) {
        let declined = match reply {
            Ok(RunReply::Accepted | RunReply::Running) => return,
            Ok(reply) => Declined::Said(reply),
            Err(Error::NoResponders { .. }) => Declined::Nobody,
            Err(error) => {
                tracing::debug!(%error, job.id = %job, "the answer to an order of job {job} cannot be read");
                return;
            }
        };
        if let Some(waiting) = self.lock().waiting.remove(&job) {
            // Who does not wait any more has hung up.
            let _ = waiting.send(declined);
        }
    }

    /// A slot for this chat; `None` when the scheduler is to decide.
    pub(crate) fn take(&self, job: JobId, spec: &JobSpec) -> Option<Permit> {
        if !spec.may_be_granted() {
            return None;
        }
        // No token is shorter than a byte, and a template is shorter than the fields.
        let length = spec.body_bytes() + u64::from(spec.max_tokens.unwrap_or(1));
        let mut state = self.lock();
        let State {
            epoch,
            until,
            grants,
            used,
            told,
            waiting,
        } = &mut *state;
        if until.is_none_or(|until| until <= Instant::now()) {
            return None;
        }
        let grants = grants.get(&spec.model)?;
        let under_way = |grant: &Grant| {
            let place = place(grant);
            let counts = [used.get(&place), told.get(&place)];
            counts.into_iter().flatten().sum()
        };
        let grant = grants.next(under_way)?;
        if length > grant.longest {
            return None;
        }
        let (sender, declined) = oneshot::channel();
        waiting.insert(job, sender);
        let permit = Permit {
            slots: self.clone(),
            job,
            epoch: *epoch,
            grant: grant.clone(),
            declined,
        };
        *used.entry(place(grant)).or_default() += 1;
        Some(permit)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(grant: &Grant) -> Place {
    (grant.to.node.clone(), grant.to.replica.clone())
}

impl Permit {
    /// Sends the order.
    ///
    /// # Errors
    /// When it did not go out. The scheduler sends it again, once it is told.
    pub(crate) async fn order(&self, bus: &Bus, submit: &Submit) -> Result<(), Error> {
        let now = unix_ms();
        let order = self.grant.order(self.epoch, submit, now);
        let answers = (submit.reader.clone(), submit.job);
        let node = &self.grant.to.node;
        bus.ask_for(&RUN, node, &order, &JOB_ANSWERED, &answers)
            .await
    }

    /// Where the order goes.
    pub(crate) fn sent(&self) -> Sent {
        Sent {
            job: self.job,
            node: self.grant.to.node.clone(),
            epoch: self.epoch,
        }
    }

    /// Waits for the news that the attempt does not run.
    pub(crate) async fn declined(&mut self) -> Option<Declined> {
        (&mut self.declined).await.ok()
    }

    /// Gives the slot back when the scheduler is told, who counts it from then on.
    pub(crate) fn hand_over(self) {
        let mut state = self.slots.lock();
        *state.told.entry(place(&self.grant)).or_default() += 1;
    }

    /// What the scheduler is told.
    pub(crate) fn ordered(&self) -> Box<Ordered> {
        let to = Assignment {
            at_ms: unix_ms(),
            ..self.grant.to.clone()
        };
        Box::new(Ordered { to, declined: None })
    }
}

impl Sent {
    /// Tells the agent that nobody wants the answer any more: it hears that without a
    /// scheduler, too. Returns whether the job has ended by that.
    pub(crate) async fn stop(&self, bus: &Bus) -> bool {
        let order = CancelOrder {
            job: self.job,
            attempt: 1,
            epoch: self.epoch,
            reason: CancelReason::Disconnect,
        };
        let reply = bus.ask(&CANCEL, &self.node, &order, STOP_TRY).await;
        let reply = match reply {
            // It may have overtaken the order. Nobody tells when an agent takes that: what
            // it declines is told, and what it takes may be told late.
            Ok(CancelReply::NotRunning) => {
                tokio::time::sleep(STOP_AGAIN).await;
                bus.ask(&CANCEL, &self.node, &order, STOP_TRY).await
            }
            other => other,
        };
        match reply {
            Ok(CancelReply::Ended { end }) => matches!(end.how, AttemptOutcome::Final { .. }),
            Ok(CancelReply::NotRunning | CancelReply::Stale { .. }) | Err(_) => false,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.waiting.remove(&self.job);
        let place = place(&self.grant);
        if let Some(used) = state.used.get_mut(&place) {
            *used -= 1;
            if *used == 0 {
                state.used.remove(&place);
            }
        }
    }
}

/// For people and history only.
fn unix_ms() -> UnixMs {
    let since = UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn grant(node: &str) -> Grant {
        let to = json!({
            "node": node, "instance": "1", "replica": "r", "at_ms": 1,
            "engine": {"kind": "openai", "version": null, "digest": null},
        });
        Grant {
            to: serde_json::from_value(to).unwrap(),
            longest: 1000,
        }
    }

    fn granted() -> Grants {
        let models = vec![ModelGrants {
            model: "m".into(),
            places: vec![grant("a"), grant("b")],
            turns: vec![0, 1, 0, 1],
        }];
        Grants {
            epoch: 1,
            for_ms: 60_000,
            models,
        }
    }

    #[test]
    fn whom_the_scheduler_was_told_of_counts_until_it_grants_anew() {
        let slots = Slots::default();
        let spec = json!({
            "workload": "chat", "model": "m", "priority": "interactive",
            "deadline_ms": 1000, "body": {},
        });
        let spec: JobSpec = serde_json::from_value(spec).unwrap();
        let take = || slots.take(JobId::now(), &spec);
        let node = |permit: &Permit| permit.sent().node.to_string();
        slots.set(granted());
        let ended = take().unwrap();
        assert_eq!(node(&ended), "a");
        drop(ended);
        let mut told = Vec::new();
        while let Some(permit) = take() {
            told.push(node(&permit));
            permit.hand_over();
        }
        assert_eq!(told, ["a", "b", "a", "b"]);
        slots.set(granted());
        assert_eq!(node(&take().unwrap()), "a");
    }
}
