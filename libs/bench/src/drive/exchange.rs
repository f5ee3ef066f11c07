//! One request and its answer, checked to the token.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, StatusCode};
use orchion_testkit::clock::mono_ns;
use orchion_testkit::http::Conn;
use orchion_testkit::sse::{self, Lines};
use orchion_testkit::wire::{Ask, Check, Seen, Verifier};
use serde::Deserialize;
use serde_json::Value;

use super::plan::{Plan, Template};
use super::record::{Line, Record};

/// Sends requests and keeps the record of one thread.
pub(super) struct Driver {
    plan: Plan,
    template: Template,
    pub(super) record: RefCell<Record>,
}

/// Why a request failed.
struct Fault {
    class: String,
    detail: String,
}

impl Fault {
    fn new(class: impl Into<String>, detail: impl ToString) -> Self {
        Self {
            class: class.into(),
            detail: detail.to_string().chars().take(300).collect(),
        }
    }
}

/// What one request leaves behind, filled as it goes, so that a request that
/// times out still tells how far it came.
#[derive(Default)]
struct Trace {
    tokens: u32,
    last_token: u64,
    engine: String,
}

#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    #[serde(default)]
    usage: Option<UsageField>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Text<'a>>,
    #[serde(borrow, default)]
    message: Option<Text<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Text<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct UsageField {
    #[serde(default)]
    completion_tokens: Option<u32>,
}

impl Driver {
    pub(super) fn new(plan: Plan, window: (u64, u64)) -> Rc<Self> {
        Rc::new(Self {
            template: plan.template(),
            plan,
            record: RefCell::new(Record::of(window)),
        })
    }

    /// Sends one request and accounts for it. `scheduled` is when it was due.
    pub(super) async fn request(
        &self,
        slot: &mut Option<Conn>,
        scheduled: u64,
        is_open_loop: bool,
    ) {
        let start = mono_ns();
        let mut trace = Trace::default();
        let limit = Duration::from_secs_f64(self.plan.timeout_s);
        let ran = tokio::time::timeout(limit, self.exchange(slot, scheduled, &mut trace)).await;
        let end = mono_ns();
        let fault = match ran {
            Ok(outcome) => outcome.err(),
            Err(_) if trace.tokens > 0 => Some(Fault::new("timeout:mid_answer", "")),
            Err(_) => Some(Fault::new("timeout:no_answer", "")),
        };
        if fault.is_some() {
            *slot = None;
        }
        let mut record = self.record.borrow_mut();
        if self.plan.keeps_lines {
            record.lines.push(Line {
                start: scheduled,
                end,
                last_token: trace.last_token,
                engine: trace.engine.clone(),
                error: fault.as_ref().map(|fault| fault.class.clone()),
            });
        }
        if !record.is_inside(if is_open_loop { scheduled } else { end }) {
            return;
        }
        if is_open_loop {
            record.lag.record(start.saturating_sub(scheduled));
        }
        if let Some(fault) = fault {
            return record.fail(fault.class, fault.detail);
        }
        record.ok += 1;
        record.latency.record(end - scheduled);
        *record.engines.entry(trace.engine).or_default() += 1;
    }

    async fn exchange(
        &self,
        slot: &mut Option<Conn>,
        scheduled: u64,
        trace: &mut Trace,
    ) -> Result<(), Fault> {
        let ask = self.plan.ask();
        let body = self.template.body(&ask);
        let conn = self.connect(slot).await?;
        let path = "/v1/chat/completions";
        let request = self.plan.target.request(Method::POST, path, body);
        let sent = conn.send(request).await;
        let response = sent.map_err(|error| Fault::new("reset:before_headers", error))?;
        let status = response.status();
        let body = response.into_body();
        if status != StatusCode::OK {
            let text = collect(body).await.unwrap_or_default();
            let class = format!("http:{}", status.as_u16());
            return Err(Fault::new(class, String::from_utf8_lossy(&text)));
        }
        match self.plan.stream {
            true => self.streamed(body, &ask, scheduled, trace).await,
            false => self.plain(body, &ask, scheduled, trace).await,
        }
    }

    async fn connect<'a>(&self, slot: &'a mut Option<Conn>) -> Result<&'a mut Conn, Fault> {
        if let Some(conn) = slot
            && !conn.is_usable().await
        {
            *slot = None;
        }
        if let Some(conn) = slot {
            return Ok(conn);
        }
        let opened = Conn::open(&self.plan.target).await;
        let conn = opened.map_err(|error| Fault::new("connect", error))?;
        self.record.borrow_mut().connections += 1;
        Ok(slot.insert(conn))
    }

    async fn plain(
        &self,
        body: Incoming,
        ask: &Ask,
        scheduled: u64,
        trace: &mut Trace,
    ) -> Result<(), Fault> {
        let whole = collect(body).await?;
        let now = mono_ns();
        let piece: Piece<'_> =
            serde_json::from_slice(&whole).map_err(|error| Fault::new("json", error))?;
        let message = piece
            .choices
            .first()
            .and_then(|choice| choice.message.as_ref());
        let Some(content) = message.and_then(|message| message.content.as_ref()) else {
            return Err(Fault::new("content:none", String::from_utf8_lossy(&whole)));
        };
        let mut record = self.record.borrow_mut();
        let is_inside = record.is_inside(now);
        let mut verifier = Verifier::new(self.plan.check, ask.nonce);
        let mut on_token = |seen: Seen<'_>| {
            trace.tokens += 1;
            let Some(arrived) = seen.arrived_us else {
                return;
            };
            seen.engine.clone_into(&mut trace.engine);
            if is_inside {
                record
                    .request_path
                    .record((arrived * 1_000).saturating_sub(scheduled));
                record
                    .transit
                    .record(now.saturating_sub(seen.emitted_us * 1_000));
            }
        };
        verifier.feed(content, &mut on_token);
        let expected = match self.plan.check {
            Check::Count => 1,
            Check::Full | Check::None => ask.tokens,
        };
        let flaw = verifier.finish(expected, &mut on_token);
        trace.last_token = now;
        if is_inside {
            record.tokens += u64::from(ask.tokens);
        }
        if let Some(flaw) = flaw {
            return Err(Fault::new(flaw.class(), content));
        }
        check_usage(piece.usage.and_then(|usage| usage.completion_tokens), ask)
    }

    async fn streamed(
        &self,
        mut body: Incoming,
        ask: &Ask,
        scheduled: u64,
        trace: &mut Trace,
    ) -> Result<(), Fault> {
        let mut lines = Lines::default();
        let mut reader = Reader {
            plan: &self.plan,
            scheduled,
            verifier: Verifier::new(self.plan.check, ask.nonce),
            trace,
            previous: 0,
            stalls: 0,
            is_done: false,
            is_finished: false,
            usage: None,
        };
        let mut heard = Ok(());
        while heard.is_ok() {
            let data = match body.frame().await {
                None => break,
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    heard = Err(Fault::new("reset:mid_answer", error));
                    break;
                }
            };
            let now = mono_ns();
            let mut record = self.record.borrow_mut();
            let is_inside = record.is_inside(now);
            lines.feed(&data, |line| {
                if let Some(event) = sse::data(line)
                    && heard.is_ok()
                {
                    heard = reader.event(event, &mut record, now, is_inside);
                }
            });
        }
        if reader.stalls > 0 {
            self.record.borrow_mut().stalled_streams += 1;
        }
        heard.and_then(|()| reader.verdict(ask))
    }
}

/// Reads one stream.
struct Reader<'a> {
    plan: &'a Plan,
    scheduled: u64,
    verifier: Verifier,
    trace: &'a mut Trace,
    /// When the token before came; 0 before the first.
    previous: u64,
    stalls: u64,
    is_done: bool,
    is_finished: bool,
    usage: Option<u32>,
}

impl Reader<'_> {
    fn event(
        &mut self,
        event: &[u8],
        record: &mut Record,
        now: u64,
        is_inside: bool,
    ) -> Result<(), Fault> {
        let event = match self.plan.lenient_sse {
            true => event
                .strip_prefix(b"data:")
                .map_or(event, <[u8]>::trim_ascii),
            false => event,
        };
        if self.plan.lenient_sse && event.is_empty() {
            return Ok(());
        }
        if event == b"[DONE]" {
            self.is_done = true;
            return Ok(());
        }
        let piece: Piece<'_> = serde_json::from_slice(event).map_err(|error| {
            Fault::new(
                "json",
                format!("{error}: {}", String::from_utf8_lossy(event)),
            )
        })?;
        if let Some(error) = piece.error {
            return Err(Fault::new("stream:error_event", error));
        }
        self.usage = piece
            .usage
            .and_then(|usage| usage.completion_tokens)
            .or(self.usage);
        let Some(choice) = piece.choices.first() else {
            return Ok(());
        };
        self.is_finished |= choice.finish_reason.is_some();
        if let Some(content) = choice
            .delta
            .as_ref()
            .and_then(|delta| delta.content.as_ref())
        {
            self.content(content, record, now, is_inside);
        }
        Ok(())
    }

    fn content(&mut self, content: &str, record: &mut Record, now: u64, is_inside: bool) {
        let Self {
            plan,
            scheduled,
            verifier,
            trace,
            previous,
            stalls,
            ..
        } = self;
        verifier.feed(content, |seen| {
            trace.tokens += 1;
            if seen.arrived_us.is_some() {
                seen.engine.clone_into(&mut trace.engine);
            } else if !seen.engine.is_empty() && last_of(&trace.engine) != seen.engine {
                // A stream taken over by another engine.
                trace.engine = format!("{}>{}", trace.engine, seen.engine);
            }
            let gap = (*previous > 0).then(|| now - *previous);
            *previous = now;
            trace.last_token = now;
            if !is_inside {
                return;
            }
            record.tokens += 1;
            if let Some(arrived) = seen.arrived_us {
                record
                    .request_path
                    .record((arrived * 1_000).saturating_sub(*scheduled));
            }
            if seen.emitted_us > 0 {
                let transit = now.saturating_sub(seen.emitted_us * 1_000);
                record.transit.record(transit);
                if gap.is_none() {
                    record.first_transit.record(transit);
                }
            }
            let Some(gap) = gap else {
                return record.ttft.record(now - *scheduled);
            };
            record.itl.record(gap);
            record.bunched += u64::from(gap * 10 < plan.itl_us * 1_000);
            record.stalls += u64::from(gap > plan.stall_ns);
            *stalls += u64::from(gap > plan.stall_ns);
        });
    }

    fn verdict(&mut self, ask: &Ask) -> Result<(), Fault> {
        if !self.is_done {
            let detail = format!("{} of {} tokens, no [DONE]", self.trace.tokens, ask.tokens);
            return Err(Fault::new("stream:truncated", detail));
        }
        if let Some(flaw) = self.verifier.finish(ask.tokens, |_| {}) {
            let detail = format!("{} tokens", self.verifier.got());
            return Err(Fault::new(flaw.class(), detail));
        }
        if !self.is_finished {
            return Err(Fault::new("content:no_finish_reason", ""));
        }
        check_usage(self.usage, ask)
    }
}

/// The engine that answers now, of those that did in turn.
fn last_of(engines: &str) -> &str {
    engines.rsplit('>').next().unwrap_or("")
}

fn check_usage(claimed: Option<u32>, ask: &Ask) -> Result<(), Fault> {
    match claimed {
        Some(tokens) if tokens != ask.tokens => Err(Fault::new("content:wrong_usage", tokens)),
        _ => Ok(()),
    }
}

async fn collect(body: Incoming) -> Result<Bytes, Fault> {
    let whole = body.collect().await;
    let whole = whole.map_err(|error| Fault::new("reset:mid_answer", error))?;
    Ok(whole.to_bytes())
}
