//! Log records: one readable JSON object per line to stdout, and the same lines
//! to a bounded feed that somebody may publish.
//!
//! There is one subscriber per process. Which service a record comes from is
//! told by the task it was made in ([`Source`]); records from tasks of nobody,
//! such as those that a client library spawns, count as the process's own.

mod feed;
mod layer;
mod record;
mod source;

use std::fs::File;
use std::io::IsTerminal;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

pub use feed::{Feed, LogLine};
pub use record::Record;
pub use source::Source;

use layer::{RecordLayer, Render, SpansAlways, Witness};

/// The shared section `telemetry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or a
    /// list such as `info,orchion_scheduler=debug`.
    pub level: String,
    /// How it is written to stdout.
    pub format: Format,
}

/// How log records are written to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `text` on a terminal, else `json`.
    Auto,
    /// One JSON object per line.
    Json,
    /// One short line for people.
    Text,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: Format::Auto,
        }
    }
}

impl Settings {
    /// The problems of this section.
    pub fn validate(&self) -> Vec<String> {
        let parts = self
            .level
            .split(',')
            .filter(|part| !is_level_or_target(part.trim()));
        let explain = |part| {
            format!(
                "telemetry.level: `{part}` is not a level; write error, warn, info, debug or trace, \
                 or for one part of the code orchion_scheduler=debug"
            )
        };
        parts.map(explain).collect()
    }
}

/// A single word must be a level: as the name of a target it would silence all
/// others.
fn is_level_or_target(part: &str) -> bool {
    match part.split_once('=') {
        Some((target, level)) => !target.is_empty() && level.parse::<LevelFilter>().is_ok(),
        None => part.parse::<LevelFilter>().is_ok(),
    }
}

/// Starts telemetry for this process: the subscriber and the panic hook.
/// Records that no service's task made count as of `source`.
///
/// # Errors
/// The process has a subscriber already, or the level is not valid.
pub fn start(settings: &Settings, source: Arc<Source>) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let render = match settings.format {
        Format::Json => Render::Json,
        Format::Text => Render::Text { colour: terminal },
        Format::Auto if terminal => Render::Text { colour: true },
        Format::Auto => Render::Json,
    };
    install(subscriber(settings, source, render, std::io::stdout, None)?)
}

/// Like [`start`], but the records go to `file`, as JSON, and each is shown to
/// `witness`: for a program that has something else to say on its terminal.
///
/// # Errors
/// The process has a subscriber already, or the level is not valid.
pub fn start_in_file(
    settings: &Settings,
    source: Arc<Source>,
    file: File,
    witness: impl Fn(&Record<'_>) + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let (file, witness) = (Arc::new(file), Box::new(witness));
    install(subscriber(
        settings,
        source,
        Render::Json,
        file,
        Some(witness),
    )?)
}

fn install(subscriber: impl tracing::Subscriber + Send + Sync) -> anyhow::Result<()> {
    tracing::subscriber::set_global_default(subscriber)?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(
            code.location = place,
            "panic: {}",
            panic_message(panic.payload())
        );
    }));
    Ok(())
}

fn subscriber<W>(
    settings: &Settings,
    source: Arc<Source>,
    render: Render,
    writer: W,
    witness: Option<Witness>,
) -> anyhow::Result<impl tracing::Subscriber + Send + Sync + use<W>>
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = quiet_libraries(settings.level.parse()?);
    let layer = RecordLayer::new(source, render, writer)
        .with_witness(witness)
        .with_filter(SpansAlways(filter));
    Ok(Registry::default().with(layer))
}

/// A library that tells programmers what its user tells people, so its records
/// count as debug; a level for its own target, as `info,async_nats=info`, wins.
const QUIET_LIBRARY: &str = "async_nats";

fn quiet_libraries(filter: Targets) -> Targets {
    let is_debugging = filter
        .default_level()
        .is_some_and(|level| level >= LevelFilter::DEBUG);
    let is_named = filter
        .iter()
        .any(|(target, _)| target.starts_with(QUIET_LIBRARY));
    if is_debugging || is_named {
        return filter;
    }
    filter.with_target(QUIET_LIBRARY, LevelFilter::OFF)
}

/// What a panic said. A message that was put together may quote what must not
/// be logged (the text that was cut at a wrong place), so it ends at the first
/// quotation mark; a fixed one is whole.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(fixed) = payload.downcast_ref::<&'static str>() {
        return (*fixed).to_owned();
    }
    let Some(composed) = payload.downcast_ref::<String>() else {
        return "a value that is no text".to_owned();
    };
    match composed.find(['`', '"', '\'']) {
        Some(quote) => format!("{}…", &composed[..quote]),
        None => composed.clone(),
    }
}

#[cfg(test)]
mod tests;
