//! Brings a host into the cluster: its hardware, its engines, and the answers
//! that they give.
//!
//! An agent needs one outgoing connection to NATS and listens on no port. It
//! makes its node known ([`agent`], [`heartbeat`]), finds or starts engines
//! ([`engine`]), and runs the attempts that the scheduler orders
//! ([`executor`]), writing each answer as a chain into the transcript of its
//! job. It never decides what to run.
#![warn(missing_docs)]

pub mod agent;
mod config;
pub mod ended;
pub mod engine;
pub mod executor;
mod gpu;
pub mod heartbeat;
pub mod host;
pub mod identity;

use std::time::Duration;

use anyhow::Context as _;
use orchion_bus::{Bus, Identity};
use orchion_contract::NodeId;
use orchion_service::{DEFAULT_GRACE, HumanDuration, Program, Tasks};

pub use config::{Config, EngineSettings, NodeAgent};

use agent::Profile;
use engine::fleet::Fleet;
use engine::roster::Roster;
use executor::Executor;
use heartbeat::Pace;
use identity::DataDir;
use orchion_node_agent_core::Watchdog;

/// The agent as a program.
pub static PROGRAM: Program<Config> = Program {
    name: "node-agent",
    about: "Brings this host into the cluster: runs answers on its engines",
    flags: config::FLAGS,
    retired: config::RETIRED,
    commands: &[],
    grace: DEFAULT_GRACE,
};

/// How long answers may go on after the wish to stop, before they are handed
/// to another node: the rest of the grace period belongs to telling that.
const FINISH: Duration = Duration::from_secs(5);

/// Connects, then hands the running parts to `tasks`; returns as soon as they
/// are started.
///
/// # Errors
/// When the data directory belongs to another agent, an id is not valid, or
/// NATS refuses the credentials.
pub async fn start(config: Config, tasks: &Tasks) -> anyhow::Result<()> {
    let settings = config.node_agent;
    let data = DataDir::open(&settings.data_dir())?;
    let node = data.node_id(settings.node_id.as_deref())?;
    let identity = Identity {
        client: format!("agent-{node}"),
        ..Identity::of(tasks)?
    };
    let bus = Bus::connect(&config.nats, identity, tasks.stop())
        .await
        .context("connect to NATS")?;
    tasks.after_all("unlock the data directory", async move {
        drop(data);
        Ok(())
    });
    bus.attach(tasks);
    tasks.after_all("leave", agent::leave(bus.clone(), node.clone()));
    let roster = Roster::new();
    let path = settings.data_dir();
    Fleet::new(roster.clone(), tasks, &settings, &path).start();
    work(&settings, bus, node, roster, tasks).await
}

/// Asks whether an agent of this host answers.
///
/// # Errors
/// When NATS is away or no agent answers.
pub async fn healthcheck(config: Config) -> anyhow::Result<()> {
    orchion_bus::healthcheck(&config.nats, PROGRAM.name).await
}

/// Starts what takes orders and reports.
async fn work(
    settings: &NodeAgent,
    bus: Bus,
    node: NodeId,
    roster: Roster,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let watchdog = Watchdog {
        first_token: settings.first_token_timeout.get(),
        idle: settings.idle_timeout.get(),
        wall: settings.wall_timeout.map(HumanDuration::get),
    };
    let pace = Pace {
        idle: settings.heartbeat_interval.get(),
        busy: settings.busy_heartbeat_interval.get(),
    };
    let profile = Profile {
        node: node.clone(),
        hostname: settings.hostname.clone().unwrap_or_else(host::name),
        labels: settings.labels.clone(),
        heartbeat: pace.idle,
    };
    let executor = Executor::new(bus.clone(), tasks, node.clone(), roster.clone(), watchdog);
    let service = bus.service("runs answers on the engines of a host").await?;
    let orders = executor.listen(&service).await?;
    // Orders are answered to the very end: a cancel must reach the last answer.
    tasks.spawn_support("orders", |stop| {
        let taken = executor.clone().take_orders(orders, stop);
        async move {
            let _service = service;
            taken.await
        }
    });
    tasks.spawn_support("wind-down", |stop| executor.clone().wind_down(FINISH, stop));
    tasks.spawn_support("ended", |stop| {
        ended::tell(bus.clone(), node.clone(), executor.clone(), stop)
    });
    tasks.spawn_support("heartbeat", |stop| {
        heartbeat::beat(bus.clone(), node, executor, pace, stop)
    });
    let is_known = tasks.health().condition("registered");
    let look = settings.capability_interval.get();
    tasks.spawn_support("registration", |stop| {
        agent::stay_known(bus, profile, roster, look, is_known, stop)
    });
    Ok(())
}
