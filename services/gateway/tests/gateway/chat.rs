//! `POST /v1/chat/completions`.

use serde_json::{Value, json};

use crate::cluster::{Cluster, chat};

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
