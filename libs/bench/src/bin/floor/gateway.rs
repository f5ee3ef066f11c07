//! HTTP on one side, NATS on the other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::lock;
use super::wire::{BROKEN, LAST};

type Waiting = Arc<Mutex<HashMap<u64, mpsc::UnboundedSender<async_nats::Message>>>>;

struct Gateway {
    client: async_nats::Client,
    prefix: String,
    next: AtomicU64,
    waiting: Waiting,
}

pub(super) async fn serve(nats: &str, listen: SocketAddr) -> Result<()> {
    let client = async_nats::connect(nats).await?;
    let prefix = format!("floor.r.{}", std::process::id());
    let waiting: Waiting = Arc::default();
    let answers = client.subscribe(format!("{prefix}.*")).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(route(answers, Arc::clone(&waiting)));
    let gateway = Arc::new(Gateway {
        client,
        prefix,
        next: AtomicU64::new(0),
        waiting,
    });
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    let listener = socket.listen(4_096)?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let gateway = Arc::clone(&gateway);
        tasks.spawn(async move {
            let service = hyper::service::service_fn(|r| answer(Arc::clone(&gateway), r));
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(tcp), service)
                .await;
        });
    }
}

/// Hands each message to the request that waits for it.
async fn route(mut answers: async_nats::Subscriber, waiting: Waiting) {
    while let Some(message) = answers.next().await {
        let id = message.subject.rsplit('.').next();
        let Some(id) = id.and_then(|id| id.parse().ok()) else {
            continue;
        };
        if let Some(relay) = lock(&waiting).get(&id) {
            let _ = relay.send(message);
        }
    }
}

/// The rest of an answer, as it arrives over NATS.
struct Relay {
    id: u64,
    waiting: Waiting,
    first: Option<Bytes>,
    is_done: bool,
    messages: mpsc::UnboundedReceiver<async_nats::Message>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.id);
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.is_done {
            return Poll::Ready(None);
        }
        let mut data = match self.messages.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(Some(Err("gateway stopped"))),
            Poll::Ready(Some(message)) => message.payload,
        };
        let flags = data.first().copied().unwrap_or(BROKEN);
        if flags & BROKEN != 0 {
            return Poll::Ready(Some(Err("engine broke off")));
        }
        self.is_done = flags & LAST != 0;
        let data = data.split_off(1);
        if data.is_empty() && self.is_done {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

type Answer = Response<Either<Full<Bytes>, Relay>>;
type Failed = Box<dyn std::error::Error + Send + Sync>;

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let body = Full::new(Bytes::from_static(text.as_bytes()));
    let mut answer = Response::new(Either::Left(body));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

async fn answer(gateway: Arc<Gateway>, request: Request<Incoming>) -> Result<Answer, Failed> {
    if request.method() != Method::POST {
        return Ok(plain(StatusCode::OK, "{\"status\":\"ok\"}"));
    }
    let body = request.into_body().collect().await?.to_bytes();
    let id = gateway.next.fetch_add(1, Relaxed);
    let (relay, mut messages) = mpsc::unbounded_channel();
    lock(&gateway.waiting).insert(id, relay);
    let reply = format!("{}.{id}", gateway.prefix);
    let client = &gateway.client;
    client.publish_with_reply("floor.chat", reply, body).await?;
    let first = messages.recv().await;
    let mut relay = Relay {
        id,
        waiting: Arc::clone(&gateway.waiting),
        first: None,
        is_done: true,
        messages,
    };
    let Some(message) = first else {
        return Ok(plain(StatusCode::BAD_GATEWAY, "{\"error\":{}}"));
    };
    let payload = message.payload;
    if payload.len() < 4 {
        return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "{\"error\":{}}"));
    }
    relay.is_done = payload[0] & LAST != 0;
    let status = u16::from_be_bytes([payload[1], payload[2]]);
    let kind = match payload[3] {
        1 => "text/event-stream",
        _ => "application/json",
    };
    let head = payload.slice(4..);
    let mut answer = Response::new(match relay.is_done {
        true => Either::Left(Full::new(head)),
        false => {
            relay.first = Some(head);
            Either::Right(relay)
        }
    });
    *answer.status_mut() = StatusCode::from_u16(status)?;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(answer)
}
