//! The program `orchion-node-agent`: its flags and its refusals.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::path::Path;
use std::process::{Command, Output};

use orchion_bus::{Bus, Identity};
use orchion_contract::node::{RegisterAgain, Registered, Replaced};
use orchion_contract::rpc::REGISTER;
use orchion_contract::subjects::REGISTER_AGAIN;
use orchion_contract::{InstanceId, NodeId};
use orchion_service::Supervisor;
use orchion_testkit::{NatsServer, Program, eventually};

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

#[tokio::test]
async fn an_agent_whose_id_another_one_uses_says_so_once_and_what_to_do() {
    let nats = NatsServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Program::at(Path::new(PROGRAM))
        .args(["--nats-url", &nats.url(), "--node-id", "pi-4", "--data-dir"])
        .arg(folder.path())
        .dir(folder.path())
        .start();
    replaced_each_time(&nats, 4).await;
    let complaint = "another agent uses the node id pi-4, too, on host cellar";
    eventually("the complaint", PATIENCE, async || {
        agent.stdout().contains(complaint)
    })
    .await;
    let said = agent.stdout();
    assert_eq!(said.matches(complaint).count(), 1, "{said}");
    assert!(said.contains("--node-id"), "{said}");
    agent.kill();
}

/// A registry that finds another process registered each time, until the agent
/// has registered so often.
async fn replaced_each_time(nats: &NatsServer, times: usize) {
    let own = Supervisor::new("test", std::time::Duration::from_secs(1));
    let config = orchion_bus::Config {
        url: nats.url(),
        ..orchion_bus::Config::default()
    };
    let identity = Identity::of(own.tasks()).unwrap();
    let bus = Bus::connect(&config, identity, &own.stop()).await.unwrap();
    bus.ensure_all().await.unwrap();
    let service = bus.service("plays the registry").await.unwrap();
    let mut registers = service.endpoint(REGISTER, "registry").await.unwrap();
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(50));
    let again = RegisterAgain {
        registry: InstanceId::random(),
    };
    let node = NodeId::new("pi-4").unwrap();
    let mut count = 0;
    while count < times {
        tokio::select! {
            asked = tokio::time::timeout(PATIENCE, registers.next()) => {
                let (_, asked) = asked.unwrap().unwrap().split();
                let replaced = Replaced {
                    instance: InstanceId::random(),
                    hostname: "cellar".to_owned(),
                };
                asked.answer(Ok(Registered { first_seen_ms: 1, replaced: Some(replaced) })).await;
                count += 1;
            }
            _ = pace.tick() => bus.publish(&REGISTER_AGAIN, &node, &again).await.unwrap(),
        }
    }
}

/// An agent whose NATS is away: it waits for it.
fn agent(data: &Path) -> orchion_testkit::Running {
    Program::at(Path::new(PROGRAM))
        .args(["--nats-url", "nats://127.0.0.1:9", "--data-dir"])
        .arg(data)
        .dir(data)
        .start()
}
