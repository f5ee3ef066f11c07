//! What can be looked at: models, nodes, jobs, logs, the document.

use orchion_contract::InstanceId;
use orchion_contract::log::{Level, LogPage, LogQuery, LogRecord, ServiceName};
use orchion_contract::rpc;
use orchion_contract::subjects::LOG;
use orchion_testkit::eventually;
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, PATIENCE};
use crate::http::shown;

fn record(level: Level, source: &str, message: &str) -> LogRecord {
    LogRecord {
        id: message.to_owned(),
        ts_ms: 7,
        level,
        source: source.to_owned(),
        instance: "i".to_owned(),
        message: message.to_owned(),
        fields: Map::new(),
    }
}

#[tokio::test]
async fn models_are_those_that_a_node_serves_now() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    insta::assert_snapshot!(shown(&gateway.http.get("/v1/models").await.unwrap()), @r#"200 {"object":"list","data":[{"id":"org/tiny-2","object":"model","created":1700000000,"owned_by":"orchion"},{"id":"tiny","object":"model","created":1700000000,"owned_by":"orchion"}]}"#);
    for path in ["/v1/models/org%2Ftiny-2", "/v1/models/org/tiny-2"] {
        let answer = gateway.http.get(path).await.unwrap();
        assert_eq!(answer.json::<Value>()["id"], "org/tiny-2", "{path}");
    }
}

#[tokio::test]
async fn nodes_are_listed_with_both_times() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let nodes: Value = gateway.http.get("/api/nodes").await.unwrap().json();
    assert_eq!(nodes[0]["id"], "alpha");
    assert_eq!(nodes[0]["last_seen_unix"], 1_700_000_001_u64);
    assert_eq!(nodes[0]["last_seen_ms"], 1_700_000_001_000_u64);
    let node: Value = gateway.http.get("/api/nodes/alpha").await.unwrap().json();
    assert_eq!(node, nodes[0]);
}

#[tokio::test]
async fn jobs_are_listed_and_filtered() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    gateway
        .http
        .post("/v1/tasks", &json!({"model": "tiny", "prompt": "hi"}))
        .await
        .unwrap();
    let submit = cluster.submitted().await;
    for (query, count) in [
        ("", 1),
        ("?state=assigned&limit=5", 1),
        ("?state=failed", 0),
    ] {
        let jobs: Vec<Value> = gateway
            .http
            .get(&format!("/api/jobs{query}"))
            .await
            .unwrap()
            .json();
        assert_eq!(jobs.len(), count, "{query}");
        assert!(
            jobs.iter()
                .all(|job| job["job_id"] == submit.job.to_string())
        );
    }
    let jobs: Vec<Value> = gateway
        .http
        .get("/api/nodes/alpha/jobs")
        .await
        .unwrap()
        .json();
    assert_eq!(jobs.len(), 1);
}

#[tokio::test]
async fn stored_records_come_from_log_sink_with_their_filter() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let (asked_in, mut asked) = tokio::sync::mpsc::unbounded_channel();
    cluster
        .answer(rpc::QUERY_LOGS, move |query: LogQuery| {
            let _ = asked_in.send(query);
            Ok(LogPage {
                records: vec![record(Level::Warn, "scheduler", "stored")],
            })
        })
        .await;
    let job = "01900000-0000-7000-8000-000000000001";
    let path = format!("/api/logs?source=scheduler&level=warn&since=5&until=9&limit=3&job={job}");
    insta::assert_snapshot!(shown(&gateway.http.get(&path).await.unwrap()), @r#"200 [{"id":"stored","ts_ms":7,"level":"warn","source":"scheduler","instance":"i","message":"stored","fields":{}}]"#);
    let query = asked.recv().await.unwrap();
    assert_eq!(
        (query.source.as_deref(), query.level),
        (Some("scheduler"), Some(Level::Warn))
    );
    assert_eq!(
        (query.since_ms, query.until_ms, query.limit),
        (Some(5), Some(9), Some(3))
    );
    assert_eq!(query.job.unwrap().to_string(), job);

    let of_job = gateway
        .http
        .get(&format!("/api/jobs/{job}/logs"))
        .await
        .unwrap();
    assert_eq!(of_job.json::<Vec<LogRecord>>().len(), 1);
    assert_eq!(asked.recv().await.unwrap().job.unwrap().to_string(), job);
}

#[tokio::test]
async fn live_records_reach_every_viewer_who_wants_them() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let accept = [("accept", "text/event-stream")];
    let mut all = gateway
        .http
        .events("/api/logs?source=agent", &accept)
        .await
        .unwrap();
    let mut warnings = gateway
        .http
        .events("/api/logs?source=agent&level=warn", &accept)
        .await
        .unwrap();
    for view in [&mut all, &mut warnings] {
        let connected: Value =
            serde_json::from_str(&view.next().await.unwrap().unwrap().data).unwrap();
        assert_eq!(connected["type"], "connected");
    }
    // The tap opens with its first viewer: publish until it is there.
    let publish = async |level: Level, message: &str| {
        let address = (
            ServiceName::new("agent").unwrap(),
            InstanceId::new("i").unwrap(),
            level,
        );
        cluster
            .bus
            .publish(&LOG, &address, &record(level, "agent", message))
            .await
            .unwrap();
    };
    let first = eventually("a live record", PATIENCE, async || {
        publish(Level::Info, "calm").await;
        let soon = std::time::Duration::from_millis(50);
        tokio::time::timeout(soon, all.next()).await.ok()?.unwrap()
    })
    .await;
    let first: Value = serde_json::from_str(&first.data).unwrap();
    assert_eq!(
        (&first["type"], &first["entry"]["message"]),
        (&json!("log"), &json!("calm"))
    );
    publish(Level::Warn, "storm").await;
    let warning: Value =
        serde_json::from_str(&warnings.next().await.unwrap().unwrap().data).unwrap();
    assert_eq!(warning["entry"]["message"], "storm");
}

#[tokio::test]
async fn version_and_document_are_served() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let version = gateway.http.get("/version").await.unwrap();
    assert_eq!(version.header("server"), Some("orchion-gateway"));
    let version: Value = version.json();
    assert_eq!(version["service"], "orchion-gateway");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let document: Value = gateway.http.get("/openapi.json").await.unwrap().json();
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn the_document_is_checked_in() {
    let made = orchion_gateway::document_json().unwrap() + "\n";
    let checked_in = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    if std::fs::read_to_string(checked_in).is_ok_and(|text| text == made) {
        return;
    }
    let fresh = concat!(env!("CARGO_TARGET_TMPDIR"), "/openapi.json");
    std::fs::write(fresh, made).unwrap();
    panic!(
        "the routes are not what {checked_in} says; look at the difference, then copy {fresh} over it"
    );
}
