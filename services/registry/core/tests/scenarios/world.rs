//! A registry, its clock, and what it announced, in words.

use orchion_contract::node::{Capabilities, Heartbeat, Node, NodeState, Registration, client_name};
use orchion_contract::{InstanceId, NodeId};
use orchion_registry_core::{Effect, Moment, Registry, Settings};
use std::collections::BTreeMap;
use std::time::Duration;

/// Wall clock at the beginning of the world.
pub(crate) const EPOCH_MS: u64 = 1_000_000;

pub(crate) struct World {
    pub(crate) registry: Registry,
    now: Duration,
    beats: Option<Duration>,
    connections: Option<Duration>,
    /// What the bucket holds.
    pub(crate) bucket: BTreeMap<NodeId, Node>,
    /// Connections that the server knows.
    pub(crate) server: BTreeMap<u64, String>,
    next_connection: u64,
    told: Vec<String>,
    pub(crate) asked_to_register: Vec<String>,
    /// Whether the server answers when it is asked for its connections.
    pub(crate) lists: bool,
}

impl World {
    /// A registry that has been watching both connections for a while.
    pub(crate) fn settled() -> Self {
        let mut world = Self::starting(BTreeMap::new());
        world.run(10_000);
        world
    }

    /// A registry that has just become active, over this bucket.
    pub(crate) fn starting(bucket: BTreeMap<NodeId, Node>) -> Self {
        let settings = Settings {
            heartbeat_timeout: Duration::from_secs(30),
            sweep_interval: Duration::from_secs(10),
        };
        let at = Moment {
            now: Duration::ZERO,
            unix_ms: EPOCH_MS,
        };
        Self {
            registry: Registry::new(settings, bucket.values().cloned(), at),
            now: Duration::ZERO,
            beats: Some(Duration::ZERO),
            connections: Some(Duration::ZERO),
            bucket,
            server: BTreeMap::new(),
            next_connection: 1,
            told: Vec::new(),
            asked_to_register: Vec::new(),
            lists: true,
        }
    }

    /// The same cluster, with another registry becoming active now.
    pub(crate) fn take_over(self) -> Self {
        let mut world = Self::starting(self.bucket);
        world.server = self.server;
        world.next_connection = self.next_connection;
        world
    }

    pub(crate) fn without_system_account(mut self) -> Self {
        self.connections = None;
        self
    }

    pub(crate) fn at(&self) -> Moment {
        Moment {
            now: self.now,
            unix_ms: EPOCH_MS + u64::try_from(self.now.as_millis()).unwrap(),
        }
    }

    /// Lets time pass; every deadline is kept to the millisecond.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        loop {
            self.settle();
            let next = self.registry.next_deadline().max(self.now);
            if next >= end {
                break;
            }
            self.now = next;
            self.look();
            self.registry.tick(self.at());
        }
        self.now = end;
        self.look();
        self.registry.tick(self.at());
        self.settle();
    }

    /// Time passes and the registry does not notice: its process was stopped.
    pub(crate) fn sleep(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    /// Runs for a while in which these nodes beat, each every second.
    pub(crate) fn run_with_beats(&mut self, nodes: &[&str], seconds: u64) {
        for _ in 0..seconds {
            for node in nodes {
                self.beat(node);
            }
            self.run(1000);
        }
    }

    /// Registers a node over a new connection, as its first process.
    pub(crate) fn join(&mut self, node: &str) -> u64 {
        let connection = self.connect(node);
        self.register(node, "1");
        connection
    }

    pub(crate) fn register(&mut self, node: &str, instance: &str) {
        let registered = self
            .registry
            .register(registration(node, instance), self.at());
        registered.unwrap();
        self.settle();
    }

    pub(crate) fn beat(&mut self, node: &str) {
        self.beat_of(node, "1");
    }

    pub(crate) fn beat_of(&mut self, node: &str, instance: &str) {
        let beat = Heartbeat {
            node: id(node),
            instance: process(instance),
            sequence: 0,
            interval_ms: 1000,
            running: Vec::new(),
            replicas: Vec::new(),
            memory_available_bytes: 0,
            cpu_percent: 0.0,
        };
        self.look();
        self.registry.heartbeat(&beat, self.at());
        self.settle();
    }

    pub(crate) fn connect(&mut self, node: &str) -> u64 {
        let number = self.next_connection;
        self.next_connection += 1;
        let name = client_name(&id(node));
        self.server.insert(number, name.clone());
        if self.connections.is_some() {
            self.look();
            self.registry
                .connected(&name, ("s".to_owned(), number), self.at());
        }
        self.settle();
        number
    }

    /// The server closes a connection, and we hear of it if we listen.
    pub(crate) fn disconnect(&mut self, number: u64, reason: &str) {
        let name = self.server.remove(&number).unwrap();
        if self.connections.is_some() {
            let connection = ("s".to_owned(), number);
            self.look();
            self.registry
                .disconnected(&name, connection, reason.to_owned(), self.at());
        }
        self.settle();
    }

    /// NATS dies: every connection is gone, ours too.
    pub(crate) fn nats_dies(&mut self) {
        self.server.clear();
        (self.beats, self.connections) = (None, None);
        self.look();
        self.settle();
    }

    /// NATS is back, and so are our own connections.
    pub(crate) fn nats_returns(&mut self) {
        (self.beats, self.connections) = (Some(self.now), Some(self.now));
        self.look();
        self.settle();
    }

    pub(crate) fn state(&self, node: &str) -> Option<NodeState> {
        let record = self.registry.directory().get(&id(node));
        record.map(|record| record.state)
    }

    /// What was announced since the last question.
    pub(crate) fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    fn look(&mut self) {
        let at = self.at();
        self.registry.watching(self.beats, self.connections, at);
    }

    /// Carries out every effect.
    pub(crate) fn settle(&mut self) {
        while let Some(effect) = self.registry.next_effect() {
            match effect {
                Effect::Save(node) => {
                    match self.registry.directory().get(&node) {
                        Some(record) => self.bucket.insert(node, record.clone()),
                        None => self.bucket.remove(&node),
                    };
                }
                Effect::Announce(what, event) => {
                    let what = format!("{what:?}").to_lowercase();
                    self.told
                        .push(format!("{} {what}: {}", event.node, event.reason));
                }
                Effect::AskToRegister(node) => self.asked_to_register.push(node.to_string()),
                Effect::List if self.lists => {
                    let found = self.server.iter();
                    let found: Vec<_> = found
                        .map(|(number, name)| (name.clone(), ("s".to_owned(), *number)))
                        .collect();
                    self.registry.listed(self.now, found, self.at());
                }
                Effect::List => {}
            }
        }
    }
}

pub(crate) fn id(node: &str) -> NodeId {
    NodeId::new(node).unwrap()
}

pub(crate) fn process(instance: &str) -> InstanceId {
    InstanceId::new(instance).unwrap()
}

pub(crate) fn registration(node: &str, instance: &str) -> Registration {
    Registration {
        node: id(node),
        instance: process(instance),
        hostname: "host".to_owned(),
        version: "1".to_owned(),
        labels: BTreeMap::new(),
        capabilities: Capabilities::default(),
        replicas: Vec::new(),
        heartbeat_ms: 5000,
    }
}
