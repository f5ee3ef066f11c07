//! A NATS server, registries and agents of this process, for the tests.

use orchion_bus::{Bus, Identity};
use orchion_contract::log::ServiceName;
use orchion_contract::node::{
    Capabilities, Empty, Heartbeat, Node, NodeState, Registered, Registration, client_name,
};
use orchion_contract::rpc::{LIST_NODES, REGISTER};
use orchion_contract::subjects::HEARTBEAT;
use orchion_contract::{InstanceId, NodeId};
use orchion_registry::Config;
use orchion_service::{Secret, Stop, Supervisor};
use orchion_testkit::{NatsServer, eventually};
use std::collections::BTreeMap;
use std::time::Duration;

/// Far above what is expected, for a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// The heartbeat that test agents announce.
pub(crate) const INTERVAL_MS: u64 = 200;

/// A configuration for this server; with the system account or without.
pub(crate) fn config(nats: &NatsServer, with_events: bool) -> Config {
    let mut config = Config::default();
    config.nats.url = nats.url();
    config.nats.user = Some("test".to_owned());
    config.nats.password = Some(Secret::new("test"));
    if with_events {
        config.nats.system_user = Some("sys".to_owned());
        config.nats.system_password = Some(Secret::new("sys"));
    }
    config.registry.sweep_interval = orchion_service::HumanDuration::from_millis(500);
    config
}

/// A registry that runs in this process.
pub(crate) struct Registry {
    stop: Stop,
    run: tokio::task::JoinHandle<Result<(), orchion_service::Failure>>,
}

impl Registry {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test is what supervises the supervisor"
    )]
    pub(crate) fn start(config: Config) -> Self {
        let supervisor = Supervisor::new("registry", Duration::from_secs(5));
        let stop = supervisor.stop();
        let run = tokio::spawn(async move {
            supervisor
                .run(async |tasks| orchion_registry::start(config, tasks).await)
                .await
        });
        Self { stop, run }
    }

    /// Ends it in order, and checks that it ended well.
    pub(crate) async fn stop(self) {
        self.stop.request();
        self.run.await.unwrap().unwrap();
    }

    /// Ends it as SIGKILL would: nothing is given back, nothing is said.
    pub(crate) fn kill(self) {
        self.run.abort();
    }
}

/// An agent's side of the wire.
pub(crate) struct Agent {
    pub(crate) bus: Bus,
    pub(crate) node: NodeId,
    pub(crate) instance: InstanceId,
}

impl Agent {
    pub(crate) async fn connect(nats: &NatsServer, node: &str) -> Self {
        Self::connect_to(&config(nats, false).nats, node).await
    }

    pub(crate) async fn connect_to(nats: &orchion_bus::Config, node: &str) -> Self {
        let node = NodeId::new(node).unwrap();
        let identity = Identity {
            client: client_name(&node),
            service: ServiceName::new("node-agent").unwrap(),
            instance: InstanceId::random(),
        };
        let instance = identity.instance.clone();
        let bus = Bus::connect(nats, identity, &Stop::new()).await.unwrap();
        Self {
            bus,
            node,
            instance,
        }
    }

    pub(crate) fn registration(&self) -> Registration {
        Registration {
            node: self.node.clone(),
            instance: self.instance.clone(),
            hostname: "test".to_owned(),
            version: "0.0.0".to_owned(),
            labels: BTreeMap::from([("room".to_owned(), "kitchen".to_owned())]),
            capabilities: Capabilities::default(),
            replicas: Vec::new(),
            heartbeat_ms: INTERVAL_MS,
        }
    }

    pub(crate) async fn register(&self) -> Registered {
        let asked = self.registration();
        let answer = self.bus.ask_patiently(&REGISTER, &(), &asked, SOON);
        answer.await.unwrap()
    }

    pub(crate) async fn beat(&self) {
        let beat = Heartbeat {
            node: self.node.clone(),
            instance: self.instance.clone(),
            sequence: 0,
            interval_ms: INTERVAL_MS,
            running: Vec::new(),
            replicas: Vec::new(),
            memory_available_bytes: 0,
            cpu_percent: 0.0,
        };
        self.bus
            .publish(&HEARTBEAT, &self.node, &beat)
            .await
            .unwrap();
    }
}

/// All nodes as the registry tells them.
pub(crate) async fn list(bus: &Bus) -> Vec<Node> {
    let answer = bus.ask_patiently(&LIST_NODES, &(), &Empty {}, SOON);
    answer.await.unwrap()
}

/// Waits until the registry shows exactly these nodes and states.
#[track_caller]
pub(crate) fn shows<'a>(
    bus: &'a Bus,
    expected: &'a [(&'a str, NodeState)],
) -> impl Future<Output = ()> + 'a {
    eventually("the nodes to be shown", SOON, async move || {
        let nodes = list(bus).await;
        let seen: Vec<_> = nodes
            .iter()
            .map(|node| (node.id.as_str(), node.state))
            .collect();
        if seen == expected {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
}
