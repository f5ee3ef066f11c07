//! The gateway: translates HTTP to the bus and back.
//!
//! It decides nothing and holds nothing that a second gateway would miss. A
//! chat is a job that its caller waits for; what a caller sees was stored
//! before, and any gateway can show it again.

mod auth;
mod config;
mod correlation;
mod cors;
mod error;
mod feed;
mod fields;
mod follow;
mod grants;
mod idempotency;
mod large;
mod openapi;
mod place;
mod progress;
mod query;
mod router;
mod routes;
mod running;
mod serve;
mod sse;
mod state;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use orchion_bus::{Bus, Identity, LeaseHandle};
use orchion_contract::ReaderId;
use orchion_contract::lease::{GATEWAY_TTL_S, LeaseKey};
use orchion_service::{Stop, Tasks};
use tokio::sync::Semaphore;

pub use config::{Config, Gateway as GatewayConfig, PROGRAM, Tokens};
pub use openapi::document_json;

use feed::Feed;
use router::Front;
use state::Gateway;

/// How long before the end of the grace period open streams are told to resume elsewhere.
const FAREWELL: Duration = Duration::from_secs(3);

/// Listens, connects, then hands the running parts to `tasks`.
///
/// # Errors
/// When the port is taken or NATS refuses us.
pub async fn start(config: Config, tasks: &Tasks) -> anyhow::Result<()> {
    let address = config.gateway.address().context("read gateway.bind")?;
    let listener = serve::listen(address).await?;
    let address = listener.local_addr().context("ask for the own address")?;
    let front = Arc::new(Front::new(config.gateway.clone(), tasks));
    let accept = (
        front.clone(),
        config.gateway.stall_timeout.get(),
        tasks.clone(),
    );
    tasks.spawn("http", move |stop| {
        serve::accept(listener, accept.0, accept.1, accept.2, stop)
    });

    let bus = Bus::connect(&config.nats, Identity::of(tasks)?, tasks.stop())
        .await
        .context("connect to NATS")?;
    bus.attach(tasks);
    bus.ensure_patiently(tasks.stop())
        .await
        .context("prepare NATS")?;

    let gateway = connect(config.gateway, bus, tasks);
    announce(&gateway, tasks).await?;
    front.connect(gateway);
    tracing::info!(http.address = %address, "listening on http://{address}");
    Ok(())
}

/// Asks a running gateway of this configuration whether it is ready.
///
/// # Errors
/// When it does not answer or is not ready.
pub async fn healthcheck(config: Config) -> anyhow::Result<()> {
    serve::healthcheck(&config.gateway).await
}

fn connect(config: GatewayConfig, bus: Bus, tasks: &Tasks) -> Arc<Gateway> {
    let reader = ReaderId::random();
    let ttl = Duration::from_secs(GATEWAY_TTL_S);
    // Held until the last stream has ended: chats live as long as this lease.
    let lease = LeaseHandle::contend(&bus, LeaseKey::Gateway(reader.clone()), ttl, tasks);
    let feed = Feed::default();
    let dispatcher = (feed.clone(), bus.clone(), reader.clone());
    tasks.spawn_support("live answers", move |stop| {
        dispatcher.0.dispatch(dispatcher.1, dispatcher.2, stop)
    });
    let slots = grants::Slots::default();
    let listener = (slots.clone(), bus.clone(), reader.clone());
    tasks.spawn_support("grants", move |stop| {
        listener.0.listen(listener.1, listener.2, stop)
    });
    let logs = routes::logs::Tap::start(&bus, tasks);
    let closing = Stop::new();
    let farewell = (tasks.stop().clone(), closing.clone());
    tasks.spawn_support("farewell", move |all_ended| async move {
        farewell.0.stopped().await;
        let rest = tokio::time::sleep(PROGRAM.grace.saturating_sub(FAREWELL));
        if all_ended.unless_stopped(rest).await.is_some() {
            // Whoever is sent away now has the life of the lease to resume elsewhere.
            lease.let_expire();
            farewell.1.request();
        }
        all_ended.stopped().await;
        Ok(())
    });
    Arc::new(Gateway {
        config,
        bus,
        reader,
        feed,
        slots,
        logs,
        tasks: tasks.clone(),
        closing,
        nodes: state::Nodes::default(),
        large: Semaphore::new(large::AT_ONCE),
    })
}

/// Makes the gateway visible to whoever asks the bus which services there are.
async fn announce(gateway: &Gateway, tasks: &Tasks) -> anyhow::Result<()> {
    let service = gateway
        .bus
        .service("Translates HTTP to the bus and back")
        .await;
    let service = service.context("announce the gateway")?;
    tasks.spawn_support("announcement", move |stop| async move {
        stop.stopped().await;
        drop(service);
        Ok(())
    });
    Ok(())
}
