//! `Idempotency-Key`: the same key and body are the same job, at any gateway.

use bytes::Bytes;
use hyper::Method;
use orchion_contract::streams::TRANSCRIPTS;
use orchion_testkit::http::Answer;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::{chat, shown};
use crate::running::Running;

async fn post(gateway: &Running, path: &str, body: &Value, key: &str) -> Answer {
    let body = Bytes::from(body.to_string());
    let headers = [("idempotency-key", key)];
    let sent = gateway.http.send(Method::POST, path, body, &headers);
    sent.await.unwrap()
}

#[tokio::test]
async fn a_key_used_again_at_another_gateway_follows_the_same_job() {
    let mut cluster = Cluster::start().await;
    let first = cluster.gateway().await;
    let second = cluster.gateway().await;
    let path = "/v1/chat/completions";
    let body = chat(false);
    let told = async {
        let submit = cluster.submitted().await;
        let mut agent = cluster.agent(&submit);
        agent.says(&["on", "ce"]).await;
        let again = cluster.submitted().await;
        assert_eq!(again.job, submit.job);
        // Whichever of them is stored, its transcript is the same.
        assert_eq!(
            (&again.reader, again.reader.gateway()),
            (&submit.reader, None)
        );
        agent.completes().await;
        submit.job
    };
    let asked = post(&first, path, &body, "k-1");
    let asked_again = async {
        // Whether it is streamed is no part of the question.
        let body = chat(true);
        post(&second, path, &body, "k-1").await
    };
    let (answer, again, job) = tokio::join!(asked, asked_again, told);
    assert_eq!(
        answer.json::<Value>()["choices"][0]["message"]["content"],
        "once"
    );
    assert!(again.text().contains("\"on\"") && again.text().contains("[DONE]"));
    for answer in [&answer, &again] {
        assert_eq!(
            answer.header("x-orchion-job"),
            Some(job.to_string().as_str())
        );
    }
    // Long after its end, too.
    let later = post(&first, path, &body, "k-1").await;
    assert_eq!(
        later.json::<Value>()["choices"][0]["message"]["content"],
        "once"
    );
    // And when the answer is gone, it is not an empty one.
    let purge = format!("$JS.API.STREAM.PURGE.{}", TRANSCRIPTS.name);
    let admin = cluster.nats.client().await;
    admin.request(purge, "".into()).await.unwrap();
    let gone = post(&first, path, &body, "k-1").await;
    insta::assert_snapshot!(shown(&gone), @r#"410 {"error":{"code":"GONE","message":"the answer to this `Idempotency-Key` is not kept any more; ask again with another key","param":null,"retriable":false,"type":"invalid_request_error"}}"#);
}

#[tokio::test]
async fn a_key_with_another_body_is_a_conflict_and_another_key_another_job() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let task = |prompt: &str| json!({"model": "tiny", "prompt": prompt});
    let first = post(&gateway, "/v1/tasks", &task("a"), "k").await;
    let again = post(&gateway, "/v1/tasks", &task("a"), "k").await;
    assert_eq!((first.status, first.text()), (202, again.text()));
    let other = post(&gateway, "/v1/chat/completions", &chat(false), "k").await;
    insta::assert_snapshot!(shown(&other), @r#"409 {"error":{"code":"CONFLICT","message":"this `Idempotency-Key` was used with another body; use a fresh key for a new request","param":"Idempotency-Key","retriable":false,"type":"invalid_request_error"}}"#);
    assert_eq!(other.header("x-should-retry"), Some("false"));
    let fresh = post(&gateway, "/v1/tasks", &task("a"), "k2").await;
    assert_eq!(fresh.status, 202);
    assert_ne!(fresh.text(), first.text());
}

#[tokio::test]
async fn two_names_for_one_task_are_refused() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let id = "01900000-0000-7000-8000-000000000001";
    let task = json!({"model": "tiny", "prompt": "a", "task_id": id});
    let answer = post(&gateway, "/v1/tasks", &task, "k").await;
    insta::assert_snapshot!(shown(&answer), @r#"400 {"code":"INVALID_PARAMS","message":"`task_id` and `Idempotency-Key` both name the task; send one of them","retriable":false,"param":"Idempotency-Key"}"#);
    assert!(cluster.has_no_submission());
}

#[tokio::test]
async fn a_bad_key_is_refused() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let answer = post(
        &gateway,
        "/v1/chat/completions",
        &chat(false),
        &"k".repeat(256),
    )
    .await;
    insta::assert_snapshot!(shown(&answer), @r#"400 {"error":{"code":"INVALID_PARAMS","message":"`Idempotency-Key` must have 1 to 255 printable characters; a fresh UUID does","param":"Idempotency-Key","retriable":false,"type":"invalid_request_error"}}"#);
    assert!(cluster.has_no_submission());
}
