//! Chats that gateways send to slots which they were granted.

use orchion_e2e::{Chats, SOON, alone, ended};
use orchion_testkit::http::Answer;
use orchion_testkit::judge::Order;
use orchion_testkit::mock_engine::Stats;
use orchion_testkit::wire::Ask;
use orchion_testkit::{Cluster, HttpClient, eventually};
use serde_json::{Value, json};

fn body(ask: &Ask, stream: bool) -> Value {
    json!({
        "model": "mock", "max_tokens": ask.tokens, "stream": stream,
        "messages": [{"role": "user", "content": ask.marker()}],
    })
}

/// A short chat that is wanted whole.
async fn chat(gateway: &HttpClient) -> Answer {
    let body = body(&Ask::new(8), false);
    let answer = gateway.post("/v1/chat/completions", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// A cluster whose gateway was granted slots, and whose scheduler is dead.
async fn without_scheduler(agents: usize) -> Cluster {
    let mut cluster = Cluster::builder().agents(agents).start().await;
    granted(&cluster.gateway(0)).await;
    cluster.schedulers[0].kill();
    cluster
}

/// What engine number `n` has done.
async fn stats(cluster: &Cluster, n: usize) -> Stats {
    let engine = HttpClient::new(&format!("http://{}", cluster.engine_addr(n)));
    engine.get("/mock/stats").await.unwrap().json()
}

fn job_of(answer: &Answer) -> String {
    answer.header("x-orchion-job").unwrap().to_owned()
}

/// A chat that went to a granted slot, as its explanation says.
async fn granted(gateway: &HttpClient) -> String {
    eventually("a chat in a granted slot", SOON, async || {
        let job = job_of(&chat(gateway).await);
        let path = format!("/v1/tasks/{job}/explain");
        let explained: Value = gateway.get(&path).await.unwrap().json();
        let is_granted = explained["decisions"][0]["outcome"] == "granted";
        is_granted.then_some(job).ok_or(explained)
    })
    .await
}

#[tokio::test]
async fn a_chat_that_only_its_gateway_knew_is_known_at_once_when_somebody_asks() {
    let _alone = alone().await;
    let cluster = Cluster::builder().start().await;
    let gateway = cluster.gateway(0);
    granted(&gateway).await;
    let job = job_of(&chat(&gateway).await);
    let task: Value = gateway
        .get(&format!("/v1/tasks/{job}"))
        .await
        .unwrap()
        .json();
    assert_eq!(task["state"], "completed", "{task:#}");
    assert_eq!(task["end"]["usage"]["completion_tokens"], 8);
    assert!(
        task["output"]
            .as_str()
            .is_some_and(|output| !output.is_empty())
    );
    assert!(task["created_ms"].as_u64() <= task["end"]["at_ms"].as_u64());
}

#[tokio::test]
async fn such_chats_go_on_while_there_is_no_scheduler_and_the_next_one_hears_of_them() {
    let _alone = alone().await;
    let mut cluster = without_scheduler(2).await;
    let gateway = cluster.gateway(0);
    let job = job_of(&chat(&gateway).await);
    cluster.heal().await;
    let job = ended(&gateway, &job).await;
    assert_eq!(job["state"], "completed", "{job:#}");
}

#[tokio::test]
async fn a_streamed_one_is_shown_without_a_scheduler_and_its_agent_tells_the_next_one() {
    let _alone = alone().await;
    let mut cluster = without_scheduler(2).await;
    let gateway = cluster.gateway(0);
    let body = body(&Ask::new(30).pace_us(10_000), true);
    let stream = gateway.post_events("/v1/chat/completions", &body).await;
    let stream = stream.unwrap();
    let job = stream.headers["x-orchion-job"].to_str().unwrap().to_owned();
    let events = stream.collect().await.unwrap();
    assert_eq!(events.last().unwrap().data, "[DONE]");
    // Its gateway would tell, too.
    cluster.gateways[0].kill();
    cluster.heal().await;
    let gateway = cluster.gateway(0);
    // It is on record by then: the one after that knows it as well.
    for _ in 0..2 {
        let told = ended(&gateway, &job).await;
        assert_eq!(told["state"], "completed", "{told:#}");
        let output = told["output"].as_str().unwrap_or_default();
        assert!(!output.is_empty(), "{told:#}");
        let at = |what: &str| told["timeline"][what].as_u64().unwrap();
        assert!(at("queued_ms") <= at("started_ms"), "{told:#}");
        assert!(at("assigned_ms") <= at("started_ms"), "{told:#}");
        cluster.schedulers[0].kill();
        cluster.heal().await;
    }
}

#[tokio::test]
async fn a_streamed_one_goes_on_behind_its_beginning_though_its_engine_died_without_a_scheduler() {
    let _alone = alone().await;
    let mut cluster = without_scheduler(2).await;
    let gateway = cluster.gateway(0);
    let before = [
        stats(&cluster, 0).await.tokens,
        stats(&cluster, 1).await.tokens,
    ];
    let mut chats = Chats::default();
    chats.ask(&gateway, Order::new(Ask::new(100).pace_us(20_000)));
    let busy = eventually("an engine to work", SOON, async || {
        for (n, before) in before.iter().enumerate() {
            if stats(&cluster, n).await.tokens > before + 10 {
                return Ok(n);
            }
        }
        Err("none")
    })
    .await;
    cluster.engines[busy].kill();
    cluster.heal().await;
    let verdicts = chats.all_good().await;
    let job = ended(&gateway, verdicts[0].job.as_deref().unwrap()).await;
    assert_eq!(job["state"], "completed", "{job:#}");
    assert_eq!(job["end"]["continued"]["strategy"], "continue", "{job:#}");
}

#[tokio::test]
async fn the_engine_is_left_when_the_caller_hangs_up_without_a_scheduler() {
    let _alone = alone().await;
    let cluster = without_scheduler(1).await;
    let gateway = cluster.gateway(0);
    let before = stats(&cluster, 0).await;
    let body = body(&Ask::new(100_000).pace_us(5_000), true);
    let asking = gateway.post_events("/v1/chat/completions", &body);
    let works = eventually("the engine to work", SOON, async || {
        stats(&cluster, 0).await.tokens > before.tokens + 3
    });
    tokio::select! {
        answer = asking => panic!("answered before its end: {:?}", answer.err()),
        () = works => {}
    }
    eventually("the engine to be left", SOON, async || {
        stats(&cluster, 0).await.cancelled > before.cancelled
    })
    .await;
}
