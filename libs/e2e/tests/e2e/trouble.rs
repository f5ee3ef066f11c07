//! What goes wrong is said in words that help, and nothing is lost.

use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use orchion_e2e::{Chats, SOON, alone, ended};
use orchion_testkit::cluster::Login;
use orchion_testkit::http::{Answer, HttpClient};
use orchion_testkit::judge::{Order, chat};
use orchion_testkit::nats::NatsConfig;
use orchion_testkit::wire::Ask;
use orchion_testkit::{Cluster, NatsServer, Program, eventually, free_port};
use serde_json::{Value, json};

const SERVICES: [&str; 5] = ["registry", "scheduler", "gateway", "log-sink", "node-agent"];

/// How a program ended, and what it said.
async fn ran(program: Program) -> (ExitStatus, String) {
    let mut running = program.start();
    let status = running.wait(SOON).await;
    (status, running.stdout() + &running.stderr())
}

fn service(name: &str, data: &Path) -> Program {
    Program::ours(&format!("orchion-{name}"))
        .env("ORCHION_DATA_DIR", data)
        .dir(data)
}

fn good_order() -> Order {
    Order::new(Ask::new(12))
}

#[tokio::test]
async fn without_nats_everybody_waits_and_says_so_now_and_then() {
    let _alone = alone().await;
    let mut nats = NatsServer::start().await;
    nats.kill();
    let started = Instant::now();
    let mut cluster = Cluster::builder()
        .agents(1)
        .nats(nats, Login::default())
        .launch()
        .await;
    let complaint = "is nats-server running there?";
    eventually("everybody to complain", SOON, async || {
        let silent = parts(&cluster)
            .into_iter()
            .filter(|(_, said)| !said.contains(complaint));
        match silent.map(|(name, _)| name).collect::<Vec<_>>() {
            silent if silent.is_empty() => Ok(()),
            silent => Err(silent),
        }
    })
    .await;
    let ready = cluster.gateway(0).get("/readyz").await.unwrap();
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.text().contains("NATS"), "{}", ready.text());

    cluster.nats.restart().await;
    let waited = started.elapsed();
    cluster.until_whole().await;
    // At once, then after 10 s and ever more seldom.
    let most = usize::try_from(waited.as_secs()).unwrap() / 10 + 1;
    for (name, said) in parts(&cluster) {
        let complaints = said.matches(complaint).count();
        assert!(complaints <= most, "{name}: {complaints} in {waited:?}");
    }
    let verdict = chat(&cluster.gateway(0), &good_order()).await;
    assert!(verdict.is_good(), "{verdict:?}");
}

/// What each service has said.
fn parts(cluster: &Cluster) -> Vec<(&'static str, String)> {
    vec![
        ("registry", cluster.registry.output()),
        ("scheduler", cluster.schedulers[0].output()),
        ("gateway", cluster.gateways[0].output()),
        ("log-sink", cluster.log_sink.output()),
        ("node-agent", cluster.agents[0].output()),
    ]
}

#[tokio::test]
async fn a_second_agent_on_one_data_directory_is_told_to_use_another() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder().agents(1).start().await;
    let data = cluster.folder("agent-a").join("data");
    let second = service("node-agent", &data).args(["--nats-url", &cluster.nats.url()]);
    let (status, said) = ran(second).await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("belongs to another agent that is running") && said.contains("--data-dir"),
        "{said}"
    );
    let verdict = chat(&cluster.gateway(0), &good_order()).await;
    assert!(verdict.is_good(), "{verdict:?}");

    // The lock ends with its holder, however that ended.
    cluster.agents[0].kill();
    cluster.heal().await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_flag_that_changes_it() {
    let _alone = alone().await;
    let nats = NatsServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let gateway = service("gateway", folder.path());
    let (status, said) = ran(gateway.args(["--nats-url", &nats.url(), "--http-port", &port])).await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains(&port) && said.contains("--http-port"),
        "{said}"
    );
}

#[tokio::test]
async fn a_typo_in_the_configuration_is_refused_with_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orchion.toml");
    std::fs::write(&file, "[telemetry]\nlevle = \"debug\"\n").unwrap();
    for name in SERVICES {
        let (status, said) = ran(service(name, folder.path()).arg("--config").arg(&file)).await;
        assert_eq!(status.code(), Some(64), "{name}: {said}");
        assert!(
            said.contains("levle") && said.contains("did you mean `level`?"),
            "{name}: {said}"
        );
    }
}

#[tokio::test]
async fn a_node_id_with_a_dot_is_refused_everywhere() {
    let _alone = alone().await;
    let cluster = Cluster::builder().agents(1).start().await;
    let url = cluster.nats.url();
    let folder = tempfile::tempdir().unwrap();
    let agent = service("node-agent", folder.path());
    let (status, said) = ran(agent.args(["--node-id", "a.b", "--nats-url", &url])).await;
    assert_eq!(status.code(), Some(64), "{said}");
    assert!(said.contains("'a.b' contains '.'"), "{said}");

    let answer = cluster.gateway(0).get("/api/nodes/a.b").await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("'a.b' contains '.'"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn an_engine_that_comes_late_is_used_as_soon_as_it_is_there() {
    let _alone = alone().await;
    let mut cluster = Cluster::builder().agents(1).launch().await;
    cluster.engines[0].kill();
    let gateway = cluster.gateway(0);
    eventually("the node", SOON, async || {
        Cluster::node_state(&gateway, "a").await == "online"
    })
    .await;
    eventually("the agent to say what is missing", SOON, async || {
        let said = cluster.agents[0].output();
        let engine = cluster.engine_addr(0).port().to_string();
        let mut lines = said.lines();
        lines.any(|line| line.contains("\"warn\"") && line.contains(&engine))
    })
    .await;
    let refused = gateway
        .post("/v1/chat/completions", &hello())
        .await
        .unwrap();
    assert!([404, 503].contains(&refused.status), "{}", refused.text());
    assert!(refused.json::<Value>()["error"]["code"].is_string());

    cluster.heal().await;
    let verdict = chat(&gateway, &good_order()).await;
    assert!(verdict.is_good(), "{verdict:?}");
}

#[tokio::test]
async fn a_known_id_with_another_body_is_a_conflict_and_too_much_is_too_much() {
    let _alone = alone().await;
    let cluster = Cluster::builder().agents(1).start().await;
    let gateway = cluster.gateway(0);
    let id = "01900000-0000-7000-8000-00000000e2e1";
    let task = |prompt: &str| json!({"task_id": id, "model_ref": "mock", "prompt": prompt});
    for (prompt, status) in [("one", 202), ("one", 202), ("two", 409)] {
        let answer = gateway.post("/v1/tasks", &task(prompt)).await.unwrap();
        assert_eq!(answer.status, status, "{prompt}: {}", answer.text());
    }
    assert_eq!(jobs(&gateway).await.len(), 1);

    // What no message holds travels by reference, up to the limit of the gateway.
    let sized = async |bytes: usize| {
        let mut long = hello();
        long["messages"][0]["content"] = json!("x".repeat(bytes));
        gateway.post("/v1/chat/completions", &long).await.unwrap()
    };
    let answer = sized(300 * 1024).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = sized(17 * 1024 * 1024).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(code(&answer), "PAYLOAD_TOO_LARGE");
    let not_json = gateway.send(
        Method::POST,
        "/v1/chat/completions",
        Bytes::from_static(b"hello"),
        &[],
    );
    assert_eq!(not_json.await.unwrap().status, 400);
    assert_eq!(jobs(&gateway).await.len(), 2);
}

#[tokio::test]
async fn a_disk_without_room_for_streams_is_told() {
    let _alone = alone().await;
    let nats = NatsConfig::default().max_file_store("10MB").start().await;
    let cluster = Cluster::builder()
        .agents(1)
        .nats(nats, Login::default())
        .launch()
        .await;
    let gateway = cluster.gateway(0).patience(Duration::from_secs(10));
    let refused = eventually("an answer", SOON, async || {
        gateway.post("/v1/chat/completions", &hello()).await
    })
    .await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("disk"), "{}", refused.text());
    eventually("everybody to say why", SOON, async || {
        // An agent makes no streams.
        let services = parts(&cluster).into_iter();
        let mut services = services.filter(|(name, _)| *name != "node-agent");
        services.all(|(_, said)| said.contains("insufficient storage"))
    })
    .await;
}

#[tokio::test]
async fn a_full_store_admits_nothing_by_half() {
    let _alone = alone().await;
    let cluster = Cluster::builder().agents(1).start().await;
    let gateway = cluster.gateway(0);
    let verdict = chat(&gateway, &good_order()).await;
    assert!(verdict.is_good(), "{verdict:?}");
    ended(&gateway, &verdict.job.unwrap()).await;
    let before = jobs(&gateway).await;

    let room = set_room(&cluster.nats, 1).await;
    let mut long = hello();
    long["messages"][0]["content"] = json!(Ask::new(5_000).pace_us(20_000).marker());
    for path in ["/v1/chat/completions", "/v1/tasks"] {
        let refused = gateway.post(path, &long).await.unwrap();
        assert_eq!(refused.status, 503, "{path}: {}", refused.text());
    }
    assert_eq!(json!(jobs(&gateway).await), json!(before));
    // An order may be quicker than the refusal; it is taken back.
    let engine = HttpClient::new(&format!("http://{}", cluster.engine_addr(0)));
    eventually("the engine to rest", SOON, async || {
        let stats: Value = engine.get("/mock/stats").await.unwrap().json();
        if stats["inflight"] == 0 {
            Ok(())
        } else {
            Err(stats)
        }
    })
    .await;

    set_room(&cluster.nats, room).await;
    let mut chats = Chats::default();
    for _ in 0..4 {
        chats.ask(&gateway, good_order());
    }
    chats.all_good().await;
}

/// Sets how many bytes the store of jobs may hold; how many it could before.
async fn set_room(nats: &NatsServer, bytes: i64) -> i64 {
    let client = nats.client().await;
    let info = client
        .request("$JS.API.STREAM.INFO.KV_jobs", Bytes::new())
        .await
        .unwrap();
    let info: Value = serde_json::from_slice(&info.payload).unwrap();
    let mut config = info["config"].clone();
    let before = config["max_bytes"].as_i64().unwrap();
    config["max_bytes"] = json!(bytes);
    let changed = client
        .request("$JS.API.STREAM.UPDATE.KV_jobs", config.to_string().into())
        .await
        .unwrap();
    let changed: Value = serde_json::from_slice(&changed.payload).unwrap();
    assert!(changed["error"].is_null(), "{changed}");
    before
}

async fn jobs(gateway: &HttpClient) -> Vec<Value> {
    gateway.get("/api/jobs").await.unwrap().json()
}

fn hello() -> Value {
    json!({"model": "mock", "messages": [{"role": "user", "content": "hello"}]})
}

/// The code of a refusal on an OpenAI route.
fn code(answer: &Answer) -> String {
    let body: Value = answer.json();
    body["error"]["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}
