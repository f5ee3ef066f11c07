//! A whole service: it counts the requests that it makes up for itself.
//!
//! Try `--help`, `--print-config`, `--tick 1`, and Ctrl-C while it runs.

use std::process::ExitCode;

use orchion_service::{
    Command, DEFAULT_GRACE, Flag, HumanDuration, Program, Retired, Secret, Settings, Tasks,
    telemetry,
};
use serde::{Deserialize, Serialize};

const PROGRAM: Program<Config> = Program {
    name: "gateway",
    about: "Counts made-up requests",
    flags: &[
        Flag {
            name: "tick",
            key: "gateway.tick",
            value: "DURATION",
            help: "Time between two requests",
            env: Some("ORCHION_TICK"),
            aliases: &[],
        },
        Flag {
            name: "fail-at",
            key: "gateway.fail_at",
            value: "NUMBER",
            help: "Fail at this request; 0 never",
            env: None,
            aliases: &["break-at"],
        },
        Flag {
            name: "stubborn",
            key: "gateway.stubborn",
            value: "",
            help: "Do not finish when told to stop",
            env: None,
            aliases: &[],
        },
    ],
    retired: &[Retired {
        name: "port",
        message: "use --tick",
    }],
    commands: &[Command {
        name: "token",
        about: "Print the token that clients need",
        run: |config| {
            config
                .gateway
                .token
                .as_ref()
                .map(|token| token.expose().to_owned())
                .ok_or_else(no_token)
        },
    }],
    grace: DEFAULT_GRACE,
};

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    telemetry: telemetry::Settings,
    gateway: Gateway,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gateway {
    tick: HumanDuration,
    token: Option<Secret>,
    /// Fails at this request; 0 never.
    fail_at: u64,
    /// Goes on working when it is told to stop.
    stubborn: bool,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            tick: HumanDuration::from_secs(1),
            token: None,
            fail_at: 0,
            stubborn: false,
        }
    }
}

impl Settings for Config {
    const SECTIONS: &'static [&'static str] = &["telemetry", "gateway"];

    fn telemetry(&self) -> &telemetry::Settings {
        &self.telemetry
    }
}

fn no_token() -> anyhow::Error {
    anyhow::anyhow!("there is no token; set gateway.token")
}

fn main() -> ExitCode {
    orchion_service::run(&PROGRAM, start, healthcheck)
}

async fn start(config: Config, tasks: &Tasks) -> anyhow::Result<()> {
    let gateway = config.gateway;
    let requests = tasks.clone();
    tasks.spawn("intake", async move |stop| {
        let mut ticks = tokio::time::interval(gateway.tick.get());
        for request in 1.. {
            if stop.unless_stopped(ticks.tick()).await.is_none() {
                break;
            }
            anyhow::ensure!(
                request != gateway.fail_at,
                "request {request} is one too many"
            );
            requests.spawn_work("request", async move {
                tracing::info!(request.id = request, "request {request} is answered");
            });
        }
        Ok(())
    });
    if gateway.stubborn {
        tasks.spawn_work("stubborn", std::future::pending());
    }
    tasks.after_all("farewell", async {
        tracing::info!("nothing is left to do");
        Ok(())
    });
    Ok(())
}

async fn healthcheck(config: Config) -> anyhow::Result<()> {
    anyhow::ensure!(config.gateway.token.is_some(), no_token());
    Ok(())
}
