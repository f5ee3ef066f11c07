//! Makes this node known, and keeps the registry's picture of it true.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orchion_bus::Bus;
use orchion_contract::NodeId;
use orchion_contract::node::{Capabilities, Registration, Replaced, Replica, Unregister};
use orchion_contract::rpc::{REGISTER, UNREGISTER};
use orchion_contract::subjects::{CAPABILITY, REGISTER_AGAIN, REGISTRY_HELLO};
use orchion_node_agent_core::differs;
use orchion_service::{Stop, VERSION};
use tokio::sync::Notify;
use tokio::time::{Instant, interval};

use crate::engine::roster::Roster;
use crate::host::Host;

/// How long one round of asking the registry lasts before that is said.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the registry is asked to forget a node that stops.
const FAREWELL: Duration = Duration::from_millis(600);
/// How often it is said that another agent goes by the same id.
const REMINDER: Duration = Duration::from_secs(60);

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The host.
    pub node: NodeId,
    /// Its name for people.
    pub hostname: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// Longest time between two heartbeats.
    pub heartbeat: Duration,
}

impl Profile {
    fn registration(
        &self,
        bus: &Bus,
        capabilities: Capabilities,
        replicas: Vec<Replica>,
    ) -> Registration {
        Registration {
            node: self.node.clone(),
            instance: bus.identity().instance.clone(),
            hostname: self.hostname.clone(),
            version: VERSION.to_owned(),
            labels: self.labels.clone(),
            capabilities,
            replicas,
            heartbeat_ms: u64::try_from(self.heartbeat.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Registers at the start, whenever the registry asks, and after every
/// reconnect; tells changes of hardware and replicas in between.
///
/// # Errors
/// When the connection is closed for good.
pub async fn stay_known(
    bus: Bus,
    profile: Profile,
    roster: Roster,
    look: Duration,
    is_known: orchion_service::health::Condition,
    stop: Stop,
) -> anyhow::Result<()> {
    let again = Arc::new(Notify::new());
    again.notify_one();
    let told = Told {
        bus: bus.clone(),
        profile,
        roster,
        host: Host::new(),
        last: None,
        complained: None,
    };
    let known = told.keep(look, again.clone(), is_known);
    let asked = listen(bus, again);
    let both = async {
        tokio::select! {
            done = known => done,
            done = asked => done,
        }
    };
    stop.unless_stopped(both).await.unwrap_or(Ok(()))
}

/// Says goodbye: the node is not lost, it left.
///
/// # Errors
/// When the registry did not answer; it will find out by itself.
pub async fn leave(bus: Bus, node: NodeId) -> anyhow::Result<()> {
    let farewell = Unregister {
        node,
        instance: Some(bus.identity().instance.clone()),
    };
    bus.ask_patiently(&UNREGISTER, &(), &farewell, FAREWELL)
        .await?;
    Ok(())
}

/// Everything that makes a registration necessary.
async fn listen(bus: Bus, again: Arc<Notify>) -> anyhow::Result<()> {
    let node = node_of(&bus);
    let mut hello = bus.subscribe(REGISTRY_HELLO).await?;
    let mut asked = match &node {
        Some(node) => bus.subscribe_to(REGISTER_AGAIN, node).await?,
        None => bus.subscribe(REGISTER_AGAIN).await?,
    };
    let mut connection = bus.connection();
    connection.mark_unchanged();
    loop {
        tokio::select! {
            said = hello.next() => anyhow::ensure!(said.is_some(), "the connection to NATS was closed"),
            said = asked.next() => anyhow::ensure!(said.is_some(), "the connection to NATS was closed"),
            changed = connection.changed() => {
                changed?;
                if connection.borrow_and_update().is_none() {
                    continue;
                }
            }
        }
        again.notify_one();
    }
}

fn node_of(bus: &Bus) -> Option<NodeId> {
    let name = bus.identity().client.strip_prefix("agent-")?;
    NodeId::new(name).ok()
}

/// What the registry was told.
struct Told {
    bus: Bus,
    profile: Profile,
    roster: Roster,
    host: Host,
    last: Option<Registration>,
    /// When it was last said that another agent goes by this node's id.
    complained: Option<Instant>,
}

impl Told {
    async fn keep(
        mut self,
        look: Duration,
        again: Arc<Notify>,
        is_known: orchion_service::health::Condition,
    ) -> anyhow::Result<()> {
        let mut replicas = self.roster.replicas();
        let mut looks = interval(look);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = again.notified() => {
                    self.register().await;
                    is_known.set(true);
                }
                changed = replicas.changed() => {
                    changed?;
                    self.tell_changes().await?;
                }
                _ = looks.tick() => self.tell_changes().await?,
            }
        }
    }

    /// Registers, however long that takes.
    async fn register(&mut self) {
        let started = Instant::now();
        let mut next_word = PATIENCE;
        loop {
            let now = self.now();
            let asked = self
                .bus
                .ask_patiently(&REGISTER, &(), &now, PATIENCE.min(next_word));
            match asked.await {
                Ok(registered) => {
                    tracing::info!(
                        node.id = %now.node,
                        node.replicas = now.replicas.len(),
                        node.first_seen_ms = registered.first_seen_ms,
                        "node {} is registered", now.node
                    );
                    // Who registers for the first time may have been started again.
                    if let Some(other) = registered.replaced.filter(|_| self.last.is_some()) {
                        self.complain(&other);
                    }
                    self.last = Some(now);
                    return;
                }
                Err(error) => {
                    if started.elapsed() >= next_word {
                        next_word *= 2;
                        tracing::warn!(
                            node.id = %now.node,
                            "the registry does not answer: still trying to register ({error})"
                        );
                    }
                    if !error.may_pass() {
                        // Do not ask a registry that refuses in a hurry.
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        }
    }

    /// Another agent took the place of this one, and loses it now: both have one id.
    fn complain(&mut self, other: &Replaced) {
        if self.complained.is_some_and(|at| at.elapsed() < REMINDER) {
            return;
        }
        self.complained = Some(Instant::now());
        let node = &self.profile.node;
        tracing::error!(
            node.id = %node,
            other.instance = %other.instance,
            other.hostname = other.hostname,
            "another agent uses the node id {node}, too, on host {}: they take each other's place, and jobs fail; give one of them another id with --node-id or node-agent.node_id",
            other.hostname
        );
    }

    async fn tell_changes(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        let Some(last) = &self.last else {
            return Ok(());
        };
        let is_same =
            last.replicas == now.replicas && !differs(&last.capabilities, &now.capabilities);
        if is_same {
            return Ok(());
        }
        self.bus.publish(&CAPABILITY, &now.node, &now).await?;
        self.last = Some(now);
        Ok(())
    }

    fn now(&mut self) -> Registration {
        let replicas = self.roster.replicas().borrow().clone();
        self.profile
            .registration(&self.bus, self.host.capabilities(), replicas)
    }
}
