//! Knows which nodes live and what they can do.
//!
//! One registry is active, by lease; standbys hear everything and say nothing.
//! What is decided stands in `orchion-registry-core`; this is the shell: one
//! loop that turns what comes over the bus into inputs and carries out effects.
#![warn(missing_docs)]

mod config;
mod connections;
mod desk;
mod serve;
mod store;

pub use config::{Config, PROGRAM, Settings};

use anyhow::Context;
use orchion_bus::{Bus, Identity, LeaseHandle};
use orchion_contract::lease::{LeaseKey, SERVICE_TTL_S};
use orchion_service::Tasks;
use std::time::Duration;

/// Connects and starts the registry's parts.
///
/// # Errors
/// When the address of NATS cannot be read, its credentials are refused, or the
/// process stops before NATS was there.
pub async fn start(config: Config, tasks: &Tasks) -> anyhow::Result<()> {
    let stop = tasks.stop();
    let bus = Bus::connect(&config.nats, Identity::of(tasks)?, stop)
        .await
        .context("connect to NATS")?;
    bus.attach(tasks);
    bus.ensure_patiently(stop).await.context("prepare NATS")?;

    let watching = connections::start(&config.nats, tasks).await?;
    let desk = desk::Desk::open(&bus)
        .await
        .context("open the registry's subjects")?;
    let ttl = Duration::from_secs(SERVICE_TTL_S);
    let lease = LeaseHandle::contend(&bus, LeaseKey::Registry, ttl, tasks);
    let settings = config.registry.of_core();
    tasks.spawn("serve", move |stop| {
        serve::run(bus, desk, watching, lease, settings, stop)
    });
    Ok(())
}

/// Asks over NATS whether a registry of this host answers.
///
/// # Errors
/// When NATS is away or no registry of this host answers.
pub async fn healthcheck(config: Config) -> anyhow::Result<()> {
    orchion_bus::healthcheck(&config.nats, "registry").await
}
