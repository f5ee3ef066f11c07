//! Anyone may watch logs and events; nobody finds a prompt or an answer there.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use hyper::Method;
use orchion_contract::job::EndedJobs;
use orchion_contract::log::LogRecord;
use orchion_contract::subjects::{ALL_EVENTS, ALL_LOGS};
use orchion_e2e::{SOON, alone};
use orchion_nats_server::{Access, Passwords, install};
use orchion_testkit::cluster::Login;
use orchion_testkit::wire::Ask;
use orchion_testkit::{Cluster, HttpClient, NatsServer, eventually};
use serde_json::{Value, json};

/// Stands in every prompt. The mock engine's answers hold the nonce of the marker.
const SECRET: &str = "xyzzy-plugh";
const PARTS: [&str; 5] = ["gateway", "log-sink", "node-agent", "registry", "scheduler"];

/// Everything that was published, by subject.
type Heard = Arc<Mutex<Vec<(String, Bytes)>>>;

#[tokio::test]
async fn logs_and_events_are_readable_and_tell_nothing_that_people_wrote_or_got() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let passwords = Passwords::generate();
    let config = install(folder.path(), &Access::Network(passwords.clone())).unwrap();
    let nats = NatsServer::with_config(&config, &[]).await;
    let heard = listen(&nats, &passwords, &[ALL_LOGS, ALL_EVENTS]).await;
    let mut cluster = Cluster::builder()
        .nats(nats, login(&passwords))
        .log_level("debug")
        .start()
        .await;
    let transcripts = listen(&cluster.nats, &passwords, &["orchion.transcript.>"]).await;
    let control = cluster
        .nats
        .client_as("service", &passwords.service)
        .await
        .subscribe("orchion.transcript.>")
        .await
        .unwrap();

    let nonces = talk(&mut cluster).await;
    let heard_all = || {
        let heard = heard.lock().unwrap();
        let told = heard
            .iter()
            .filter(|(subject, _)| subject == "orchion.evt.job.ended")
            .filter_map(|(_, payload)| serde_json::from_slice::<EndedJobs>(payload).ok());
        let ended: BTreeSet<_> = told.flat_map(|told| told.jobs).map(|job| job.id).collect();
        (ended.len() >= nonces.len()).then(|| heard.clone())
    };
    let messages = eventually("the end of every job", SOON, async || heard_all()).await;
    holds_no_secret(&messages, &nonces);
    assert_eq!(sources(&messages), BTreeSet::from(PARTS));

    // A reader hears no transcript while others do.
    let told: Vec<_> = tokio::time::timeout(SOON, control.take(10).collect())
        .await
        .expect("transcripts for a service");
    let mut told = told.iter();
    assert!(
        told.any(|message| leak(&message.payload, &nonces).is_some()),
        "the search finds no token at all"
    );
    assert_eq!(transcripts.lock().unwrap().len(), 0);
    assert!(is_refused(
        &cluster.nats,
        "Subscription Violation",
        "orchion.transcript.>"
    ));
    cannot_read(&cluster.nats, &passwords).await;

    stored_logs_hold_no_secret(&cluster, &nonces).await;
    let agents = cluster.agents.iter();
    let parts = agents.chain(&cluster.schedulers).chain(&cluster.gateways);
    for part in parts.chain([&cluster.registry, &cluster.log_sink]) {
        let said = part.output();
        assert!(said.contains("\"level\":\"debug\""), "{said}");
        assert_eq!(leak(said.as_bytes(), &nonces), None, "{said}");
    }
}

/// Uses every way in that takes a prompt, while an engine is killed; the nonces
/// of what became jobs.
async fn talk(cluster: &mut Cluster) -> Vec<u32> {
    let gateway = cluster.gateway(0);
    let asks: Vec<Ask> = (0..8).map(|_| Ask::new(80).pace_us(20_000)).collect();
    let mut streams = tokio::task::JoinSet::new();
    for (number, ask) in asks.iter().enumerate() {
        let (gateway, ask) = (gateway.clone(), ask.clone());
        streams.spawn(async move {
            let route = ["/v1/chat/completions", "/v1/tasks"][number % 2];
            let answer = gateway.post(route, &body(&ask)).await.unwrap();
            assert!(answer.status < 300, "{}", answer.text());
        });
    }
    let engine = HttpClient::new(&format!("http://{}", cluster.engine_addr(1)));
    eventually("the second engine to answer", SOON, async || {
        let stats: Value = engine.get("/mock/stats").await.unwrap().json();
        stats["tokens"].as_u64() > Some(20)
    })
    .await;
    cluster.engines[1].kill();
    streams.join_all().await;

    // Refused, each in another way.
    let broken = format!("{{\"messages\": \"{SECRET}\", ");
    let mut no_model = body(&asks[0]);
    no_model["model"] = json!("no-such-model");
    let mut no_role = body(&asks[0]);
    no_role["messages"][0]["role"] = json!("nobody");
    for bad in [broken, no_model.to_string(), no_role.to_string()] {
        let refused = gateway.send(Method::POST, "/v1/chat/completions", bad.into(), &[]);
        assert!(refused.await.unwrap().status >= 400);
    }
    // Left by its client.
    let left = Ask::new(5_000).pace_us(20_000);
    let mut asked = body(&left);
    asked["stream"] = json!(true);
    let mut stream = gateway
        .post_events("/v1/chat/completions", &asked)
        .await
        .unwrap();
    stream.next().await.unwrap();
    drop(stream);
    asks.iter().chain([&left]).map(|ask| ask.nonce).collect()
}

fn body(ask: &Ask) -> Value {
    let prompt = format!("{} {SECRET}", ask.marker());
    json!({"model": "mock", "messages": [{"role": "user", "content": prompt}]})
}

/// Collects what the user `reader` hears on `subjects`.
async fn listen(nats: &NatsServer, passwords: &Passwords, subjects: &[&str]) -> Heard {
    let client = nats.client_as("reader", &passwords.reader).await;
    let heard = Heard::default();
    for subject in subjects {
        let mut subscription = client.subscribe((*subject).to_owned()).await.unwrap();
        let heard = Arc::clone(&heard);
        #[expect(clippy::disallowed_methods, reason = "a listener as long as the test")]
        tokio::spawn(async move {
            while let Some(message) = subscription.next().await {
                let subject = message.subject.to_string();
                heard.lock().unwrap().push((subject, message.payload));
            }
        });
    }
    client.flush().await.unwrap();
    heard
}

/// What a reader asks JetStream for stays unanswered; a service gets it.
async fn cannot_read(nats: &NatsServer, passwords: &Passwords) {
    let questions = [
        ("$JS.API.STREAM.INFO.KV_jobs", ""),
        ("$JS.API.STREAM.MSG.GET.KV_jobs", r#"{"seq":1}"#),
        ("$JS.API.STREAM.INFO.TRANSCRIPTS", ""),
        ("$JS.API.STREAM.MSG.GET.TRANSCRIPTS", r#"{"seq":1}"#),
    ];
    let service = nats.client_as("service", &passwords.service).await;
    let reader = nats.client_as("reader", &passwords.reader).await;
    for (subject, question) in questions {
        let answer = service.request(subject, question.into()).await.unwrap();
        assert!(!answer.payload.is_empty(), "{subject}");
        let asked = reader.request(subject, question.into());
        let answer = tokio::time::timeout(Duration::from_millis(500), asked).await;
        assert!(!matches!(answer, Ok(Ok(_))), "{subject}: {answer:?}");
        assert!(is_refused(nats, "Publish Violation", subject));
    }
}

/// Whether the server has told in its log that it refused this to the reader.
fn is_refused(nats: &NatsServer, what: &str, subject: &str) -> bool {
    let subject = format!("\"{subject}\"");
    nats.log()
        .lines()
        .any(|line| line.contains("reader") && line.contains(what) && line.contains(&subject))
}

async fn stored_logs_hold_no_secret(cluster: &Cluster, nonces: &[u32]) {
    let gateway = cluster.gateway(0);
    eventually("stored records of all parts", SOON, async || {
        for part in PARTS {
            let path = format!("/api/logs?level=debug&limit=1000&source={part}");
            let answer = gateway
                .get(&path)
                .await
                .map_err(|error| error.to_string())?;
            assert_eq!(leak(&answer.body, nonces), None, "{}", answer.text());
            let records: Vec<LogRecord> = answer.json();
            if records.is_empty() {
                return Err(format!("none of {part}"));
            }
        }
        Ok(())
    })
    .await;
    let kept = cluster.folder("log-sink-1").join("data");
    let files = files(&kept);
    assert!(
        !files.is_empty(),
        "log-sink keeps nothing in {}",
        kept.display()
    );
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(leak(&bytes, nonces), None, "{}", file.display());
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn holds_no_secret(messages: &[(String, Bytes)], nonces: &[u32]) {
    for (subject, payload) in messages {
        let read: Result<Value, _> = serde_json::from_slice(payload);
        let text = String::from_utf8_lossy(payload);
        assert!(
            read.is_ok_and(|value| value.is_object()),
            "{subject}: {text}"
        );
        assert_eq!(leak(payload, nonces), None, "{subject}: {text}");
        if subject.starts_with("orchion.log.") {
            let record: LogRecord = serde_json::from_slice(payload).unwrap();
            assert!(!record.message.is_empty(), "{text}");
        }
    }
}

/// What stands in `bytes` and must not: the prompt's word, a marker, or a token.
fn leak(bytes: &[u8], nonces: &[u32]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let tokens = nonces.iter().map(|nonce| format!("{nonce:08x}."));
    let markers = nonces.iter().map(|nonce| format!("nonce={nonce:08x}"));
    let mut forbidden = tokens.chain(markers).chain([SECRET.to_owned()]);
    forbidden.find(|forbidden| text.contains(forbidden))
}

/// The services that have logged.
fn sources(messages: &[(String, Bytes)]) -> BTreeSet<&str> {
    let logs = messages.iter();
    logs.filter_map(|(subject, _)| subject.strip_prefix("orchion.log.")?.split('.').next())
        .collect()
}

fn login(passwords: &Passwords) -> Login {
    let user = |name: &str, password: &String| (name.to_owned(), password.clone());
    Login {
        service: Some(user("service", &passwords.service)),
        agent: Some(user("agent", &passwords.agent)),
        system: user("liveness", &passwords.liveness),
    }
}
