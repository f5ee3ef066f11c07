//! `/v1/tasks`: submitted once, followed and resumed anywhere.

use orchion_contract::job::{Door, Outcome, Submit, Usage};
use orchion_contract::{ErrorBody, ErrorCode};
use orchion_testkit::sse::Event;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::cluster::Cluster;
use crate::http::{chat, shown};
use crate::running::Running;

/// A task that was submitted, and the agent that answers it.
async fn task(cluster: &mut Cluster, gateway: &Running) -> (Submit, Agent) {
    let body = json!({"model": "tiny", "prompt": "hi"});
    let accepted = gateway.http.post("/v1/tasks", &body).await.unwrap();
    assert_eq!(accepted.status, 202);
    let submit = cluster.submitted().await;
    let agent = cluster.agent(&submit);
    (submit, agent)
}

fn lines(events: &[Event]) -> String {
    let line = |event: &Event| {
        let id = event.id.as_deref().unwrap_or("-");
        format!("{id} {} {}\n", event.event, event.data)
    };
    events.iter().map(line).collect()
}

#[tokio::test]
async fn a_task_is_accepted_under_all_its_names() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let id = "01900000-0000-7000-8000-000000000001";
    let body = json!({"task_id": id, "workload": "completion", "model_ref": "tiny", "prompt": "hi", "max_tokens": 9});
    let accepted = gateway.http.post("/v1/tasks", &body).await.unwrap();
    insta::assert_snapshot!(shown(&accepted), @r#"202 {"task_id":"01900000-0000-7000-8000-000000000001","job_id":"01900000-0000-7000-8000-000000000001","id":"01900000-0000-7000-8000-000000000001","queue_position":0,"predicted_start_ms":0,"backoff_ms":0,"streams":{"sse":"/v1/tasks/01900000-0000-7000-8000-000000000001/stream"}}"#);
    assert_eq!(
        accepted.header("location"),
        Some(format!("/v1/tasks/{id}").as_str())
    );
    let submit = cluster.submitted().await;
    assert_eq!((submit.door, submit.spec.max_tokens), (Door::Task, Some(9)));
    assert_eq!(submit.spec.body.get(), r#"{"prompt":"hi"}"#);
}

#[tokio::test]
async fn the_short_form_becomes_one_message() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let body =
        json!({"model": "tiny", "prompt": "hi", "params": {"temperature": 0, "max_tokens": 4}});
    assert_eq!(
        gateway.http.post("/api/jobs", &body).await.unwrap().status,
        202
    );
    let spec = cluster.submitted().await.spec;
    assert_eq!(spec.max_tokens, Some(4));
    assert_eq!(
        spec.body.get(),
        r#"{"messages":[{"content":"hi","role":"user"}],"temperature":0}"#
    );
}

#[tokio::test]
async fn a_stream_has_started_tokens_and_one_end() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let (submit, mut agent) = task(&mut cluster, &gateway).await;
    let path = format!("/v1/tasks/{}/stream", submit.job);
    let mut stream = gateway.http.events(&path, &[]).await.unwrap();
    let started = stream.next().await.unwrap().unwrap();
    assert_eq!(started.event, "started");
    // Each piece is there before the next one exists.
    agent.says(&["Hel"]).await;
    let first = stream.next().await.unwrap().unwrap();
    let metrics = stream.next().await.unwrap().unwrap();
    agent.says(&["lo"]).await;
    agent.completes().await;
    let rest = stream.collect().await.unwrap();
    let all = [&[started, first, metrics], &rest[..]].concat();
    insta::assert_snapshot!(lines(&all), @r#"
- started {"model":"tiny","predicted_start_ms":0,"queue_position":0,"state":"assigned"}
1 token {"t":"Hel","i":0}
- metrics {"state":"running","tokens_out":1}
2 token {"t":"lo","i":1}
- end {"decode_ms":300,"decode_time_ms":300,"finish_reason":"stop","tokens_out":2,"usage":{"completion_tokens":2,"prompt_tokens":3,"total_tokens":5}}
"#);
}

#[tokio::test]
async fn any_gateway_resumes_without_loss_or_repeat() {
    let mut cluster = Cluster::start().await;
    let first = cluster.gateway().await;
    let second = cluster.gateway().await;
    let (submit, mut agent) = task(&mut cluster, &first).await;
    agent.says(&["a", "b", "c"]).await;
    let path = format!("/v1/tasks/{}/events", submit.job);
    let mut stream = first.http.events(&path, &[]).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(stream.next().await.unwrap().unwrap().id);
    }
    drop(stream);
    let id = seen.pop().unwrap();
    assert_eq!(id, "2");
    let resumed = second
        .http
        .events(&path, &[("last-event-id", &id)])
        .await
        .unwrap();
    agent.says(&["d"]).await;
    agent.completes().await;
    let rest = resumed.collect().await.unwrap();
    let texts: Vec<Value> = rest
        .iter()
        .filter(|event| event.event == "token")
        .map(|event| serde_json::from_str::<Value>(&event.data).unwrap()["t"].clone())
        .collect();
    assert_eq!(texts, ["c", "d"]);
    assert_eq!(rest.last().unwrap().event, "end");
    // The end alone is left for who has seen every token.
    let end = second
        .http
        .events(&format!("{path}?last_event_id=4"), &[])
        .await
        .unwrap();
    assert_eq!(end.collect().await.unwrap().len(), 1);
}

#[tokio::test]
async fn who_has_seen_a_piece_sees_the_next_one_without_a_scheduler() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let (submit, mut agent) = task(&mut cluster, &gateway).await;
    agent.says(&["a", "b"]).await;
    agent.completes().await;
    cluster.forget(submit.job);
    let path = format!("/v1/tasks/{}/stream", submit.job);
    let resumed = gateway.http.events(&path, &[("last-event-id", "1")]).await;
    let rest = resumed.unwrap().collect().await.unwrap();
    let names: Vec<&str> = rest.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(names, ["token", "end"]);
    // Who has seen nothing asks whether there is such a job.
    assert!(gateway.http.events(&path, &[]).await.is_err());
}

#[tokio::test]
async fn a_chat_is_resumed_at_a_second_gateway_which_then_answers_for_it() {
    let mut cluster = Cluster::start().await;
    let first = cluster
        .gateway_with(|config| config.gateway.cancel_on_disconnect = false)
        .await;
    let second = cluster.gateway().await;
    let body = chat(true);
    let opened = first.http.post_events("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        let mut agent = cluster.agent(&submit);
        agent.says(&["a"]).await;
        agent
    };
    let (stream, mut agent) = tokio::join!(opened, told);
    let job = stream.unwrap().headers["x-orchion-job"]
        .to_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/tasks/{job}/stream");
    let resumed = second
        .http
        .events(&path, &[("last-event-id", "1")])
        .await
        .unwrap();
    assert_eq!(cluster.followed().await.job.to_string(), job);
    agent.says(&["b"]).await;
    agent.completes().await;
    let rest = resumed.collect().await.unwrap();
    assert_eq!(rest[0].id.as_deref(), Some("2"));
    let names: Vec<_> = rest.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(names, ["token", "metrics", "end"]);
}

#[tokio::test]
async fn a_place_that_cannot_exist_is_refused() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let (submit, mut agent) = task(&mut cluster, &gateway).await;
    agent.says(&["a", "b"]).await;
    let path = format!("/v1/tasks/{}/stream", submit.job);
    let ask = |id: &'static str| {
        let (http, path) = (gateway.http.clone(), path.clone());
        async move {
            http.send(
                hyper::Method::GET,
                &path,
                bytes::Bytes::new(),
                &[("last-event-id", id)],
            )
            .await
            .unwrap()
        }
    };
    insta::assert_snapshot!(shown(&ask("now").await), @r#"400 {"code":"INVALID_PARAMS","message":"`Last-Event-ID` must be the id of an event of this stream: a whole number","retriable":false,"param":"Last-Event-ID"}"#);
    insta::assert_snapshot!(shown(&ask("3").await), @r#"400 {"code":"INVALID_PARAMS","message":"`Last-Event-ID` is 3, but the last event of this task so far has the id 2","retriable":false,"param":"Last-Event-ID"}"#);
    agent.completes().await;
    assert_eq!(ask("3").await.status, 400);
    assert_eq!(ask("2").await.status, 200);
}

#[tokio::test]
async fn a_failed_and_a_canceled_task_end_once() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let (failed, mut agent) = task(&mut cluster, &gateway).await;
    agent.says(&["a"]).await;
    agent
        .fails(ErrorBody::new(
            ErrorCode::DecodeTimeout,
            "the engine was silent",
        ))
        .await;
    let (canceled, mut agent) = task(&mut cluster, &gateway).await;
    agent.restarts().await;
    agent.ends(Outcome::Canceled, Usage::default(), None).await;
    let mut all = String::new();
    for job in [failed.job, canceled.job] {
        let stream = gateway
            .http
            .events(&format!("/v1/tasks/{job}/stream"), &[])
            .await
            .unwrap();
        all.push_str(&lines(&stream.collect().await.unwrap()[1..]));
    }
    insta::assert_snapshot!(all, @r#"
1 token {"t":"a","i":0}
- error {"code":"DECODE_TIMEOUT","message":"the engine was silent","retriable":true}
1 restart {"i":0}
- end {"canceled":true,"decode_ms":300,"decode_time_ms":300,"finish_reason":null,"tokens_out":0,"usage":{"completion_tokens":0,"prompt_tokens":0,"total_tokens":0}}
"#);
}

#[tokio::test]
async fn a_task_is_canceled_by_its_client() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let (submit, _agent) = task(&mut cluster, &gateway).await;
    for path in ["/v1/tasks", "/api/jobs"] {
        let path = format!("{path}/{}/cancel", submit.job);
        let answer = gateway.http.post(&path, &json!({})).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (204, ""));
        assert_eq!(cluster.canceled().await.job, submit.job);
    }
}

#[tokio::test]
async fn an_ended_task_has_its_whole_text() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let (submit, mut agent) = task(&mut cluster, &gateway).await;
    let get = async |path: String| gateway.http.get(&path).await.unwrap().json::<Value>();
    let open = get(format!("/v1/tasks/{}", submit.job)).await;
    assert_eq!(open["state"], "assigned");
    assert_eq!(open.get("output"), None);
    agent.says(&["Hel", "lo"]).await;
    agent.completes().await;
    for path in ["/v1/tasks", "/api/jobs"] {
        let ended = get(format!("{path}/{}", submit.job)).await;
        assert_eq!(ended["output"], "Hello");
        for name in ["id", "task_id", "job_id"] {
            assert_eq!(ended[name], submit.job.to_string());
        }
    }
}
