//! The section `node-agent` of the configuration, and its flags.

use std::collections::BTreeMap;
use std::path::PathBuf;

use orchion_contract::NodeId;
use orchion_contract::node::{Continuation, EngineKind};
use orchion_node_agent_core::Watchdog;
use orchion_service::{Flag, HumanDuration, Retired, Secret, Settings, config, telemetry};
use serde::{Deserialize, Serialize};

use crate::engine::http::Target;

/// Everything the agent is told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where NATS is.
    pub nats: orchion_bus::Config,
    /// What is logged.
    pub telemetry: telemetry::Settings,
    /// The agent's own section.
    #[serde(rename = "node-agent")]
    pub node_agent: NodeAgent,
}

/// Section `node-agent`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeAgent {
    /// Name of this node in the cluster; made once and kept when absent.
    pub node_id: Option<String>,
    /// Name of this host for people; the system's when absent.
    pub hostname: Option<String>,
    /// What this agent keeps; one directory per agent.
    pub data_dir: Option<PathBuf>,
    /// Longest time between two heartbeats.
    pub heartbeat_interval: HumanDuration,
    /// The same while jobs run.
    pub busy_heartbeat_interval: HumanDuration,
    /// How often hardware and engines are looked at in full.
    pub capability_interval: HumanDuration,
    /// How long an engine may take to its first token: it may load a model.
    pub first_token_timeout: HumanDuration,
    /// How long an engine may be silent within an answer.
    pub idle_timeout: HumanDuration,
    /// How long an engine may work on one answer; no limit but the job's own
    /// deadline when absent.
    pub wall_timeout: Option<HumanDuration>,
    /// Free labels of this node.
    pub labels: BTreeMap<String, String>,
    /// Where running engines are looked for; an empty list switches it off.
    pub probe: Vec<String>,
    /// Whether the starter engine runs when there is no other.
    pub starter: bool,
    /// The starter engine's program; looked for beside this one and on PATH
    /// when absent.
    pub starter_binary: Option<PathBuf>,
    /// A GGUF file for the starter engine, instead of the model that it makes.
    pub starter_model: Option<PathBuf>,
    /// Engines of this host.
    pub engines: Vec<EngineSettings>,
}

/// One engine: where it runs, or how it is started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSettings {
    /// Which program it is.
    pub kind: EngineKind,
    /// Its base URL without `/v1`; absent for an engine that the agent starts.
    #[serde(default)]
    pub url: Option<String>,
    /// The model file that the agent starts it with.
    #[serde(default)]
    pub model: Option<PathBuf>,
    /// The program; looked for on PATH when absent.
    #[serde(default)]
    pub binary: Option<PathBuf>,
    /// Further arguments for the program.
    #[serde(default)]
    pub args: Vec<String>,
    /// Requests at once, instead of what the engine says.
    #[serde(default)]
    pub slots: Option<u32>,
    /// Digest of the weights (`sha256:…`), instead of what the engine says.
    #[serde(default)]
    pub digest: Option<String>,
    /// How it can go on with a begun answer, instead of trying it out; of an engine
    /// with several models that is not tried.
    #[serde(default)]
    pub continuation: Option<Continuation>,
    /// Only these of its models.
    #[serde(default)]
    pub models: Vec<String>,
    /// The key that it asks for.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// How long it may take to its first token, instead of what the node allows.
    #[serde(default)]
    pub first_token_timeout: Option<HumanDuration>,
    /// How long it may be silent within an answer, instead of what the node allows.
    #[serde(default)]
    pub idle_timeout: Option<HumanDuration>,
    /// How long it may work on one answer, instead of what the node allows.
    #[serde(default)]
    pub wall_timeout: Option<HumanDuration>,
}

impl EngineSettings {
    /// An engine of `kind` about which nothing more is known.
    #[must_use]
    pub fn new(kind: EngineKind) -> Self {
        Self {
            kind,
            url: None,
            model: None,
            binary: None,
            args: Vec::new(),
            slots: None,
            digest: None,
            continuation: None,
            models: Vec::new(),
            api_key: None,
            first_token_timeout: None,
            idle_timeout: None,
            wall_timeout: None,
        }
    }

    /// An engine of `kind` that runs at `url`.
    #[must_use]
    pub fn at(kind: EngineKind, url: impl Into<String>) -> Self {
        Self {
            url: Some(url.into()),
            ..Self::new(kind)
        }
    }

    /// How long it may take, on a node that allows `node`.
    #[must_use]
    pub fn watchdog(&self, node: Watchdog) -> Watchdog {
        let own = |timeout: Option<HumanDuration>| timeout.map(HumanDuration::get);
        node.or(
            own(self.first_token_timeout),
            own(self.idle_timeout),
            own(self.wall_timeout),
        )
    }

    fn problems(&self, place: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let timeouts = [
            ("first_token_timeout", self.first_token_timeout),
            ("idle_timeout", self.idle_timeout),
            ("wall_timeout", self.wall_timeout),
        ];
        for (name, timeout) in timeouts {
            problems
                .extend(timeout.and_then(|timeout| too_short(&format!("{place}.{name}"), timeout)));
        }
        match &self.url {
            Some(url) => {
                if let Err(error) = Target::parse(url) {
                    problems.push(format!("{place}.url: {error}"));
                }
            }
            None if self.kind == EngineKind::LlamaCpp && self.model.is_none() => {
                problems.push(format!(
                    "{place}: give `url` of a running llama-server, or `model` to start one with"
                ));
            }
            None if matches!(self.kind, EngineKind::LlamaCpp | EngineKind::Starter) => {}
            None => problems.push(format!(
                "{place}: give its `url`; only llamacpp and starter can be started here"
            )),
        }
        match self.kind {
            EngineKind::LlamaCpp | EngineKind::OpenAi | EngineKind::Starter => {}
            EngineKind::Ollama | EngineKind::Vllm | EngineKind::Exo => problems.push(format!(
                "{place}.kind: {} has no adapter of its own yet; use `openai` with its base URL",
                self.kind
            )),
            EngineKind::Unknown => problems.push(format!(
                "{place}.kind: must be llamacpp, openai or starter; anything that speaks OpenAI's protocol is `openai`"
            )),
        }
        if self.continuation == Some(Continuation::Unknown) {
            problems.push(format!(
                "{place}.continuation: must be none, text or ids; leave it out to have it tried"
            ));
        }
        if self.slots == Some(0) {
            problems.push(format!("{place}.slots: must be at least 1"));
        }
        problems
    }
}

/// Where engines usually listen: llama-server (8080), Ollama (11434), vLLM
/// (8000), LM Studio (1234).
const USUAL: [&str; 4] = [
    "http://127.0.0.1:8080",
    "http://127.0.0.1:11434",
    "http://127.0.0.1:8000",
    "http://127.0.0.1:1234",
];

impl Default for NodeAgent {
    fn default() -> Self {
        Self {
            node_id: None,
            hostname: None,
            data_dir: None,
            heartbeat_interval: HumanDuration::from_secs(5),
            busy_heartbeat_interval: HumanDuration::from_secs(1),
            capability_interval: HumanDuration::from_secs(10),
            first_token_timeout: HumanDuration::from_secs(300),
            idle_timeout: HumanDuration::from_secs(60),
            wall_timeout: None,
            labels: BTreeMap::new(),
            probe: USUAL.map(str::to_owned).to_vec(),
            starter: true,
            starter_binary: None,
            starter_model: None,
            engines: Vec::new(),
        }
    }
}

impl NodeAgent {
    /// What this agent keeps on disk.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir
            .clone()
            .unwrap_or_else(|| config::data_dir().join("node-agent"))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(Err(error)) = self.node_id.as_ref().map(NodeId::new) {
            problems.push(format!("node-agent.node_id: {error}"));
        }
        let durations = [
            ("heartbeat_interval", self.heartbeat_interval),
            ("busy_heartbeat_interval", self.busy_heartbeat_interval),
            ("capability_interval", self.capability_interval),
            ("first_token_timeout", self.first_token_timeout),
            ("idle_timeout", self.idle_timeout),
        ];
        let wall = self.wall_timeout.map(|timeout| ("wall_timeout", timeout));
        for (name, duration) in durations.into_iter().chain(wall) {
            problems.extend(too_short(&format!("node-agent.{name}"), duration));
        }
        for url in &self.probe {
            if let Err(error) = Target::parse(url) {
                problems.push(format!("node-agent.probe: {error}"));
            }
        }
        for (n, engine) in self.engines.iter().enumerate() {
            problems.extend(engine.problems(&format!("node-agent.engines[{n}]")));
        }
        problems
    }
}

fn too_short(name: &str, duration: HumanDuration) -> Option<String> {
    let message = || format!("{name}: must be longer than 0; write a duration like 5s");
    duration.is_zero().then(message)
}

impl Settings for Config {
    const SECTIONS: &'static [&'static str] = &["nats", "telemetry", "node-agent"];

    fn telemetry(&self) -> &telemetry::Settings {
        &self.telemetry
    }

    fn validate(&self) -> Vec<String> {
        let mut problems = self.nats.problems();
        problems.extend(self.node_agent.problems());
        problems
    }
}

pub(crate) const FLAGS: &[Flag] = &[
    Flag {
        name: "nats-url",
        key: "nats.url",
        value: "URL",
        help: "NATS servers, separated by commas",
        env: Some("ORCHION_NATS_URL"),
        aliases: &["orchestrator"],
    },
    Flag {
        name: "node-id",
        key: "node-agent.node_id",
        value: "ID",
        help: "Name of this node: letters, digits, dashes and underscores; made once and kept when absent",
        env: Some("ORCHION_NODE_ID"),
        aliases: &[],
    },
    Flag {
        name: "hostname",
        key: "node-agent.hostname",
        value: "NAME",
        help: "Name of this host for people; the system's when absent",
        env: None,
        aliases: &[],
    },
    Flag {
        name: "data-dir",
        key: "node-agent.data_dir",
        value: "DIR",
        help: "What this agent keeps; one directory per agent",
        env: None,
        aliases: &[],
    },
    Flag {
        name: "heartbeat-interval",
        key: "node-agent.heartbeat_interval",
        value: "DURATION",
        help: "Longest time between two heartbeats, such as 5s",
        env: None,
        aliases: &[],
    },
    Flag {
        name: "capability-interval",
        key: "node-agent.capability_interval",
        value: "DURATION",
        help: "How often hardware and engines are looked at, such as 10s",
        env: None,
        aliases: &[],
    },
];

pub(crate) const RETIRED: &[Retired] = &[
    Retired {
        name: "agent-port",
        message: "an agent listens on no port any more; it needs one outgoing connection to NATS, \
                  given with --nats-url",
    },
    Retired {
        name: "api-key",
        message: "agents log in to NATS with nats.user and nats.password \
                  (ORCHION_NATS__USER, ORCHION_NATS__PASSWORD); clients get their tokens at the gateway",
    },
];

#[cfg(test)]
mod tests;
