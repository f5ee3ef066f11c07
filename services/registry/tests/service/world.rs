//! A NATS server, registries and agents of this process, for the tests.

use futures_util::StreamExt as _;
use orchion_bus::{Bus, Identity};
use orchion_contract::log::ServiceName;
use orchion_contract::node::{
    Capabilities, Heartbeat, Node, NodeState, Registered, Registration, client_name,
};
use orchion_contract::rpc::REGISTER;
use orchion_contract::subjects::{HEARTBEAT, REGISTER_AGAIN, REGISTRY_HELLO};
use orchion_contract::{InstanceId, NodeId};
use orchion_registry::Config;
use orchion_service::{Secret, Stop, Supervisor};
use orchion_testkit::{NatsServer, Program, Running, eventually};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;

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
    run: JoinHandle<Result<(), orchion_service::Failure>>,
}

impl Registry {
    pub(crate) fn start(config: Config) -> Self {
        let supervisor = Supervisor::new("registry", Duration::from_secs(5));
        let stop = supervisor.stop();
        let run = background(async move {
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
}

/// The registry as a process of its own, which can be killed.
pub(crate) fn process(nats: &NatsServer) -> Running {
    Program::at(Path::new(env!("CARGO_BIN_EXE_orchion-registry")))
        .args(["--nats-url", &nats.url()])
        .env("ORCHION_NATS__SYSTEM_USER", "sys")
        .env("ORCHION_NATS__SYSTEM_PASSWORD", "sys")
        .env("ORCHION_REGISTRY__SWEEP_INTERVAL", "500ms")
        .start()
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

    /// Lives from now on as a real agent does: beats, and registers when it is
    /// asked to. Ends, connection and all, when the handle is aborted.
    pub(crate) async fn live(self) -> JoinHandle<()> {
        self.register().await;
        let mut hello = self.bus.subscribe(REGISTRY_HELLO).await.unwrap();
        let mut again = self
            .bus
            .subscribe_to(REGISTER_AGAIN, &self.node)
            .await
            .unwrap();
        let mut beats = tokio::time::interval(Duration::from_millis(INTERVAL_MS));
        background(async move {
            loop {
                tokio::select! {
                    _ = beats.tick() => self.beat().await,
                    _ = hello.next() => { self.register().await; }
                    _ = again.next() => { self.register().await; }
                }
            }
        })
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
    bus.all_nodes(SOON).await.unwrap()
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

#[expect(
    clippy::disallowed_methods,
    reason = "a test supervises what it starts by itself"
)]
fn background<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work)
}

/// Everything announced about nodes from now on, as `what node`.
pub(crate) async fn listen(bus: &Bus) -> impl FnMut() -> Vec<String> {
    let (tell, told) = std::sync::mpsc::channel();
    let mut events = Box::pin(bus.tap("orchion.evt.node.>").await.unwrap());
    bus.flush().await.unwrap();
    background(async move {
        while let Some(event) = events.next().await {
            let mut tokens = event.subject.split('.').skip(3);
            let (what, node) = (tokens.next().unwrap(), tokens.next().unwrap());
            if what != "heartbeat" && tell.send(format!("{what} {node}")).is_err() {
                return;
            }
        }
    });
    let mut heard = Vec::new();
    move || {
        heard.extend(told.try_iter());
        heard.clone()
    }
}
