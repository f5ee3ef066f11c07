//! `POST /v1/chat/completions`.

use http_body_util::BodyExt;
use orchion_contract::{ErrorBody, ErrorCode, rpc};
use orchion_service::HumanDuration;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::{chat, shown};

#[tokio::test]
async fn pieces_arrive_one_by_one_and_end_with_done() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let mut body = chat(true);
    body["stream_options"] = json!({"include_usage": true});
    let opened = gateway.http.post_events("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        let mut agent = cluster.agent(&submit);
        agent.says(&["Hel"]).await;
        (agent, submit)
    };
    let (stream, (mut agent, submit)) = tokio::join!(opened, told);
    let mut stream = stream.unwrap();
    assert_eq!(stream.headers["x-orchion-job"], submit.job.to_string());

    let role: Value = serde_json::from_str(&stream.next().await.unwrap().unwrap().data).unwrap();
    assert_eq!(role["choices"][0]["delta"]["role"], "assistant");
    let first: Value = serde_json::from_str(&stream.next().await.unwrap().unwrap().data).unwrap();
    assert_eq!(first["choices"][0]["delta"]["content"], "Hel");
    // Only now is there a second piece: the first one did not wait for it.
    agent.says(&["lo"]).await;
    let second: Value = serde_json::from_str(&stream.next().await.unwrap().unwrap().data).unwrap();
    assert_eq!(second["choices"][0]["delta"]["content"], "lo");
    agent.completes().await;

    let rest = stream.collect().await.unwrap();
    let rest: Vec<_> = rest.into_iter().map(|event| event.data).collect();
    assert_eq!(rest.len(), 3, "{rest:?}");
    let finished: Value = serde_json::from_str(&rest[0]).unwrap();
    assert_eq!(finished["choices"][0]["finish_reason"], "stop");
    let usage: Value = serde_json::from_str(&rest[1]).unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["total_tokens"], 5);
    assert_eq!(rest[2], "[DONE]");
    assert!(cluster.has_no_cancel());
}

#[tokio::test]
async fn a_whole_answer_is_one_completion() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let body = chat(false);
    let asked = gateway.http.post("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        let mut agent = cluster.agent(&submit);
        agent.says(&["Hel", "lo"]).await;
        agent.completes().await;
        submit
    };
    let (answer, submit) = tokio::join!(asked, told);
    let answer = answer.unwrap();
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let mut completion: Value = answer.json();
    assert_eq!(completion["id"], format!("chatcmpl-{}", submit.job));
    assert!(completion["created"].as_u64() > Some(1_700_000_000));
    completion["id"] = "ID".into();
    completion["created"] = 0.into();
    insta::assert_json_snapshot!(completion, @r#"
{
  "choices": [
    {
      "finish_reason": "stop",
      "index": 0,
      "logprobs": null,
      "message": {
        "content": "Hello",
        "refusal": null,
        "role": "assistant"
      }
    }
  ],
  "created": 0,
  "id": "ID",
  "model": "tiny",
  "object": "chat.completion",
  "usage": {
    "completion_tokens": 2,
    "prompt_tokens": 3,
    "total_tokens": 5
  }
}
"#);
}

#[tokio::test]
async fn a_whole_answer_whose_end_comes_first_needs_no_admission() {
    let mut cluster = Cluster::without_scheduler().await;
    let gateway = cluster.gateway().await;
    let service = cluster.bus.service("hears and says nothing").await.unwrap();
    let mut asked = service.endpoint(rpc::SUBMIT, "double").await.unwrap();
    cluster.bus.flush().await.unwrap();
    let body = chat(false);
    let answered = gateway.http.post("/v1/chat/completions", &body);
    let told = async {
        let question = asked.next().await.unwrap();
        let mut agent = cluster.agent(&question.asked);
        agent.says(&["Hel", "lo"]).await;
        agent.completes().await;
    };
    let answer = tokio::join!(answered, told).0.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-orchion-queue-position"), Some("0"));
    let completion: Value = answer.json();
    assert_eq!(completion["choices"][0]["message"]["content"], "Hello");
    assert!(cluster.has_no_cancel());
}

#[tokio::test]
async fn the_alias_answers_too() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let body = chat(false);
    let asked = gateway.http.post("/api/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        cluster.agent(&submit).completes().await;
    };
    assert_eq!(tokio::join!(asked, told).0.unwrap().status, 200);
}

#[tokio::test]
async fn a_failure_before_the_first_piece_has_a_status_of_its_own() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    for stream in [true, false] {
        let body = chat(stream);
        let asked = gateway.http.post("/v1/chat/completions", &body);
        let told = async {
            let submit = cluster.submitted().await;
            let error = ErrorBody::new(ErrorCode::ReplicaExhausted, "every attempt failed");
            cluster.agent(&submit).fails(error).await;
        };
        let answer = tokio::join!(asked, told).0.unwrap();
        insta::allow_duplicates! {
            insta::assert_snapshot!(shown(&answer), @r#"503 {"error":{"code":"REPLICA_EXHAUSTED","job_id":"{job}","message":"every attempt failed","param":null,"retriable":true,"retry_after_ms":1000,"type":"server_error"}}"#);
        }
    }
    assert!(cluster.has_no_cancel());
}

#[tokio::test]
async fn a_failure_after_the_first_piece_never_looks_like_an_end() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let body = chat(true);
    let opened = gateway.http.post_events("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        let mut agent = cluster.agent(&submit);
        agent.says(&["one"]).await;
        agent
    };
    let (stream, mut agent) = tokio::join!(opened, told);
    agent
        .fails(ErrorBody::new(
            ErrorCode::WorkerReset,
            "the engine went away",
        ))
        .await;
    let events = stream.unwrap().collect().await.unwrap();
    let last: Value = serde_json::from_str(&events.last().unwrap().data).unwrap();
    assert_eq!(last["error"]["code"], "WORKER_RESET");
    assert!(
        events
            .iter()
            .all(|event| event.data != "[DONE]" && !event.data.contains("\"stop\""))
    );
}

#[tokio::test]
async fn a_restart_before_anything_was_seen_is_silent() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let body = chat(true);
    let opened = gateway.http.post_events("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        let mut agent = cluster.agent(&submit);
        agent.restarts().await;
        agent.says(&["right"]).await;
        agent.completes().await;
    };
    let stream = tokio::join!(opened, told).0.unwrap();
    let events = stream.collect().await.unwrap();
    assert_eq!(events.last().unwrap().data, "[DONE]");
}

#[tokio::test]
async fn a_restart_of_what_was_seen_is_an_error() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let body = chat(true);
    let opened = gateway.http.post_events("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        let mut agent = cluster.agent(&submit);
        agent.says(&["wrong"]).await;
        (submit, agent)
    };
    let (stream, (submit, mut agent)) = tokio::join!(opened, told);
    agent.restarts().await;
    let events = stream.unwrap().collect().await.unwrap();
    let last: Value = serde_json::from_str(&events.last().unwrap().data).unwrap();
    assert_eq!(last["error"]["code"], "WORKER_RESET");
    let task = format!("/v1/tasks/{}/stream", submit.job);
    let message = last["error"]["message"].as_str().unwrap();
    assert!(message.contains(&task), "{message}");

    // The job has not ended with the stream: what it says now is there for whoever asks.
    agent.says(&["right"]).await;
    agent.completes().await;
    let again = gateway.http.events(&task, &[]).await.unwrap();
    let events = again.collect().await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.event.as_str()).collect();
    let expected = ["started", "token", "restart", "token", "end"];
    assert_eq!(kinds, expected);
    // A chat that is canceled after it shows that none was before.
    let marker = gateway.http.post_events("/v1/chat/completions", &body);
    let submitted = async {
        let submit = cluster.submitted().await;
        cluster.agent(&submit).says(&["one"]).await;
        submit
    };
    let (marker, after) = tokio::join!(marker, submitted);
    drop(marker);
    assert_eq!(cluster.canceled().await.job, after.job);
}

#[tokio::test]
async fn no_line_breaks_official_clients_and_silence_is_filled() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster
        .gateway_with(|config| config.gateway.keep_alive = HumanDuration::from_millis(60))
        .await;
    // Without an entry, the stream begins with a comment after the silence.
    let target = orchion_testkit::http::Target::parse(&gateway.url).unwrap();
    let body = serde_json::to_vec(&chat(true)).unwrap();
    let request = target.request(hyper::Method::POST, "/v1/chat/completions", body.into());
    let mut conn = orchion_testkit::http::Conn::open(&target).await.unwrap();
    let (response, submit) = tokio::join!(conn.send(request), cluster.submitted());
    let mut body = response.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&first[..], b":\n\n");
    let mut agent = cluster.agent(&submit);
    agent.says(&["one"]).await;
    agent.completes().await;
    let rest = body.collect().await.unwrap().to_bytes();
    let rest = String::from_utf8(rest.to_vec()).unwrap();
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    for line in rest.lines() {
        assert!(
            line.is_empty() || line.starts_with("data: {") || line == "data: [DONE]" || line == ":",
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_scheduler_that_is_replaced_is_waited_for() {
    let mut cluster = Cluster::without_scheduler().await;
    let gateway = cluster.gateway().await;
    let body = chat(false);
    let asked = gateway.http.post("/v1/chat/completions", &body);
    let told = async {
        // The gateway has asked at least once when the successor begins to answer.
        let asked = cluster.next_question("orchion.rpc.scheduler.submit");
        asked.await;
        cluster.play_scheduler().await;
        let submit = cluster.submitted().await;
        cluster.agent(&submit).completes().await;
    };
    assert_eq!(tokio::join!(asked, told).0.unwrap().status, 200);
}

#[tokio::test]
async fn a_scheduler_that_is_away_for_good_is_named() {
    let mut cluster = Cluster::without_scheduler().await;
    let gateway = cluster
        .gateway_with(|config| config.gateway.patience = HumanDuration::from_millis(10))
        .await;
    let answer = gateway
        .http
        .post("/v1/chat/completions", &chat(false))
        .await
        .unwrap();
    insta::assert_snapshot!(shown(&answer), @r#"503 {"error":{"code":"POOL_UNREADY","job_id":"{job}","message":"the scheduler does not answer; see that it runs and is connected to NATS, then try again","param":null,"retriable":true,"retry_after_ms":1000,"type":"server_error"}}"#);
}
