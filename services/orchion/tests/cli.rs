//! The binary as a script sees it: output, errors and exit codes.

#![expect(clippy::unwrap_used, reason = "a helper that fails must fail its test")]

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

/// Far less than the time for which a gateway that was lost is asked again.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A gateway with the starter and a model whose answer is `Hello there`.
struct Gateway {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Gateway {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route(
                "/v1/models",
                get(async || Json(json!({"data": [{"id": "orchion-starter"}, {"id": "tiny"}]}))),
            )
            .route("/v1/tasks", post(submit))
            .route("/v1/tasks/{id}/stream", get(stream))
            .route("/v1/tasks/{id}/cancel", post(async || Json(json!({}))))
            .route("/api/logs", get(logs))
            .route("/api/jobs", get(jobs))
            .route("/api/jobs/{id}", get(job))
            .route("/api/jobs/{id}/logs", get(async || Json(json!([]))))
            .route("/api/nodes", get(nodes))
            .route("/api/nodes/{id}", get(no_node))
            .route("/version", get(async || Json(json!({"version": "9.9.9"}))));
        runtime.block_on(async {
            let mut serving = tokio::task::JoinSet::new();
            serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
            serving.detach_all();
        });
        Self {
            address,
            _runtime: runtime,
        }
    }

    fn orchion(&self, arguments: &[&str]) -> Output {
        orchion(&format!("http://{}", self.address), arguments, None)
    }
}

async fn submit(Json(body): Json<Value>) -> Response {
    if body["messages"][0]["content"] == "too much" {
        let error = json!({"code": "INVALID_PARAMS", "message": "the prompt is too long"});
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    let admission = json!({
        "task_id": body["task_id"], "job_id": body["task_id"], "queue_position": 0,
        "predicted_start_ms": 0, "backoff_ms": 0, "asked": body["messages"],
        "model": body["model_ref"],
    });
    (StatusCode::ACCEPTED, Json(admission)).into_response()
}

async fn stream() -> Response {
    let text = "event: started\ndata: {\"queue_position\":0,\"predicted_start_ms\":0}\n\n\
                id: 1\nevent: token\ndata: {\"t\":\"Hello\",\"i\":0}\n\n\
                id: 2\nevent: token\ndata: {\"t\":\" there\",\"i\":1}\n\n\
                event: end\ndata: {\"tokens_out\":2,\"decode_ms\":5,\"finish_reason\":\"stop\"}\n\n";
    ([("content-type", "text/event-stream")], text).into_response()
}

const JOBS: [&str; 3] = [
    "0192f000-0000-7000-8000-000000000001",
    "0192f000-0000-7000-8000-000000000002",
    "0192ffff-0000-7000-8000-000000000003",
];

/// There is no node that could have any.
async fn jobs(Query(mut filter): Query<HashMap<String, String>>) -> Response {
    if let Some(node) = filter.remove("node") {
        return no_node(Path(node)).await;
    }
    let jobs: Vec<Value> = JOBS.iter().map(|id| json!({"id": id})).collect();
    Json(jobs).into_response()
}

/// The first one had ended before anybody canceled it.
async fn job(Path(id): Path<String>) -> Response {
    if !JOBS.contains(&id.as_str()) {
        let error = json!({"code": "NOT_FOUND", "message": format!("there is no job {id}")});
        return (StatusCode::NOT_FOUND, Json(error)).into_response();
    }
    let state = match id == JOBS[0] {
        true => "completed",
        false => "canceled",
    };
    Json(json!({
        "id": id, "reader": "tasks", "door": "task", "workload": "chat", "model": "tiny",
        "priority": "interactive", "state": state, "attempt": 1, "created_ms": 1,
        "deadline_at_ms": 2, "correlation_id": "c", "timeline": {},
    }))
    .into_response()
}

/// What was asked for, as the text of one record.
async fn logs(Query(filter): Query<HashMap<String, String>>) -> Json<Value> {
    let since = filter
        .get("since")
        .and_then(|since| since.parse::<u64>().ok());
    let written = UNIX_EPOCH + Duration::from_millis(since.unwrap_or_default());
    let ago = since.map(|_| SystemTime::now().duration_since(written).unwrap().as_secs());
    Json(json!([{
        "id": JOBS[0], "ts_ms": 1, "level": "info", "source": "test",
        "message": format!("since {ago:?}"),
    }]))
}

async fn nodes(headers: HeaderMap) -> Response {
    if headers
        .get("authorization")
        .is_none_or(|token| token != "Bearer right")
    {
        let error = json!({"code": "BAD_TOKEN", "message": "this token is not known here"});
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    Json(json!([])).into_response()
}

async fn no_node(Path(id): Path<String>) -> Response {
    let error = json!({"code": "NOT_FOUND", "message": format!("there is no node {id}")});
    (StatusCode::NOT_FOUND, Json(error)).into_response()
}

/// Runs the binary with nothing of this environment but its search path.
fn orchion(url: &str, arguments: &[&str], input: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orchion"));
    command
        .args(arguments)
        .env_clear()
        .env("ORCHION_URL", url)
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(text.as_bytes()).unwrap();
    }
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> (&str, &str, i32) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (
        text(&output.stdout),
        text(&output.stderr),
        output.status.code().unwrap(),
    )
}

#[test]
fn an_answer_is_all_that_stands_on_stdout() {
    let gateway = Gateway::start();
    let output = gateway.orchion(&["chat", "hi"]);
    assert_eq!(said(&output), ("Hello there\n", "", 0));
}

#[test]
fn a_prompt_may_come_through_a_pipe() {
    let gateway = Gateway::start();
    let url = format!("http://{}", gateway.address);
    assert_eq!(
        said(&orchion(&url, &["chat"], Some("hi"))),
        ("Hello there\n", "", 0)
    );
    let (_, stderr, code) = {
        let output = orchion(&url, &["chat"], Some(" \n"));
        let (out, err, code) = said(&output);
        (out.to_owned(), err.to_owned(), code)
    };
    assert_eq!(
        (stderr.as_str(), code),
        (
            "error: there is no prompt\n  give one as an argument, or pipe one in\n",
            64
        )
    );
}

#[test]
fn an_empty_prompt_is_none() {
    let gateway = Gateway::start();
    for arguments in [&["chat", ""][..], &["run", ""], &["chat"], &["run"]] {
        let output = gateway.orchion(arguments);
        let (_, stderr, code) = said(&output);
        assert!(
            code == 64 && stderr.contains("there is no prompt") && stderr.contains("pipe one in"),
            "{arguments:?}: {stderr}"
        );
    }
}

#[test]
fn a_data_directory_that_is_a_file_is_called_one() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_orchion"))
        .arg("up")
        .env_clear()
        .env("ORCHION_DATA_DIR", file.path())
        .output()
        .unwrap();
    let (_, stderr, code) = said(&output);
    assert!(
        code == 64 && stderr.contains("is a file, not a folder"),
        "{stderr}"
    );
}

#[test]
fn programs_get_one_document_for_each_event() {
    let gateway = Gateway::start();
    let output = gateway.orchion(&["run", "hi", "--json"]);
    let events: Vec<Value> = said(&output)
        .0
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<&str> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["started", "token", "token", "end"]);
    assert_eq!(events[3]["finish_reason"], "stop");
    assert!(events.iter().all(|event| event["task_id"].is_string()));
}

#[test]
fn a_detached_task_prints_its_id() {
    let gateway = Gateway::start();
    let output = gateway.orchion(&["run", "-d", "hi"]);
    let (stdout, stderr, code) = said(&output);
    assert_eq!((stdout.trim().len(), stderr, code), (36, "", 0));
}

#[test]
fn without_a_name_the_starter_is_the_last_choice() {
    let gateway = Gateway::start();
    let output = gateway.orchion(&["run", "-d", "--json", "hi"]);
    let admission: Value = serde_json::from_str(said(&output).0).unwrap();
    assert_eq!(admission["model"], "tiny");
}

#[test]
fn each_class_of_failure_has_its_exit_code_and_advice() {
    let gateway = Gateway::start();
    let case = |arguments: &[&str]| {
        let output = gateway.orchion(arguments);
        let (stdout, stderr, code) = said(&output);
        assert_eq!(stdout, "");
        (stderr.to_owned(), code)
    };
    let (text, code) = case(&["chta"]);
    assert!(code == 64 && text.contains("'chat'"), "{code}: {text}");
    let (text, code) = case(&["chat", "too much"]);
    assert_eq!(
        (text.as_str(), code),
        ("error: the prompt is too long\n", 65)
    );
    let (text, code) = case(&["nodes", "show", "a/b"]);
    assert_eq!((text.as_str(), code), ("error: there is no node a/b\n", 66));
    let (text, code) = case(&["jobs", "--node", "cellar"]);
    assert_eq!(
        (text.as_str(), code),
        ("error: there is no node cellar\n", 66)
    );
    let (text, code) = case(&["nodes"]);
    assert!(
        code == 77 && text.contains("ORCHION_TOKEN"),
        "{code}: {text}"
    );
    let (text, code) = case(&["nodes", "--token", "right"]);
    assert!(
        code == 66 && text.contains("orchion agent"),
        "{code}: {text}"
    );
    let (text, code) = case(&["nodes", "--url", "ftp://x"]);
    assert!(
        code == 64 && text.contains("write http://HOST:PORT"),
        "{code}: {text}"
    );
}

#[test]
fn failures_are_documents_too() {
    let gateway = Gateway::start();
    let output = gateway.orchion(&["--json", "nodes"]);
    let (_, stderr, code) = said(&output);
    let failure: Value = serde_json::from_str(stderr).unwrap();
    assert_eq!(failure["error"]["code"], "BAD_TOKEN");
    assert_eq!(failure["error"]["exit_code"], code);
}

#[test]
fn a_wrong_command_line_is_a_document_too() {
    let gateway = Gateway::start();
    for arguments in [
        &["--json", "jobs", "show", "job-1"][..],
        &["chat", "hi", "--json", "--max-tokens", "many"],
    ] {
        let output = gateway.orchion(arguments);
        let (stdout, stderr, code) = said(&output);
        let failure: Value = serde_json::from_str(stderr).unwrap();
        assert_eq!((stdout, code), ("", 64));
        assert_eq!(failure["error"]["kind"], "usage");
        let message = failure["error"]["message"].as_str().unwrap();
        assert!(message.contains("must be"), "{message}");
    }
}

#[test]
fn up_shows_its_configuration_and_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let text = "[scheduler]\nstrategy = \"round-robin\"\n[gateway]\ntokens = [\"open-sesame\"]\n";
    std::fs::write(&file, text).unwrap();
    let print = |file: &std::path::Path| {
        let flags = ["up", "--print-config", "--http-port", "9999", "--config"];
        let arguments = [&flags[..], &[file.to_str().unwrap()]].concat();
        orchion("http://127.0.0.1:9", &arguments, None)
    };
    let output = print(&file);
    let (stdout, stderr, code) = said(&output);
    assert_eq!((stderr, code), ("", 0));
    for line in [
        "strategy = \"round-robin\"",
        "http_port = 9999",
        "[node-agent]",
    ] {
        assert!(stdout.contains(line), "{stdout}");
    }
    assert!(!stdout.contains("sesame"), "{stdout}");

    let output = print(&folder.path().join("missing.toml"));
    let (_, stderr, code) = said(&output);
    assert!(code == 64 && stderr.contains("missing.toml"), "{stderr}");
}

#[test]
fn a_job_is_found_by_the_beginning_of_its_id() {
    let gateway = Gateway::start();
    let show = |id: &str| {
        let output = gateway.orchion(&["jobs", "show", id, "--json"]);
        let (stdout, stderr, code) = said(&output);
        (format!("{stdout}{stderr}"), code)
    };
    let (shown, code) = show("0192FFFF");
    assert!(code == 0 && shown.contains(JOBS[2]), "{code}: {shown}");
    let (shown, code) = show("0192f000");
    assert!(
        code == 64 && shown.contains(JOBS[0]) && shown.contains("write more"),
        "{code}: {shown}"
    );
    let (shown, code) = show("abc");
    assert!(
        code == 66 && shown.contains("orchion jobs"),
        "{code}: {shown}"
    );
}

#[test]
fn a_job_that_had_ended_is_not_said_to_be_canceled() {
    let gateway = Gateway::start();
    for (job, canceled, remark) in [
        (JOBS[0], false, "too late: the job is completed"),
        (JOBS[1], true, "canceled"),
    ] {
        let output = gateway.orchion(&["jobs", "cancel", job]);
        let (_, stderr, code) = said(&output);
        assert!(code == 0 && stderr.contains(remark), "{stderr}");
        let output = gateway.orchion(&["jobs", "cancel", job, "--json"]);
        let document: Value = serde_json::from_str(said(&output).0).unwrap();
        assert_eq!(document["canceled"], canceled);
    }
}

#[test]
fn a_job_that_never_was_has_no_log() {
    let gateway = Gateway::start();
    let never = "0192aaaa-0000-7000-8000-000000000009";
    for (job, expected) in [(JOBS[0], 0), (never, 66)] {
        let output = gateway.orchion(&["jobs", "logs", job]);
        let (_, stderr, code) = said(&output);
        assert_eq!(code, expected, "{stderr}");
    }
}

#[test]
fn logs_are_as_young_as_they_are_wanted() {
    let gateway = Gateway::start();
    for (arguments, asked) in [
        (&["logs"][..], "since None"),
        (&["logs", "--since", "10m"], "since Some(600)"),
    ] {
        let output = gateway.orchion(arguments);
        let (stdout, stderr, _) = said(&output);
        assert!(stdout.contains(asked), "{stdout}{stderr}");
    }
}

#[test]
fn without_a_gateway_it_says_how_to_get_one() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let id = "0192f000-0000-7000-8000-000000000000";
    let commands: [&[&str]; 5] = [
        &["models"],
        &["chat", "-m", "tiny", "hi"],
        &["run", "-d", "-m", "tiny", "hi"],
        &["jobs", "follow", id],
        &["logs", "-f"],
    ];
    for arguments in commands {
        let began = Instant::now();
        let output = orchion(&url, arguments, None);
        let (_, stderr, code) = said(&output);
        assert_eq!(code, 69, "{arguments:?}");
        assert!(
            stderr.contains(&url) && stderr.contains("orchion up"),
            "{arguments:?}: {stderr}"
        );
        assert!(
            !stderr.contains("nothing is lost") && !stderr.contains("trying again"),
            "{arguments:?}: {stderr}"
        );
        assert!(began.elapsed() < AT_ONCE, "{arguments:?}");
    }
}

#[test]
fn the_version_of_the_gateway_is_shown_beside_ours() {
    let gateway = Gateway::start();
    let output = gateway.orchion(&["version"]);
    let (stdout, _, code) = said(&output);
    assert!(code == 0 && stdout.contains("gateway 9.9.9"), "{stdout}");
}
