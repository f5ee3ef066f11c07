//! The task routes: submitted once, followed at any gateway that lives.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::verdict::{Failure, Listener};
use super::{Order, Verdict, class};
use crate::HttpClient;
use crate::http::Error;
use crate::sse::Event;

/// Between two tries.
const RETRY: Duration = Duration::from_millis(20);

/// Submits a task and follows its stream to the end. When a gateway fails, the
/// next of `gateways` is asked in turn, with the position in `Last-Event-ID`,
/// until the order's deadline. A gateway that stops in order closes its streams
/// before their ends; with another one to ask, that is no failure.
pub async fn task(gateways: &[HttpClient], order: &Order) -> Verdict {
    let job = Uuid::now_v7().to_string();
    let mut listener = Listener::new(order);
    let mut gateways = Turn::new(gateways, order);
    let heard = match submit(&mut gateways, order, &mut listener, &job).await {
        Ok(()) => listen(&mut gateways, &mut listener, &job).await,
        Err(failure) => Err(failure),
    };
    listener.job = Some(job);
    listener.verdict(heard)
}

/// Follows the stream of a task from its first token, as somebody who comes late
/// does; `order` is the one it was submitted with.
pub async fn follow(gateways: &[HttpClient], order: &Order, job: &str) -> Verdict {
    let mut listener = Listener::new(order);
    listener.job = Some(job.to_owned());
    let heard = listen(&mut Turn::new(gateways, order), &mut listener, job).await;
    listener.verdict(heard)
}

/// The gateways, one at a time.
struct Turn {
    gateways: Vec<HttpClient>,
    at: usize,
}

impl Turn {
    fn new(gateways: &[HttpClient], order: &Order) -> Self {
        let gateways = gateways.iter().cloned();
        Self {
            gateways: gateways
                .map(|gateway| gateway.patience(order.deadline))
                .collect(),
            at: 0,
        }
    }

    fn current(&self) -> &HttpClient {
        &self.gateways[self.at % self.gateways.len()]
    }

    /// Goes on to the next gateway, unless the time is over or the failure is one
    /// that no other gateway heals.
    async fn next(&mut self, error: Error, listener: &mut Listener<'_>) -> Result<(), Failure> {
        let failure = Failure::new(class(&error, listener.has_begun()), &error);
        if !is_passing(&error) || listener.time_left() < RETRY {
            return Err(failure);
        }
        self.at += 1;
        tokio::time::sleep(RETRY).await;
        Ok(())
    }

    /// Goes on to another gateway, when there is one.
    async fn leave(&mut self, listener: &Listener<'_>) -> Result<(), Failure> {
        if self.gateways.len() < 2 || listener.time_left() < RETRY {
            return Err(Failure::new("stream:truncated", "no end"));
        }
        self.at += 1;
        tokio::time::sleep(RETRY).await;
        Ok(())
    }
}

fn is_passing(error: &Error) -> bool {
    match error {
        Error::Connect(_) | Error::BeforeHead(_) | Error::InBody(_) => true,
        Error::Timeout(_) => false,
        Error::Status(answer) => {
            let status = StatusCode::from_u16(answer.status);
            status.is_ok_and(|s| s.is_server_error() || s == StatusCode::TOO_MANY_REQUESTS)
        }
    }
}

async fn submit(
    gateways: &mut Turn,
    order: &Order,
    listener: &mut Listener<'_>,
    job: &str,
) -> Result<(), Failure> {
    let body = json!({
        "task_id": job, "workload": "chat", "model_ref": order.model,
        "messages": order.messages(), "max_tokens": order.ask.tokens, "priority": order.priority,
    });
    loop {
        let error = match gateways.current().post("/v1/tasks", &body).await {
            Ok(answer) if answer.status == StatusCode::ACCEPTED.as_u16() => return Ok(()),
            Ok(answer) => Error::Status(Box::new(answer)),
            Err(error) => error,
        };
        gateways.next(error, listener).await?;
        listener.reconnects += 1;
    }
}

/// Where the reader of a task's stream stands.
#[derive(Default)]
struct Position {
    /// The index of the next piece, which is also the id of the last one.
    next: u64,
    is_ended: bool,
}

async fn listen(
    gateways: &mut Turn,
    listener: &mut Listener<'_>,
    job: &str,
) -> Result<(), Failure> {
    let path = format!("/v1/tasks/{job}/stream");
    let mut position = Position::default();
    loop {
        let left = listener.time_left();
        let part = listen_once(gateways.current(), &path, listener, &mut position);
        let ended = match tokio::time::timeout(left, part).await {
            Ok(part) => part?,
            Err(_) => return Err(Failure::new("timeout:mid_answer", "")),
        };
        match ended {
            Ended::AtTheEnd => return Ok(()),
            Ended::Early => gateways.leave(listener).await?,
            Ended::Broken(error) => gateways.next(error, listener).await?,
        }
        listener.reconnects += 1;
    }
}

/// How one connection ended.
enum Ended {
    /// With the answer.
    AtTheEnd,
    /// In order, in the middle of the answer.
    Early,
    /// It broke, or was never there.
    Broken(Error),
}

/// Reads one connection.
async fn listen_once(
    gateway: &HttpClient,
    path: &str,
    listener: &mut Listener<'_>,
    position: &mut Position,
) -> Result<Ended, Failure> {
    let last = position.next.to_string();
    let resume = [("last-event-id", last.as_str())];
    let headers = if position.next > 0 { &resume[..] } else { &[] };
    let mut stream = match gateway.events(path, headers).await {
        Ok(stream) => stream,
        Err(error) => return Ok(Ended::Broken(error)),
    };
    loop {
        match stream.next().await {
            Ok(Some(event)) => take(&event, listener, position)?,
            Ok(None) if position.is_ended => return Ok(Ended::AtTheEnd),
            Ok(None) => return Ok(Ended::Early),
            // A connection that breaks behind the end has told everything.
            Err(_) if position.is_ended => return Ok(Ended::AtTheEnd),
            Err(error) => return Ok(Ended::Broken(error)),
        }
    }
}

fn take(
    event: &Event,
    listener: &mut Listener<'_>,
    position: &mut Position,
) -> Result<(), Failure> {
    if position.is_ended {
        return Err(Failure::new("stream:after_end", &event.event));
    }
    let data = serde_json::from_str::<Value>(&event.data);
    let data = data.map_err(|error| Failure::new("json", format!("{error}: {}", event.data)))?;
    match event.event.as_str() {
        "token" => token(event, &data, listener, position),
        "end" => {
            position.is_ended = true;
            listener.end()?;
            listener.check_usage(data.get("tokens_out").and_then(Value::as_u64))
        }
        "error" => Err(Failure::new("stream:error_event", data)),
        "restart" => Err(Failure::new("stream:restarted", data)),
        // `started`, `metrics` and what may come later carry no part of the answer.
        _ => Ok(()),
    }
}

fn token(
    event: &Event,
    data: &Value,
    listener: &mut Listener<'_>,
    position: &mut Position,
) -> Result<(), Failure> {
    let index = data.get("i").and_then(Value::as_u64);
    if index != Some(position.next) {
        let detail = format!("{index:?} instead of {}", position.next);
        return Err(Failure::new("content:wrong_index", detail));
    }
    position.next += 1;
    if event.id.as_ref() != Some(&position.next.to_string()) {
        return Err(Failure::new("content:wrong_id", format!("{:?}", event.id)));
    }
    listener.hear(data.get("t").and_then(Value::as_str).unwrap_or(""))
}
