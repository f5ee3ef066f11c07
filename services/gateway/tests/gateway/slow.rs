//! Slow readers wait for themselves alone.

use std::time::Duration;

use orchion_service::HumanDuration;
use orchion_testkit::eventually;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::agent::Agent;
use crate::cluster::{Cluster, PATIENCE};
use crate::http::chat;
use crate::running::Running;

/// How many pieces the tests send, and how large one is: far more than sockets and queues hold.
const PIECES: usize = 120;
const PIECE: usize = 64 * 1024;

/// Opens a streamed chat and reads nothing of it.
async fn open(gateway: &Running) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut socket = socket.connect(gateway.address()).await.unwrap();
    let body = chat(true).to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length:";
    let request = format!("{head} {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

async fn says_much(agent: &mut Agent) {
    for n in 0..PIECES {
        agent
            .says(&[&format!("{n:08}{}", "x".repeat(PIECE - 8))])
            .await;
    }
}

#[tokio::test]
async fn who_reads_slowly_gets_every_piece_once_and_holds_up_nobody() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let mut slow = open(&gateway).await;
    let submit = cluster.submitted().await;
    let mut agent = cluster.agent(&submit);
    says_much(&mut agent).await;
    agent.completes().await;

    // Meanwhile somebody else is answered.
    let body = chat(false);
    let asked = gateway.http.post("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        cluster.agent(&submit).completes().await;
    };
    assert_eq!(tokio::join!(asked, told).0.unwrap().status, 200);

    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let numbers: Vec<usize> = answer
        .split("data: {")
        .filter_map(|event| {
            let event: Value =
                serde_json::from_str(&format!("{{{}", event.lines().next()?)).ok()?;
            event["choices"][0]["delta"]["content"]
                .as_str()?
                .get(..8)?
                .parse()
                .ok()
        })
        .collect();
    assert_eq!(numbers, (0..PIECES).collect::<Vec<_>>());
    assert!(answer.contains("data: [DONE]"));
}

#[tokio::test]
async fn who_reads_nothing_is_cut_and_the_chat_ends() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster
        .gateway_with(|config| config.gateway.stall_timeout = HumanDuration::from_millis(200))
        .await;
    let mut stalled = open(&gateway).await;
    let submit = cluster.submitted().await;
    let mut agent = cluster.agent(&submit);
    says_much(&mut agent).await;
    assert_eq!(cluster.canceled().await.job, submit.job);
    let cut = eventually("the connection to be cut", PATIENCE, async || {
        let mut sink = vec![0; 1 << 20];
        match tokio::time::timeout(Duration::from_secs(1), stalled.read(&mut sink)).await {
            Ok(Ok(0) | Err(_)) => Ok(()),
            Ok(Ok(count)) => Err(format!("{count} bytes more")),
            Err(_) => Err("an open connection".to_owned()),
        }
    });
    cut.await;
}
