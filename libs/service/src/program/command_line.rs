//! The command line as clap sees it, made from the tables of a [`Program`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches};

use super::{Flag, Program, Retired, VERSION};
use crate::config::{FlagValue, Settings, Sources};

const AFTER_HELP: &str = "\
Settings come from, weakest first: defaults, orchion.toml, the environment
(ORCHION_SECTION__KEY, such as ORCHION_TELEMETRY__LEVEL=debug), flags.
--print-config shows the result.";

impl<C: Settings> Program<C> {
    /// The command line of this program, for clap.
    pub fn command(&self) -> clap::Command {
        let healthcheck = clap::Command::new("healthcheck")
            .about("Ask the running service how it is; exit 0 when it is well, 1 when not");
        let commands = self
            .commands
            .iter()
            .map(|command| clap::Command::new(command.name).about(command.about));
        // Terminals wrap by themselves; clap would only in some builds.
        self.add_flags(clap::Command::new(self.name).term_width(0))
            .about(self.about)
            .version(VERSION)
            .after_help(AFTER_HELP)
            .disable_help_subcommand(true)
            .subcommand(healthcheck)
            .subcommands(commands)
    }

    /// Adds the flags of this program, and those that all have, to a command.
    pub fn add_flags(&self, command: clap::Command) -> clap::Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Configuration file [env: ORCHION_CONFIG] [default: orchion.toml, here or in the data directory]");
        let print = Arg::new("print-config")
            .long("print-config")
            .action(ArgAction::SetTrue)
            .help("Print the resulting configuration, secrets masked, and exit");
        let all = [config, print].into_iter().chain(self.own_flags());
        command.args(all.map(|arg| arg.global(true)))
    }

    /// The flags of this program alone, for a command that starts several.
    pub fn own_flags(&self) -> Vec<Arg> {
        let flags = self.flags.iter().map(Flag::to_arg);
        flags
            .chain(self.retired.iter().map(Retired::to_arg))
            .collect()
    }

    /// Where the configuration comes from, by the flags that were given.
    pub fn sources(&self, matches: &ArgMatches, environment: BTreeMap<String, String>) -> Sources {
        let given = |flag: &Flag| {
            let value = match flag.value {
                "" => matches.get_flag(flag.name).then(|| "true".to_owned())?,
                _ => matches.get_one::<String>(flag.name)?.clone(),
            };
            Some(FlagValue {
                name: flag.name.to_owned(),
                key: flag.key.to_owned(),
                value,
            })
        };
        Sources {
            file: matches.get_one::<PathBuf>("config").cloned(),
            environment,
            short_names: self
                .flags
                .iter()
                .filter_map(|flag| Some((flag.env?, flag.key)))
                .collect(),
            flags: self.flags.iter().filter_map(given).collect(),
        }
    }

    /// What to say to somebody who gave a flag of the past.
    pub fn retired_given(&self, matches: &ArgMatches) -> Option<String> {
        let given = self
            .retired
            .iter()
            .find(|flag| matches.contains_id(flag.name))?;
        Some(format!("--{} is no more: {}", given.name, given.message))
    }
}

impl Flag {
    fn to_arg(&self) -> Arg {
        let help = match self.env {
            Some(env) => format!("{} [env: {env}]", self.help),
            None => self.help.to_owned(),
        };
        let arg = Arg::new(self.name)
            .long(self.name)
            .help(help)
            .visible_aliases(self.aliases);
        match self.value {
            "" => arg.action(ArgAction::SetTrue),
            value => arg.value_name(value),
        }
    }
}

impl Retired {
    fn to_arg(&self) -> Arg {
        Arg::new(self.name)
            .long(self.name)
            .hide(true)
            .num_args(0..=1)
            .action(ArgAction::Append)
    }
}
