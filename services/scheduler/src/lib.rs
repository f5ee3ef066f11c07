//! The scheduler: decides which job runs where and when, and sees it through.
//!
//! One process is active: it holds the lease, answers questions and writes
//! records; any number stand by. `orchion_scheduler_core` decides everything,
//! the takeover included; what is here tells it what happened and performs what
//! it says.

mod charge;
mod config;
mod desk;
mod effects;
mod gather;
mod questions;
mod session;

pub use config::{Config, Pool, Scheduler, WhenFull};

use anyhow::Context;
use orchion_bus::{Bus, Identity, LeaseHandle};
use orchion_contract::UnixMs;
use orchion_contract::lease::{LeaseKey, SERVICE_TTL_S};
use orchion_service::{DEFAULT_GRACE, Program, Tasks};
use std::time::{Duration, SystemTime};

/// The scheduler as a program.
pub static PROGRAM: Program<Config> = Program {
    name: "scheduler",
    about: "Decides which job runs where and when",
    flags: &[orchion_bus::NATS_URL_FLAG],
    retired: &[],
    commands: &[],
    grace: DEFAULT_GRACE,
};

/// Connects, contends for the lease, and starts to answer.
///
/// # Errors
/// When NATS refuses us or the streams cannot be created.
pub async fn start(config: Config, tasks: &Tasks) -> anyhow::Result<()> {
    let bus = Bus::connect(&config.nats, Identity::of(tasks)?, tasks.stop())
        .await
        .context("connect to NATS")?;
    bus.attach(tasks);
    bus.ensure_patiently(tasks.stop())
        .await
        .context("create streams and buckets")?;
    let questions = questions::listen(&bus, tasks).await?;
    let lease = LeaseHandle::contend(
        &bus,
        LeaseKey::Scheduler,
        Duration::from_secs(SERVICE_TTL_S),
        tasks,
    );
    let settings = config.scheduler;
    tasks.spawn_support("session", move |stop| {
        session::run(bus, lease, questions, settings, stop)
    });
    Ok(())
}

/// Whether the scheduler of this host answers over NATS.
///
/// # Errors
/// When it does not.
pub async fn healthcheck(config: Config) -> anyhow::Result<()> {
    orchion_bus::healthcheck(&config.nats, "scheduler").await
}

/// Now, for people and history.
fn unix_ms() -> UnixMs {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
}
