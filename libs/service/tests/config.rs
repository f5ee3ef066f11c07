//! What the layers make of files, variables and flags.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use orchion_service::config::{self, FlagValue, Problems, Sources};
use orchion_service::{HumanDuration, Secret, Settings, telemetry};
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    nats: Nats,
    telemetry: telemetry::Settings,
    #[serde(rename = "log-sink")]
    log_sink: LogSink,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nats {
    url: String,
    password: Option<Secret>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSink {
    http_port: u16,
    flush_every: HumanDuration,
    compress: bool,
    mode: Mode,
    levels: Vec<String>,
    keep: Keep,
    engines: BTreeMap<String, Engine>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Fast,
    Safe,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keep {
    days: u32,
    bytes: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Engine {
    kind: String,
    url: String,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: "nats://localhost:4222".to_owned(),
            password: None,
        }
    }
}

impl Default for LogSink {
    fn default() -> Self {
        Self {
            http_port: 8080,
            flush_every: HumanDuration::from_millis(300),
            compress: true,
            mode: Mode::Safe,
            levels: vec!["info".to_owned()],
            keep: Keep {
                days: 7,
                bytes: None,
            },
            engines: BTreeMap::new(),
        }
    }
}

impl Settings for Config {
    const SECTIONS: &'static [&'static str] = &["nats", "telemetry", "log-sink"];

    fn telemetry(&self) -> &telemetry::Settings {
        &self.telemetry
    }

    fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.log_sink.http_port == 0 {
            problems.push("log-sink.http_port: must not be 0".to_owned());
        }
        if self.log_sink.keep.days == 0 {
            problems.push("log-sink.keep.days: must be at least 1".to_owned());
        }
        problems
    }
}

#[test]
fn without_anything_the_defaults_hold() {
    let config = Given::nothing().load().unwrap();
    assert_eq!(config.log_sink.http_port, 8080);
    assert_eq!(config.nats.url, "nats://localhost:4222");
}

#[test]
fn each_layer_outweighs_the_one_before() {
    let file = Given::file(
        "[log-sink]\nhttp_port = 1\nflush_every = '1s'\ncompress = false\nkeep.days = 2\n",
    );
    assert_eq!(file.load().unwrap().log_sink.http_port, 1);
    let environment = file
        .variable("ORCHION_LOG_SINK__HTTP_PORT", "2")
        .variable("ORCHION_LOG_SINK__FLUSH_EVERY", "2s");
    assert_eq!(environment.load().unwrap().log_sink.http_port, 2);
    let flags = environment.flag("http-port", "log-sink.http_port", "3");

    let config = flags.load().unwrap().log_sink;

    assert_eq!(
        (config.http_port, *config.flush_every),
        (3, Duration::from_secs(2))
    );
    assert_eq!(
        (config.compress, config.keep.days, config.mode),
        (false, 2, Mode::Safe)
    );
}

#[test]
fn text_becomes_what_the_setting_wants() {
    let config = Given::nothing()
        .variable("ORCHION_LOG_SINK__COMPRESS", "false")
        .variable("ORCHION_LOG_SINK__MODE", "fast")
        .variable("ORCHION_LOG_SINK__LEVELS", "['warn', 'error']")
        .variable("ORCHION_LOG_SINK__KEEP__BYTES", "1000")
        .variable("ORCHION_NATS__PASSWORD", "0042")
        .variable("ORCHION_NATS__URL", "")
        .load()
        .unwrap();
    assert!(!config.log_sink.compress);
    assert_eq!(config.log_sink.mode, Mode::Fast);
    assert_eq!(config.log_sink.levels, ["warn", "error"]);
    assert_eq!(config.log_sink.keep.bytes, Some(1000));
    assert_eq!(config.nats.password.unwrap().expose(), "0042");
    assert_eq!(
        config.nats.url, "nats://localhost:4222",
        "an empty variable counts as unset"
    );
}

#[test]
fn a_flag_may_declare_a_short_variable() {
    let mut given = Given::nothing()
        .variable("ORCHION_NATS_URL", "nats://far:1")
        .variable("ORCHION_OTHER", "x");
    given
        .sources
        .short_names
        .push(("ORCHION_NATS_URL", "nats.url"));
    assert_eq!(given.load().unwrap().nats.url, "nats://far:1");
}

#[test]
fn sections_of_other_services_are_skipped() {
    let given = Given::file("[gateway]\nanything = 1\n[log-sink]\nhttp_port = 9\n")
        .variable("ORCHION_NODE_AGENT__SLOTS", "4");
    assert_eq!(given.load().unwrap().log_sink.http_port, 9);
}

#[test]
fn a_name_that_nobody_knows_is_refused_with_the_nearest() {
    let given = Given::file("[log_sink]\n[log-sink]\nhtp_port = 1\nkeep.dais = 2\nzebra = 1\n")
        .variable("ORCHION_GATWAY__PORT", "1")
        .variable("ORCHION_NATS__URI", "x");
    insta::assert_snapshot!(given.problems(), @r#"
    log_sink (FILE): unknown section; did you mean `log-sink`?
    gatway (environment variable ORCHION_GATWAY__PORT): unknown section; did you mean `gateway`?
    log-sink.htp_port (FILE): unknown key; did you mean `http_port`?
    log-sink.keep.dais (FILE): unknown key; did you mean `days`?
    log-sink.zebra (FILE): unknown key; known are http_port, flush_every, compress, mode, levels, keep, engines
    nats.uri (environment variable ORCHION_NATS__URI): unknown key; did you mean `url`?
    "#);
}

#[test]
fn every_problem_is_listed_at_once() {
    let given = Given::file(
        "[log-sink]\nhttp_port = 70000\nflush_every = 5\nmode = 'quick'\nlevels = 'info'\nengines.a.kind = 'x'\n",
    )
    .variable("ORCHION_LOG_SINK__COMPRESS", "perhaps")
    .flag("keep", "log-sink.keep.days", "many");
    insta::assert_snapshot!(given.problems(), @r#"
    log-sink.engines.a (FILE): missing field `url`
    log-sink.flush_every (FILE): expected a duration with its unit, like "5s" or "300ms", found `5`
    log-sink.http_port (FILE): expected a whole number up to 65535, found `70000`
    log-sink.levels (FILE): expected a list, as ["one", "two"], found string "info"
    log-sink.mode (FILE): `quick` is not one of fast, safe
    log-sink.compress (environment variable ORCHION_LOG_SINK__COMPRESS): expected a boolean, found string "perhaps"
    log-sink.keep.days (flag --keep): expected a whole number, found string "many"
    "#);
}

#[test]
fn validation_lists_all_it_finds() {
    let given =
        Given::file("[telemetry]\nlevel = 'loud'\n[log-sink]\nhttp_port = 0\nkeep.days = 0\n");
    insta::assert_snapshot!(given.problems(), @r#"
    telemetry.level: `loud` is not a level; write error, warn, info, debug or trace, or for one part of the code orchion_scheduler=debug
    log-sink.http_port: must not be 0
    log-sink.keep.days: must be at least 1
    "#);
}

#[test]
fn a_file_that_was_named_must_exist_and_be_toml() {
    let mut missing = Given::nothing();
    missing.sources.file = Some(PathBuf::from("no/such.toml"));
    insta::assert_snapshot!(missing.problems(), @"no/such.toml: cannot read the configuration file: No such file or directory (os error 2); correct --config or ORCHION_CONFIG");
    insta::assert_snapshot!(Given::file("[nats\nurl = 1").problems(), @"FILE, line 1: not TOML: unclosed table, expected `]`");
}

#[test]
fn a_file_is_found_in_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("orchion.toml"),
        "[log-sink]\nhttp_port = 5\n",
    )
    .unwrap();
    let given = Given::nothing().variable("ORCHION_DATA_DIR", dir.path().to_str().unwrap());
    assert_eq!(given.load().unwrap().log_sink.http_port, 5);
}

#[test]
fn a_secret_is_read_from_its_file_and_shown_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "hunter2\n").unwrap();
    let given = Given::file("[nats]\nurl = 'nats://ann:hunter2@host'\n")
        .variable("ORCHION_NATS__PASSWORD__FILE", path.to_str().unwrap());

    let config = given.load().unwrap();

    assert_eq!(config.nats.password.as_ref().unwrap().expose(), "hunter2");
    let shown = format!(
        "{:?} {} {}",
        config.nats.password,
        config.nats.password.as_ref().unwrap(),
        print(&config)
    );
    assert!(
        shown.contains("password = \"***\"") && shown.contains("nats://ann:***@host"),
        "{shown}"
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_secret_file_that_is_missing_is_a_problem() {
    let given = Given::nothing().variable("ORCHION_NATS__PASSWORD__FILE", "/no/such/file");
    insta::assert_snapshot!(given.problems(), @r#"nats.password (environment variable ORCHION_NATS__PASSWORD__FILE): cannot read the secret from /no/such/file: No such file or directory (os error 2)"#);
}

#[test]
fn a_problem_never_shows_a_secret() {
    for wrong in [
        "password = 31337",
        "password = ['hunter2']",
        "password = { text = 'hunter2' }",
    ] {
        let given = Given::file(&format!("[nats]\n{wrong}\nurl = []\n"));
        let problems = given.problems();
        assert!(
            !problems.contains("hunter2") && !problems.contains("31337"),
            "{problems}"
        );
    }
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let config = Given::nothing()
        .variable("ORCHION_LOG_SINK__FLUSH_EVERY", "90s")
        .load()
        .unwrap();
    let printed = print(&config);
    assert!(printed.contains("flush_every = \"1m30s\""), "{printed}");
    assert_eq!(print(&Given::file(&printed).load().unwrap()), printed);
}

/// What a configuration is loaded from, without anything of this machine.
struct Given {
    sources: Sources,
    dir: tempfile::TempDir,
}

impl Given {
    fn nothing() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources::default();
        Self { sources, dir }.variable("HOME", "/nonexistent")
    }

    fn file(text: &str) -> Self {
        let mut given = Self::nothing();
        let path = given.dir.path().join("cluster.toml");
        std::fs::write(&path, text).unwrap();
        given.sources.file = Some(path);
        given
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources
            .environment
            .insert(name.to_owned(), value.to_owned());
        self
    }

    fn flag(mut self, name: &str, key: &str, value: &str) -> Self {
        let flag = FlagValue {
            name: name.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        self.sources.flags.push(flag);
        self
    }

    fn load(&self) -> Result<Config, Problems> {
        config::load(&self.sources)
    }

    fn problems(&self) -> String {
        let problems = self.load().unwrap_err().to_string();
        let file = self.dir.path().join("cluster.toml").display().to_string();
        problems.replace(&file, "FILE")
    }
}

fn print(config: &Config) -> String {
    config::to_toml(config).unwrap()
}
