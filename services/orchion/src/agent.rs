//! `orchion agent`: brings this host into a cluster that runs elsewhere.
//!
//! The same agent as the program `orchion-node-agent`, with the same flags, and
//! one more: the line that `orchion up --lan` prints.

use std::process::ExitCode;

use clap::{Arg, ArgMatches};
use orchion_node_agent::{Config, PROGRAM};
use orchion_service::Supervisor;
use orchion_service::config::{self, FlagValue, variable};
use orchion_service::shutdown::Signals;
use orchion_service::telemetry::{self, Source};

use crate::exit::{Failure, Kind, Result};
use crate::join::Join;
use crate::terminal::Terminal;

/// The name of the command.
pub(crate) const NAME: &str = "agent";

/// The command, for clap.
pub(crate) fn command() -> clap::Command {
    let join = Arg::new("join")
        .long("join")
        .value_name("LINE")
        .conflicts_with("nats-url")
        .help("What `orchion up --lan` printed on the other machine [env: ORCHION_JOIN]");
    let command = clap::Command::new(NAME).about("Bring this host into a cluster");
    PROGRAM.add_flags(command.arg(join))
}

/// Runs the agent until it is asked to stop.
pub(crate) fn run(matches: &ArgMatches, terminal: Terminal) -> Result<ExitCode> {
    if let Some(text) = PROGRAM.retired_given(matches) {
        return Err(Failure::new(Kind::Usage, text));
    }
    let config = configure(matches)?;
    if matches.get_flag("print-config") {
        terminal.line(&config::to_toml(&config)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let source = Source::new(PROGRAM.name);
    telemetry::start(&config.telemetry, source.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let supervisor = Supervisor::with_source(source, PROGRAM.grace);
    let code = runtime.block_on(until_stopped(supervisor, config));
    runtime.shutdown_background();
    code
}

fn configure(matches: &ArgMatches) -> Result<Config> {
    let mut sources = PROGRAM.sources(matches, config::environment());
    let given = matches.get_one::<String>("join").cloned();
    let is_elsewhere = matches.contains_id("nats-url");
    let line = given.or_else(|| variable("ORCHION_JOIN").filter(|_| !is_elsewhere));
    if let Some(line) = line {
        sources.flags.extend(flags(&Join::parse(&line)?));
    }
    config::load(&sources).map_err(|problems| {
        Failure::new(Kind::Usage, format!("the agent cannot start: {problems}"))
    })
}

fn flags(join: &Join) -> Vec<FlagValue> {
    let flag = |key: &str, value: String| FlagValue {
        name: "join".to_owned(),
        key: key.to_owned(),
        value,
    };
    vec![
        flag("nats.url", join.nats_url()),
        flag("nats.user", join.user.clone()),
        flag("nats.password", join.password.clone()),
    ]
}

async fn until_stopped(supervisor: Supervisor, config: Config) -> Result<ExitCode> {
    let signals = Signals::listen()?;
    let stop = supervisor.stop();
    let start =
        async |tasks: &orchion_service::Tasks| orchion_node_agent::start(config, tasks).await;
    tokio::select! {
        ended = supervisor.run(start) => match ended {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(failure) => Err(Failure::new(Kind::Unavailable, failure.report())),
        },
        code = signals.stop_then_end(stop) => Ok(ExitCode::from(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(line: &str) -> Result<Config> {
        let arguments = std::iter::once(NAME).chain(line.split_whitespace());
        configure(&command().try_get_matches_from(arguments).unwrap())
    }

    #[test]
    fn a_line_tells_where_and_who() {
        let line = Join {
            host: "10.0.0.7".to_owned(),
            port: 4222,
            user: "agent".to_owned(),
            password: "s3cret".to_owned(),
        };
        let config = configured(&format!("--join {line} --node-id kitchen")).unwrap();
        assert_eq!(config.nats.url, "nats://10.0.0.7:4222");
        assert_eq!(config.nats.user.as_deref(), Some("agent"));
        assert_eq!(config.nats.password.unwrap().expose(), "s3cret");
        assert_eq!(config.node_agent.node_id.as_deref(), Some("kitchen"));
    }

    #[test]
    fn a_broken_line_is_refused() {
        let failure = configured("--join orchion://abc").unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
    }

    #[test]
    fn a_line_and_an_address_exclude_each_other() {
        let arguments = [NAME, "--join", "orchion://x", "--nats-url", "nats://y"];
        assert!(command().try_get_matches_from(arguments).is_err());
    }
}
