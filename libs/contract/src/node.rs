//! Nodes: what a host is, can do, and says about itself.

use crate::UnixMs;
use crate::id::{InstanceId, JobId, ModelName, NodeId, ReplicaId};
use crate::job::Workload;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an agent tells the registry when it starts, when the registry asks,
/// and whenever its capabilities change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// The host.
    pub node: NodeId,
    /// The agent process.
    pub instance: InstanceId,
    /// The host's name, `unknown` when it has none.
    pub hostname: String,
    /// Version of the agent.
    pub version: String,
    /// Free labels set by the owner.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Hardware and system.
    pub capabilities: Capabilities,
    /// What it serves now.
    #[serde(default)]
    pub replicas: Vec<Replica>,
    /// Longest time between two heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
}

/// Name under which the agent of `node` connects to NATS: the server's
/// connection events carry it, and so tell which node is gone.
#[must_use]
pub fn client_name(node: &NodeId) -> String {
    format!("{CLIENT_PREFIX}{node}")
}

/// The node whose agent connects under this name; `None` for anybody else.
#[must_use]
pub fn node_of_client(name: &str) -> Option<NodeId> {
    name.strip_prefix(CLIENT_PREFIX)?.parse().ok()
}

const CLIENT_PREFIX: &str = "agent-";

/// The registry's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// When this node was first seen.
    pub first_seen_ms: UnixMs,
    /// Whose place it took: of the process before it when it was started again, of
    /// another agent with the same id when it had registered before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
}

/// The process that was registered for a node until another one was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The process.
    pub instance: InstanceId,
    /// The name of its host.
    pub hostname: String,
}

/// A node leaves on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unregister {
    /// The host.
    pub node: NodeId,
    /// Only if this process is the one that is registered; `None` removes it anyhow.
    #[serde(default)]
    pub instance: Option<InstanceId>,
}

/// Bytes of nodes in one answer: it stays below what a message may hold.
pub const MAX_PAGE_BYTES: usize = 512 * 1024;

/// Which nodes to list, sorted by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListNodes {
    /// Only those behind this one: the last of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<NodeId>,
}

/// The answer to [`ListNodes`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodePage {
    /// As many as one answer holds.
    pub nodes: Vec<Node>,
    /// Whether there are more behind the last of them.
    #[serde(default)]
    pub more: bool,
}

impl NodePage {
    /// Fills a page with the first of `nodes`, one at least.
    pub fn of<'a>(nodes: impl Iterator<Item = &'a Node>) -> Self {
        let mut page = Self::default();
        let mut bytes = 0;
        for node in nodes {
            // Nodes are plain data and always serialize.
            bytes += serde_json::to_vec(node).map_or(0, |node| node.len());
            if bytes > MAX_PAGE_BYTES && !page.nodes.is_empty() {
                page.more = true;
                break;
            }
            page.nodes.push(node.clone());
        }
        page
    }
}

/// Nothing to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Whether a node is there.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It beats.
    Online,
    /// Its connection ended a moment ago; nothing new is placed on it.
    Suspect,
    /// It is gone; its jobs go on elsewhere.
    Lost,
    /// A state from a newer version.
    #[serde(other)]
    Unknown,
}

/// A node as the registry keeps it (bucket `nodes`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Node {
    /// The host.
    pub id: NodeId,
    /// The agent process that registered last.
    pub instance: InstanceId,
    /// The host's name.
    pub hostname: String,
    /// Version of the agent.
    pub version: String,
    /// Free labels set by the owner.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Hardware and system.
    pub capabilities: Capabilities,
    /// What it serves.
    #[serde(default)]
    pub replicas: Vec<Replica>,
    /// Whether it is there.
    pub state: NodeState,
    /// First registration ever.
    pub first_seen_ms: UnixMs,
    /// Last sign of life, by the registry's clock.
    pub last_seen_ms: UnixMs,
    /// The same in whole seconds.
    pub last_seen_unix: u64,
    /// Longest time between two heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
}

/// Hardware and system of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Capabilities {
    /// Operating system.
    pub os: Os,
    /// Processor.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Every accelerator, not only the first; empty is normal.
    pub gpus: Vec<Gpu>,
}

/// Operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Os {
    /// `linux`, `macos`, `windows`.
    pub name: String,
    /// Version as the system tells it.
    pub version: String,
    /// Kernel version.
    pub kernel: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// For people: `linux/x86_64`.
    pub display: String,
}

/// Processor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Cpu {
    /// Name of the model.
    pub model: String,
    /// Hardware threads.
    pub logical_cores: u32,
    /// Cores, when the system tells.
    pub physical_cores: Option<u32>,
    /// For people: `8 cores`.
    pub display: String,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Memory {
    /// Installed.
    pub total_bytes: u64,
    /// Free for new work.
    pub available_bytes: u64,
    /// Limit of the control group, when there is one below the total.
    pub limit_bytes: Option<u64>,
    /// For people: `16.00 GB`.
    pub display: String,
}

/// One accelerator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct Gpu {
    /// Position on the host.
    pub index: u32,
    /// Name of the model.
    pub name: String,
    /// The vendor's unique id.
    pub uuid: String,
    /// Memory installed.
    pub memory_total_bytes: u64,
    /// Memory in use.
    pub memory_used_bytes: u64,
    /// Memory free.
    pub memory_free_bytes: u64,
    /// Busy share, 0 to 100.
    pub utilization_percent: Option<u32>,
    /// Degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Power drawn, in watts.
    pub power_w: Option<f64>,
    /// Driver version.
    pub driver: Option<String>,
    /// Compute capability such as `9.0`.
    pub compute_capability: Option<String>,
}

/// Which program serves a model.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// llama.cpp's `llama-server`.
    LlamaCpp,
    /// Ollama.
    Ollama,
    /// vLLM.
    Vllm,
    /// exo.
    Exo,
    /// Anything that speaks OpenAI's protocol.
    OpenAi,
    /// The starter engine that comes with Orchion.
    Starter,
    /// A kind from a newer version.
    #[serde(other)]
    Unknown,
}

impl EngineKind {
    /// The word in JSON and configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LlamaCpp => "llamacpp",
            Self::Ollama => "ollama",
            Self::Vllm => "vllm",
            Self::Exo => "exo",
            Self::OpenAi => "openai",
            Self::Starter => "starter",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for EngineKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether an engine can go on behind a given beginning of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Continuation {
    /// It cannot, or nobody knows.
    None,
    /// Behind a text.
    Text,
    /// Behind token ids, exactly; and behind a text.
    Ids,
    /// An ability from a newer version.
    #[serde(other)]
    Unknown,
}

/// One model on one device set in one engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replica {
    /// Unique within the node.
    pub id: ReplicaId,
    /// What callers ask for.
    pub model: ModelName,
    /// Which engine, which version, which weights.
    pub engine: EngineRef,
    /// Requests served at once.
    pub slots: u32,
    /// Context of one request, in tokens, when known.
    #[serde(default)]
    pub ctx: Option<u32>,
    /// How it can go on with an answer that another replica began.
    pub continuation: Continuation,
    /// Whether it takes requests now.
    pub ready: bool,
    /// What it can do.
    #[serde(default)]
    pub workloads: Vec<Workload>,
    /// The accelerators it runs on, by their index; all of the host when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<u32>>,
    /// Memory that each token of a request takes while it runs, in bytes, where
    /// the engine does not set it aside when it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_per_token_bytes: Option<u64>,
}

/// Which engine, which version, which weights: what must be equal for one
/// replica to go on where another stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EngineRef {
    /// Which program.
    pub kind: EngineKind,
    /// Its version, when it tells.
    #[serde(default)]
    pub version: Option<String>,
    /// Digest of the weights, `sha256:…`, when known.
    #[serde(default)]
    pub digest: Option<String>,
}

/// An agent lives (not stored; lost ones are harmless).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The host.
    pub node: NodeId,
    /// The agent process.
    pub instance: InstanceId,
    /// Counts from 0 within the process.
    pub sequence: u64,
    /// When the next one is due, in milliseconds.
    pub interval_ms: u64,
    /// Attempts in its hands, whose end was not yet acknowledged.
    #[serde(default)]
    pub running: Vec<RunningAttempt>,
    /// Load of each replica.
    #[serde(default)]
    pub replicas: Vec<ReplicaLoad>,
    /// Memory free for new work.
    pub memory_available_bytes: u64,
    /// Processor load, 0 to 100 over all cores.
    pub cpu_percent: f32,
}

/// An attempt in an agent's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunningAttempt {
    /// The job.
    pub job: JobId,
    /// Which attempt at it.
    pub attempt: u32,
}

/// Load of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaLoad {
    /// Which replica.
    pub id: ReplicaId,
    /// Requests it can take at once.
    pub slots: u32,
    /// Requests it works on, ours and others'.
    pub busy: u32,
    /// Whether it takes requests.
    pub ready: bool,
    /// Free memory of its accelerators, in bytes, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free_bytes: Option<u64>,
    /// Whether its weights are in memory; an unloaded one loads them first.
    #[serde(default = "yes")]
    pub loaded: bool,
}

fn yes() -> bool {
    true
}

/// A change in a node's life (stream `EVENTS`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// The host.
    pub node: NodeId,
    /// The agent process concerned.
    pub instance: InstanceId,
    /// Its state after the change.
    pub state: NodeState,
    /// When the registry saw it.
    pub at_ms: UnixMs,
    /// Why, as a sentence.
    pub reason: String,
}

/// A registry has become active; every agent registers anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The registry process.
    pub instance: InstanceId,
}

/// The registry does not know this node: register again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterAgain {
    /// The asking registry process.
    pub registry: InstanceId,
}
