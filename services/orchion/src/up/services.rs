//! The configuration of every service that `orchion up` runs: from the one file,
//! the environment and its flags, with what it decides itself on top.

use std::path::PathBuf;

use orchion_nats_server::Passwords;
use orchion_service::Settings;
use orchion_service::config::{self, FlagValue, Sources};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::data;
use crate::args::Up;
use crate::exit::{Failure, Kind, Result};

/// What every service reads.
pub(super) struct Services {
    pub(super) registry: orchion_registry::Config,
    pub(super) scheduler: orchion_scheduler::Config,
    pub(super) gateway: orchion_gateway::Config,
    pub(super) log_sink: orchion_log_sink::Config,
    pub(super) agents: Vec<orchion_node_agent::Config>,
}

/// What is not the owner's to choose in the file.
pub(super) struct Given<'a> {
    pub(super) options: &'a Up,
    pub(super) nats_port: u16,
    /// The roles' passwords; on loopback a role is taken without one.
    pub(super) passwords: Option<&'a Passwords>,
    /// The token of a gateway that is open to the network.
    pub(super) token: Option<String>,
    /// The data directory.
    pub(super) root: PathBuf,
}

impl Services {
    /// Reads them all.
    ///
    /// # Errors
    /// Everything that is wrong with the first of them.
    pub(super) fn load(given: &Given<'_>) -> Result<Self> {
        Ok(Self {
            registry: given.load(given.registry())?,
            scheduler: given.load(given.service())?,
            gateway: given.load(given.gateway())?,
            log_sink: given.load(given.service())?,
            agents: (1..=given.options.agents)
                .map(|number| given.load(given.agent(number)))
                .collect::<Result<_>>()?,
        })
    }

    /// All of it as one file, secrets masked.
    pub(super) fn to_toml(&self) -> Result<String> {
        Ok(config::to_toml(self)?)
    }
}

impl Serialize for Services {
    /// The sections of one file; of several agents the first.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut file = serializer.serialize_map(None)?;
        file.serialize_entry("nats", &self.registry.nats)?;
        file.serialize_entry("telemetry", &self.registry.telemetry)?;
        file.serialize_entry("registry", &self.registry.registry)?;
        file.serialize_entry("scheduler", &self.scheduler.scheduler)?;
        file.serialize_entry("gateway", &self.gateway.gateway)?;
        file.serialize_entry("log-sink", &self.log_sink.log_sink)?;
        if let Some(agent) = self.agents.first() {
            file.serialize_entry("node-agent", &agent.node_agent)?;
        }
        file.end()
    }
}

impl Given<'_> {
    fn load<C: Settings>(&self, flags: Vec<FlagValue>) -> Result<C> {
        let sources = Sources {
            file: self.options.config.clone(),
            flags,
            ..Sources::from_process()
        };
        config::load(&sources).map_err(|problems| {
            Failure::new(
                Kind::Usage,
                format!(
                    "the configuration is not right:\n  {}",
                    problems.0.join("\n  ")
                ),
            )
        })
    }

    fn service(&self) -> Vec<FlagValue> {
        let password = self.passwords.map(|all| all.service.as_str());
        self.user("service", password)
    }

    /// The registry also hears who connects and who is gone.
    fn registry(&self) -> Vec<FlagValue> {
        let password = self.passwords.map_or("", |all| all.liveness.as_str());
        let mut flags = self.service();
        flags.push(flag("nats-port", "nats.system_user", "liveness".to_owned()));
        flags.push(flag(
            "nats-port",
            "nats.system_password",
            password.to_owned(),
        ));
        flags
    }

    fn gateway(&self) -> Vec<FlagValue> {
        let mut flags = self.service();
        if let Some(port) = self.options.http_port {
            flags.push(flag("http-port", "gateway.http_port", port.to_string()));
        }
        if let Some(bind) = &self.options.bind {
            flags.push(flag("bind", "gateway.bind", bind.clone()));
        }
        if let Some(token) = &self.token {
            flags.push(flag("bind", "gateway.tokens", token.clone()));
        }
        flags
    }

    fn agent(&self, number: u32) -> Vec<FlagValue> {
        let password = self.passwords.map(|all| all.agent.as_str());
        let mut flags = self.user("agent", password);
        let folder = data::agent_folder(&self.root, number);
        let folder = folder.to_string_lossy().into_owned();
        flags.push(flag("agents", "node-agent.data_dir", folder));
        flags
    }

    fn user(&self, user: &str, password: Option<&str>) -> Vec<FlagValue> {
        let url = format!("nats://127.0.0.1:{}", self.nats_port);
        vec![
            flag("nats-port", "nats.url", url),
            flag("nats-port", "nats.user", user.to_owned()),
            flag(
                "nats-port",
                "nats.password",
                password.unwrap_or_default().to_owned(),
            ),
        ]
    }
}

fn flag(name: &str, key: &str, value: String) -> FlagValue {
    FlagValue {
        name: name.to_owned(),
        key: key.to_owned(),
        value,
    }
}
