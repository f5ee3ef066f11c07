//! `orchion logs`: what is stored, and what comes.

use std::collections::VecDeque;
use std::time::Duration;

use orchion_contract::JobId;
use orchion_contract::log::LogRecord;
use orchion_service::telemetry::Record;
use serde::Deserialize;
use serde_json::Value;

use super::{Context, named, query, rows};
use crate::args::Logs;
use crate::exit::Result;
use crate::gateway::Gateway;
use crate::show::units::now_ms;
use crate::sse::Parser;
use crate::terminal::Terminal;

/// Records remembered, so that one that is stored and live is shown once.
const REMEMBERED: usize = 4096;
/// A gateway gives a sign of life every 30 s.
const SILENCE: Duration = Duration::from_secs(70);

pub(super) async fn run(context: &Context, options: Logs) -> Result<()> {
    let job = match &options.job {
        Some(name) => Some(named::job(context, name).await?),
        None => None,
    };
    let mut filter = vec![
        ("level", options.level.map(|level| level.to_string())),
        ("source", options.source),
        ("job", job.map(|job| job.to_string())),
    ];
    let live = format!("/api/logs{}", query(&filter));
    filter.push(("limit", Some(options.limit.to_string())));
    let since = options
        .since
        .map(|ago| now_ms().saturating_sub(millis(ago)));
    filter.push(("since", since.map(|since| since.to_string())));
    let stored = format!("/api/logs{}", query(&filter));
    let mut seen = Seen::default();
    if !options.follow {
        return print(
            context.terminal,
            stored_at(&context.gateway, &stored).await?,
            &mut seen,
        );
    }
    tokio::select! {
        done = follow(context, &stored, &live, &mut seen) => done,
        failure = super::interrupt() => Err(failure?),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The log records of one job.
pub(super) async fn of_job(context: &Context, id: JobId) -> Result<()> {
    let path = format!("/api/jobs/{id}/logs");
    let records = stored_at(&context.gateway, &path).await?;
    if records.is_empty() {
        // There may be no such job.
        let _: Value = context.gateway.get(&format!("/api/jobs/{id}")).await?;
    }
    if records.is_empty() && !context.terminal.json {
        context.terminal.remark(
            "no log record names this job; what goes as planned is logged at level debug only",
        );
    }
    print(context.terminal, records, &mut Seen::default())
}

async fn stored_at(gateway: &Gateway, path: &str) -> Result<Vec<LogRecord>> {
    let document: Value = gateway.get(path).await?;
    rows(document, "records")
}

/// New records for ever. The stream is opened first, so that nothing falls
/// between it and what is stored; after a cut both are read again.
async fn follow(context: &Context, stored: &str, live: &str, seen: &mut Seen) -> Result<()> {
    let mut patience = context.gateway.patience();
    loop {
        let failure = match context.gateway.events(live, None).await {
            Ok(mut response) => {
                let records = stored_at(&context.gateway, stored)
                    .await
                    .unwrap_or_default();
                print(context.terminal, records, seen)?;
                patience = context.gateway.patience();
                let mut parser = Parser::default();
                while let Ok(Ok(Some(bytes))) =
                    tokio::time::timeout(SILENCE, response.chunk()).await
                {
                    let events = parser.feed(&bytes);
                    for event in &events {
                        show(context.terminal, &event.data, seen)?;
                    }
                }
                context.gateway.turn();
                continue;
            }
            Err(failure) if context.gateway.is_worth_waiting(&failure) => failure,
            Err(failure) => return Err(failure),
        };
        let Some(pause) = patience.pause(failure.retry_after) else {
            return Err(failure);
        };
        if let Some(reason) = patience.first_reason(&failure) {
            context.terminal.aside(&reason);
        }
        tokio::time::sleep(pause).await;
    }
}

/// One message of the live stream.
fn show(terminal: Terminal, message: &str, seen: &mut Seen) -> Result<()> {
    match serde_json::from_str(message) {
        Ok(Live::Log { entry }) => print(terminal, vec![entry], seen),
        Ok(Live::Dropped { count }) => {
            terminal.remark(&format!(
                "{count} records came too fast and are left out here"
            ));
            Ok(())
        }
        // Signs of life, and what a newer gateway may say.
        Ok(Live::Other) | Err(_) => Ok(()),
    }
}

/// What the live stream says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Live {
    Log {
        entry: LogRecord,
    },
    Dropped {
        count: u64,
    },
    #[serde(other)]
    Other,
}

fn print(terminal: Terminal, records: Vec<LogRecord>, seen: &mut Seen) -> Result<()> {
    for record in records {
        if !seen.is_new(&record.id) {
            continue;
        }
        if terminal.json {
            terminal.document(&record)?;
        } else {
            terminal.line(&text(&record, terminal.colour()))?;
        }
    }
    Ok(())
}

/// A record as the services themselves write it on a terminal.
fn text(record: &LogRecord, colour: bool) -> String {
    Record {
        id: record.id.clone(),
        ts_ms: record.ts_ms,
        level: record.level.as_str(),
        source: &record.source,
        instance: &record.instance,
        message: record.message.clone(),
        fields: record.fields.clone(),
    }
    .to_text(colour)
}

/// The ids of the last records.
#[derive(Default)]
struct Seen(VecDeque<String>);

impl Seen {
    fn is_new(&mut self, id: &str) -> bool {
        if self.0.iter().any(|known| known == id) {
            return false;
        }
        self.0.push_back(id.to_owned());
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
        true
    }
}
