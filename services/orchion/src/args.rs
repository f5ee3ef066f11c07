//! The command line, as data.

mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use orchion_contract::job::JobState;
use orchion_contract::log::Level;

use crate::exit::EXIT_CODES;
use crate::nats;

pub(crate) use values::JobName;

/// Runs AI work on every machine you own.
#[derive(Debug, Parser)]
#[command(
    name = "orchion",
    version,
    after_help = EXIT_CODES,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Address of a gateway; several are tried in turn [env: ORCHION_URL] [default: http://localhost:8080]
    #[arg(long, value_name = "URL", global = true, value_delimiter = ',')]
    pub(crate) url: Vec<String>,
    /// Token of the gateway; better given in the environment, where other users do not see it [env: ORCHION_TOKEN]
    #[arg(long, global = true)]
    pub(crate) token: Option<String>,
    /// Print JSON for programs: one document, or one line for each event
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine, until Ctrl-C
    #[command(display_order = 0)]
    Up(Up),
    /// Talk to a model; the answer survives the death of a gateway
    Chat(Chat),
    /// Give a model a task, and wait for it or not
    Run(Run),
    /// List jobs, or look at one
    Jobs(Jobs),
    /// Say why a job is where it is, or why it waits
    Explain(Explain),
    /// List nodes, or look at one
    Nodes(Nodes),
    /// List the models that are offered
    Models,
    /// Read the logs of all parts
    Logs(Logs),
    /// Check this machine and the cluster, and say what to do
    Doctor(Doctor),
    /// Print the versions of this program and of the gateway
    Version,
    /// Draw the secrets of a deployment in containers
    #[command(hide = true)]
    Setup(Setup),
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Port of the gateway, 0 for a free one [default: 8080]
    #[arg(long, value_name = "PORT", value_parser = values::port)]
    pub(crate) http_port: Option<u16>,
    /// Port of NATS, 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = nats::DEFAULT_PORT, value_parser = values::port)]
    pub(crate) nats_port: u16,
    /// Start this many agents, for a look at several nodes
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = values::agents)]
    pub(crate) agents: u32,
    /// Open NATS to the network, with passwords, and print the line that joins another host
    #[arg(long)]
    pub(crate) lan: bool,
    /// Address under which other hosts reach this one; found out by itself
    #[arg(long, value_name = "HOST", requires = "lan")]
    pub(crate) advertise: Option<String>,
    /// Address the gateway listens on; any but loopback makes it ask for a token [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) bind: Option<String>,
    /// Stop as soon as a first answer has come: exit 0 when it works
    #[arg(long)]
    pub(crate) check: bool,
    /// Print nothing but problems
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Show every log record on the terminal, not only warnings
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Configuration file [env: ORCHION_CONFIG] [default: orchion.toml, here or in the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the resulting configuration, secrets masked, and exit
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// How to generate.
#[derive(Clone, Debug, Args)]
pub(crate) struct Sampling {
    /// Model to use; without it the first by name, and the starter only when nothing else is offered
    #[arg(short, long)]
    pub(crate) model: Option<String>,
    /// How the model shall behave
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Most tokens to generate
    #[arg(long, value_name = "COUNT", value_parser = values::count, allow_negative_numbers = true)]
    pub(crate) max_tokens: Option<u32>,
    /// How freely to choose; 0 always takes the likeliest token
    #[arg(long, value_name = "NUMBER", value_parser = values::number)]
    pub(crate) temperature: Option<f64>,
    /// Seed of the sampler, for equal answers to equal questions
    #[arg(long, value_name = "NUMBER", value_parser = values::seed, allow_negative_numbers = true)]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// What to say; without it stdin is read, and a terminal becomes a conversation
    pub(crate) prompt: Option<String>,
    #[command(flatten)]
    pub(crate) sampling: Sampling,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// What to do; without it stdin is read
    pub(crate) prompt: Option<String>,
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// Do not wait: print the job's id and return
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Whether somebody waits for the answer
    #[arg(long, value_enum, default_value_t = Priority::Interactive)]
    pub(crate) priority: Priority,
    /// Time it may take in all, such as 90s or 10m
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) deadline: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Priority {
    /// Somebody waits
    Interactive,
    /// Nobody waits
    Batch,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Jobs {
    #[command(subcommand)]
    pub(crate) command: Option<JobsCommand>,
    #[command(flatten)]
    pub(crate) list: JobsList,
}

#[derive(Debug, Args)]
pub(crate) struct JobsList {
    /// Only jobs in this state
    #[arg(long, value_parser = values::state)]
    pub(crate) state: Option<JobState>,
    /// Only jobs of this node: its id or the beginning of it, or the name of its host
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Only jobs of this model
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// At most this many, the newest
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20, value_parser = values::count)]
    pub(crate) limit: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Everything about one job
    Show {
        /// The job: its id, or the beginning of it
        id: JobName,
    },
    /// Print the answer of a job from its beginning, and wait for the rest
    Follow {
        /// The job: its id, or the beginning of it
        id: JobName,
    },
    /// End a job; doing it twice changes nothing
    Cancel {
        /// The job: its id, or the beginning of it
        id: JobName,
    },
    /// The log records of a job
    Logs {
        /// The job: its id, or the beginning of it
        id: JobName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The job: its id, or the beginning of it
    pub(crate) id: JobName,
}

#[derive(Debug, Args)]
pub(crate) struct Nodes {
    #[command(subcommand)]
    pub(crate) command: Option<NodesCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodesCommand {
    /// Everything about one node
    Show {
        /// The node: its id or the beginning of it, or the name of its host
        node: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on with new records as they come
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// This level and above: debug, info, warn or error
    #[arg(long)]
    pub(crate) level: Option<Level>,
    /// Only this service, such as scheduler
    #[arg(long, value_name = "SERVICE")]
    pub(crate) source: Option<String>,
    /// Only records of this job
    #[arg(long)]
    pub(crate) job: Option<JobName>,
    /// Only stored records that are younger than this, such as 10m
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) since: Option<Duration>,
    /// At most this many stored records, the newest
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50, value_parser = values::count)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Where NATS should be [env: ORCHION_NATS_URL] [default: nats://localhost:4222]
    #[arg(long, value_name = "URL")]
    pub(crate) nats_url: Option<String>,
}

/// Where the parts of a deployment in containers find their secrets.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// Where NATS will be
    #[arg(long, value_name = "URL")]
    pub(crate) nats_url: String,
    /// Folder of the services and of NATS
    #[arg(long, value_name = "FOLDER")]
    pub(crate) services: PathBuf,
    /// Folder of the nodes
    #[arg(long, value_name = "FOLDER")]
    pub(crate) agents: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("orchion").chain(line.split(' ')))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn common_flags_stand_anywhere() {
        for line in ["--json --url a,b nodes", "nodes --json --url a --url b"] {
            let cli = parse(line).unwrap();
            assert!(cli.common.json);
            assert_eq!(cli.common.url, ["a", "b"]);
        }
    }

    #[test]
    fn jobs_alone_lists_and_with_a_verb_acts() {
        let id = "0192f000-0000-7000-8000-000000000000";
        let Command::Jobs(jobs) = parse("jobs --state failed -n 5").unwrap().command else {
            panic!("not jobs");
        };
        assert_eq!(jobs.list.state, Some(JobState::Failed));
        assert_eq!(jobs.list.limit, 5);
        let Command::Jobs(jobs) = parse(&format!("jobs cancel {id}")).unwrap().command else {
            panic!("not jobs");
        };
        assert!(matches!(jobs.command, Some(JobsCommand::Cancel { .. })));
    }

    #[test]
    fn wrong_values_say_which_are_right() {
        let said = |line: &str| parse(line).unwrap_err().to_string();
        assert!(said("jobs --state done").contains("use one of pending, assigned"));
        assert!(said("logs --level loud").contains("use debug, info, warn or error"));
        assert!(said("run x --deadline 5").contains("write a number and a unit"));
        assert!(said("logs --since yesterday").contains("write a number and a unit"));
        assert!(
            said("jobs show job-1").contains("must be the id of a job, or the beginning of one")
        );
        assert!(said("run x --max-tokens many").contains("must be a whole number"));
        assert!(said("up --http-port 70000").contains("must be a number up to 65535"));
        assert!(said("up --agents 0").contains("must be a number from 1 to 64"));
        assert!(said("chta").contains("'chat'"));
    }
}
