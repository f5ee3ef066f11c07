//! `orchion up` as a user starts it: a real nats-server, the starter engine,
//! the command line against it, and nothing left behind, however it ends.

#![expect(clippy::unwrap_used, reason = "a helper that fails must fail its test")]

mod docs;
mod up;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Output;
use std::time::Duration;

use orchion_testkit::mock_engine::Options;
use orchion_testkit::{MockEngine, eventually};
use serde_json::Value;

use up::{Up, orchion, text};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn check_shows_a_real_answer_and_leaves_nothing() {
    let mut up = Up::start(&["--check"]);

    let status = up.process.wait(up::READY).await;

    let shown = up.process.stdout();
    assert_eq!(status.code(), Some(0), "{shown}{}", up.process.stderr());
    assert!(shown.contains("Orchion runs"), "{shown}");
    assert!(shown.contains("gateway → NATS → scheduler"), "{shown}");
    up.nothing_is_left().await;
}

#[tokio::test]
async fn the_command_line_works_against_it_and_ctrl_c_ends_it() {
    let mut up = Up::start(&["--json"]);
    let url = up.url().await;

    let answer = orchion(&url, &["chat", "Hello!", "--max-tokens", "8"]);
    assert!(
        answer.status.success() && text(&answer.stdout).trim().len() > 4,
        "{answer:?}"
    );
    let nodes: Value = json(&orchion(&url, &["nodes", "--json"]));
    assert_eq!(nodes[0]["state"], "online");
    let job = orchion(&url, &["run", "-d", "Hello!", "--max-tokens", "8"]);
    let job = text(&job.stdout).trim().to_owned();
    let followed = orchion(&url, &["jobs", "follow", &job]);
    assert!(
        followed.status.success() && !followed.stdout.is_empty(),
        "{followed:?}"
    );
    eventually("log records of the job", SOON, async || {
        let logs = orchion(&url, &["jobs", "logs", &job]);
        text(&logs.stdout).contains(&job).then_some(()).ok_or(logs)
    })
    .await;

    for child in up.children() {
        // A terminal sends Ctrl-C to the group of the program in front of it.
        assert_ne!(up::group_of(child), up::group_of(up.process.pid()));
    }
    up.process.signal(nix::sys::signal::Signal::SIGINT);
    let status = up.process.wait(SOON).await;

    assert_eq!(status.code(), Some(0), "{}", up.process.stderr());
    up.nothing_is_left().await;
    let log = up.log();
    assert!(log.contains("stopping") && !log.contains("again"), "{log}");
}

#[tokio::test]
async fn killed_it_leaves_nothing_and_starts_again_with_its_jobs() {
    let mut up = Up::start(&["--json"]);
    let url = up.url().await;
    let job = orchion(&url, &["run", "-d", "Hello!", "--max-tokens", "8"]);
    let job = text(&job.stdout).trim().to_owned();
    let before = orchion(&url, &["jobs", "follow", &job]);

    up.process.kill();
    up.nothing_is_left().await;
    let mut again = up.again(&["--json"]);
    let url = again.url().await;

    let after = orchion(&url, &["jobs", "follow", &job]);
    assert_eq!(text(&after.stdout), text(&before.stdout));
    again.process.terminate();
    assert_eq!(again.process.wait(SOON).await.code(), Some(0));
    again.nothing_is_left().await;
}

#[tokio::test]
async fn one_data_directory_belongs_to_one_of_them() {
    let up = Up::start(&["--json"]);
    up.url().await;
    let mut second = up.beside(&[]);

    let status = second.process.wait(SOON).await;

    assert_eq!(status.code(), Some(69));
    let said = second.process.stderr();
    assert!(
        said.contains("another `orchion up`") && said.contains("ORCHION_DATA_DIR"),
        "{said}"
    );
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for flag in ["--http-port", "--nats-port"] {
        let mut up = Up::start_as_told(&[flag, &port]);
        let status = up.process.wait(SOON).await;
        let said = up.process.stderr();
        assert_eq!(status.code(), Some(69), "{said}");
        assert!(said.contains(&port) && said.contains(flag), "{said}");
    }
}

#[tokio::test]
async fn other_agents_join_and_chats_spread_over_them() {
    let up = Up::start(&["--json", "--lan", "--advertise", "127.0.0.1"]);
    let url = up.url().await;
    let line = up.document()["join"].as_str().unwrap().to_owned();
    let join = ["--join", &line];
    let _agents = [up.agent("second", &join), up.agent("third", &join)];
    eventually("three nodes with a model", up::READY, async || {
        let nodes = json(&orchion(&url, &["nodes", "--json"]));
        let ready = nodes
            .as_array()
            .unwrap()
            .iter()
            .filter(|node| node["state"] == "online" && node["replicas"][0]["ready"] == true);
        (ready.count() == 3).then_some(()).ok_or(nodes)
    })
    .await;

    let chats: Vec<_> = (0..12)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || orchion(&url, &["chat", "Hello!", "--max-tokens", "64"]))
        })
        .collect();
    for chat in chats {
        let answer = chat.join().unwrap();
        assert!(answer.status.success(), "{answer:?}");
    }

    let jobs = json(&orchion(&url, &["jobs", "--json", "-n", "12"]));
    let nodes: BTreeSet<&str> = jobs
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["node"].as_str().unwrap())
        .collect();
    assert_eq!(nodes.len(), 3, "{jobs:#}");
}

#[tokio::test]
async fn an_agent_that_waits_for_nats_says_why_once_and_ends_quietly() {
    let up = Up::start(&["--json", "--lan", "--advertise", "127.0.0.1"]);
    up.url().await;
    let nats = up.document()["nats"].as_str().unwrap().to_owned();
    let refusing = nats.replace("nats://", "nats://agent:wrong@");
    let nobody = format!("nats://127.0.0.1:{}", orchion_testkit::free_port());
    for (url, reason) in [
        (nobody, "does not answer"),
        (refusing, "refuses user and password"),
    ] {
        let mut agent = up.agent(reason, &["--nats-url", &url]);
        eventually("a warning", SOON, async || {
            agent.stdout().contains(reason).then_some(())
        })
        .await;

        agent.signal(nix::sys::signal::Signal::SIGINT);
        let status = agent.wait(SOON).await;

        let said = agent.stdout();
        assert_eq!(status.code(), Some(0), "{said}{}", agent.stderr());
        let level = |level: &str| said.matches(&format!("\"level\":\"{level}\"")).count();
        assert_eq!((level("error"), level("warn")), (0, 1), "{said}");
    }
}

#[tokio::test]
async fn a_chat_outlives_its_gateway() {
    let engine = MockEngine::start(Options {
        itl_us: 30_000,
        tokens: 60,
        ..Options::default()
    });
    let up = Up::start_with_engine(&engine.url(), &["--json"]);
    let other = up.url().await;
    let port = orchion_testkit::free_port();
    let mut gateway = up.gateway(port);
    let first = format!("http://127.0.0.1:{port}");
    eventually("the second gateway", SOON, async || {
        orchion(&first, &["models"]).status.success()
    })
    .await;
    let chat = up::chat(&format!("{first},{other}"));
    eventually("the first tokens", SOON, async || {
        chat.stdout().split_whitespace().count() > 5
    })
    .await;

    gateway.kill();
    let mut chat = chat;
    let status = chat.wait(SOON).await;

    assert_eq!(status.code(), Some(0), "{}", chat.stderr());
    let shown = chat.stdout();
    let indexes: Vec<&str> = shown
        .split_whitespace()
        .map(|token| token.split('.').nth(1).unwrap())
        .collect();
    let expected: Vec<String> = (0..60).map(|index| index.to_string()).collect();
    assert_eq!(indexes, expected, "{shown}");
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}
