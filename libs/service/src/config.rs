//! Configuration: one file for the cluster, four layers, every problem at once.
//!
//! The layers, weakest first: defaults, `orchion.toml`, the environment
//! (`ORCHION_SECTION__KEY`, and the short names that flags declare), flags.
//! A service reads the shared sections and its own; sections of other services
//! are skipped, and any name that nobody knows is refused with the nearest one
//! that exists.

mod duration;
mod layer;
mod load;
mod print;
mod secret;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, de::DeserializeOwned};

pub use duration::{HumanDuration, ParseDurationError};
pub use load::load;
pub use print::to_toml;
pub use secret::Secret;

use crate::telemetry;

/// Every section that a configuration file may hold, whoever reads it.
pub const SECTIONS: &[&str] = &[
    "nats",
    "telemetry",
    "registry",
    "scheduler",
    "gateway",
    "log-sink",
    "node-agent",
    "orchion",
];

/// The name of the configuration file where it is looked for.
pub const FILE_NAME: &str = "orchion.toml";

/// The configuration of one service: its shared sections and its own.
///
/// `Default` is the only place where a default lives. Each struct in it carries
/// `#[serde(deny_unknown_fields)]`, so that a typo is found; a field for a
/// section with a dash is renamed (`#[serde(rename = "log-sink")]`).
pub trait Settings: Serialize + DeserializeOwned + Default {
    /// The sections that this configuration reads: a part of [`SECTIONS`].
    const SECTIONS: &'static [&'static str];

    /// The shared section `telemetry`.
    fn telemetry(&self) -> &telemetry::Settings;

    /// Every problem that the types cannot express, each as
    /// `section.key: what is wrong and what to do`.
    fn validate(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Where a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file named with `--config`; without it, the usual places are tried.
    pub file: Option<PathBuf>,
    /// The environment; tests give their own.
    pub environment: BTreeMap<String, String>,
    /// Short names of environment variables, each with the key it sets.
    pub short_names: Vec<(&'static str, &'static str)>,
    /// The flags given, in order.
    pub flags: Vec<FlagValue>,
}

/// One flag as given on the command line.
#[derive(Clone, Debug)]
pub struct FlagValue {
    /// The flag without its dashes, for messages.
    pub name: String,
    /// The key it sets, as `section.key`.
    pub key: String,
    /// Its text.
    pub value: String,
}

impl Sources {
    /// The environment of this process, no flags.
    pub fn from_process() -> Self {
        Self {
            environment: environment(),
            ..Self::default()
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    /// One problem per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// The environment of this process; variables that are not Unicode are left out.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// One environment variable, for the few settings that are not configuration
/// (where a program is found, whether colour is wanted). Empty counts as unset.
pub fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?
        .into_string()
        .ok()
        .filter(|value| !value.is_empty())
}

/// The directory that holds what Orchion keeps: `ORCHION_DATA_DIR`, else the
/// platform's directory for application data, else `./orchion-data`.
pub fn data_dir() -> PathBuf {
    data_dir_in(&environment())
}

fn data_dir_in(environment: &BTreeMap<String, String>) -> PathBuf {
    let path = |name: &str| {
        environment
            .get(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(chosen) = path("ORCHION_DATA_DIR") {
        return chosen;
    }
    let platform = if cfg!(windows) {
        path("APPDATA")
    } else if cfg!(target_os = "macos") {
        path("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        path("XDG_DATA_HOME").or_else(|| path("HOME").map(|home| home.join(".local/share")))
    };
    platform.map_or_else(|| PathBuf::from("orchion-data"), |dir| dir.join("orchion"))
}
