//! Jobs whose answers are gone: told apart from those that never were.

use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::{ErrorBody, ErrorCode, rpc};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::shown;

const UNKNOWN: &str = "01900000-0000-7000-8000-000000000009";

#[tokio::test]
async fn the_stream_of_an_expired_job_says_what_is_still_known() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let task = json!({"model": "tiny", "prompt": "hi"});
    gateway.http.post("/v1/tasks", &task).await.unwrap();
    let submit = cluster.submitted().await;
    cluster.agent(&submit).completes().await;
    let past = cluster.forget(submit.job);
    cluster
        .answer(rpc::PAST_JOB, move |job| match job == past.id {
            true => Ok(past.clone()),
            false => Err(ErrorBody::new(ErrorCode::NotFound, "not in history")),
        })
        .await;
    cluster
        .answer(rpc::EXPLAIN_JOB, |_| {
            Err(ErrorBody::new(ErrorCode::NotFound, "not known"))
        })
        .await;
    for path in ["stream", "events"] {
        let path = format!("/v1/tasks/{}/{path}", submit.job);
        let answer = gateway.http.get(&path).await.unwrap();
        assert_eq!(answer.status, 410);
        let body = answer.json::<Value>();
        assert_eq!(body["code"], "GONE");
        assert_eq!(body["retriable"], false);
        assert_eq!(body["job"]["id"], submit.job.to_string());
        assert_eq!(body["job"]["state"], "completed");
    }
    let view = gateway
        .http
        .get(&format!("/v1/tasks/{}", submit.job))
        .await
        .unwrap();
    assert_eq!(view.status, 200);
    let view = view.json::<Value>();
    assert_eq!(
        (&view["expired"], &view["state"]),
        (&true.into(), &"completed".into())
    );
    assert_eq!(view.get("output"), None);
    let why = format!("/v1/tasks/{}/explain", submit.job);
    let why: Value = gateway.http.get(&why).await.unwrap().json();
    assert_eq!(why["state"], "completed");
    let summary = why["summary"].as_str().unwrap();
    assert!(summary.starts_with("it is completed"), "{summary}");
    // What never was is not found, though history was asked.
    for what in ["stream", "explain"] {
        let never = format!("/v1/tasks/{UNKNOWN}/{what}");
        assert_eq!(gateway.http.get(&never).await.unwrap().status, 404);
    }
}

#[tokio::test]
async fn an_answer_that_went_before_its_record_is_gone_and_not_empty() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let task = json!({"model": "tiny", "prompt": "hi"});
    gateway.http.post("/v1/tasks", &task).await.unwrap();
    let submit = cluster.submitted().await;
    let mut agent = cluster.agent(&submit);
    agent.says(&["a"]).await;
    agent.completes().await;
    let path = format!("/v1/tasks/{}", submit.job);
    let view = async || gateway.http.get(&path).await.unwrap().json::<Value>();
    assert_eq!(view().await["output"], "a");
    let purge = format!("$JS.API.STREAM.PURGE.{}", TRANSCRIPTS.name);
    let admin = cluster.nats.client().await;
    admin.request(purge, "".into()).await.unwrap();
    let gone = view().await;
    assert_eq!(
        (&gone["expired"], gone.get("output")),
        (&true.into(), None),
        "{gone}"
    );
    for last in ["", "?last_event_id=1"] {
        let stream = gateway.http.get(&format!("{path}/stream{last}")).await;
        assert_eq!(stream.unwrap().status, 410);
    }
}

#[tokio::test]
async fn without_history_the_trace_of_the_record_is_enough() {
    let mut cluster = Cluster::without_scheduler().await;
    let gone = |_| Err(ErrorBody::new(ErrorCode::Gone, "job x ended long ago"));
    cluster.answer(rpc::GET_JOB, gone).await;
    cluster
        .answer(rpc::CANCEL_JOB, |_| {
            Err(ErrorBody::new(ErrorCode::Gone, "job x ended long ago"))
        })
        .await;
    let gateway = cluster.gateway().await;
    let stream = format!("/v1/tasks/{UNKNOWN}/stream");
    let stream = gateway.http.get(&stream).await.unwrap();
    insta::assert_snapshot!(shown(&stream), @r#"410 {"code":"GONE","message":"job x ended long ago","retriable":false}"#);
    // Canceling what has ended changes nothing, however long ago it was.
    let cancel = gateway
        .http
        .post(&format!("/v1/tasks/{UNKNOWN}/cancel"), &json!({}))
        .await
        .unwrap();
    assert_eq!(cancel.status, 204);
}
