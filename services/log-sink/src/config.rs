//! What the owner may choose.

use orchion_service::config::data_dir;
use orchion_service::{DEFAULT_GRACE, Flag, HumanDuration, Program, telemetry};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The log sink as a program.
pub static PROGRAM: Program<Config> = Program {
    name: "log-sink",
    about: "Keeps log records and the history of jobs",
    flags: &[
        orchion_bus::NATS_URL_FLAG,
        Flag {
            name: "data-dir",
            key: "log-sink.data_dir",
            value: "DIR",
            help: "Where the database is kept",
            env: None,
            aliases: &[],
        },
    ],
    retired: &[],
    commands: &[],
    grace: DEFAULT_GRACE,
};

/// The configuration of the log sink.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Shared section `nats`.
    pub nats: orchion_bus::Config,
    /// Shared section `telemetry`.
    pub telemetry: telemetry::Settings,
    /// Section `log-sink`.
    #[serde(rename = "log-sink")]
    pub log_sink: Settings,
}

/// Section `log-sink`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the database is kept; `log-sink` in the data directory when absent.
    pub data_dir: Option<PathBuf>,
    /// How long records and history are kept.
    pub max_age: HumanDuration,
    /// How many log records are kept.
    pub max_rows: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: None,
            max_age: HumanDuration::from_secs(30 * 24 * 60 * 60),
            max_rows: 10_000_000,
        }
    }
}

impl Settings {
    /// The file of the database.
    pub(crate) fn database(&self) -> PathBuf {
        let chosen = self.data_dir.clone();
        chosen
            .unwrap_or_else(|| data_dir().join("log-sink"))
            .join("logs.db")
    }
}

impl orchion_service::Settings for Config {
    const SECTIONS: &'static [&'static str] = &["nats", "telemetry", "log-sink"];

    fn telemetry(&self) -> &telemetry::Settings {
        &self.telemetry
    }

    fn validate(&self) -> Vec<String> {
        let mut problems = self.nats.problems();
        if self.log_sink.max_age.is_zero() {
            problems.push(
                "log-sink.max_age: 0s keeps nothing; write a duration such as 30d".to_owned(),
            );
        }
        if self.log_sink.max_rows == 0 {
            problems.push(
                "log-sink.max_rows: 0 keeps nothing; write a number such as 10000000".to_owned(),
            );
        }
        problems
    }
}
