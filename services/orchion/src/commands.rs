//! The commands: each reads its arguments, asks the gateway and shows the answer.

mod answer;
mod chat;
mod doctor;
mod explain;
mod jobs;
mod logs;
mod models;
mod named;
mod nodes;
mod prompt;
mod run;
mod setup;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use orchion_service::config::variable;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::agent;
use crate::args::{Cli, Command, Common};
use crate::exit::{Failure, Kind, Result};
use crate::gateway::{DEFAULT_URL, Gateway};
use crate::terminal::Terminal;
use crate::up;

/// What a command works with.
pub(crate) struct Context {
    pub(crate) gateway: Gateway,
    pub(crate) terminal: Terminal,
}

/// From the command line to the exit code.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    let wants_json = arguments.iter().any(|argument| argument == "--json");
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return misread(&error, wants_json),
    };
    let terminal = Terminal::of_process(matches.get_flag("json"));
    match start(&matches, terminal) {
        Ok(code) => code,
        Err(failure) => {
            if !failure.is_silent() {
                terminal.failure(&failure);
            }
            failure.exit_code()
        }
    }
}

/// The whole command line; the agent brings its own flags.
fn command() -> clap::Command {
    // Terminals wrap by themselves; clap would only in some builds.
    Cli::command()
        .term_width(0)
        .subcommand(agent::command().display_order(1))
}

/// Help and version are answers; everything else is a wrong command line.
fn misread(error: &clap::Error, wants_json: bool) -> ExitCode {
    if error.use_stderr() && wants_json {
        let failure = wrong_command_line(&error.render().to_string());
        Terminal::of_process(true).failure(&failure);
        return failure.exit_code();
    }
    // Nobody reading it changes nothing.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(Kind::Usage.code())
    } else {
        ExitCode::SUCCESS
    }
}

/// What clap says: what is wrong on the first line, what to do below it.
fn wrong_command_line(text: &str) -> Failure {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let failure = Failure::new(Kind::Usage, message);
    match rest.trim() {
        "" => failure,
        next => failure.then(next),
    }
}

fn start(matches: &ArgMatches, terminal: Terminal) -> Result<ExitCode> {
    if let Some((agent::NAME, matches)) = matches.subcommand() {
        return agent::run(matches, terminal);
    }
    let cli = Cli::from_arg_matches(matches)
        .map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
    if let Command::Up(options) = &cli.command {
        return up::run(options, terminal);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let context = Context {
        gateway: gateway(&cli.common)?,
        terminal,
    };
    let done = runtime.block_on(dispatch(&context, cli.command));
    // A thread that waits for a line of input is left behind.
    runtime.shutdown_background();
    done.map(|()| ExitCode::SUCCESS)
}

async fn dispatch(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Chat(options) => chat::run(context, options).await,
        Command::Run(options) => run::run(context, options).await,
        Command::Jobs(options) => jobs::run(context, options).await,
        Command::Explain(options) => explain::run(context, options).await,
        Command::Nodes(options) => nodes::run(context, options).await,
        Command::Models => models::run(context).await,
        Command::Logs(options) => logs::run(context, options).await,
        Command::Doctor(options) => doctor::run(context, options).await,
        Command::Version => version::run(context).await,
        Command::Up(_) => Ok(()),
        Command::Setup(options) => setup::run(context, &options),
    }
}

/// The gateways that flags and environment name.
fn gateway(common: &Common) -> Result<Gateway> {
    let urls = if common.url.is_empty() {
        let named = variable("ORCHION_URL").unwrap_or_else(|| DEFAULT_URL.to_owned());
        named.split(',').map(|url| url.trim().to_owned()).collect()
    } else {
        common.url.clone()
    };
    let token = common.token.clone().or_else(|| variable("ORCHION_TOKEN"));
    let gateway = Gateway::new(&urls, token)?;
    if gateway.has_token() || !gateway.base().is_local() {
        return Ok(gateway);
    }
    // `orchion up` on this machine has left its token for this user.
    Gateway::new(&urls, up::gateway_token())
}

/// The value of a query parameter, so that it cannot hold another one.
fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given: Vec<String> = pairs
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_deref()?))))
        .collect();
    if given.is_empty() {
        String::new()
    } else {
        format!("?{}", given.join("&"))
    }
}

/// Text as it may stand in a path or a query.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// The rows of a list.
fn rows<T: DeserializeOwned>(document: Value, name: &str) -> Result<Vec<T>> {
    read(document, &format!("list of {name}"))
}

/// A document as what it should be.
fn read<T: DeserializeOwned>(document: Value, name: &str) -> Result<T> {
    serde_json::from_value(document).map_err(|error| {
        Failure::new(
            Kind::Internal,
            format!("the {name} cannot be read: {error}"),
        )
        .then("use an `orchion` of the gateway's version; `orchion version` shows both")
    })
}

/// Waits for Ctrl-C.
async fn interrupt() -> Result<Failure> {
    tokio::signal::ctrl_c().await?;
    Ok(Failure::new(Kind::Interrupted, "interrupted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_break_out_of_its_query() {
        let text = query(&[
            ("model", Some("a&b=c/d é".to_owned())),
            ("node", None),
            ("limit", Some("5".to_owned())),
        ]);
        assert_eq!(text, "?model=a%26b%3Dc%2Fd%20%C3%A9&limit=5");
        assert_eq!(query(&[("node", None)]), "");
    }

    #[test]
    fn help_of_the_whole() {
        command().debug_assert();
        insta::assert_snapshot!(command().render_help());
    }
}
