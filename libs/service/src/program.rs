//! The command line that every binary has, and what happens from `main` on.

mod command_line;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{self, Settings};
use crate::shutdown::Signals;
use crate::supervisor::Supervisor;
use crate::tasks::Tasks;
use crate::telemetry::{self, Source};

/// The version of every binary of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The usual time from the wish to stop until the end.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(8);

/// The time that a health check may take.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The exit code when the command line or the configuration is wrong
/// (`EX_USAGE` of BSD).
pub const EXIT_USAGE: u8 = 64;
const EXIT_FAILURE: u8 = 1;

/// A service as a program.
pub struct Program<C: 'static> {
    /// The name of the service: of its section, its log records, its binary.
    pub name: &'static str,
    /// What it is for, in one line of `--help`.
    pub about: &'static str,
    /// The flags that set configuration keys.
    pub flags: &'static [Flag],
    /// Flags of the past, each with what replaced it.
    pub retired: &'static [Retired],
    /// Subcommands beside `healthcheck`.
    pub commands: &'static [Command<C>],
    /// The time from the wish to stop until the end; usually [`DEFAULT_GRACE`].
    pub grace: Duration,
}

/// A flag that sets one key of the configuration.
pub struct Flag {
    /// The long flag without its dashes.
    pub name: &'static str,
    /// The key it sets, as `section.key`.
    pub key: &'static str,
    /// What stands for its value in `--help`; empty for a switch, which sets `true`.
    pub value: &'static str,
    /// What it is for, in one line.
    pub help: &'static str,
    /// A short name for the environment, beside `ORCHION_SECTION__KEY`.
    pub env: Option<&'static str>,
    /// Other names of the flag.
    pub aliases: &'static [&'static str],
}

/// A flag that is no more.
pub struct Retired {
    /// The long flag without its dashes.
    pub name: &'static str,
    /// What to use instead.
    pub message: &'static str,
}

/// A subcommand that needs nothing but the configuration.
pub struct Command<C> {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in one line of `--help`.
    pub about: &'static str,
    /// Does it; the text goes to stdout.
    pub run: fn(&C) -> anyhow::Result<String>,
}

/// Runs a service from the command line to the exit code: 0 when it was asked
/// to stop and did, 1 when it failed, 64 when the command line or the
/// configuration is wrong, 130 or 143 when a second signal ended it at once.
///
/// `start` returns as soon as the parts of the service are started; `healthcheck`
/// asks a service that runs elsewhere with this configuration how it is.
pub fn run<C, S, H>(program: &Program<C>, start: S, healthcheck: H) -> ExitCode
where
    C: Settings,
    S: AsyncFnOnce(C, &Tasks) -> anyhow::Result<()>,
    H: AsyncFnOnce(C) -> anyhow::Result<()>,
{
    match program.action(std::env::args_os(), config::environment()) {
        Action::Say { text, code: 0 } => say(&mut std::io::stdout().lock(), &text, 0),
        Action::Say { text, code } => say(&mut std::io::stderr().lock(), &text, code),
        Action::Check(config) => check(program, config, healthcheck),
        Action::Serve(config) => serve(program, config, start),
    }
}

/// What a command line asks for.
#[derive(Debug)]
enum Action<C> {
    Say { text: String, code: u8 },
    Check(C),
    Serve(C),
}

impl<C: Settings> Program<C> {
    fn action<I>(&self, arguments: I, environment: BTreeMap<String, String>) -> Action<C>
    where
        I: IntoIterator<Item = OsString>,
    {
        let matches = match self.command().try_get_matches_from(arguments) {
            Ok(matches) => matches,
            Err(error) => {
                let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
                return Action::Say {
                    text: error.render().to_string(),
                    code,
                };
            }
        };
        if let Some(text) = self.retired_given(&matches) {
            return Action::Say {
                text,
                code: EXIT_USAGE,
            };
        }
        let config: C = match config::load(&self.sources(&matches, environment)) {
            Ok(config) => config,
            Err(problems) => {
                return Action::Say {
                    text: self.explain(&problems),
                    code: EXIT_USAGE,
                };
            }
        };
        if matches.get_flag("print-config") {
            return spoken(config::to_toml(&config));
        }
        match matches.subcommand_name() {
            None => Action::Serve(config),
            Some("healthcheck") => Action::Check(config),
            Some(name) => match self.commands.iter().find(|command| command.name == name) {
                Some(command) => spoken((command.run)(&config)),
                None => Action::Serve(config),
            },
        }
    }

    /// What to say to somebody whose configuration is wrong.
    pub fn explain(&self, problems: &config::Problems) -> String {
        let count = match problems.0.len() {
            1 => "a problem".to_owned(),
            count => format!("{count} problems"),
        };
        let list = problems.0.join("\n  ");
        format!(
            "{name} cannot start: the configuration has {count}:\n  {list}\n\
             Correct this and start again; `--help` lists the flags.",
            name = self.name
        )
    }
}

fn spoken<C>(text: anyhow::Result<String>) -> Action<C> {
    match text {
        Ok(text) => Action::Say { text, code: 0 },
        Err(error) => Action::Say {
            text: format!("{error:#}"),
            code: EXIT_FAILURE,
        },
    }
}

/// Output that nobody reads is no reason to fail.
fn say(out: &mut dyn Write, text: &str, code: u8) -> ExitCode {
    let _ = writeln!(out, "{}", text.trim_end());
    ExitCode::from(code)
}

fn check<C, H>(program: &Program<C>, config: C, healthcheck: H) -> ExitCode
where
    H: AsyncFnOnce(C) -> anyhow::Result<()>,
{
    let outcome = runtime().map(|runtime| {
        runtime.block_on(async {
            tokio::time::timeout(HEALTHCHECK_TIMEOUT, healthcheck(config)).await
        })
    });
    let problem = match outcome {
        Ok(Ok(Ok(()))) => return say(&mut std::io::stdout().lock(), "ok", 0),
        Ok(Ok(Err(error))) => format!("{error:#}"),
        Ok(Err(_)) => format!("no answer within {HEALTHCHECK_TIMEOUT:?}"),
        Err(error) => format!("{error:#}"),
    };
    say(
        &mut std::io::stderr().lock(),
        &format!("{} is not well: {problem}", program.name),
        EXIT_FAILURE,
    )
}

fn serve<C, S>(program: &Program<C>, config: C, start: S) -> ExitCode
where
    C: Settings,
    S: AsyncFnOnce(C, &Tasks) -> anyhow::Result<()>,
{
    let source = Source::new(program.name);
    let prepared = telemetry::start(config.telemetry(), source.clone()).and_then(|()| runtime());
    let runtime = match prepared {
        Ok(runtime) => runtime,
        Err(error) => {
            return say(
                &mut std::io::stderr().lock(),
                &format!("{error:#}"),
                EXIT_FAILURE,
            );
        }
    };
    let supervisor = Supervisor::with_source(source, program.grace);
    let code = runtime.block_on(until_stopped(supervisor, async |tasks: &Tasks| {
        start(config, tasks).await
    }));
    // What hangs in a blocking call is left behind: the deadline has passed.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Runs a service until it ends, a signal has stopped it, or a second one ends it.
async fn until_stopped<S>(supervisor: Supervisor, start: S) -> u8
where
    S: AsyncFnOnce(&Tasks) -> anyhow::Result<()>,
{
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("cannot listen for signals: {error}");
            return EXIT_FAILURE;
        }
    };
    let stop = supervisor.stop();
    tokio::select! {
        ended = supervisor.run(start) => if ended.is_ok() { 0 } else { EXIT_FAILURE },
        code = signals.stop_then_end(stop) => code,
    }
}

/// One thread: services mostly wait, and no task ever moves.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

#[cfg(test)]
mod tests;
