//! Listening, and one task per connection.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use orchion_service::{Stop, Tasks};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;

use crate::config;
use crate::router::Front;

/// How long a client may take for the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What is written ahead for a slow client, in bytes; beyond it, answers wait.
const WRITE_AHEAD: usize = 64 * 1024;

/// Opens the port.
///
/// # Errors
/// When it is taken, or the address is not of this machine.
pub(crate) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("listen on {address}; choose another address with --bind and --http-port")
    })
}

/// Accepts connections until `stop`; each ends by itself after its request.
///
/// # Errors
/// Never; the type fits a task.
pub(crate) async fn accept(
    listener: TcpListener,
    front: Arc<Front>,
    stall_timeout: Duration,
    tasks: Tasks,
    stop: Stop,
) -> anyhow::Result<()> {
    while let Some(accepted) = stop.unless_stopped(listener.accept()).await {
        match accepted {
            Ok((socket, _)) => {
                let connection = serve(socket, front.clone(), stall_timeout, stop.clone());
                tasks.spawn_work("connection", connection);
            }
            Err(error) => {
                // Too many open files, mostly: it passes when connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                stop.unless_stopped(tokio::time::sleep(Duration::from_millis(50)))
                    .await;
            }
        }
    }
    Ok(())
}

async fn serve(socket: TcpStream, front: Arc<Front>, stall_timeout: Duration, stop: Stop) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended at once");
        return;
    }
    let io = TokioIo::new(Stallable::new(socket, stall_timeout));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.answer(request.map(Body::new)).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(WRITE_AHEAD)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Asks the gateway of this configuration, on this host, whether it is ready.
///
/// # Errors
/// When it does not answer, or says why it is not.
pub(crate) async fn healthcheck(config: &config::Gateway) -> anyhow::Result<()> {
    let mut address = config.address().context("read gateway.bind")?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let socket = TcpStream::connect(address).await;
    let socket = socket.with_context(|| format!("connect to the gateway at {address}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let request = hyper::Request::get("/readyz")
        .header(hyper::header::HOST, address.to_string())
        .body(Body::empty())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        drop(sender);
        Ok::<_, hyper::Error>((status, body))
    };
    let (answered, _) = tokio::join!(exchange, connection);
    let (status, body) = answered.context("ask the gateway")?;
    anyhow::ensure!(status.is_success(), "{}", String::from_utf8_lossy(&body));
    Ok(())
}

/// A connection that breaks off when the other side reads nothing for too long.
struct Stallable {
    socket: TcpStream,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Stallable {
    fn new(socket: TcpStream, patience: Duration) -> Self {
        Self {
            socket,
            patience,
            stalled: None,
        }
    }

    fn watched<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Stallable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stallable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.watched(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.watched(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
