//! Standing by, taking over, and being in charge.

use crate::config::Scheduler;
use crate::effects::last_entry;
use crate::holder::Holder;
use crate::questions::Asked;
use crate::view::unix_ms;
use futures_util::StreamExt;
use orchion_bus::{Bus, Change, Kv, LeaseHandle, Subscription, Watch};
use orchion_contract::buckets::{JOBS, LEASES, NODES};
use orchion_contract::job::Job;
use orchion_contract::lease::{Lease, LeaseKey};
use orchion_contract::node::{Heartbeat, Node};
use orchion_contract::subjects::HEARTBEAT;
use orchion_contract::{JobId, NodeId};
use orchion_service::Stop;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Transcripts read at once when taking over.
const READ_AT_ONCE: usize = 64;
/// Questions taken in before the next plan.
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
}

impl Session<'_> {
    async fn serve(&self, questions: &mut mpsc::Receiver<Asked>) -> anyhow::Result<()> {
        let started = Instant::now();
        let (mut holder, mut sources) = self.take_over().await?;
        tracing::info!(
            lease.epoch = self.epoch,
            jobs.open = holder.open_jobs(),
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "in charge of {} open jobs",
            holder.open_jobs()
        );
        holder.resume();
        loop {
            if self.lease.epoch() != Some(self.epoch) {
                return Ok(());
            }
            holder.decide()?;
            let wake = tokio::time::Instant::from_std(holder.next_wake());
            tokio::select! {
                asked = questions.recv() => match asked {
                    Some(asked) => {
                        holder.asked(asked);
                        for _ in 0..BATCH {
                            let Ok(more) = questions.try_recv() else { break };
                            holder.asked(more);
                        }
                    }
                    None => return Ok(()),
                },
                Some(done) = holder.under_way.next(), if !holder.under_way.is_empty() => holder.done(done)?,
                change = sources.nodes.next() => holder.node_changed(change?),
                change = sources.leases.next() => holder.lease_changed(change?),
                Some((_, beat)) = sources.beats.next() => holder.heartbeat(&beat),
                () = tokio::time::sleep_until(wake) => holder.tick(),
            }
        }
    }

    /// Reads everything that is recorded; transcripts go before records.
    async fn take_over(&self) -> anyhow::Result<(Holder, Sources)> {
        let beats = self.bus.subscribe(HEARTBEAT).await?;
        let mut nodes = self.bus.bucket(NODES).watch().await?;
        let mut leases = self.bus.bucket(LEASES).watch().await?;
        let mut holder = Holder::new(self.bus, self.lease, self.epoch, self.settings);
        loop {
            let change = nodes.next().await?;
            if matches!(change, Change::Loaded) {
                break;
            }
            holder.node_changed(change);
        }
        loop {
            let change = leases.next().await?;
            if matches!(change, Change::Loaded) {
                break;
            }
            holder.lease_changed(change);
        }
        let open = self.load_jobs(&mut holder).await?;
        let adopt = |(job, revision): (Job, u64)| async move {
            let last = last_entry(self.bus, &job.reader, job.id).await;
            (job, revision, last.map(|(_, entry)| entry))
        };
        let mut adopted = futures_util::stream::iter(open)
            .map(adopt)
            .buffer_unordered(READ_AT_ONCE);
        while let Some((job, revision, last)) = adopted.next().await {
            holder.adopt(job, revision, last.as_ref(), unix_ms());
        }
        Ok((
            holder,
            Sources {
                nodes,
                leases,
                beats,
            },
        ))
    }

    async fn load_jobs(&self, holder: &mut Holder) -> anyhow::Result<Vec<(Job, u64)>> {
        let jobs: Kv<JobId, Job> = self.bus.bucket(JOBS);
        let mut records = jobs.watch().await?;
        let mut open = Vec::new();
        loop {
            match records.next().await? {
                Change::Loaded => return Ok(open),
                Change::Set { found, .. } => match found.value {
                    Some(job) if job.state.is_ended() => holder.remember(job),
                    Some(job) => open.push((job, found.revision)),
                    None => {}
                },
            }
        }
    }
}
