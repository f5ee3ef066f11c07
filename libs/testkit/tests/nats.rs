//! The server that every service test stands on.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::time::Duration;

use futures_util::StreamExt as _;
use orchion_testkit::nats::NatsConfig;
use orchion_testkit::{NatsServer, eventually};

const SOON: Duration = Duration::from_secs(10);

async fn stream(server: &NatsServer) -> async_nats::jetstream::stream::Stream {
    let jetstream = async_nats::jetstream::new(server.client().await);
    let config = async_nats::jetstream::stream::Config {
        name: "T".to_owned(),
        subjects: vec!["t.>".to_owned()],
        ..Default::default()
    };
    let stream = jetstream.get_or_create_stream(config).await.unwrap();
    if stream.cached_info().state.messages == 0 {
        jetstream
            .publish("t.a", "kept".into())
            .await
            .unwrap()
            .await
            .unwrap();
    }
    stream
}

#[tokio::test]
async fn a_killed_server_keeps_its_data_and_its_port() {
    let mut server = NatsServer::start().await;
    stream(&server).await;
    let (url, pid) = (server.url(), server.pid());
    server.kill();
    assert!(tokio::net::TcpStream::connect(server.addr()).await.is_err());
    server.restart().await;
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), pid);
    let message = stream(&server).await.get_raw_message(1).await.unwrap();
    assert_eq!(message.payload.as_ref(), b"kept");
}

#[tokio::test]
async fn a_stopped_server_says_so_and_comes_back() {
    let mut server = NatsServer::start().await;
    stream(&server).await;
    server.stop_gracefully().await;
    assert!(server.log().contains("Server Exiting"));
    server.restart().await;
    let mut stream = stream(&server).await;
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
}

#[tokio::test]
async fn the_system_account_sees_who_leaves() {
    let server = NatsServer::start().await;
    let system = server.sys_client().await;
    let mut events = system
        .subscribe("$SYS.ACCOUNT.ORCHION.DISCONNECT")
        .await
        .unwrap();
    system.flush().await.unwrap();
    let named = async_nats::ConnectOptions::new().name("node-7");
    let client = named.connect(server.url()).await.unwrap();
    drop(client);
    let seen = tokio::time::timeout(SOON, async {
        while let Some(event) = events.next().await {
            let event: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
            if event["client"]["name"] == "node-7" {
                return true;
            }
        }
        false
    });
    assert!(seen.await.unwrap());
}

#[tokio::test]
async fn two_servers_do_not_meet() {
    let (one, two) = tokio::join!(NatsServer::start(), NatsServer::start());
    assert_ne!(one.url(), two.url());
    stream(&one).await;
    let other = async_nats::jetstream::new(two.client().await);
    assert!(other.get_stream("T").await.is_err());
}

#[tokio::test]
async fn a_configuration_of_ones_own_is_used_with_its_variables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.conf");
    let text = "port: 4222\njetstream { max_file_store: 1GB }\n\
                authorization { user: $NAME, password: $PASS }\n";
    std::fs::write(&path, text).unwrap();
    let env = [("NAME", "service"), ("PASS", "secret")];
    let server = NatsServer::with_config(&path, &env).await;
    assert!(async_nats::connect(server.url()).await.is_err());
    let client = server.client_as("service", "secret").await;
    let jetstream = async_nats::jetstream::new(client);
    eventually("JetStream", SOON, async || jetstream.query_account().await).await;
}

#[tokio::test]
async fn settings_reach_the_server() {
    let config = NatsConfig::default().max_payload("64KB").ping("5s", 3);
    let server = config.extra("max_connections: 9").start().await;
    let client = server.client().await;
    assert_eq!(client.server_info().max_payload, 64 * 1024);
}
