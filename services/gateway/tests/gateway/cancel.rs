//! A caller who hangs up ends the chat, at whatever moment.

use orchion_contract::job::CancelReason;
use orchion_contract::rpc::SUBMIT;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::http::chat;
use crate::running::Running;

/// Sends a chat and leaves the connection to the test.
pub(crate) async fn ask(gateway: &Running, stream: bool) -> TcpStream {
    ask_with(gateway, stream, "", "").await
}

/// The same with a query and more headers.
pub(crate) async fn ask_with(
    gateway: &Running,
    stream: bool,
    query: &str,
    headers: &str,
) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
    let body = chat(stream).to_string();
    let head = format!("POST /v1/chat/completions{query} HTTP/1.1\r\nhost: localhost\r\n{headers}");
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

#[tokio::test]
async fn while_it_waits_for_the_first_piece_or_for_the_whole() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    for stream in [true, false] {
        let conn = ask(&gateway, stream).await;
        let submit = cluster.submitted().await;
        drop(conn);
        let cancel = cluster.canceled().await;
        assert_eq!(
            (cancel.job, cancel.reason),
            (submit.job, CancelReason::Disconnect)
        );
    }
}

#[tokio::test]
async fn in_mid_stream() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let body = chat(true);
    let opened = gateway.http.post_events("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        cluster.agent(&submit).says(&["one"]).await;
        submit
    };
    let (stream, submit) = tokio::join!(opened, told);
    let mut stream = stream.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(cluster.canceled().await.job, submit.job);
}

#[tokio::test]
async fn not_when_it_is_switched_off() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster
        .gateway_with(|config| config.gateway.cancel_on_disconnect = false)
        .await;
    let conn = ask(&gateway, false).await;
    let first = cluster.submitted().await.job;
    drop(conn);
    // A second chat that is answered shows that the first one's end was seen.
    let body = chat(false);
    let asked = gateway.http.post("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted_beside(first).await;
        cluster.agent(&submit).completes().await;
    };
    let (answer, ()) = tokio::join!(asked, told);
    assert_eq!(answer.unwrap().status, 200);
    assert!(cluster.has_no_cancel());
}

#[tokio::test]
async fn the_caller_switches_it_for_one_chat_by_query_or_by_naming_it() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let key = "idempotency-key: k\r\n";
    let cases = [
        ("?cancel_on_disconnect=false", "", false),
        ("", key, false),
        ("?cancel_on_disconnect=true", key, true),
    ];
    for (query, headers, cancels) in cases {
        let conn = ask_with(&gateway, true, query, headers).await;
        let submit = cluster.submitted().await;
        drop(conn);
        // A chat that is canceled after it shows that its end was seen.
        let marker = ask(&gateway, true).await;
        let after = cluster.submitted_beside(submit.job).await;
        drop(marker);
        let canceled = cluster.canceled().await.job;
        if cancels {
            let both = [canceled, cluster.canceled().await.job];
            assert!(both.contains(&submit.job) && both.contains(&after.job));
        } else {
            assert_eq!(canceled, after.job);
        }
    }
    assert!(cluster.has_no_cancel());
}

#[tokio::test]
async fn who_wants_it_to_go_on_may_hang_up_before_it_is_admitted() {
    for (query, headers) in [
        ("?cancel_on_disconnect=false", ""),
        ("", "idempotency-key: k\r\n"),
    ] {
        let mut cluster = Cluster::without_scheduler().await;
        let gateway = cluster.gateway().await;
        let asked = async {
            let connection = ask_with(&gateway, true, query, headers).await;
            cluster.next_question(SUBMIT.pattern()).await;
            drop(connection);
        };
        asked.await;
        cluster.play_scheduler().await;
        cluster.submitted().await;
        assert!(cluster.has_no_cancel());
    }
}

#[tokio::test]
async fn a_task_goes_on_without_its_caller_unless_asked_otherwise() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let task = serde_json::json!({"model": "tiny", "prompt": "hi"});
    for (query, cancels) in [("", false), ("?cancel_on_disconnect=true", true)] {
        gateway.http.post("/v1/tasks", &task).await.unwrap();
        let submit = cluster.submitted().await;
        let path = format!("/v1/tasks/{}/stream{query}", submit.job);
        let mut stream = gateway.http.events(&path, &[]).await.unwrap();
        stream.next().await.unwrap().unwrap();
        drop(stream);
        if cancels {
            assert_eq!(cluster.canceled().await.job, submit.job);
        } else {
            assert!(cluster.has_no_cancel());
        }
    }
}
