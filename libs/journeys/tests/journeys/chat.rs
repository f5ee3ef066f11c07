//! Steps: chats, as OpenAI's clients ask for them.

use std::time::Duration;

use bytes::Bytes;
use cucumber::{then, when};
use hyper::Method;
use orchion_testkit::http::Answer;
use orchion_testkit::wire::{Ask, Fault, FaultKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::journey::{Journey, SOON, messages};

const PATH: &str = "/v1/chat/completions";

fn body(ask: &Ask, stream: bool) -> Value {
    json!({"model": "mock", "messages": messages(ask), "max_tokens": ask.tokens, "stream": stream})
}

/// An ask that is the same each time, so that the body is.
fn fixed(nonce: u32) -> Ask {
    Ask {
        nonce,
        ..Ask::new(8)
    }
}

impl Journey {
    async fn chat(&mut self, ask: &Ask, headers: &[(&str, &str)]) {
        let sent = Bytes::from(body(ask, false).to_string());
        let answer = self.gateway().send(Method::POST, PATH, sent, headers);
        let answer = answer.await.expect("an answer");
        self.chats.push(answer.clone());
        self.answer = Some(answer);
    }

    /// Opens a streamed chat and reads it byte by byte: comments count.
    async fn open_chat(&mut self, ask: &Ask) {
        let address = self.gateway().target().addr();
        let mut socket = TcpStream::connect(address).await.unwrap();
        let body = body(ask, true).to_string();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length:";
        let request = format!("{head} {}\r\n\r\n{body}", body.len());
        socket.write_all(request.as_bytes()).await.unwrap();
        self.raw = Some(socket);
    }

    /// Reads the open chat until a text stands in it.
    async fn read_until(&mut self, wanted: &str) -> String {
        let socket = self.raw.as_mut().expect("an open chat");
        let mut text = String::new();
        let mut buffer = vec![0; 4096];
        let read = tokio::time::timeout(SOON, async {
            while !text.contains(wanted) {
                let count = socket.read(&mut buffer).await.unwrap();
                assert!(count > 0, "the chat has ended: {text}");
                text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        read.await.unwrap_or_else(|_| panic!("no '{wanted}' came"));
        text
    }
}

#[when(expr = "I chat with the key {string}")]
#[when(expr = "I chat with the key {string} again")]
async fn keyed(journey: &mut Journey, key: String) {
    let nonce = std::process::id();
    journey
        .chat(&fixed(nonce), &[("idempotency-key", &key)])
        .await;
}

#[when(expr = "I chat with the key {string} and another prompt")]
async fn keyed_otherwise(journey: &mut Journey, key: String) {
    let nonce = std::process::id() + 1;
    journey
        .chat(&fixed(nonce), &[("idempotency-key", &key)])
        .await;
}

#[when(expr = "I chat")]
async fn chat(journey: &mut Journey) {
    journey.chat(&Ask::new(5), &[]).await;
}

#[when(expr = "I chat with an engine that fails {int} time(s) before it answers")]
async fn failing(journey: &mut Journey, times: u32) {
    let ask = Ask::new(5).fault(Fault::new(FaultKind::Error).times(times));
    journey.chat(&ask, &[]).await;
}

#[when(expr = "I chat with an engine that always fails, for {int} s at most")]
async fn hopeless(journey: &mut Journey, most_s: u64) {
    let ask = Ask::new(5).fault(Fault::new(FaultKind::Error));
    let chat = journey.chat(&ask, &[]);
    let soon = tokio::time::timeout(Duration::from_secs(most_s), chat);
    soon.await.expect("an answer that comes soon");
}

#[when(expr = "I begin a streamed chat")]
async fn begin(journey: &mut Journey) {
    journey.open_chat(&Ask::new(5)).await;
}

#[when(expr = "I begin a streamed chat of {int} tokens")]
async fn begin_of(journey: &mut Journey, tokens: u32) {
    journey.open_chat(&Ask::new(tokens).pace_us(5_000)).await;
    let head = journey.read_until("x-orchion-job: ").await;
    let rest = head.split("x-orchion-job: ").nth(1).unwrap().to_owned();
    let more = match rest.contains('\r') {
        true => rest,
        false => rest + &journey.read_until("\r").await,
    };
    journey
        .jobs
        .push(more.split('\r').next().unwrap().to_owned());
}

#[then(expr = "both chats name the same job and have the same text")]
fn same_job(journey: &mut Journey) {
    let [first, second] = journey.chats.as_slice() else {
        panic!("not two chats");
    };
    assert_eq!(
        (first.status, second.status),
        (200, 200),
        "{}",
        second.text()
    );
    assert!(first.header("x-orchion-job").is_some());
    assert_eq!(
        first.header("x-orchion-job"),
        second.header("x-orchion-job")
    );
    let text = |answer: &Answer| answer.json::<Value>()["choices"][0]["message"]["content"].clone();
    assert!(text(first).as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(text(first), text(second));
}

#[then(expr = "the chat has a comment with its position")]
async fn comment(journey: &mut Journey) {
    let text = journey.read_until(": queue_position=").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[then(expr = "the job of the chat is canceled")]
async fn chat_canceled(journey: &mut Journey) {
    let id = journey.jobs.last().expect("a chat").clone();
    journey.until(&id, "canceled").await;
}
