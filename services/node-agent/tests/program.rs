//! The program `orchion-node-agent`: its flags and its refusals.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::path::Path;
use std::process::{Command, Output};

use orchion_testkit::{Program, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_orchion-node-agent");
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);

fn run(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(PROGRAM)
        .args(args)
        .env("ORCHION_DATA_DIR", folder.path())
        .current_dir(folder.path())
        .output()
        .unwrap()
}

fn refusal(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(64), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn flags_of_the_past_say_what_to_do_instead() {
    assert!(refusal(&["--agent-port", "50052"]).contains("--nats-url"));
    assert!(refusal(&["--api-key", "x"]).contains("nats.user"));
}

#[test]
fn a_node_id_with_a_dot_is_refused() {
    let said = refusal(&["--node-id", "a.b"]);
    assert!(said.contains("'a.b' contains '.'"), "{said}");
}

#[test]
fn the_configuration_is_printed_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orchion.toml");
    let text = "[nats]\nuser = \"agent\"\npassword = \"hush\"\n\
                [[node-agent.engines]]\nkind = \"openai\"\nurl = \"http://a:1\"\napi_key = \"hush\"\n";
    std::fs::write(&file, text).unwrap();
    let output = run(&["--config", file.to_str().unwrap(), "--print-config"]);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("heartbeat_interval = \"5s\""), "{printed}");
    assert!(!printed.contains("hush"), "{printed}");
}

#[tokio::test]
async fn a_second_agent_on_one_data_directory_is_told_to_take_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = agent(folder.path());
    eventually("the first agent to hold it", PATIENCE, async || {
        folder.path().join("node-id").is_file()
    })
    .await;
    let mut second = agent(folder.path());
    let status = eventually("the second agent to end", PATIENCE, async || {
        second.exit_status()
    })
    .await;
    assert_eq!(status.code(), Some(1));
    let said = second.stdout();
    assert!(said.contains("--data-dir"), "{said}");
    first.kill();
}

/// An agent whose NATS is away: it waits for it.
fn agent(data: &Path) -> orchion_testkit::Running {
    Program::at(Path::new(PROGRAM))
        .args(["--nats-url", "nats://127.0.0.1:9", "--data-dir"])
        .arg(data)
        .dir(data)
        .start()
}
