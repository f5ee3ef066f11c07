//! The program itself: its one line, its ends, its exit codes.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::server::Server;

const SOON: Duration = Duration::from_secs(10);

fn program(arguments: &[&str], folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orchion-engine"));
    command.args(arguments).arg("--data-dir").arg(folder.path());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Starts the program and reads its one line.
async fn start(arguments: &[&str], folder: &TempDir) -> (Child, Value) {
    let mut child = program(arguments, folder).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(SOON, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    (child, serde_json::from_str(&line).unwrap())
}

async fn exit_code(child: &mut Child) -> Option<i32> {
    timeout(SOON, child.wait()).await.unwrap().unwrap().code()
}

#[tokio::test]
async fn it_tells_where_it_listens_answers_and_ends_on_a_signal() {
    let folder = TempDir::new().unwrap();
    let (mut child, line) = start(&["--listen", "127.0.0.1:0"], &folder).await;
    assert_eq!(line["kind"], "starter");
    assert_eq!(line["model"], "orchion-starter");
    assert!(
        line["note"]
            .as_str()
            .unwrap()
            .contains("llama-server, Ollama or vLLM")
    );

    let address = line["listen"]
        .as_str()
        .unwrap()
        .strip_prefix("http://")
        .unwrap();
    let server = Server::at(address.parse().unwrap());
    let ready = async { while server.get("/health").await.status != 200 {} };
    timeout(SOON, ready).await.unwrap();
    // A stream that runs must not hold the end up.
    let fields = serde_json::json!({"temperature": 0, "ignore_eos": true});
    let mut events = server.stream(fields).await;
    events.next().await.unwrap();

    let id = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    kill(id, Signal::SIGTERM).unwrap();
    assert_eq!(exit_code(&mut child).await, Some(0));
}

#[tokio::test]
async fn it_ends_with_its_parent() {
    let folder = TempDir::new().unwrap();
    let (mut child, _) = start(&["--listen", "127.0.0.1:0", "--with-parent"], &folder).await;
    assert_eq!(child.try_wait().unwrap(), None);
    // What the system does with a pipe when its writer dies.
    drop(child.stdin.take());
    assert_eq!(exit_code(&mut child).await, Some(0));
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_ends_it_with_advice() {
    let folder = TempDir::new().unwrap();
    let child = program(
        &["--listen", "127.0.0.1:0", "--model", "/nowhere/x.gguf"],
        &folder,
    );
    let output = { child }.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("/nowhere/x.gguf") && told.contains("--model"),
        "{told}"
    );
}

#[tokio::test]
async fn a_taken_port_and_a_wrong_flag_are_told() {
    let folder = TempDir::new().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = program(&["--listen", &address], &folder)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains(&address));

    let output = program(&["--slots", "0"], &folder).output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
}

#[tokio::test]
async fn it_writes_models_for_tests() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    let output = Command::new(env!("CARGO_BIN_EXE_orchion-engine"))
        .arg("write-model")
        .arg(&path)
        .args(["--dtype", "q8_0", "--arch", "qwen2", "--layers", "1"])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let digest = orchion_engine::digest::of_file(&path).unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told, format!("{digest}  {}\n", path.display()));
}
