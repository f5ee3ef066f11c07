//! What the owner may choose.

use orchion_registry_core as core;
use orchion_service::{DEFAULT_GRACE, Flag, HumanDuration, Program, Retired, telemetry};
use serde::{Deserialize, Serialize};

/// The registry as a program.
pub static PROGRAM: Program<Config> = Program {
    name: "registry",
    about: "Knows which nodes live and what they can do",
    flags: &[
        orchion_bus::NATS_URL_FLAG,
        Flag {
            name: "heartbeat-timeout",
            key: "registry.heartbeat_timeout",
            value: "DURATION",
            help: "How long a node may be silent before it counts as lost",
            env: Some("ORCHION_HEARTBEAT_TIMEOUT"),
            aliases: &[],
        },
    ],
    retired: &[Retired {
        name: "port",
        message: "nodes and services meet on NATS; say where it is with --nats-url",
    }],
    commands: &[],
    grace: DEFAULT_GRACE,
};

/// The configuration of the registry.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Shared section `nats`.
    pub nats: orchion_bus::Config,
    /// Shared section `telemetry`.
    pub telemetry: telemetry::Settings,
    /// Section `registry`.
    pub registry: Settings,
}

/// Section `registry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long a node may be silent before it counts as lost. A connection
    /// that ended tells much sooner.
    pub heartbeat_timeout: HumanDuration,
    /// The longest heartbeat interval of any agent; the timeout must be at
    /// least twice as long.
    pub heartbeat_interval: HumanDuration,
    /// How often what is known is compared with the server's connections and
    /// with the stored records.
    pub sweep_interval: HumanDuration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_timeout: HumanDuration::from_secs(30),
            heartbeat_interval: HumanDuration::from_secs(5),
            sweep_interval: HumanDuration::from_secs(10),
        }
    }
}

impl orchion_service::Settings for Config {
    const SECTIONS: &'static [&'static str] = &["nats", "telemetry", "registry"];

    fn telemetry(&self) -> &telemetry::Settings {
        &self.telemetry
    }

    fn validate(&self) -> Vec<String> {
        let mut problems = self.nats.problems();
        problems.extend(self.registry.problems());
        problems
    }
}

impl Settings {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.heartbeat_timeout.get() < self.heartbeat_interval.get() * 2 {
            problems.push(format!(
                "registry.heartbeat_timeout: {} is shorter than two heartbeats ({} each), so that one lost beat \
                 would cost a node its place; raise it to {} or more",
                self.heartbeat_timeout,
                self.heartbeat_interval,
                HumanDuration(self.heartbeat_interval.get() * 2),
            ));
        }
        for (name, value) in [
            ("heartbeat_interval", self.heartbeat_interval),
            ("sweep_interval", self.sweep_interval),
        ] {
            if value.is_zero() {
                problems.push(format!(
                    "registry.{name}: 0s is no interval; write a duration such as 5s"
                ));
            }
        }
        problems
    }

    pub(crate) fn of_core(&self) -> core::Settings {
        core::Settings {
            heartbeat_timeout: self.heartbeat_timeout.get(),
            sweep_interval: self.sweep_interval.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchion_service::Settings as _;

    #[test]
    fn a_timeout_shorter_than_two_heartbeats_is_refused() {
        let mut config = Config::default();
        assert_eq!(config.validate(), Vec::<String>::new());
        config.registry.heartbeat_timeout = HumanDuration::from_millis(9_999);
        let problems = config.validate();
        assert!(
            problems.len() == 1 && problems[0].contains("raise it to 10s or more"),
            "{problems:?}"
        );
    }
}
