//! Holding a lease: the shell around `orchion_lease`.

use crate::bucket::{Change, Kv};
use crate::connect::Bus;
use crate::error::AppendError;
use orchion_contract::UnixMs;
use orchion_contract::buckets::LEASES;
use orchion_contract::lease::{Lease, LeaseKey};
use orchion_lease::{Contender, Effect, Input, Seen};
use orchion_service::{Stop, Tasks};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, watch};

/// How long one read or write of the lease may take before it counts as unanswered.
const PATIENCE: Duration = Duration::from_millis(400);

struct Shared {
    contender: Mutex<Contender>,
    start: Instant,
    held: watch::Sender<Option<u64>>,
    wake: Notify,
    /// Whether the lease is left to its TTL at the end.
    expires: AtomicBool,
}

/// A contender for a lease. Cheap to clone.
#[derive(Clone)]
pub struct LeaseHandle {
    shared: Arc<Shared>,
}

impl LeaseHandle {
    /// Contends for `key` until all work in flight has ended, then gives the
    /// lease back, so that a successor need not wait for its end.
    #[must_use]
    pub fn contend(bus: &Bus, key: LeaseKey, ttl: Duration, tasks: &Tasks) -> Self {
        let shared = Arc::new(Shared {
            contender: Mutex::new(Contender::new(ttl)),
            start: Instant::now(),
            held: watch::Sender::new(None),
            wake: Notify::new(),
            expires: AtomicBool::new(false),
        });
        let shell = Shell {
            shared: shared.clone(),
            kv: bus.bucket(LEASES),
            bus: bus.clone(),
            key,
            ttl,
        };
        tasks.spawn_support("lease", move |stop| shell.run(stop));
        Self { shared }
    }

    /// The epoch, while acting is allowed: asked before every act.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.shared
            .contender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .epoch(self.shared.start.elapsed())
    }

    /// Tells whenever the lease is acquired (its epoch) or lost (`None`).
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<u64>> {
        self.shared.held.subscribe()
    }

    /// Does not give the lease back at the end: others see it end as if the
    /// process had died, one TTL later.
    pub fn let_expire(&self) {
        self.shared.expires.store(true, Ordering::Relaxed);
    }

    /// Somebody knows of a higher epoch: acquire anew above it.
    pub fn outranked(&self, epoch: u64) {
        self.tell(Input::Outranked(epoch));
    }

    /// Somebody acts as if the lease were his: acquire anew.
    pub fn doubted(&self) {
        self.tell(Input::Doubted);
    }

    fn tell(&self, input: Input) {
        self.shared.handle(input);
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn handle(&self, input: Input) {
        let now = self.start.elapsed();
        self.contender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .handle(input, now);
    }

    fn next_effect(&self) -> Option<Effect> {
        self.contender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_effect()
    }

    fn next_deadline(&self) -> Instant {
        self.start
            + self
                .contender
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next_deadline()
    }
}

struct Shell {
    shared: Arc<Shared>,
    kv: Kv<LeaseKey, Lease>,
    bus: Bus,
    key: LeaseKey,
    ttl: Duration,
}

impl Shell {
    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        while !stop.is_stopping() {
            if let Err(error) = self.contend(&stop).await {
                tracing::warn!(%error, "the watch on the leases was interrupted: opening it anew");
                stop.unless_stopped(tokio::time::sleep(PATIENCE)).await;
            }
        }
        self.release().await;
        Ok(())
    }

    async fn contend(&self, stop: &Stop) -> anyhow::Result<()> {
        let mut watch = self.kv.watch().await?;
        while !stop.is_stopping() {
            while let Some(effect) = self.shared.next_effect() {
                self.perform(effect).await;
            }
            let deadline = tokio::time::Instant::from_std(self.shared.next_deadline());
            tokio::select! {
                () = stop.stopped() => {}
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep_until(deadline) => self.shared.handle(Input::Tick),
                change = watch.next() => {
                    if let Change::Set { key, found } = change? && key == self.key && found.value.is_none() {
                        self.shared.handle(Input::Seen(Seen::Free(found.revision)));
                    }
                }
            }
        }
        Ok(())
    }

    async fn perform(&self, effect: Effect) {
        match effect {
            Effect::Read => self.shared.handle(self.read().await),
            Effect::Write { expected } => self.shared.handle(self.write(expected).await),
            Effect::Acquired { epoch } => {
                tracing::info!(lease.key = %self.key, lease.epoch = epoch, "acquired the lease of {}", self.key);
                self.shared.held.send_replace(Some(epoch));
            }
            Effect::Lost => {
                tracing::warn!(lease.key = %self.key, "lost the lease of {}", self.key);
                self.shared.held.send_replace(None);
            }
        }
    }

    async fn read(&self) -> Input {
        match tokio::time::timeout(PATIENCE, self.kv.get(&self.key)).await {
            Ok(Ok(None)) => Input::Seen(Seen::Free(0)),
            Ok(Ok(Some(found))) => match found.value {
                None => Input::Seen(Seen::Free(found.revision)),
                Some(lease) if lease.holder == self.bus.identity().instance => {
                    Input::Seen(Seen::Mine(found.revision))
                }
                Some(_) => Input::Seen(Seen::Held(found.revision)),
            },
            Ok(Err(_)) | Err(_) => Input::NoAnswer,
        }
    }

    async fn write(&self, expected: u64) -> Input {
        let lease = Lease {
            holder: self.bus.identity().instance.clone(),
            acquired_ms: unix_ms(),
            epoch: self.shared.held.borrow().unwrap_or_default(),
        };
        let write = self.kv.set(&self.key, &lease, expected, Some(self.ttl));
        match tokio::time::timeout(PATIENCE, write).await {
            Ok(Ok(revision)) => Input::Written(revision),
            Ok(Err(AppendError::WrongSequence { .. })) => Input::Refused,
            Ok(Err(AppendError::Unsure { .. } | AppendError::Full { .. })) | Err(_) => {
                Input::NoAnswer
            }
        }
    }

    async fn release(&self) {
        if self.shared.expires.load(Ordering::Relaxed) {
            return;
        }
        let revision = self
            .shared
            .contender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .revision();
        if let Some(revision) = revision {
            self.shared.held.send_replace(None);
            if let Err(error) = self.kv.delete(&self.key, revision).await {
                tracing::debug!(%error, "the lease of {} ends by itself", self.key);
            }
        }
    }
}

fn unix_ms() -> UnixMs {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
}
