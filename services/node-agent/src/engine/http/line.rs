//! Connections to an engine, and those that wait for the next request.
//!
//! A connection is driven by whoever uses it. One whose answer was read to its
//! end may carry another request; one that is dropped before that is closed,
//! and so tells the engine to stop.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::noop_waker_ref;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long a connection may wait: shorter than servers keep idle ones.
const LONGEST_IDLE: Duration = Duration::from_secs(3);
/// How many may wait.
const MOST_IDLE: usize = 256;

/// A connection of HTTP/1.
#[derive(Debug)]
pub(super) struct Line {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
    is_open: bool,
}

impl Line {
    pub(super) async fn over(tcp: TcpStream) -> hyper::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
        Ok(Self {
            sender,
            connection,
            is_open: true,
        })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        let mut answer = std::pin::pin!(self.sender.send_request(request));
        std::future::poll_fn(|cx| {
            if self.is_open
                && let Poll::Ready(ended) = Pin::new(&mut self.connection).poll(cx)
            {
                self.is_open = false;
                if let Err(error) = ended {
                    return Poll::Ready(Err(error));
                }
            }
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// Reads from the socket. How a connection ends shows in the body.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        self.is_open = self.is_open && Pin::new(&mut self.connection).poll(cx).is_pending();
    }

    /// Whether it can carry a request now.
    fn is_free(&mut self) -> bool {
        self.drive(&mut Context::from_waker(noop_waker_ref()));
        self.is_open && self.sender.is_ready()
    }
}

/// Connections that wait.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Vec<(Line, Instant)>>);

impl Idle {
    /// The one that was used last, if it is still good.
    pub(super) fn take(&self) -> Option<Line> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((mut line, since)) = waiting.pop() {
            if since.elapsed() >= LONGEST_IDLE {
                waiting.clear();
            } else if line.is_free() {
                return Some(line);
            }
        }
        None
    }

    /// Keeps one whose answer was read to its end.
    pub(super) fn put(&self, mut line: Line) {
        if !line.is_free() {
            return;
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|(_, since)| since.elapsed() < LONGEST_IDLE);
        if waiting.len() < MOST_IDLE {
            waiting.push((line, Instant::now()));
        }
    }

    /// The engine is elsewhere now.
    pub(super) fn clear(&self) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.clear();
    }
}
