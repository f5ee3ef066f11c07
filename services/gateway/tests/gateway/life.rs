//! Start, stop, and the absence of NATS.

use orchion_contract::buckets::LEASES;
use orchion_contract::lease::LeaseKey;
use orchion_contract::streams::TRANSCRIPTS;
use orchion_gateway::Config;
use orchion_testkit::sse::Event;
use orchion_testkit::{NatsServer, eventually, free_port};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, PATIENCE};
use crate::http::{chat, shown};
use crate::running::launch;

#[tokio::test]
async fn before_nats_is_there_the_gateway_says_so_and_then_serves() {
    let mut nats = NatsServer::start().await;
    nats.kill();
    let mut config = Config::default();
    config.nats.url = nats.url();
    config.gateway.http_port = free_port();
    let mut tasks = JoinSet::new();
    let gateway = launch(&mut tasks, config);
    eventually("the port to be open", PATIENCE, async || {
        gateway.http.get("/healthz").await.is_ok()
    })
    .await;
    let ready = gateway.http.get("/readyz").await.unwrap();
    insta::assert_snapshot!(shown(&ready), @r#"503 {"code":"POOL_UNREADY","message":"not ready: NATS does not answer, or has no room for its streams; is nats-server running, and its disk not full?","retriable":true,"retry_after_ms":1000}"#);
    let chatted = gateway
        .http
        .post("/v1/chat/completions", &chat(false))
        .await
        .unwrap();
    insta::assert_snapshot!(shown(&chatted), @r#"503 {"error":{"code":"POOL_UNREADY","message":"the gateway is starting: NATS does not answer, or has no room for its streams; is nats-server running, and its disk not full?","param":null,"retriable":true,"retry_after_ms":1000,"type":"server_error"}}"#);
    nats.restart().await;
    eventually("the gateway to be ready", PATIENCE, async || {
        gateway
            .http
            .get("/readyz")
            .await
            .is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test]
async fn readiness_is_lost_with_nats_and_comes_back() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    cluster.nats.kill();
    let status = async || gateway.http.get("/readyz").await.unwrap().status;
    eventually("the gateway not to be ready", PATIENCE, async || {
        status().await == 503
    })
    .await;
    assert_eq!(gateway.http.get("/healthz").await.unwrap().status, 200);
    cluster.nats.restart().await;
    eventually("the gateway to be ready again", PATIENCE, async || {
        status().await == 200
    })
    .await;
}

#[tokio::test]
async fn a_stream_goes_on_over_a_restart_of_nats() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let body = chat(true);
    let opened = gateway.http.post_events("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        let mut agent = cluster.agent(&submit);
        agent.says(&["a"]).await;
        agent
    };
    let (stream, mut agent) = tokio::join!(opened, told);
    cluster.nats.restart().await;
    agent.says(&["b"]).await;
    agent.completes().await;
    let events = stream.unwrap().collect().await.unwrap();
    assert_eq!(text(&events), "ab");
    assert_eq!(events.last().unwrap().data, "[DONE]");
}

#[tokio::test]
async fn a_store_made_anew_is_read_again_without_doubling() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let body = chat(true);
    let opened = gateway.http.post_events("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        cluster.agent(&submit).says(&["a"]).await;
        submit
    };
    let (stream, submit) = tokio::join!(opened, told);
    let delete = format!("$JS.API.STREAM.DELETE.{}", TRANSCRIPTS.name);
    let admin = cluster.nats.client().await;
    admin.request(delete, "".into()).await.unwrap();
    cluster.nats.restart().await;
    eventually("the streams", PATIENCE, async || {
        cluster.bus.ensure_all().await.is_ok()
    })
    .await;
    // Who wrote it has it still, and writes it again from its beginning.
    let mut agent = cluster.agent(&submit);
    agent.says(&["a", "b"]).await;
    agent.completes().await;
    assert_eq!(text(&stream.unwrap().collect().await.unwrap()), "ab");
}

#[tokio::test]
async fn a_stopping_gateway_finishes_its_streams_and_keeps_its_lease_until_then() {
    let mut cluster = Cluster::start().await;
    let mut gateway = cluster.gateway().await;
    let body = chat(true);
    let opened = gateway.http.post_events("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        let mut agent = cluster.agent(&submit);
        agent.says(&["a"]).await;
        (submit, agent)
    };
    let (stream, (submit, mut agent)) = tokio::join!(opened, told);
    let leases = cluster.bus.bucket(LEASES);
    let key = LeaseKey::Gateway(submit.reader.clone());
    let holder = async || {
        leases
            .get(&key)
            .await
            .unwrap()
            .and_then(|lease| lease.value)
    };
    eventually("the lease", PATIENCE, async || holder().await.is_some()).await;

    gateway.stop();
    eventually("the port to be closed", PATIENCE, async || {
        gateway.http.get("/healthz").await.is_err()
    })
    .await;
    assert!(holder().await.is_some());
    agent.says(&["b"]).await;
    agent.completes().await;
    let events = stream.unwrap().collect().await.unwrap();
    assert_eq!(events.last().unwrap().data, "[DONE]");
    assert!(gateway.ended().await);
    assert!(holder().await.is_none());
    assert!(cluster.has_no_cancel());
}

#[tokio::test]
async fn a_stream_that_outlives_the_grace_is_told_where_to_resume() {
    let mut cluster = Cluster::start().await;
    let mut gateway = cluster.gateway().await;
    let body = chat(true);
    let opened = gateway.http.post_events("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        cluster.agent(&submit).says(&["a"]).await;
        submit
    };
    let (stream, submit) = tokio::join!(opened, told);
    gateway.stop();
    let events = stream.unwrap().collect().await.unwrap();
    let last = &events.last().unwrap().data;
    assert!(
        last.contains("WORKER_RESET") && last.contains(&submit.job.to_string()),
        "{last}"
    );
    assert!(gateway.ended().await);
    assert!(cluster.has_no_cancel());
    // The lease outlives the gateway, so the client has time to come back elsewhere.
    let leases = cluster.bus.bucket(LEASES);
    let lease = leases.get(&LeaseKey::Gateway(submit.reader)).await.unwrap();
    assert!(lease.and_then(|lease| lease.value).is_some());
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let cluster = Cluster::start().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::default();
    config.nats.url = cluster.nats.url();
    config.gateway.http_port = taken.local_addr().unwrap().port();
    let supervisor = orchion_service::Supervisor::new("gateway", PATIENCE);
    let error = orchion_gateway::start(config, supervisor.tasks())
        .await
        .unwrap_err();
    let message = format!("{error:#}");
    assert!(
        message.contains("choose another address with --bind and --http-port"),
        "{message}"
    );
    assert!(message.contains("in use"), "{message}");
}

#[tokio::test]
async fn the_health_check_asks_the_running_gateway() {
    let mut cluster = Cluster::start().await;
    let mut config = Config::default();
    config.nats.url = cluster.nats.url();
    config.gateway.http_port = free_port();
    assert!(orchion_gateway::healthcheck(config.clone()).await.is_err());
    let _gateway = cluster.launch(config.clone());
    eventually("a good health", PATIENCE, async || {
        orchion_gateway::healthcheck(config.clone()).await.is_ok()
    })
    .await;
}

/// The text that a stream of chunks makes.
fn text(events: &[Event]) -> String {
    let chunks = events
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(&event.data).ok());
    let content = |chunk: Value| {
        let content = chunk["choices"][0]["delta"]["content"].as_str();
        content.map(str::to_owned)
    };
    chunks.filter_map(content).collect()
}
