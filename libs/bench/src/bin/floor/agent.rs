//! NATS on one side, an engine's HTTP on the other.

use std::sync::{Arc, Mutex};

use anyhow::Result;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Body as _;
use hyper::header::CONTENT_TYPE;
use orchion_testkit::http::{Conn, Target};
use tokio::task::JoinSet;

use super::lock;
use super::wire::{BROKEN, FIRST, LAST, framed};

pub(super) async fn serve(nats: &str, engine: &str) -> Result<()> {
    let client = async_nats::connect(nats).await?;
    let target = Arc::new(Target::parse(engine)?);
    let idle: Arc<Mutex<Vec<Conn>>> = Arc::default();
    let queue = "agents".to_owned();
    let mut requests = client.queue_subscribe("floor.chat", queue).await?;
    let mut tasks = JoinSet::new();
    while let Some(message) = requests.next().await {
        while tasks.try_join_next().is_some() {}
        let (client, target, idle) = (client.clone(), Arc::clone(&target), Arc::clone(&idle));
        tasks.spawn(async move {
            let reply = message.reply.clone();
            if forward(&client, &target, &idle, message).await.is_err()
                && let Some(reply) = reply
            {
                let _ = client.publish(reply, framed(BROKEN, None, b"")).await;
            }
        });
    }
    Ok(())
}

async fn forward(
    client: &async_nats::Client,
    target: &Target,
    idle: &Mutex<Vec<Conn>>,
    message: async_nats::Message,
) -> Result<()> {
    let Some(reply) = message.reply else {
        return Ok(());
    };
    let mut conn = match connect(target, idle).await {
        Ok(conn) => conn,
        Err(error) => {
            let text = format!("{{\"error\":{{\"message\":\"{error}\"}}}}");
            let answer = framed(FIRST | LAST, Some((502, false)), text.as_bytes());
            client.publish(reply, answer).await?;
            return Ok(());
        }
    };
    let path = "/v1/chat/completions";
    let response = conn
        .send(target.request(Method::POST, path, message.payload))
        .await?;
    let kind = response.headers().get(CONTENT_TYPE);
    let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let mut head = Some((response.status().as_u16(), is_stream));
    let mut body = response.into_body();
    loop {
        let (data, is_broken) = match body.frame().await {
            None => (Bytes::new(), false),
            Some(Ok(frame)) => (frame.into_data().unwrap_or_default(), false),
            Some(Err(_)) => (Bytes::new(), true),
        };
        let is_last = body.is_end_stream() || data.is_empty();
        let flags = match is_broken {
            true => BROKEN,
            false => u8::from(is_last) * LAST + u8::from(head.is_some()) * FIRST,
        };
        let frame = framed(flags, head.take(), &data);
        client.publish(reply.clone(), frame).await?;
        if is_last || is_broken {
            break;
        }
    }
    lock(idle).push(conn);
    Ok(())
}

async fn connect(target: &Target, idle: &Mutex<Vec<Conn>>) -> std::io::Result<Conn> {
    let pooled = lock(idle).pop();
    if let Some(mut conn) = pooled
        && conn.is_usable().await
    {
        return Ok(conn);
    }
    Conn::open(target).await
}
