//! Standing by, taking over, and being in charge.

use crate::charge::Charge;
use crate::config::Scheduler;
use crate::questions::Asked;
use futures_util::FutureExt;
use orchion_bus::{Answers, Bus, Change, LeaseHandle, Subscription, Watch};
use orchion_contract::buckets::{LEASES, NODES};
use orchion_contract::job::RunReply;
use orchion_contract::lease::{Lease, LeaseKey};
use orchion_contract::node::{Heartbeat, Node};
use orchion_contract::subjects::{HEARTBEAT, JOB_ANSWERED};
use orchion_contract::{JobId, NodeId, ReaderId};
use orchion_scheduler_core::{Input, Reply};
use orchion_service::Stop;
use std::time::Duration;
use tokio::sync::mpsc;

/// Questions, or things that came back, taken in before the next plan.
const BATCH: usize = 256;

/// Waits for the lease, is in charge while it lasts, and waits again.
pub(crate) async fn run(
    bus: Bus,
    lease: LeaseHandle,
    mut questions: mpsc::Receiver<Asked>,
    settings: Scheduler,
    stop: Stop,
) -> anyhow::Result<()> {
    let mut changes = lease.changes();
    while !stop.is_stopping() {
        let epoch = *changes.borrow_and_update();
        if let Some(epoch) = epoch {
            let session = Session {
                bus: &bus,
                lease: &lease,
                settings: &settings,
                epoch,
            };
            let served = tokio::select! {
                served = session.serve(&mut questions) => served,
                () = stop.stopped() => Ok(()),
                _ = changes.changed() => Ok(()),
            };
            if let Err(error) = served {
                tracing::warn!(error = format!("{error:#}"), "reading the state anew");
                stop.unless_stopped(tokio::time::sleep(Duration::from_millis(100)))
                    .await;
            }
            continue;
        }
        tokio::select! {
            () = stop.stopped() => {}
            _ = changes.changed() => {}
            // Somebody else answers.
            _ = questions.recv() => {}
        }
    }
    Ok(())
}

struct Session<'a> {
    bus: &'a Bus,
    lease: &'a LeaseHandle,
    settings: &'a Scheduler,
    epoch: u64,
}

/// What the holder listens to.
struct Sources {
    nodes: Watch<NodeId, Node>,
    leases: Watch<LeaseKey, Lease>,
    beats: Subscription<NodeId, Heartbeat>,
    answered: Answers<(ReaderId, JobId), RunReply>,
}

impl Session<'_> {
    async fn serve(&self, questions: &mut mpsc::Receiver<Asked>) -> anyhow::Result<()> {
        let mut sources = Sources {
            beats: self.bus.subscribe(HEARTBEAT).await?,
            answered: self.bus.answers(JOB_ANSWERED).await?,
            nodes: self.bus.bucket(NODES).watch().await?,
            leases: self.bus.bucket(LEASES).watch().await?,
        };
        let mut charge = Charge::new(self.bus, self.lease, self.epoch, self.settings);
        loop {
            if self.lease.epoch() != Some(self.epoch) {
                return Ok(());
            }
            charge.perform()?;
            let wake = charge.next_wake();
            tokio::select! {
                asked = questions.recv(), if charge.is_complete() => match asked {
                    Some(asked) => {
                        charge.ask(asked);
                        for _ in 0..BATCH {
                            let Ok(more) = questions.try_recv() else { break };
                            charge.ask(more);
                        }
                    }
                    None => return Ok(()),
                },
                Some(input) = charge.done(), if charge.has_work() => {
                    charge.hear(input);
                    for _ in 0..BATCH {
                        let Some(Some(more)) = charge.done().now_or_never() else { break };
                        charge.hear(more);
                    }
                }
                change = sources.nodes.next() => charge.hear(node(change?)),
                change = sources.leases.next() => if let Some(input) = gateway(change?) {
                    charge.hear(input);
                },
                Some((_, beat)) = sources.beats.next() => charge.hear(Input::Beat(Box::new(beat))),
                Some(((_, job), reply)) = sources.answered.next() => if let Ok(reply) = reply {
                    charge.hear(answered(job, reply));
                },
                () = tokio::time::sleep_until(wake.into()), if charge.is_complete() => charge.look(),
            }
        }
    }
}

/// The first attempt of a job, which its gateway has ordered by itself. That nobody
/// listens to such an order is told to that gateway alone.
fn answered(job: JobId, reply: RunReply) -> Input {
    Input::Replied {
        job,
        attempt: 1,
        reply: Reply::Said(reply),
    }
}

fn node(change: Change<NodeId, Node>) -> Input {
    match change {
        Change::Loaded => Input::NodesLoaded,
        Change::Set { key, found } => Input::Node {
            id: key,
            node: found.value.map(Box::new),
        },
    }
}

fn gateway(change: Change<LeaseKey, Lease>) -> Option<Input> {
    match change {
        Change::Loaded => Some(Input::GatewaysLoaded),
        Change::Set {
            key: LeaseKey::Gateway(gateway),
            found,
        } => Some(Input::Gateway {
            gateway,
            lives: found.value.is_some(),
        }),
        Change::Set {
            key: LeaseKey::Scheduler | LeaseKey::Registry,
            ..
        } => None,
    }
}
