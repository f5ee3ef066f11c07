//! One request and its answer, checked to the token.

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

use super::answer::{Fault, Piece, Trace, check_usage};
use super::plan::{Plan, Template};
use super::record::{Line, Record};
use super::stream::Reader;

/// Sends requests and keeps the record of one thread.
pub(super) struct Driver {
    plan: Plan,
    template: Template,
    pub(super) record: RefCell<Record>,
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
        let mut reader = Reader::new(&self.plan, ask, scheduled, trace);
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
        if reader.has_stalled() {
            self.record.borrow_mut().stalled_streams += 1;
        }
        heard.and_then(|()| reader.verdict(ask))
    }
}

async fn collect(body: Incoming) -> Result<Bytes, Fault> {
    let whole = body.collect().await;
    let whole = whole.map_err(|error| Fault::new("reset:mid_answer", error))?;
    Ok(whole.to_bytes())
}
