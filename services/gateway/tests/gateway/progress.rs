//! Where a job stands is told while it waits: in headers, frames and comments.

use std::time::Duration;

use orchion_contract::job::{JobState, Submit};
use orchion_contract::placement::Explanation;
use orchion_contract::progress::{Progress, ProgressEvent};
use orchion_contract::rpc;
use orchion_contract::subjects::JOB_PROGRESS;
use orchion_testkit::http::EventStream;
use orchion_testkit::sse::Event;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::{Cluster, PATIENCE};
use crate::http::chat;

fn at(submit: &Submit, position: u32) -> Progress {
    Progress {
        job: submit.job,
        state: JobState::Pending,
        queue_position: Some(position),
        queue_depth: 7,
        predicted_start_ms: Some(400),
        on_time_probability: Some(0.9),
        tokens_per_s: None,
        event: None,
        reason: None,
        at_ms: 1,
    }
}

async fn tell(cluster: &Cluster, submit: &Submit, progress: &Progress) {
    let address = (submit.reader.clone(), submit.job);
    let told = cluster.bus.publish(&JOB_PROGRESS, &address, progress).await;
    told.unwrap();
}

/// Tells it until the stream says something: what nobody hears yet is lost.
async fn heard(
    cluster: &Cluster,
    submit: &Submit,
    progress: &Progress,
    stream: &mut EventStream,
) -> Event {
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        tokio::select! {
            event = stream.next() => return event.unwrap().unwrap(),
            _ = pace.tick() => tell(cluster, submit, progress).await,
            () = tokio::time::sleep_until(deadline) => panic!("nothing was said"),
        }
    }
}

#[tokio::test]
async fn a_task_that_no_replica_can_take_is_told_why_and_no_start() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let task = json!({"model": "stuck", "prompt": "hi"});
    let accepted = gateway.http.post("/v1/tasks", &task).await.unwrap();
    assert_eq!(accepted.header("x-orchion-queue-position"), Some("2"));
    assert_eq!(accepted.header("x-orchion-predicted-start-ms"), None);
    let body: Value = accepted.json();
    assert_eq!(body["reason"], "no node serves its model now");
    assert_eq!(body["predicted_start_ms"], 0);
    let submit = cluster.submitted().await;
    let path = format!("/v1/tasks/{}/stream", submit.job);
    let mut stream = gateway.http.events(&path, &[]).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().event, "started");
    let stuck = Progress {
        predicted_start_ms: None,
        on_time_probability: None,
        reason: Some("no node serves its model now".to_owned()),
        ..at(&submit, 1)
    };
    let said = heard(&cluster, &submit, &stuck, &mut stream).await;
    insta::assert_snapshot!(said.data, @r#"{"state":"pending","queue_position":1,"queue_depth":7,"reason":"no node serves its model now","tokens_out":0}"#);
}

#[tokio::test]
async fn a_waiting_task_says_each_new_position_and_a_running_one_its_speed() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let task = json!({"model": "queued", "prompt": "hi"});
    let accepted = gateway.http.post("/v1/tasks", &task).await.unwrap();
    for (header, value) in [
        ("x-orchion-queue-position", "2"),
        ("x-orchion-predicted-start-ms", "900"),
        ("x-backoff-ms", "300"),
    ] {
        assert_eq!(accepted.header(header), Some(value), "{header}");
    }
    let submit = cluster.submitted().await;
    let path = format!("/v1/tasks/{}/stream", submit.job);
    let mut stream = gateway.http.events(&path, &[]).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().event, "started");

    let first = heard(&cluster, &submit, &at(&submit, 1), &mut stream).await;
    insta::assert_snapshot!(first.data, @r#"{"state":"pending","queue_position":1,"queue_depth":7,"predicted_start_ms":400,"on_time_probability":0.9,"tokens_out":0}"#);
    assert_eq!((first.event.as_str(), first.id), ("metrics", None));
    let overtaken = Progress {
        event: Some(ProgressEvent::Overtaken),
        ..at(&submit, 2)
    };
    tell(&cluster, &submit, &overtaken).await;
    let second = stream.next().await.unwrap().unwrap();
    let second: Value = serde_json::from_str(&second.data).unwrap();
    assert_eq!(second["queue_position"], 2);
    assert_eq!(second["event"], "overtaken");

    let mut agent = cluster.agent(&submit);
    agent.says(&["a", "b"]).await;
    agent.completes().await;
    let rest = stream.collect().await.unwrap();
    let names: Vec<_> = rest.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(names, ["token", "metrics", "token", "end"]);
    let running: Value = serde_json::from_str(&rest[1].data).unwrap();
    assert_eq!(running["state"], "running");
    assert_eq!(running["queue_depth"], 7);
    assert_eq!(running.get("queue_position"), None);
}

#[tokio::test]
async fn any_gateway_tells_where_a_task_of_another_one_stands() {
    let mut cluster = Cluster::start().await;
    let first = cluster.gateway().await;
    let second = cluster.gateway().await;
    let task = json!({"model": "queued", "prompt": "hi"});
    first.http.post("/v1/tasks", &task).await.unwrap();
    let submit = cluster.submitted().await;
    let path = format!("/v1/tasks/{}/events", submit.job);
    let mut stream = second.http.events(&path, &[]).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let told = heard(&cluster, &submit, &at(&submit, 1), &mut stream).await;
    assert_eq!(told.event, "metrics");
}

#[tokio::test]
async fn a_waiting_chat_says_where_it_stands_in_comments() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
    let mut body = chat(true);
    body["model"] = "queued".into();
    let body = body.to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length:";
    let request = format!("{head} {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.unwrap();
    let submit = cluster.submitted().await;

    let mut text = String::new();
    let mut buffer = [0; 4096];
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !text.contains(": queue_position=1 predicted_start_ms=400 queue_depth=7\n\n") {
        tokio::select! {
            count = socket.read(&mut buffer) => {
                text.push_str(&String::from_utf8_lossy(&buffer[..count.unwrap()]));
            }
            _ = pace.tick() => tell(&cluster, &submit, &at(&submit, 1)).await,
            () = tokio::time::sleep_until(deadline) => panic!("nothing was said: {text}"),
        }
    }
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("x-orchion-queue-position: 2\r\n"), "{text}");

    let mut agent = cluster.agent(&submit);
    agent.says(&["a"]).await;
    agent.completes().await;
    let mut rest = String::new();
    socket.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("data: [DONE]"), "{rest}");
}

#[tokio::test]
async fn why_a_task_is_where_it_is_is_explained() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let sample = include_str!("../../../../libs/contract/samples/explanation.json");
    let known: Explanation = serde_json::from_str(sample).unwrap();
    let answer = known.clone();
    cluster
        .answer(rpc::EXPLAIN_JOB, move |_| Ok(answer.clone()))
        .await;
    let path = format!("/v1/tasks/{}/explain", known.job);
    let explained = gateway.http.get(&path).await.unwrap();
    assert_eq!(explained.status, 200);
    assert_eq!(explained.json::<Explanation>(), known);
}
