//! The whole product as separate processes, each of which can be killed.
//!
//! Every part has a data folder and a configuration file of its own, and starts
//! again from them. A cluster is whole when its gateways are ready, all nodes
//! serve, and a scheduler is in charge.

mod builder;
mod part;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{HttpClient, NatsServer, eventually};

pub use builder::{Builder, Engines, Login};
pub use part::Part;

/// How long the cluster may take to be whole.
const PATIENCE: Duration = Duration::from_secs(60);

/// All processes of the product, with what they need. Killed on drop.
#[derive(Debug)]
pub struct Cluster {
    /// Where all parts meet.
    pub nats: NatsServer,
    /// The engines, one for each agent, unless the agents start their own.
    pub engines: Vec<Part>,
    /// The agents: nodes `a`, `b`, `c` and so on.
    pub agents: Vec<Part>,
    /// The schedulers, one of them in charge.
    pub schedulers: Vec<Part>,
    /// The gateways.
    pub gateways: Vec<Part>,
    /// The registry.
    pub registry: Part,
    /// What keeps logs and history.
    pub log_sink: Part,
    gateway_urls: Vec<String>,
    engine_ports: Vec<u16>,
    folder: TempDir,
}

impl Cluster {
    /// What is to be started: two agents with a mock engine each, one scheduler,
    /// one gateway, unless it is told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where gateway number `n` listens, without a path.
    pub fn gateway_url(&self, n: usize) -> &str {
        &self.gateway_urls[n]
    }

    /// A client of gateway number `n`.
    pub fn gateway(&self, n: usize) -> HttpClient {
        HttpClient::new(&self.gateway_urls[n])
    }

    /// Clients of all gateways.
    pub fn clients(&self) -> Vec<HttpClient> {
        let urls = self.gateway_urls.iter();
        urls.map(|url| HttpClient::new(url)).collect()
    }

    /// Where the engine of agent number `n` listens.
    pub fn engine_addr(&self, n: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.engine_ports[n]).into()
    }

    /// The folder of a part: its `orchion.toml`, and `data` with what it keeps.
    /// Parts are called `agent-a`, `gateway-1`, `log-sink-1` and the like.
    pub fn folder(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    /// Starts again what is dead and waits until everything works.
    ///
    /// # Panics
    ///
    /// When the cluster does not become whole, with what is missing.
    pub async fn heal(&mut self) {
        let many = [
            &mut self.engines,
            &mut self.agents,
            &mut self.schedulers,
            &mut self.gateways,
        ];
        for part in many.into_iter().flatten() {
            part.revive();
        }
        self.registry.revive();
        self.log_sink.revive();
        self.until_whole().await;
    }

    /// Waits until everything works.
    ///
    /// # Panics
    ///
    /// When it does not, with what is missing.
    pub async fn until_whole(&self) {
        eventually("the cluster to be whole", PATIENCE, async || {
            self.missing().await.map_or(Ok(()), Err)
        })
        .await;
    }

    /// The number of the scheduler that holds the lease, as its own log tells.
    pub fn active_scheduler(&self) -> Option<usize> {
        let holds = |part: &Part| {
            let log = part.output();
            log.rfind("acquired the lease of scheduler") > log.rfind("lost the lease of scheduler")
        };
        self.schedulers.iter().position(holds)
    }

    /// All nodes, as `client` is told them; none when it gets no answer.
    pub async fn nodes(client: &HttpClient) -> Vec<Value> {
        let client = client.clone().patience(Duration::from_secs(2));
        match client.get("/api/nodes").await {
            Ok(answer) => serde_json::from_slice(&answer.body).unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// The state of a node, as `client` is told it; empty when it is not known.
    pub async fn node_state(client: &HttpClient, node: &str) -> String {
        let nodes = Self::nodes(client).await;
        let found = nodes.iter().find(|one| one["id"] == node);
        let state = found.and_then(|one| one["state"].as_str());
        state.unwrap_or_default().to_owned()
    }

    async fn missing(&self) -> Option<String> {
        for client in self.clients() {
            let ready = client.patience(Duration::from_secs(2));
            if !ready.get("/readyz").await.is_ok_and(|it| it.status == 200) {
                return Some("a gateway is not ready".to_owned());
            }
            let nodes = Self::nodes(&ready).await;
            let serving = nodes.iter().filter(|node| serves(node)).count();
            if serving != self.agents.len() {
                return Some(format!("{serving} of {} nodes serve", self.agents.len()));
            }
        }
        self.active_scheduler()
            .is_none()
            .then(|| "no scheduler holds the lease".to_owned())
    }
}

/// Whether a node, as the gateway shows it, takes work.
fn serves(node: &Value) -> bool {
    let ready = node["replicas"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["ready"] == true));
    node["state"] == "online" && ready
}

fn data_dir(folder: &Path) -> PathBuf {
    folder.join("data")
}
