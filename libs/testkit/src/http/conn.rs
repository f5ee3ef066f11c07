//! One connection, one request at a time.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Where requests go, and what each of them carries.
#[derive(Clone, Debug)]
pub struct Target {
    addr: SocketAddr,
    host: HeaderValue,
    prefix: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A target that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Only `http://` is spoken.
    #[error("address {0} does not begin with http://")]
    Scheme(String),
    /// The host has no IPv4 address.
    #[error("resolve host {0}")]
    Host(String, #[source] io::Error),
    /// A header that is not written `name: value`.
    #[error("header {0} is not written `name: value`")]
    Header(String),
}

impl Target {
    /// Reads a base address such as `http://127.0.0.1:8080`; a trailing `/v1` is
    /// left away, for paths are given with it.
    ///
    /// # Errors
    ///
    /// When the address is not plain HTTP or its host is unknown.
    pub fn parse(base: &str) -> Result<Self, TargetError> {
        let rest = base
            .strip_prefix("http://")
            .ok_or_else(|| TargetError::Scheme(base.to_owned()))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        let path = path.strip_suffix("v1").unwrap_or(path).trim_matches('/');
        let header = HeaderValue::from_str(host);
        Ok(Self {
            addr: resolve(host)?,
            host: header.map_err(|_| TargetError::Header(host.to_owned()))?,
            prefix: match path {
                "" => String::new(),
                path => format!("/{path}"),
            },
            headers: Vec::new(),
        })
    }

    /// Where connections go.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends a bearer key with every request.
    ///
    /// # Errors
    ///
    /// When the key cannot stand in a header.
    pub fn set_bearer(&mut self, key: &str) -> Result<(), TargetError> {
        let value = HeaderValue::from_str(&format!("Bearer {key}"))
            .map_err(|_| TargetError::Header("authorization".to_owned()))?;
        self.headers.push((AUTHORIZATION, value));
        Ok(())
    }

    /// Sends a header, written `name: value`, with every request.
    ///
    /// # Errors
    ///
    /// When it is not written so.
    pub fn add_header(&mut self, line: &str) -> Result<(), TargetError> {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        self.headers
            .push(parsed.ok_or_else(|| TargetError::Header(line.to_owned()))?);
        Ok(())
    }

    /// Builds a request with a JSON body.
    ///
    /// # Panics
    ///
    /// When `path` is not a path.
    pub fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut builder = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(HOST, self.host.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers {
            builder = builder.header(name.clone(), value.clone());
        }
        builder.body(Full::new(body)).expect("build a request")
    }
}

fn resolve(host: &str) -> Result<SocketAddr, TargetError> {
    let failed = |error| TargetError::Host(host.to_owned(), error);
    let with_port = match host.contains(':') {
        true => host.to_owned(),
        false => format!("{host}:80"),
    };
    let mut found = with_port.to_socket_addrs().map_err(failed)?;
    found
        .find(SocketAddr::is_ipv4)
        .ok_or_else(|| failed(io::Error::other("no IPv4 address")))
}

/// An open connection.
#[derive(Debug)]
pub struct Conn {
    sender: SendRequest<Full<Bytes>>,
}

impl Conn {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub async fn open(target: &Target) -> io::Result<Self> {
        let tcp = TcpStream::connect(target.addr).await?;
        tcp.set_nodelay(true)?;
        let handshake = http1::handshake(TokioIo::new(tcp)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with its connection, which the sender owns"
        )]
        tokio::spawn(async move {
            // Its error reaches whoever waits for the answer.
            let _ = connection.await;
        });
        Ok(Self { sender })
    }

    /// Says whether the connection can carry another request.
    pub async fn is_usable(&mut self) -> bool {
        !self.sender.is_closed() && self.sender.ready().await.is_ok()
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    ///
    /// When the connection breaks first.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }
}
