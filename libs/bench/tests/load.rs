//! The load generator against the mock engine, alone and behind the floor.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use orchion_testkit::mock_engine::Options;
use orchion_testkit::wire::FaultKind;
use orchion_testkit::{
    HttpClient, MockEngine, NatsServer, Program, Running, eventually, free_port,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

/// Runs `load` and returns its result.
fn load(command: &str, url: &str, options: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("result.json");
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args([command, "--url", url, "--json"])
        .arg(&json)
        .args(options)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!output.stdout.is_empty());
    let document: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    document["result"].clone()
}

const BRIEF: [&str; 4] = ["--warmup-s", "0.1", "--duration-s", "0.5"];

#[test]
fn plain_answers_are_counted_and_timed() {
    let engine = MockEngine::named("a");
    let result = load(
        "chat",
        &engine.url(),
        &[&BRIEF[..], &["--concurrency", "4"]].concat(),
    );
    assert!(result["ok"].as_u64().unwrap() > 0, "{result}");
    assert_eq!(result["failed"], 0, "{result}");
    assert!(result["latency_us"]["p50"].as_f64().unwrap() > 0.0);
    assert_eq!(result["engines"]["a"], result["ok"]);
}

#[test]
fn streams_are_checked_token_by_token() {
    let engine = MockEngine::named("a");
    let options = [
        "--stream",
        "--tokens",
        "8",
        "--itl-us",
        "2000",
        "--concurrency",
        "4",
    ];
    let result = load("chat", &engine.url(), &[&BRIEF[..], &options].concat());
    assert!(result["ok"].as_u64().unwrap() > 0, "{result}");
    assert_eq!(result["failed"], 0, "{result}");
    assert!(result["token_transit_us"]["count"].as_u64().unwrap() > 0);
}

#[test]
fn failures_are_counted_by_class() {
    for (fail_mode, class) in [
        (FaultKind::Error, "http:500"),
        (FaultKind::Truncate, "reset:mid_answer"),
        (FaultKind::NoDone, "stream:truncated"),
        (FaultKind::ErrorEvent, "stream:error_event"),
    ] {
        let engine = MockEngine::start(Options {
            fail_rate: 1.0,
            fail_mode,
            ..Options::default()
        });
        let result = load("chat", &engine.url(), &[&BRIEF[..], &["--stream"]].concat());
        assert_eq!(result["ok"], 0, "{result}");
        assert!(result["errors"][class].as_u64().unwrap() > 0, "{result}");
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let engine = MockEngine::named("a");
    let options = ["--rate", "100", "--arrivals", "constant"];
    let result = load("chat", &engine.url(), &[&BRIEF[..], &options].concat());
    let sent = result["ok"].as_u64().unwrap() + result["failed"].as_u64().unwrap();
    assert!((48..=51).contains(&sent), "{result}");
}

#[test]
fn hang_ups_reach_the_engine() {
    let engine = MockEngine::named("a");
    let url = engine.url();
    let common = ["--concurrency", "8", "--engines", &url, "--wait-s", "5"];
    let streams = ["--stream", "--tokens", "500", "--itl-us", "20000"];
    let waiting = ["--ttft-us", "30000000", "--hold-s", "0.2"];
    for options in [&streams[..], &waiting[..]] {
        let result = load("cancel", &url, &[&common[..], options].concat());
        assert_eq!(
            (&result["opened"], &result["cancelled"]),
            (&8.into(), &8.into())
        );
        assert_eq!(result["left_running"], 0);
    }
}

fn floor(args: &[&str]) -> Running {
    Program::at(Path::new(env!("CARGO_BIN_EXE_floor")))
        .args(args)
        .start()
}

/// The floor in front of an engine.
struct Floor {
    url: String,
    gateway: Running,
    agent: Running,
    _nats: NatsServer,
}

impl Floor {
    async fn start(engine: &MockEngine) -> Self {
        let server = NatsServer::start().await;
        let nats = server.addr().to_string();
        let listen = format!("127.0.0.1:{}", free_port());
        let url = format!("http://{listen}");
        let gateway = floor(&["gateway", "--nats", &nats, "--listen", &listen]);
        let agent = floor(&["agent", "--nats", &nats, "--engine", &engine.url()]);
        let client = HttpClient::new(&url);
        let is_up = async || client.get("/health").await.is_ok();
        eventually("the floor", SOON, is_up).await;
        Self {
            url,
            gateway,
            agent,
            _nats: server,
        }
    }
}

#[tokio::test]
async fn the_floor_carries_every_token() {
    let engine = MockEngine::named("a");
    let floor = Floor::start(&engine).await;
    let pids = format!("{},{}", floor.gateway.pid(), floor.agent.pid());
    let ready = load(
        "wait-ready",
        &floor.url,
        &["--pids", &pids, "--wait-s", "10"],
    );
    assert_eq!(ready["processes"], 2);
    assert!(ready["idle_pss_mib"].as_f64().unwrap() > 0.0);
    let options = ["--stream", "--concurrency", "4", "--pids", &pids];
    let result = load("chat", &floor.url, &[&BRIEF[..], &options].concat());
    assert!(result["ok"].as_u64().unwrap() > 0, "{result}");
    assert_eq!(result["failed"], 0, "{result}");
    assert!(
        result["sut"]["rss_peak_mib"].as_f64().unwrap() > 0.0,
        "{result}"
    );
}

#[tokio::test]
async fn what_clients_see_of_a_kill_is_told() {
    let engine = MockEngine::named("a");
    let floor = Floor::start(&engine).await;
    load("wait-ready", &floor.url, &["--wait-s", "10"]);
    let pid = floor.gateway.pid().to_string();
    #[rustfmt::skip]
    let options = [
        "--rate", "100", "--warmup-s", "0.1", "--duration-s", "0.9", "--kill", &pid,
        "--kill-at-s", "0.4", "--killed-engine", "a",
    ];
    let result = load("failover", &floor.url, &options);
    assert!(result["ok"].as_u64().unwrap() > 0, "{result}");
    assert!(
        result["failed_new"]["connect"].as_u64().unwrap() > 0,
        "{result}"
    );
    assert_eq!(result["failed_before_kill"], 0, "{result}");
}
