//! HTTP to an engine.
//!
//! A request is canceled by closing its connection: dropping the [`Body`] before
//! its end closes the socket at once. A connection whose answer was read whole is
//! used again; engines close those when they like, so a request that breaks on
//! one before anything came is sent once more, over a new one.

mod line;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::noop_waker_ref;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use line::{Idle, Line};
use orchion_service::Secret;
use tokio::net::TcpStream;

/// How long a connection may take; engines are on this host or near it.
const CONNECT: Duration = Duration::from_secs(2);
/// Largest answer that is read whole.
const MOST: usize = 4 << 20;
/// Pieces of an answer that are passed over to find its end.
const MOST_BEHIND: u32 = 4;

/// Why an engine could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there.
    #[error("connect to engine at {0}")]
    Connect(String, #[source] std::io::Error),
    /// It takes no connection.
    #[error("connect to engine at {0}: no answer in time")]
    ConnectTimeout(String),
    /// The connection broke.
    #[error("the connection to the engine at {0} broke")]
    Broken(String, #[source] hyper::Error),
    /// It did not answer in time.
    #[error("no answer from the engine at {0} in time")]
    Timeout(String),
    /// It says too much.
    #[error("answer of engine at {0} is larger than {MOST} bytes")]
    TooLarge(String),
}

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    /// What stands before every path, without a slash at its end.
    base: String,
}

impl Target {
    /// Reads `http://HOST:PORT/BASE`. A base that ends in `/v1` is taken as the
    /// one before it, because that is how OpenAI base URLs are written.
    ///
    /// # Errors
    /// A sentence that says how to write it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{url}` {why}; write http://HOST:PORT");
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => {
                return Err(wrong("uses TLS, which an agent does not speak to engines"));
            }
            Some(_) | None => return Err(wrong("is not the address of an engine")),
        };
        let (authority, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(wrong("holds a user; use `api_key`"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().map_err(|_| wrong("has no valid port"))?;
                (host, port)
            }
            Some(_) | None => (authority, 80),
        };
        if host.is_empty() {
            return Err(wrong("has no host"));
        }
        let base = base.trim_end_matches('/');
        Ok(Self {
            host: host.to_owned(),
            port,
            base: base.strip_suffix("/v1").unwrap_or(base).to_owned(),
        })
    }

    /// The address, for messages and locks.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether it is this very host, by its loopback address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let address = self.host().parse::<std::net::IpAddr>();
        self.host() == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}:{}{}", self.host, self.port, self.base)
    }

    async fn connect(&self) -> Result<TcpStream, Error> {
        let tcp = TcpStream::connect((self.host(), self.port));
        let connected = tokio::time::timeout(CONNECT, tcp).await;
        let tcp = match connected {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => return Err(Error::Connect(self.authority(), error)),
            Err(_) => return Err(Error::ConnectTimeout(self.authority())),
        };
        tcp.set_nodelay(true)
            .map_err(|error| Error::Connect(self.authority(), error))?;
        Ok(tcp)
    }
}

/// An engine as something to be asked; clones are the same.
#[derive(Clone, Debug)]
pub struct Client {
    target: Arc<Mutex<Target>>,
    authorization: Option<HeaderValue>,
    idle: Arc<Idle>,
}

impl Client {
    /// Asks the engine at `target`, with a key if it wants one.
    #[must_use]
    pub fn new(target: Target, key: Option<&Secret>) -> Self {
        let bearer = |key: &Secret| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose())).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        Self {
            target: Arc::new(Mutex::new(target)),
            authorization: key.and_then(bearer),
            idle: Arc::default(),
        }
    }

    /// Where the engine is.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The engine was started again and listens elsewhere.
    pub fn move_to(&self, target: Target) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
        self.idle.clear();
    }

    /// Reads a small answer whole.
    ///
    /// # Errors
    /// When no whole answer came within `patience`.
    pub async fn get(&self, path: &str, patience: Duration) -> Result<Whole, Error> {
        self.whole(Method::GET, path, Bytes::new(), patience).await
    }

    /// Sends a small body and reads a small answer whole.
    ///
    /// # Errors
    /// When no whole answer came within `patience`.
    pub async fn post(&self, path: &str, body: Bytes, patience: Duration) -> Result<Whole, Error> {
        self.whole(Method::POST, path, body, patience).await
    }

    /// Sends a body and returns when the answer begins.
    ///
    /// # Errors
    /// When the connection failed or broke before that.
    pub async fn open(&self, path: &str, body: Bytes) -> Result<Begun, Error> {
        self.send(Method::POST, path, body).await
    }

    async fn whole(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<Whole, Error> {
        let asked = async {
            let mut begun = self.send(method, path, body).await?;
            let bytes = begun.body.rest().await?;
            Ok(Whole {
                status: begun.status,
                headers: begun.headers,
                bytes,
            })
        };
        let answered = tokio::time::timeout(patience, asked).await;
        answered.unwrap_or_else(|_| Err(Error::Timeout(self.target().authority())))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Begun, Error> {
        let target = self.target();
        let at = target.authority();
        let broken = |error| Error::Broken(at.clone(), error);
        let request = || self.request(&target, method.clone(), path, body.clone());
        if let Some(mut line) = self.idle.take()
            && let Ok(answer) = line.ask(request()).await
        {
            return Ok(self.begun(answer, line, at.clone()));
        }
        let mut line = Line::over(target.connect().await?).await.map_err(broken)?;
        let answer = line.ask(request()).await.map_err(broken)?;
        Ok(self.begun(answer, line, at.clone()))
    }

    fn begun(&self, answer: Response<Incoming>, line: Line, at: String) -> Begun {
        let (head, incoming) = answer.into_parts();
        Begun {
            status: head.status,
            headers: head.headers,
            body: Body {
                incoming,
                line: Some(line),
                idle: self.idle.clone(),
                at,
            },
        }
    }

    fn request(
        &self,
        target: &Target,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        let path = format!("{}{path}", target.base);
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::try_from(target.authority()) {
            headers.insert(HOST, host);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        request
    }
}

/// An answer that was read whole.
#[derive(Debug)]
pub struct Whole {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// What it says.
    pub bytes: Bytes,
}

/// An answer that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// What follows.
    pub body: Body,
}

/// The rest of an answer. Dropping it before its end closes the connection.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    line: Option<Line>,
    idle: Arc<Idle>,
    at: String,
}

impl Body {
    /// What came next; `None` at the end. Nothing is lost when this is dropped
    /// before it is done.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Everything that is left.
    ///
    /// # Errors
    /// When the connection broke, or it is too much.
    pub async fn rest(&mut self) -> Result<Bytes, Error> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            if all.len() + bytes.len() > MOST {
                return Err(Error::TooLarge(self.at.clone()));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all.into())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            if let Some(line) = &mut self.line {
                line.drive(cx);
            }
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(None) => {
                    if let Some(line) = self.line.take() {
                        self.idle.put(line);
                    }
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(Error::Broken(self.at.clone(), error)));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers say nothing.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for Body {
    /// What ends an answer may be there already, behind its last word.
    fn drop(&mut self) {
        let mut cx = Context::from_waker(noop_waker_ref());
        for _ in 0..MOST_BEHIND {
            let has_more = matches!(self.poll_next(&mut cx), Poll::Ready(Ok(Some(_))));
            if self.line.is_none() || !has_more {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_as_people_write_them() {
        let at = |url: &str| Target::parse(url).map(|target| target.url());
        assert_eq!(at("http://a:1"), Ok("http://a:1".to_owned()));
        assert_eq!(at("http://a:1/v1/"), Ok("http://a:1".to_owned()));
        assert_eq!(at("http://a/x/v1"), Ok("http://a:80/x".to_owned()));
        assert_eq!(at("http://[::1]:8080"), Ok("http://[::1]:8080".to_owned()));
    }

    #[test]
    fn says_how_to_write_an_address() {
        for bad in [
            "a:1",
            "https://a",
            "http://",
            "http://a:b",
            "http://u:p@a",
            "ftp://a",
        ] {
            let error = Target::parse(bad).unwrap_err();
            assert!(error.contains("write http://HOST:PORT"), "{bad}: {error}");
        }
    }
}
