//! Every bad input has a status, a stable code and a sentence that helps.

use std::fmt::Write;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::{chat, shown};
use crate::running::Running;

/// Sends each body and shows what comes back, one line each.
async fn post_all(gateway: &Running, path: &str, bodies: &[Value]) -> String {
    let mut all = String::new();
    for body in bodies {
        let answer = gateway.http.post(path, body).await.unwrap();
        writeln!(all, "{}", shown(&answer)).unwrap();
    }
    all
}

fn with(field: &str, value: Value) -> Value {
    let mut body = chat(false);
    body[field] = value;
    body
}

#[tokio::test]
async fn a_bad_chat_is_refused_by_field() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let bodies = [
        json!({}),
        with("model", json!("")),
        with("model", json!("tony")),
        with("messages", json!([])),
        with("messages", json!([{"role": "robot", "content": "x"}])),
        with("stream", json!("yes")),
        with("n", json!(3)),
    ];
    insta::assert_snapshot!(post_all(&gateway, "/v1/chat/completions", &bodies).await, @r#"
400 {"error":{"code":"INVALID_PARAMS","message":"`model` is missing; GET /v1/models lists the models","param":"model","retriable":false,"type":"invalid_request_error"}}
400 {"error":{"code":"INVALID_PARAMS","message":"`model` is empty","param":"model","retriable":false,"type":"invalid_request_error"}}
404 {"error":{"code":"NOT_FOUND","message":"no node serves the model 'tony'; did you mean tiny?","param":"model","retriable":false,"type":"not_found_error"}}
400 {"error":{"code":"INVALID_PARAMS","message":"`messages` is empty; send at least one message with role and content","param":"messages","retriable":false,"type":"invalid_request_error"}}
400 {"error":{"code":"INVALID_PARAMS","message":"`messages[0].role` must be one of system, developer, user, assistant, tool, function","param":"messages[0].role","retriable":false,"type":"invalid_request_error"}}
400 {"error":{"code":"INVALID_PARAMS","message":"`stream` must be true or false, not a text","param":"stream","retriable":false,"type":"invalid_request_error"}}
400 {"error":{"code":"INVALID_PARAMS","message":"`n` must be 1: ask once for each answer you want","param":"n","retriable":false,"type":"invalid_request_error"}}
"#);
}

#[tokio::test]
async fn a_bad_task_is_refused_by_field() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let bodies = [
        json!({"model": "tiny"}),
        json!({"prompt": "hi"}),
        json!({"model": "tiny", "workload": "embedding", "inputs": ["a"]}),
        json!({"model": "tiny", "prompt": "hi", "task_id": "seven"}),
        json!({"model": "tiny", "prompt": "hi", "deadline_ms": 0}),
        json!({"model": "tony", "prompt": "hi"}),
        json!({"modle": "tiny", "prompt": "hi"}),
        json!({"model": "tiny", "prompt": "hi", "colour": "blue"}),
    ];
    insta::assert_snapshot!(post_all(&gateway, "/v1/tasks", &bodies).await, @r#"
400 {"code":"INVALID_PARAMS","message":"`messages` or `prompt` is missing; send one of them","retriable":false,"param":"messages"}
400 {"code":"INVALID_PARAMS","message":"`model` is missing; GET /v1/models lists the models","retriable":false,"param":"model"}
400 {"code":"INVALID_PARAMS","message":"`workload` must be chat or completion; embeddings and reranking are not offered yet","retriable":false,"param":"workload"}
400 {"code":"INVALID_PARAMS","message":"job id 'seven' is not a UUID","retriable":false,"param":"task_id"}
400 {"code":"DEADLINE_UNMET","message":"`deadline_ms` has passed already; give the job some time","retriable":false,"param":"deadline_ms"}
404 {"code":"NOT_FOUND","message":"no node serves the model 'tony'; did you mean tiny?","retriable":false,"param":"model"}
400 {"code":"INVALID_PARAMS","message":"a task has no field `modle`; did you mean `model`?","retriable":false,"param":"modle"}
400 {"code":"INVALID_PARAMS","message":"a task has no field `colour`; GET /openapi.json lists the fields","retriable":false,"param":"colour"}
"#);
}

#[tokio::test]
async fn what_is_no_json_object_is_refused_without_being_quoted() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let mut all = String::new();
    for body in ["", "hello", "{\"model\": \"tiny\",", "[]"] {
        let body = Bytes::from_static(body.as_bytes());
        let answer = gateway
            .http
            .send(Method::POST, "/v1/chat/completions", body, &[]);
        writeln!(all, "{}", shown(&answer.await.unwrap())).unwrap();
    }
    insta::assert_snapshot!(all, @r#"
400 {"error":{"code":"INVALID_PARAMS","message":"the body is empty; send one JSON object","param":null,"retriable":false,"type":"invalid_request_error"}}
400 {"error":{"code":"INVALID_PARAMS","message":"the body is no valid JSON at line 1, column 1; send one JSON object","param":null,"retriable":false,"type":"invalid_request_error"}}
400 {"error":{"code":"INVALID_PARAMS","message":"the body ends too early at line 1, column 17; send one JSON object","param":null,"retriable":false,"type":"invalid_request_error"}}
400 {"error":{"code":"INVALID_PARAMS","message":"the body is a list; send one JSON object","param":null,"retriable":false,"type":"invalid_request_error"}}
"#);
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_its_limit() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster
        .gateway_with(|config| config.gateway.body_limit = 100_000)
        .await;
    let prompt = json!([{"role": "user", "content": "x".repeat(110_000)}]);
    insta::assert_snapshot!(post_all(&gateway, "/v1/chat/completions", &[with("messages", prompt)]).await, @r#"413 {"error":{"code":"PAYLOAD_TOO_LARGE","message":"the body is larger than 100000 bytes; send less, or raise gateway.body_limit","param":null,"retriable":false,"type":"invalid_request_error"}}"#);
}

#[tokio::test]
async fn wrong_routes_methods_and_ids_are_told() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let unknown = "01900000-0000-7000-8000-000000000001";
    let asked = [
        (Method::GET, "/nope".to_owned()),
        (Method::GET, "/v1/nope".to_owned()),
        (Method::DELETE, "/v1/chat/completions".to_owned()),
        (Method::PUT, "/api/jobs".to_owned()),
        (Method::GET, "/api/nodes/a.b".to_owned()),
        (Method::GET, "/api/nodes/beta".to_owned()),
        (Method::GET, "/api/nodes/beta/jobs".to_owned()),
        (Method::GET, "/v1/models/tine".to_owned()),
        (Method::GET, "/v1/tasks/seven".to_owned()),
        (Method::GET, format!("/v1/tasks/{unknown}")),
        (Method::GET, format!("/v1/tasks/{unknown}/stream")),
        (Method::POST, format!("/v1/tasks/{unknown}/cancel")),
        (Method::GET, "/api/jobs?limit=0".to_owned()),
        (Method::GET, "/api/jobs?state=lazy".to_owned()),
        (Method::GET, "/api/logs?level=loud".to_owned()),
    ];
    let mut all = String::new();
    for (method, path) in asked {
        let answer = gateway
            .http
            .send(method, &path, Bytes::new(), &[])
            .await
            .unwrap();
        let allow = answer
            .header("allow")
            .map(|allow| format!(" (allow: {allow})"));
        writeln!(all, "{}{}", shown(&answer), allow.unwrap_or_default()).unwrap();
    }
    insta::assert_snapshot!(all, @r#"
404 {"code":"NOT_FOUND","message":"there is no route /nope; GET /openapi.json lists the routes","retriable":false}
404 {"error":{"code":"NOT_FOUND","message":"there is no route /v1/nope; GET /openapi.json lists the routes","param":null,"retriable":false,"type":"not_found_error"}}
405 {"error":{"code":"METHOD_NOT_ALLOWED","message":"DELETE is not possible on /v1/chat/completions; use POST","param":null,"retriable":false,"type":"invalid_request_error"}} (allow: POST)
405 {"code":"METHOD_NOT_ALLOWED","message":"PUT is not possible on /api/jobs; use GET,HEAD,POST","retriable":false} (allow: GET,HEAD,POST)
400 {"code":"INVALID_PARAMS","message":"node id 'a.b' contains '.': use letters, digits, dashes and underscores only","retriable":false,"param":"id"}
404 {"code":"NOT_FOUND","message":"no node beta","retriable":false}
404 {"code":"NOT_FOUND","message":"no node beta","retriable":false}
404 {"error":{"code":"NOT_FOUND","message":"no node serves the model 'tine'; did you mean tiny?","param":"model","retriable":false,"type":"not_found_error"}}
400 {"code":"INVALID_PARAMS","message":"job id 'seven' is not a UUID","retriable":false,"param":"id"}
404 {"code":"NOT_FOUND","message":"no job 01900000-0000-7000-8000-000000000001","retriable":false}
404 {"code":"NOT_FOUND","message":"no job 01900000-0000-7000-8000-000000000001","retriable":false}
404 {"code":"NOT_FOUND","message":"no job 01900000-0000-7000-8000-000000000001","retriable":false}
400 {"code":"INVALID_PARAMS","message":"`limit` must be a whole number from 1 to 1000","retriable":false,"param":"limit"}
400 {"code":"INVALID_PARAMS","message":"`state` must be one of pending, assigned, running, completed, failed, canceled","retriable":false,"param":"state"}
400 {"code":"INVALID_PARAMS","message":"`level` must be debug, info, warn or error, not 'loud'","retriable":false,"param":"level"}
"#);
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let answer = gateway
        .http
        .post("/v1/chat/completions", &with("model", json!("busy")))
        .await
        .unwrap();
    insta::assert_snapshot!(shown(&answer), @r#"429 {"error":{"code":"ADMISSION_REJECT","message":"the queue is full","param":null,"policy_label":"reject","retriable":true,"retry_after_ms":1500,"type":"rate_limit_error"}}"#);
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert_eq!(answer.header("x-backoff-ms"), Some("1500"));
}

#[tokio::test]
async fn an_id_used_again_for_something_else_is_a_conflict() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let task = |prompt: &str| json!({"task_id": "01900000-0000-7000-8000-000000000001", "model": "tiny", "prompt": prompt});
    let first = gateway.http.post("/v1/tasks", &task("hi")).await.unwrap();
    let again = gateway.http.post("/v1/tasks", &task("hi")).await.unwrap();
    assert_eq!((first.status, again.status), (202, 202));
    assert_eq!(first.text(), again.text());
    let other = gateway.http.post("/v1/tasks", &task("ho")).await.unwrap();
    insta::assert_snapshot!(shown(&other), @r#"409 {"code":"CONFLICT","message":"this id exists with another body","retriable":false}"#);
    assert_eq!(other.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn a_registry_or_log_sink_that_is_away_is_named() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let answer = gateway.http.get("/api/logs").await.unwrap();
    insta::assert_snapshot!(shown(&answer), @r#"503 {"code":"POOL_UNREADY","message":"the log-sink does not answer; see that it runs and is connected to NATS, then try again","retriable":true,"retry_after_ms":1000}"#);
}
