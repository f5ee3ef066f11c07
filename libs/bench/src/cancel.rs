//! The command `cancel`: clients hang up half-way. Does the engine stop, and when?

use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use orchion_testkit::clock::mono_ns;
use orchion_testkit::http::{Conn, Target};
use orchion_testkit::mock_engine::Stats;
use orchion_testkit::sse::{self, Lines};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::clock::ns;
use crate::document::{print, save};
use crate::drive::Plan;
use crate::options::{Common, Pace};

/// The command `cancel`.
#[derive(Args, Debug)]
pub struct CancelOptions {
    /// Where and what.
    #[command(flatten)]
    pub common: Common,
    /// How many clients.
    #[arg(long, default_value_t = 64)]
    pub concurrency: usize,
    /// With --stream: drop each stream after this many tokens.
    #[arg(long, default_value_t = 5)]
    pub after: u32,
    /// Without: hang up after waiting this long for the answer.
    #[arg(long, default_value_t = 2.0)]
    pub hold_s: f64,
    /// Base addresses of the engines, to read their counters.
    #[arg(long, value_delimiter = ',', required = true)]
    pub engines: Vec<String>,
    /// How long the engines may take to notice.
    #[arg(long, default_value_t = 10.0)]
    pub wait_s: f64,
}

#[derive(Serialize, Debug)]
struct CancelResult {
    streams: usize,
    opened: usize,
    /// Streams the engines saw cancelled.
    cancelled: u64,
    /// Streams still running on the engines when the wait ended.
    left_running: u64,
    /// From the hang-up of the last client to the engine's last cancellation.
    last_cancel_ms: Option<f64>,
}

/// A request under way; dropping it hangs up.
type Held = (Conn, Option<Incoming>);

pub(crate) fn run(options: &CancelOptions) -> Result<()> {
    let common = &options.common;
    let plan = common.plan(&Pace::single())?;
    let engines = options.engines.iter().map(|url| Target::parse(url));
    let engines = engines.collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(hang_up(options, &plan, &engines))?;
    save(common, "cancel", &result)?;
    match common.quiet {
        true => Ok(()),
        false => print(&render(common, &result)),
    }
}

async fn hang_up(options: &CancelOptions, plan: &Plan, engines: &[Target]) -> Result<CancelResult> {
    let before = stats(engines).await?;
    let mut clients = JoinSet::new();
    for _ in 0..options.concurrency {
        let hold = Duration::from_secs_f64(options.hold_s);
        clients.spawn(open(plan.clone(), options.after, hold));
    }
    let mut held = Vec::new();
    while let Some(client) = clients.join_next().await {
        held.extend(client.ok().and_then(Result::ok));
    }
    let opened = held.len();
    let hung_up = mono_ns();
    drop(held);
    let deadline = hung_up + ns(options.wait_s);
    let after = loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = stats(engines).await?;
        if now.inflight <= before.inflight || mono_ns() > deadline {
            break now;
        }
    };
    let cancelled = after.cancelled - before.cancelled;
    let last_ns = (after.last_cancel_us * 1_000).saturating_sub(hung_up);
    Ok(CancelResult {
        streams: options.concurrency,
        opened,
        cancelled,
        left_running: after.inflight.saturating_sub(before.inflight),
        last_cancel_ms: (cancelled > 0).then_some(last_ns as f64 / 1e6),
    })
}

/// Sends a request and waits until it is well under way.
async fn open(plan: Plan, after: u32, hold: Duration) -> Result<Held> {
    let mut conn = Conn::open(&plan.target).await?;
    let body = plan.template().body(&plan.ask());
    let request = plan
        .target
        .request(Method::POST, "/v1/chat/completions", body);
    if !plan.stream {
        // Hang up while the answer is still being made.
        return match tokio::time::timeout(hold, conn.send(request)).await {
            Ok(_) => bail!("answered before the hang-up"),
            Err(_) => Ok((conn, None)),
        };
    }
    let mut stream = conn.send(request).await?.into_body();
    let mut lines = Lines::default();
    let mut events = 0;
    while events <= after {
        let Some(frame) = stream.frame().await else {
            bail!("stream ended early");
        };
        if let Some(data) = frame?.data_ref() {
            lines.feed(data, |line| events += u32::from(sse::data(line).is_some()));
        }
    }
    Ok((conn, Some(stream)))
}

/// The counters of all engines together.
async fn stats(engines: &[Target]) -> Result<Stats> {
    let mut sum = Stats::default();
    for target in engines {
        let mut conn = Conn::open(target).await?;
        let request = target.request(Method::GET, "/mock/stats", Bytes::new());
        let body = conn.send(request).await?.into_body().collect().await?;
        let one: Stats = serde_json::from_slice(&body.to_bytes())?;
        sum.inflight += one.inflight;
        sum.cancelled += one.cancelled;
        sum.last_cancel_us = sum.last_cancel_us.max(one.last_cancel_us);
    }
    Ok(sum)
}

fn render(common: &Common, r: &CancelResult) -> String {
    let last = r
        .last_cancel_ms
        .map_or("never".to_owned(), |ms| format!("{ms:.1} ms"));
    format!(
        "{} {}: {} of {} opened, {} cancelled on the engine, {} left running, \
         last cancel {last} after the hang-up\n",
        common.label, common.scenario, r.opened, r.streams, r.cancelled, r.left_running
    )
}
