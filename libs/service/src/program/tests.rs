//! What command lines lead to.

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    telemetry: telemetry::Settings,
    gateway: Gateway,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gateway {
    http_port: u16,
    open: bool,
    token: Option<crate::Secret>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            http_port: 8080,
            open: false,
            token: Some(crate::Secret::new("preset")),
        }
    }
}

impl Settings for Config {
    const SECTIONS: &'static [&'static str] = &["telemetry", "gateway"];

    fn telemetry(&self) -> &telemetry::Settings {
        &self.telemetry
    }
}

const PROGRAM: Program<Config> = Program {
    name: "gateway",
    about: "Translates HTTP to the bus and back",
    flags: &[
        Flag {
            name: "http-port",
            key: "gateway.http_port",
            value: "PORT",
            help: "Port to listen on",
            env: Some("ORCHION_HTTP_PORT"),
            aliases: &["rest-port"],
        },
        Flag {
            name: "open",
            key: "gateway.open",
            value: "",
            help: "Let anybody in",
            env: None,
            aliases: &[],
        },
    ],
    retired: &[Retired {
        name: "port",
        message: "gRPC is gone; services meet on NATS, use --nats-url",
    }],
    commands: &[Command {
        name: "token",
        about: "Print the token",
        run: |config| match &config.gateway.token {
            Some(token) => Ok(token.expose().to_owned()),
            None => anyhow::bail!("there is no token"),
        },
    }],
    grace: DEFAULT_GRACE,
};

#[test]
fn help_lists_all_that_can_be_set() {
    insta::assert_snapshot!(said(&["--help"], 0));
}

#[test]
fn the_version_is_that_of_the_workspace() {
    assert_eq!(said(&["--version"], 0).trim(), format!("gateway {VERSION}"));
}

#[test]
fn the_configuration_is_shown_with_secrets_masked() {
    let shown = said_with(
        &["--print-config", "--open"],
        &[("ORCHION_GATEWAY__TOKEN", "hunter2")],
        0,
    );
    insta::assert_snapshot!(shown, @r#"
    [telemetry]
    level = "info"
    format = "auto"

    [gateway]
    http_port = 8080
    open = true
    token = "***"
    "#);
}

#[test]
fn a_flag_outweighs_its_variable_and_has_aliases() {
    let environment = [("ORCHION_HTTP_PORT", "1")];
    assert_eq!(served(&[], &environment).gateway.http_port, 1);
    assert_eq!(
        served(&["--http-port", "2"], &environment)
            .gateway
            .http_port,
        2
    );
    assert_eq!(
        served(&["--rest-port=3"], &environment).gateway.http_port,
        3
    );
}

#[test]
fn a_flag_of_the_past_names_what_replaced_it() {
    for given in [&["--port", "50051"][..], &["--port=50051"], &["--port"]] {
        let text = said(given, EXIT_USAGE);
        assert_eq!(
            text,
            "--port is no more: gRPC is gone; services meet on NATS, use --nats-url"
        );
    }
}

#[test]
fn a_flag_that_nobody_knows_exits_64_with_the_nearest() {
    let text = said(&["--http-prot", "1"], EXIT_USAGE);
    assert!(text.contains("'--http-port'"), "{text}");
}

#[test]
fn flags_count_before_and_behind_a_subcommand() {
    for given in [
        ["--http-port", "x", "healthcheck"],
        ["healthcheck", "--http-port", "x"],
    ] {
        let text = said(&given, EXIT_USAGE);
        assert!(
            text.contains("gateway.http_port (flag --http-port)"),
            "{text}"
        );
    }
}

#[test]
fn a_command_of_its_own_sees_the_configuration() {
    assert_eq!(
        said_with(&["token"], &[("ORCHION_GATEWAY__TOKEN", "t0")], 0),
        "t0"
    );
    assert_eq!(
        said(&["token"], EXIT_FAILURE),
        "there is no token",
        "a secret has no default"
    );
}

fn action(arguments: &[&str], environment: &[(&str, &str)]) -> Action<Config> {
    let arguments = std::iter::once("gateway")
        .chain(arguments.iter().copied())
        .map(OsString::from);
    let pairs = environment.iter().chain(&[("HOME", "/nonexistent")]);
    PROGRAM.action(
        arguments,
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    )
}

fn said(arguments: &[&str], expected: u8) -> String {
    said_with(arguments, &[], expected)
}

fn said_with(arguments: &[&str], environment: &[(&str, &str)], expected: u8) -> String {
    match action(arguments, environment) {
        Action::Say { text, code } => {
            assert_eq!(code, expected, "{text}");
            text
        }
        other @ (Action::Check(_) | Action::Serve(_)) => panic!("said nothing: {other:?}"),
    }
}

fn served(arguments: &[&str], environment: &[(&str, &str)]) -> Config {
    match action(arguments, environment) {
        Action::Serve(config) => config,
        other @ (Action::Check(_) | Action::Say { .. }) => panic!("does not serve: {other:?}"),
    }
}
