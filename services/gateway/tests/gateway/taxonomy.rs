//! Every row of the error table: its status, its words, and whether to try again.

use std::fmt::Write;

use orchion_contract::{ErrorBody, ErrorCode};
use orchion_testkit::http::Answer;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::cluster::Cluster;
use crate::http::chat;
use crate::running::Running;

/// One line: status, retriable, when to come back, what the body says.
fn row(code: ErrorCode, answer: &Answer) -> String {
    let body = answer.json::<Value>();
    let error = body.get("error").unwrap_or(&body);
    assert_eq!(error["code"], code.as_str());
    assert_eq!(error["retriable"], code.retriable(), "{code}");
    let header = |name| answer.header(name).unwrap_or("-").to_owned();
    assert_eq!(header("x-backoff-ms"), header("retry-after-ms"));
    let label = error["policy_label"].as_str().unwrap_or("-");
    let kind = error["type"].as_str().unwrap_or("-");
    format!(
        "{} {code} {kind} after={}s again={} policy={label}",
        answer.status,
        header("retry-after"),
        header("x-should-retry"),
    )
}

#[tokio::test]
async fn what_the_scheduler_refuses_is_told_in_both_dialects() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let mut all = String::new();
    for code in ErrorCode::ALL {
        let model = format!("refuse:{code}");
        let mut body = chat(false);
        body["model"] = model.as_str().into();
        let chat = gateway.http.post("/v1/chat/completions", &body).await;
        let task = json!({"model": model, "prompt": "hi"});
        let task = gateway.http.post("/v1/tasks", &task).await.unwrap();
        let (chat, task) = (row(*code, &chat.unwrap()), row(*code, &task));
        // The dialects differ in OpenAI's `type` alone.
        let mut words: Vec<&str> = chat.split(' ').collect();
        words[2] = "-";
        assert_eq!(words.join(" "), task);
        writeln!(all, "{chat}").unwrap();
    }
    insta::assert_snapshot!(all, @"
400 INVALID_PARAMS invalid_request_error after=-s again=- policy=-
400 DEADLINE_UNMET invalid_request_error after=-s again=- policy=-
429 ADMISSION_REJECT rate_limit_error after=1s again=- policy=reject
429 QUEUE_FULL_DROP_LRU rate_limit_error after=1s again=- policy=drop-lru
503 POOL_UNREADY server_error after=1s again=- policy=-
503 POOL_UNAVAILABLE server_error after=1s again=- policy=-
503 REPLICA_EXHAUSTED server_error after=1s again=- policy=-
504 DECODE_TIMEOUT server_error after=-s again=- policy=-
502 WORKER_RESET server_error after=-s again=- policy=-
404 NOT_FOUND not_found_error after=-s again=- policy=-
409 CONFLICT invalid_request_error after=-s again=false policy=-
410 GONE invalid_request_error after=-s again=- policy=-
401 MISSING_TOKEN authentication_error after=-s again=- policy=-
401 BAD_TOKEN authentication_error after=-s again=- policy=-
403 FORBIDDEN permission_error after=-s again=- policy=-
413 PAYLOAD_TOO_LARGE invalid_request_error after=-s again=- policy=-
405 METHOD_NOT_ALLOWED invalid_request_error after=-s again=- policy=-
500 INTERNAL server_error after=-s again=false policy=-
");
}

/// A chat and the agent that answers it; the answer comes from `asked`.
async fn fails(
    cluster: &mut Cluster,
    gateway: &Running,
    stream: bool,
    code: ErrorCode,
    shown: &[&str],
) -> Answer {
    let body = chat(stream);
    let asked = gateway.http.post("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        let mut agent: Agent = cluster.agent(&submit);
        if !shown.is_empty() {
            agent.says(shown).await;
        }
        agent.fails(ErrorBody::new(code, "it failed")).await;
    };
    let (answer, ()) = tokio::join!(asked, told);
    answer.unwrap()
}

#[tokio::test]
async fn what_fails_on_its_way_has_a_status_before_the_first_piece_and_an_event_after_it() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    for code in [
        ErrorCode::DeadlineUnmet,
        ErrorCode::QueueFullDropLru,
        ErrorCode::PoolUnavailable,
        ErrorCode::ReplicaExhausted,
        ErrorCode::DecodeTimeout,
        ErrorCode::WorkerReset,
        ErrorCode::Internal,
    ] {
        for stream in [false, true] {
            let answer = fails(&mut cluster, &gateway, stream, code, &[]).await;
            assert_eq!(answer.status, code.http_status(), "{code}");
            row(code, &answer);
        }
        // Nobody takes half an answer for a whole one.
        let whole = fails(&mut cluster, &gateway, false, code, &["half"]).await;
        assert_eq!(whole.status, code.http_status(), "{code}");
        let data = cut(&mut cluster, &gateway, code).await;
        let (last, before) = data.split_last().unwrap();
        let last: Value = serde_json::from_str(last).unwrap();
        assert_eq!(last["error"]["code"], code.as_str());
        assert!(!before.iter().any(|data| data == "[DONE]"), "{before:?}");
    }
}

/// A stream that fails after its caller has seen a piece: all its data.
async fn cut(cluster: &mut Cluster, gateway: &Running, code: ErrorCode) -> Vec<String> {
    let body = chat(true);
    let asked = gateway.http.post_events("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        let mut agent: Agent = cluster.agent(&submit);
        agent.says(&["half"]).await;
        agent
    };
    let (answer, mut agent) = tokio::join!(asked, told);
    let mut answer = answer.unwrap();
    let mut data: Vec<String> = Vec::new();
    while !data.iter().any(|data| data.contains("half")) {
        data.push(answer.next().await.unwrap().unwrap().data);
    }
    agent.fails(ErrorBody::new(code, "it failed")).await;
    let rest = answer.collect().await.unwrap();
    data.extend(rest.into_iter().map(|event| event.data));
    data
}
