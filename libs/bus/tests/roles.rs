//! What each role of the server's configuration may do, done by the bus itself:
//! a call that needs one more subject than it is allowed would hang in the field.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use orchion_bus::{Bus, Config, From, Identity};
use orchion_contract::log::ServiceName;
use orchion_contract::stores::{BLOBS, BlobRef};
use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::subjects::TRANSCRIPT;
use orchion_contract::{InstanceId, JobId, ReaderId};
use orchion_nats_server::{Access, Passwords, install};
use orchion_service::{Secret, Stop};
use orchion_testkit::NatsServer;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn an_agent_keeps_a_transcript_and_reads_it() {
    let cluster = Cluster::start().await;
    cluster.connect("service").await.ensure_all().await.unwrap();
    let agent = cluster.connect("agent").await;
    let subject = TRANSCRIPT.to(&(ReaderId::new("g").unwrap(), JobId::now()));

    let first = agent.append(&subject, "one".into(), 0).await.unwrap();
    let second = agent.append(&subject, "two".into(), first).await.unwrap();

    let last = agent
        .last(TRANSCRIPTS.name, &subject)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(last.sequence, second);
    assert_eq!(agent.last_sequence(TRANSCRIPTS.name).await.unwrap(), second);
    let mut reading = agent
        .read(TRANSCRIPTS.name, &subject, From::Beginning)
        .await
        .unwrap();
    for expected in ["one", "two"] {
        let stored = tokio::time::timeout(SOON, reading.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(stored.payload, expected);
    }
}

#[tokio::test]
async fn an_agent_reads_a_large_request_and_a_reader_does_not() {
    let cluster = Cluster::start().await;
    let service = cluster.connect("service").await;
    service.ensure_all().await.unwrap();
    let content = vec![b'x'; 1_000_000];
    let blob = BlobRef::to(&content, 0);
    service.put_blob(&BLOBS, &blob, &content).await.unwrap();

    let agent = cluster.connect("agent").await;
    let read = tokio::time::timeout(SOON, agent.get_blob(&BLOBS, &blob)).await;
    assert_eq!(read.unwrap().unwrap(), Some(content.clone()));
    let other = BlobRef::to(b"other", 0);
    assert!(agent.put_blob(&BLOBS, &other, b"other").await.is_err());

    let password = cluster.passwords.reader.as_str();
    let reader = cluster.nats.client_as("reader", password).await;
    let mut heard = reader.subscribe("$O.blobs.>").await.unwrap();
    reader.flush().await.unwrap();
    service.put_blob(&BLOBS, &other, b"other").await.unwrap();
    reader.flush().await.unwrap();
    assert!(!matches!(heard.next().now_or_never(), Some(Some(_))));
    let question = "$JS.API.DIRECT.GET.OBJ_blobs.$O.blobs.M.>";
    assert!(reader.request(question, "".into()).await.is_err());
}

#[tokio::test]
async fn an_agent_answers_its_health_check() {
    let cluster = Cluster::start().await;
    let agent = cluster.connect("agent").await;
    let service = agent.service("runs answers").await.unwrap();
    agent.flush().await.unwrap();

    orchion_bus::healthcheck(&cluster.config("agent"), "node-agent")
        .await
        .unwrap();
    drop(service);
}

#[tokio::test]
async fn an_agent_creates_nothing() {
    let cluster = Cluster::start().await;
    let agent = cluster.connect("agent").await;

    assert!(agent.ensure_stream(&TRANSCRIPTS).await.is_err());
}

/// A server that asks for passwords.
struct Cluster {
    nats: NatsServer,
    passwords: Passwords,
    _folder: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let passwords = Passwords::generate();
        let config = install(folder.path(), &Access::Network(passwords.clone())).unwrap();
        let nats = NatsServer::with_config(&config, &[]).await;
        Self {
            nats,
            passwords,
            _folder: folder,
        }
    }

    async fn connect(&self, role: &str) -> Bus {
        let name = if role == "agent" {
            "node-agent"
        } else {
            "gateway"
        };
        let identity = Identity {
            client: name.to_owned(),
            service: ServiceName::new(name).unwrap(),
            instance: InstanceId::random(),
        };
        let (config, stop) = (self.config(role), Stop::new());
        let connected = Bus::connect(&config, identity, &stop);
        tokio::time::timeout(SOON, connected)
            .await
            .unwrap()
            .unwrap()
    }

    fn config(&self, role: &str) -> Config {
        let password = match role {
            "agent" => &self.passwords.agent,
            _ => &self.passwords.service,
        };
        Config {
            url: self.nats.url(),
            user: Some(role.to_owned()),
            password: Some(Secret::new(password)),
            ..Config::default()
        }
    }
}
