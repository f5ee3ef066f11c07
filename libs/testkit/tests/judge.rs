//! The judge must be just: good answers pass, each fault is named.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::fmt::Write as _;
use std::time::Duration;

use orchion_testkit::judge::{Order, Verdict, chat, follow, task};
use orchion_testkit::wire::{Ask, Fault, FaultKind, push_token};
use orchion_testkit::{HttpClient, MockEngine, Proxy, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(10);

fn class(verdict: &Verdict) -> &str {
    verdict
        .failure
        .as_ref()
        .map_or("", |failure| &failure.class)
}

async fn judged(ask: Ask) -> Verdict {
    let engine = MockEngine::named("x");
    let order = Order::new(ask).deadline(SOON);
    chat(&HttpClient::new(&engine.url()), &order).await
}

#[tokio::test]
async fn a_good_chat_is_good() {
    let verdict = judged(Ask::new(30).pace_us(1_000)).await;
    assert!(verdict.is_good(), "{verdict:?}");
    assert_eq!(
        (verdict.tokens, verdict.engines.as_slice()),
        (30, &["x".to_owned()][..])
    );
    assert!(verdict.longest_pause >= Duration::from_millis(1));
    assert!(verdict.first_token.is_some());
}

#[tokio::test]
async fn faults_of_a_chat_are_named() {
    for (kind, expected) in [
        (FaultKind::Error, "http:500"),
        (FaultKind::Drop, "reset:before_headers"),
        (FaultKind::Truncate, "reset:mid_answer"),
        (FaultKind::EndEarly, "stream:truncated"),
        (FaultKind::NoDone, "stream:truncated"),
        (FaultKind::ErrorEvent, "stream:error_event"),
        (FaultKind::Malformed, "json"),
        (FaultKind::NoUsage, "content:wrong_usage"),
    ] {
        let verdict = judged(Ask::new(8).fault(Fault::new(kind))).await;
        assert_eq!(class(&verdict), expected, "{kind}");
    }
}

#[tokio::test]
async fn a_chat_that_hangs_ends_at_the_deadline() {
    let engine = MockEngine::named("x");
    let ask = Ask::new(8).fault(Fault::new(FaultKind::Hang));
    let order = Order::new(ask).deadline(Duration::from_millis(200));
    let verdict = chat(&HttpClient::new(&engine.url()), &order).await;
    assert_eq!(class(&verdict), "timeout:mid_answer");
    assert_eq!(verdict.tokens, 4);
}

#[tokio::test]
async fn a_pause_is_measured_and_progress_seen() {
    let engine = MockEngine::named("x");
    let proxy = Proxy::start(engine.addr());
    let client = HttpClient::new(&format!("http://{}", proxy.addr()));
    let order = Order::new(Ask::new(20).pace_us(5_000)).deadline(SOON);
    let progress = order.progress();
    let disturb = async {
        eventually("five tokens", SOON, async || progress.tokens() >= 5).await;
        proxy.stall();
        tokio::time::sleep(Duration::from_millis(150)).await;
        proxy.resume();
    };
    let (verdict, ()) = tokio::join!(chat(&client, &order), disturb);
    assert!(verdict.is_good(), "{verdict:?}");
    assert!(verdict.longest_pause >= Duration::from_millis(140));
}

/// A gateway that plays one script per connection and keeps what it was asked.
async fn scripted(scripts: Vec<String>) -> (HttpClient, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = HttpClient::new(&format!("http://{}", listener.local_addr().unwrap()));
    #[expect(clippy::disallowed_methods, reason = "ends with its scripts")]
    let played = tokio::spawn(async move {
        let mut asked = Vec::new();
        for script in scripts {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 8_192];
            let size = tcp.read(&mut request).await.unwrap();
            asked.push(String::from_utf8_lossy(&request[..size]).to_lowercase());
            tcp.write_all(script.as_bytes()).await.unwrap();
        }
        asked
    });
    (client, played)
}

const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
const STARTED: &str = "event: started\ndata: {}\n\n";

/// An answer that ends where its connection does.
fn open_stream(events: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{STARTED}{events}"
    )
}

/// An answer that breaks off.
fn broken_stream(events: &str) -> String {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999999\r\n\r\n";
    format!("{head}{STARTED}{events}")
}

fn tokens(ask: &Ask, indices: &[u32]) -> String {
    let mut events = String::new();
    for &index in indices {
        let mut token = Vec::new();
        push_token(&mut token, ask.nonce, index, 1, "x", None);
        let text = String::from_utf8(token).unwrap();
        let id = index + 1;
        write!(
            events,
            "id: {id}\nevent: token\ndata: {{\"t\":\"{text}\",\"i\":{index}}}\n\n"
        )
        .unwrap();
    }
    events
}

fn end(tokens: u32) -> String {
    format!("event: end\ndata: {{\"tokens_out\":{tokens}}}\n\n")
}

async fn followed(ask: Ask, scripts: Vec<String>) -> Verdict {
    let (client, _played) = scripted(scripts).await;
    follow(
        &[client],
        &Order::new(ask).deadline(Duration::from_secs(1)),
        "j",
    )
    .await
}

#[tokio::test]
async fn a_task_goes_on_where_its_gateway_died() {
    let ask = Ask::new(5);
    let (client, played) = scripted(vec![
        ACCEPTED.to_owned(),
        broken_stream(&tokens(&ask, &[0, 1, 2])),
        open_stream(&(tokens(&ask, &[3, 4]) + &end(5))),
    ])
    .await;
    let verdict = task(&[client], &Order::new(ask).deadline(SOON)).await;
    assert!(verdict.is_good(), "{verdict:?}");
    assert_eq!((verdict.tokens, verdict.reconnects), (5, 1));
    let asked = played.await.unwrap();
    let job = verdict.job.unwrap();
    assert!(asked[0].starts_with("post /v1/tasks ") && asked[0].contains(&job));
    assert!(asked[1].starts_with(&format!("get /v1/tasks/{job}/stream ")));
    assert!(!asked[1].contains("last-event-id"));
    assert!(asked[2].contains("last-event-id: 3\r\n"));
}

#[tokio::test]
async fn faults_of_a_task_are_named() {
    let ask = Ask::new(3);
    let all = tokens(&ask, &[0, 1, 2]);
    for (script, expected) in [
        (all.clone() + &end(3), ""),
        (all.clone(), "stream:truncated"),
        (all.clone() + &end(3) + &end(3), "stream:after_end"),
        (all.clone() + &end(2), "content:wrong_usage"),
        (tokens(&ask, &[0, 1]) + &end(3), "content:truncated"),
        (tokens(&ask, &[0, 2]) + &end(3), "content:wrong_index"),
        (tokens(&ask, &[0, 1, 1]) + &end(3), "content:wrong_index"),
        (
            tokens(&Ask::new(3), &[0, 1, 2]) + &end(3),
            "content:foreign_token",
        ),
        (all.replace("id: 3", "id: 9") + &end(3), "content:wrong_id"),
        (
            "event: error\ndata: {\"code\":\"INTERNAL\"}\n\n".to_owned(),
            "stream:error_event",
        ),
        (
            "event: restart\ndata: {}\n\n".to_owned(),
            "stream:restarted",
        ),
    ] {
        let verdict = followed(ask.clone(), vec![open_stream(&script)]).await;
        assert_eq!(class(&verdict), expected, "{script}");
    }
}

#[tokio::test]
async fn a_task_that_nobody_takes_is_a_failure() {
    let gone = HttpClient::new(&format!(
        "http://127.0.0.1:{}",
        orchion_testkit::free_port()
    ));
    let order = Order::new(Ask::new(3)).deadline(Duration::from_millis(200));
    assert_eq!(class(&task(&[gone], &order).await), "connect");
    let refusal = "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
    let (client, _played) = scripted(vec![refusal.to_owned()]).await;
    assert_eq!(class(&task(&[client], &order).await), "http:404");
}

#[tokio::test]
async fn a_repeated_beginning_is_doubled_tokens() {
    let ask = Ask::new(4);
    let doubled = tokens(&ask, &[0, 1])
        + &tokens(&ask, &[0, 1])
            .replace("\"i\":0", "\"i\":2")
            .replace("id: 1", "id: 3");
    let verdict = followed(ask, vec![open_stream(&doubled)]).await;
    assert_eq!(class(&verdict), "content:doubled_token");
    assert!(verdict.is_wrong());
}
