//! A client for tests: a fresh connection per request, answers read whole or as
//! events.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HeaderMap, HeaderValue};
use hyper::{Method, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Conn, Target, TargetError};
use crate::sse::{Event, EventReader};

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there.
    #[error("connect")]
    Connect(#[source] io::Error),
    /// The connection broke before the head of the answer.
    #[error("wait for an answer")]
    BeforeHead(#[source] hyper::Error),
    /// The connection broke in the body.
    #[error("read an answer")]
    InBody(#[source] hyper::Error),
    /// Nothing came within the client's patience.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// A stream of events was asked for, and something else came.
    #[error("status {} instead of a stream: {}", .0.status, .0.text())]
    Status(Box<Answer>),
}

/// An answer that was read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body read as JSON.
    ///
    /// # Panics
    ///
    /// When it is not such JSON, with what it is.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("status {}, {error} in body: {}", self.status, self.text())
        })
    }

    /// The value of a header, when it is there and readable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Talks to one server.
#[derive(Clone, Debug)]
pub struct HttpClient {
    target: Target,
    patience: Duration,
}

impl HttpClient {
    /// A client of the server at a base address such as `http://127.0.0.1:8080`.
    ///
    /// # Panics
    ///
    /// When the address cannot be understood.
    pub fn new(base: &str) -> Self {
        let target = Target::parse(base);
        Self::to(target.unwrap_or_else(|error: TargetError| panic!("{error}: {base}")))
    }

    /// A client of a target.
    pub fn to(target: Target) -> Self {
        Self {
            target,
            patience: Duration::from_secs(30),
        }
    }

    /// Sends a bearer token with every request.
    ///
    /// # Panics
    ///
    /// When it cannot stand in a header.
    #[must_use]
    pub fn bearer(mut self, token: &str) -> Self {
        self.target.set_bearer(token).expect("set the token");
        self
    }

    /// Sends a header with every request.
    ///
    /// # Panics
    ///
    /// When it cannot stand in a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let line = format!("{name}: {value}");
        self.target.add_header(&line).expect("add the header");
        self
    }

    /// How long an answer, or the next event of a stream, is waited for; 30 s
    /// unless set.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Where requests go.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Asks with GET.
    ///
    /// # Errors
    ///
    /// When no whole answer comes.
    pub async fn get(&self, path: &str) -> Result<Answer, Error> {
        self.send(Method::GET, path, Bytes::new(), &[]).await
    }

    /// Sends JSON with POST.
    ///
    /// # Errors
    ///
    /// When no whole answer comes.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<Answer, Error> {
        self.send(Method::POST, path, json(body), &[]).await
    }

    /// Sends any request.
    ///
    /// # Errors
    ///
    /// When no whole answer comes.
    ///
    /// # Panics
    ///
    /// When path or headers are not valid.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> Result<Answer, Error> {
        let request = self.request(method, path, body, headers);
        let (answer, _) = self.within(self.exchange(request)).await?;
        self.within(whole(answer)).await
    }

    /// Opens a stream of events with GET.
    ///
    /// # Errors
    ///
    /// When no stream comes; [`Error::Status`] holds what came instead.
    pub async fn events(&self, path: &str, headers: &[(&str, &str)]) -> Result<EventStream, Error> {
        self.open_events(self.request(Method::GET, path, Bytes::new(), headers))
            .await
    }

    /// Opens a stream of events with POST, as the OpenAI routes do.
    ///
    /// # Errors
    ///
    /// When no stream comes; [`Error::Status`] holds what came instead.
    pub async fn post_events(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<EventStream, Error> {
        self.open_events(self.request(Method::POST, path, json(body), &[]))
            .await
    }

    async fn open_events(&self, mut request: HttpRequest) -> Result<EventStream, Error> {
        let accept = HeaderValue::from_static("text/event-stream");
        request.headers_mut().entry(ACCEPT).or_insert(accept);
        let (response, conn) = self.within(self.exchange(request)).await?;
        let kind = response.headers().get("content-type");
        let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if !response.status().is_success() || !is_stream {
            let answer = self.within(whole(response)).await?;
            return Err(Error::Status(Box::new(answer)));
        }
        let (head, body) = response.into_parts();
        Ok(EventStream {
            headers: head.headers,
            body,
            reader: EventReader::default(),
            ready: VecDeque::new(),
            patience: self.patience,
            _conn: conn,
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> HttpRequest {
        let mut request = self.target.request(method, path, body);
        for (name, value) in headers {
            let name = hyper::header::HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_str(value).expect("a valid header");
            request
                .headers_mut()
                .insert(name.expect("a valid name"), value);
        }
        request
    }

    async fn exchange(
        &self,
        request: HttpRequest,
    ) -> Result<(hyper::Response<Incoming>, Conn), Error> {
        let mut conn = Conn::open(&self.target).await.map_err(Error::Connect)?;
        let response = conn.send(request).await.map_err(Error::BeforeHead)?;
        Ok((response, conn))
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        within(self.patience, work).await
    }
}

type HttpRequest = Request<http_body_util::Full<Bytes>>;

/// A stream of events. Dropping it closes the connection.
#[derive(Debug)]
pub struct EventStream {
    /// The headers of the answer.
    pub headers: HeaderMap,
    body: Incoming,
    reader: EventReader,
    ready: VecDeque<Event>,
    patience: Duration,
    _conn: Conn,
}

impl EventStream {
    /// Waits for the next event; none when the stream has ended in order.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or nothing comes within the client's patience.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        within(self.patience, async {
            loop {
                if let Some(event) = self.ready.pop_front() {
                    return Ok(Some(event));
                }
                let Some(frame) = self.body.frame().await else {
                    return Ok(None);
                };
                if let Some(chunk) = frame.map_err(Error::InBody)?.data_ref() {
                    self.ready.extend(self.reader.feed(chunk));
                }
            }
        })
        .await
    }

    /// Reads all events to the end of the stream.
    ///
    /// # Errors
    ///
    /// As [`EventStream::next`].
    pub async fn collect(mut self) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }
}

async fn whole(response: hyper::Response<Incoming>) -> Result<Answer, Error> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(Error::InBody)?.to_bytes();
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    })
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(patience, work)
        .await
        .unwrap_or(Err(Error::Timeout(patience)))
}

fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("write JSON").into()
}
