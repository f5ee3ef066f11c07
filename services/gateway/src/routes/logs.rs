//! `GET /api/logs`: stored records as JSON, or live ones as events.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use orchion_bus::{Bus, Error as BusError};
use orchion_contract::log::{Level, LogPage, LogQuery, LogRecord};
use orchion_contract::subjects::ALL_LOGS;
use orchion_contract::{ErrorBody, UnixMs, rpc};
use orchion_service::{Stop, Tasks};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::Interval;

use super::jobs::job_id;
use crate::error::{Error, Result};
use crate::query::Params;
use crate::sse;
use crate::state::Gateway;

/// How many records wait for a slow viewer before the oldest are left out.
const WAITING: usize = 4096;
/// How often a live view says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long log-sink may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the tap looks whether anybody still listens.
const LOOK: Duration = Duration::from_secs(5);

/// Log records, stored or live
///
/// With `Accept: text/event-stream` the answer is a stream of messages
/// `{"type": "connected" | "log" | "keep_alive" | "dropped", …}`; a `log` carries
/// its record as `entry`. Otherwise it is the list of stored records.
#[utoipa::path(get, path = "/api/logs", tag = "logs",
    params(
        ("source" = Option<String>, Query, description = "Only this service"),
        ("level" = Option<Level>, Query, description = "This level and above"),
        ("since" = Option<u64>, Query, description = "Written at or after, in milliseconds since 1970"),
        ("until" = Option<u64>, Query, description = "Written before, in milliseconds since 1970"),
        ("job" = Option<String>, Query, description = "Only records of this job"),
        ("limit" = Option<u32>, Query, description = "At most this many, the newest ones"),
    ),
    responses(
        (status = 200, description = "The records, oldest first", content(
            (Vec<LogRecord> = "application/json"), (String = "text/event-stream"))),
        (status = 400, description = "A parameter is not as it must be", body = ErrorBody),
        (status = 503, description = "log-sink is away; live records are still there", body = ErrorBody),
    ))]
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response> {
    let query = LogQuery {
        source: params.text("source").map(str::to_owned),
        level: params.parse("level", "debug, info, warn or error")?,
        since_ms: params.parse("since", "milliseconds since 1970")?,
        until_ms: params.parse("until", "milliseconds since 1970")?,
        job: params
            .text("job")
            .map(job_id)
            .transpose()
            .map_err(|error| error.about("job"))?,
        limit: params.parse("limit", "a whole number")?,
    };
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        return Ok(live(&gateway, query));
    }
    Ok(Json(query_logs(&gateway, &query).await?.records).into_response())
}

/// Stored records, from log-sink.
///
/// # Errors
/// When it is away.
pub(crate) async fn query_logs(gateway: &Gateway, query: &LogQuery) -> Result<LogPage> {
    let asked = gateway
        .bus
        .ask(&rpc::QUERY_LOGS, &(), query, PATIENCE)
        .await;
    asked.map_err(|error| Error::from_bus(error, "log-sink"))
}

fn live(gateway: &Arc<Gateway>, query: LogQuery) -> Response {
    let mut keep_alive = tokio::time::interval(KEEP_ALIVE);
    keep_alive.reset();
    let view = View {
        records: gateway.logs.listen(),
        query,
        keep_alive,
        closing: gateway.tasks.stop().clone(),
    };
    sse::answer(
        message(&json!({"type": "connected", "timestamp": now_ms()})),
        Some(view),
    )
}

/// One viewer of live records.
struct View {
    records: broadcast::Receiver<Arc<Record>>,
    query: LogQuery,
    keep_alive: Interval,
    closing: Stop,
}

impl sse::Source for View {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                record = self.records.recv() => match record {
                    Ok(record) if record.is_wanted(&self.query) => return Some(record.message.clone()),
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(count)) => {
                        return Some(message(&json!({"type": "dropped", "count": count})));
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                _ = self.keep_alive.tick() => {
                    return Some(message(&json!({"type": "keep_alive", "timestamp": now_ms()})));
                }
                () = self.closing.stopped() => return None,
            }
        }
    }
}

/// A live record, parsed once for all viewers.
struct Record {
    record: LogRecord,
    message: Bytes,
}

impl Record {
    fn parse(payload: &[u8]) -> Option<Self> {
        let record: LogRecord = serde_json::from_slice(payload).ok()?;
        let message = message(&json!({"type": "log", "entry": record}));
        Some(Self { record, message })
    }

    fn is_wanted(&self, query: &LogQuery) -> bool {
        let record = &self.record;
        let of_job = |job: &orchion_contract::JobId| {
            record.fields.get("job.id").and_then(Value::as_str) == Some(job.to_string().as_str())
        };
        query
            .source
            .as_ref()
            .is_none_or(|source| *source == record.source)
            && query.level.is_none_or(|level| record.level >= level)
            && query.job.as_ref().is_none_or(of_job)
    }
}

/// One subscription to all log records, for all viewers; there while anybody views.
#[derive(Clone)]
pub(crate) struct Tap {
    records: broadcast::Sender<Arc<Record>>,
    wanted: Arc<tokio::sync::Notify>,
}

impl Tap {
    pub(crate) fn start(bus: &Bus, tasks: &Tasks) -> Self {
        let tap = Self {
            records: broadcast::Sender::new(WAITING),
            wanted: Arc::default(),
        };
        let (own, bus) = (tap.clone(), bus.clone());
        tasks.spawn("live logs", move |stop| own.run(bus, stop));
        tap
    }

    fn listen(&self) -> broadcast::Receiver<Arc<Record>> {
        let receiver = self.records.subscribe();
        self.wanted.notify_one();
        receiver
    }

    async fn run(self, bus: Bus, stop: Stop) -> anyhow::Result<()> {
        while stop.unless_stopped(self.wanted.notified()).await.is_some() {
            if let Err(error) = self.forward(&bus, &stop).await {
                tracing::warn!(%error, "live logs are not there for a moment");
                stop.unless_stopped(tokio::time::sleep(LOOK)).await;
                self.wanted.notify_one();
            }
        }
        Ok(())
    }

    /// Forwards records until nobody listens.
    async fn forward(&self, bus: &Bus, stop: &Stop) -> std::result::Result<(), BusError> {
        if self.records.receiver_count() == 0 {
            return Ok(());
        }
        let mut messages = std::pin::pin!(bus.tap(ALL_LOGS).await?);
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = stop.stopped() => return Ok(()),
                message = messages.next() => {
                    let Some(message) = message else { return Ok(()) };
                    if let Some(record) = Record::parse(&message.payload) {
                        // Nobody listening any more is found out at the next look.
                        let _ = self.records.send(Arc::new(record));
                    }
                }
                _ = look.tick() => if self.records.receiver_count() == 0 {
                    return Ok(());
                }
            }
        }
    }
}

fn message(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

fn now_ms() -> UnixMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
}
