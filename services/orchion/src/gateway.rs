//! Calls to the gateway's HTTP API, at whichever of several gateways answers.
//!
//! A gateway holds no state that another would miss, so a call that cannot be
//! delivered to one goes to the next.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use hyper::header::{self, HeaderName};
use orchion_contract::{ErrorBody, ErrorCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::exit::{Failure, Kind, Result};
use crate::http::{self, Base, Request, Response};

/// Where a gateway is when nobody says.
pub(crate) const DEFAULT_URL: &str = "http://localhost:8080";
/// How long a call that may pass is repeated, once a gateway has answered.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// One or several gateways of one cluster.
pub(crate) struct Gateway {
    bases: Vec<Base>,
    token: Option<String>,
    current: AtomicUsize,
    has_answered: AtomicBool,
    patience: Duration,
}

impl Gateway {
    /// Gateways at these addresses, tried in turn.
    pub(crate) fn new(urls: &[String], token: Option<String>) -> Result<Self> {
        let bases = urls
            .iter()
            .map(|url| Base::parse(url))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
        if bases.is_empty() {
            return Err(Failure::new(Kind::Usage, "no gateway is named")
                .then("name one with --url or ORCHION_URL"));
        }
        Ok(Self {
            bases,
            token,
            current: AtomicUsize::new(0),
            has_answered: AtomicBool::new(false),
            patience: PATIENCE,
        })
    }

    /// Gives up sooner or later than usual.
    #[cfg(test)]
    pub(crate) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Whether a token is sent.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The gateway that calls go to first.
    pub(crate) fn base(&self) -> &Base {
        &self.bases[self.current.load(Ordering::Relaxed) % self.bases.len()]
    }

    /// Lets calls begin at the next gateway.
    pub(crate) fn turn(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the call that failed so may succeed soon. A gateway that has
    /// never answered is more likely not there, or somewhere else.
    pub(crate) fn is_worth_waiting(&self, failure: &Failure) -> bool {
        failure.may_pass() && self.has_answered.load(Ordering::Relaxed)
    }

    /// A fresh budget of time for one call.
    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.patience)
    }

    /// What `path` holds.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.call(Method::GET, path, Vec::new(), None).await?;
        read(path, response).await
    }

    /// Asks for something to be done; `None` when the answer has no content.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Option<Value>> {
        let body = Bytes::from(body.to_string());
        let response = self
            .call(Method::POST, path, Vec::new(), Some(body))
            .await?;
        if response.status == hyper::StatusCode::NO_CONTENT {
            return Ok(None);
        }
        read(path, response).await.map(Some)
    }

    /// Opens a stream of events at the current gateway, behind `last_event_id`.
    pub(crate) async fn events(&self, path: &str, last_event_id: Option<u64>) -> Result<Response> {
        let mut headers = vec![(header::ACCEPT, "text/event-stream".to_owned())];
        if let Some(id) = last_event_id {
            headers.push((HeaderName::from_static("last-event-id"), id.to_string()));
        }
        self.call(Method::GET, path, headers, None).await
    }

    /// Each gateway once, beginning with the current one.
    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: Vec<(HeaderName, String)>,
        body: Option<Bytes>,
    ) -> Result<Response> {
        let mut reasons = Vec::new();
        for _ in &self.bases {
            let mut headers = headers.clone();
            if let Some(token) = &self.token {
                headers.push((header::AUTHORIZATION, format!("Bearer {token}")));
            }
            let request = Request {
                method: method.clone(),
                path,
                headers,
                body: body.clone(),
            };
            let sent = http::send(self.base(), request).await;
            if sent.is_ok() {
                self.has_answered.store(true, Ordering::Relaxed);
            }
            match sent {
                Ok(response) if response.status.is_success() => return Ok(response),
                Ok(response) => return Err(refusal(path, response).await),
                Err(error) => {
                    reasons.push(error.to_string());
                    self.turn();
                }
            }
        }
        Err(unreachable(&reasons))
    }
}

fn unreachable(reasons: &[String]) -> Failure {
    Failure::new(
        Kind::Unavailable,
        format!("no gateway answers: {}", reasons.join("; ")),
    )
    .then("start everything here with `orchion up`, or name a gateway with --url or ORCHION_URL")
}

async fn read<T: DeserializeOwned>(path: &str, response: Response) -> Result<T> {
    let bytes = response
        .bytes()
        .await
        .map_err(|error| Failure::new(Kind::Unavailable, error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(
            Kind::Internal,
            format!("the answer to {path} cannot be read: {error}"),
        )
        .then("is this an Orchion gateway of the same version? `orchion doctor` tells")
    })
}

/// The failure that a status above 299 stands for.
async fn refusal(path: &str, response: Response) -> Failure {
    let status = response.status;
    let waits = response
        .header("x-backoff-ms")
        .and_then(|ms| ms.parse().ok())
        .map(Duration::from_millis)
        .or_else(|| {
            let seconds = response.header("retry-after")?.parse().ok()?;
            Some(Duration::from_secs(seconds))
        });
    let body = response.bytes().await.unwrap_or_default();
    let mut failure = match envelope(&body) {
        Some(error) => Failure::remote(&error),
        None => Failure::new(
            kind_of_status(status.as_u16()),
            format!("{path} was answered with status {status}"),
        )
        .then("is this an Orchion gateway? `orchion doctor` tells"),
    };
    failure.retry_after = waits.or(failure.retry_after);
    failure
}

fn kind_of_status(status: u16) -> Kind {
    match status {
        401 | 403 => Kind::Denied,
        404 => Kind::NotFound,
        400..=499 => Kind::Refused,
        502..=504 => Kind::Retry,
        _ => Kind::Internal,
    }
}

/// Reads the error of our own routes, and that of the OpenAI routes.
fn envelope(body: &[u8]) -> Option<ErrorBody> {
    #[derive(Deserialize)]
    struct Wrapped {
        error: OpenAi,
    }
    #[derive(Deserialize)]
    struct OpenAi {
        message: String,
        #[serde(default)]
        code: Option<ErrorCode>,
    }
    if let Ok(error) = serde_json::from_slice::<ErrorBody>(body) {
        return Some(error);
    }
    let Wrapped { error } = serde_json::from_slice(body).ok()?;
    Some(ErrorBody::new(
        error.code.unwrap_or(ErrorCode::Unknown),
        error.message,
    ))
}

/// A budget of time for something that may pass, with growing pauses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    since: Instant,
    budget: Duration,
    delay: Duration,
    has_told: bool,
}

impl Patience {
    fn new(budget: Duration) -> Self {
        Self {
            since: Instant::now(),
            budget,
            delay: FIRST_DELAY,
            has_told: false,
        }
    }

    /// How long to pause before another try; `None` when the time is used up.
    pub(crate) fn pause(&mut self, told: Option<Duration>) -> Option<Duration> {
        let delay = told.unwrap_or(self.delay);
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
        (self.since.elapsed() + delay < self.budget).then_some(delay)
    }

    /// What to tell a person about the wait; nothing from the second time on.
    pub(crate) fn first_reason(&mut self, failure: &Failure) -> Option<String> {
        if std::mem::replace(&mut self.has_told, true) {
            return None;
        }
        let reason = match failure.kind {
            Kind::Unavailable => "lost the gateway",
            Kind::Usage
            | Kind::Refused
            | Kind::NotFound
            | Kind::Internal
            | Kind::Retry
            | Kind::Denied
            | Kind::Interrupted
            | Kind::NobodyReads => &failure.message,
        };
        let seconds = self.budget.as_secs();
        Some(format!(
            "{reason}; trying again for {seconds} s, Ctrl-C leaves"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_of_errors_are_read() {
        let own = envelope(br#"{"code":"NOT_FOUND","message":"no such job"}"#).unwrap();
        let openai =
            envelope(br#"{"error":{"message":"no such model","type":"x","code":"NOT_FOUND"}}"#)
                .unwrap();
        assert_eq!(own.code, ErrorCode::NotFound);
        assert_eq!(
            (openai.code, openai.message.as_str()),
            (ErrorCode::NotFound, "no such model")
        );
        assert_eq!(envelope(b"<html>"), None);
    }

    #[test]
    fn patience_ends() {
        let mut none = Patience::new(Duration::ZERO);
        assert_eq!(none.pause(None), None);
        let mut long = Patience::new(Duration::from_secs(60));
        assert_eq!(long.pause(None), Some(FIRST_DELAY));
        assert_eq!(long.pause(None), Some(FIRST_DELAY * 2));
        assert_eq!(long.pause(Some(Duration::from_secs(61))), None);
    }

    #[test]
    fn why_it_waits_is_told_once() {
        let away = Failure::new(Kind::Unavailable, "no gateway answers");
        let mut patience = Patience::new(PATIENCE);
        assert_eq!(
            patience.first_reason(&away).as_deref(),
            Some("lost the gateway; trying again for 60 s, Ctrl-C leaves")
        );
        assert_eq!(patience.first_reason(&away), None);
    }
}
