//! Clients of the product, which write down what they see.
//!
//! They behave as a careful program would: a request that got no answer, or one
//! that says "later", is asked again; an answer that broke off is taken up at
//! the next gateway.

use crate::history::{Cutter, Ending, Event, History, View};
use orchion_testkit::HttpClient;
use orchion_testkit::http::{Error, EventStream};
use orchion_testkit::wire::Ask;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// Between two tries.
const RETRY: Duration = Duration::from_millis(20);
/// Until an answer must be whole, whatever happens.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);
/// Silences shorter than this are not kept.
const NOTABLE: Duration = Duration::from_millis(30);

/// A silence between two tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    /// The client connected anew in between.
    pub(crate) is_resume: bool,
}

/// What became of one job.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) job: Option<String>,
    pub(crate) history: History,
    /// The text that the first viewer put together.
    pub(crate) text: String,
    /// Silences between tokens of the first viewer.
    pub(crate) silences: Vec<Silence>,
    /// The pace that was asked for.
    pub(crate) pace: Duration,
    /// Requests that were asked again before anything was answered.
    pub(crate) again: u32,
    /// Answers that were taken up at another gateway.
    pub(crate) resumes: u32,
    /// What the last failed try said, when it never came to an answer.
    pub(crate) trouble: Option<String>,
}

/// One client with one job.
pub(crate) struct Client {
    gateways: Vec<HttpClient>,
    at: usize,
    ask: Ask,
    deadline: tokio::time::Instant,
    highest: u32,
    /// The client has connected since the last token.
    is_resume: bool,
    progress: Progress,
    last: Option<Instant>,
    report: Report,
}

/// How far a client is, to be read while it works.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU32>);

impl Progress {
    /// Tokens seen.
    pub(crate) fn tokens(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// How a stream stopped.
enum Stopped {
    /// With its end.
    Ended,
    /// Without: the connection broke, or its gateway said so.
    Broken,
    /// The client had seen enough.
    Enough,
}

impl Client {
    pub(crate) fn new(gateways: &[HttpClient], first: usize, ask: Ask) -> Self {
        let patience = Duration::from_secs(20);
        Self {
            gateways: gateways
                .iter()
                .map(|one| one.clone().patience(patience))
                .collect(),
            at: first,
            deadline: tokio::time::Instant::now() + DEADLINE,
            highest: 0,
            is_resume: false,
            progress: Progress::default(),
            last: None,
            report: Report {
                job: None,
                history: History {
                    tokens: ask.tokens,
                    ..History::default()
                },
                text: String::new(),
                silences: Vec::new(),
                pace: Duration::from_micros(ask.itl_us),
                again: 0,
                resumes: 0,
                trouble: None,
            },
            ask,
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// A streamed chat; when it breaks off, its job is followed as a task.
    pub(crate) async fn chat(mut self) -> Report {
        let body = json!({
            "model": "mock", "messages": self.messages(), "max_tokens": self.ask.tokens,
            "stream": true, "stream_options": {"include_usage": true},
        });
        loop {
            let gateway = self.gateway();
            let opened = gateway.post_events("/v1/chat/completions", &body);
            let opened = timeout_at(self.deadline, opened).await;
            match opened {
                Ok(Ok(stream)) => {
                    let job = stream.headers.get("x-orchion-job");
                    let job = job.and_then(|job| Some(job.to_str().ok()?.to_owned()));
                    self.report.job.clone_from(&job);
                    if let (Stopped::Broken, Some(job)) = (self.read_chat(stream).await, job) {
                        self.follow_to_end(&job).await;
                    }
                    return self.report;
                }
                Ok(Err(error)) if !self.again(&error).await => return self.report,
                Ok(Err(_)) => {}
                Err(_) => return self.report,
            }
        }
    }

    /// A chat answered at once.
    pub(crate) async fn whole(mut self) -> Report {
        let body = json!({
            "model": "mock", "messages": self.messages(), "max_tokens": self.ask.tokens,
        });
        loop {
            let gateway = self.gateway();
            let asked = gateway.post("/v1/chat/completions", &body);
            let error = match timeout_at(self.deadline, asked).await {
                Ok(Ok(answer)) if answer.status == 200 => {
                    let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                    self.take_whole(&answer);
                    return self.report;
                }
                Ok(Ok(answer)) => Error::Status(Box::new(answer)),
                Ok(Err(error)) => error,
                Err(_) => return self.report,
            };
            if !self.again(&error).await {
                return self.report;
            }
        }
    }

    /// A task, followed to its end. After `hop` tokens the client leaves its
    /// gateway in mid-answer for another one.
    pub(crate) async fn task(mut self, hop: Option<u32>) -> Report {
        if let Some(job) = self.submit().await {
            if hop.is_some() {
                self.follow(&job, hop).await;
            }
            self.follow_to_end(&job).await;
        }
        self.report
    }

    /// A task that is canceled after so many tokens, and followed to its end.
    pub(crate) async fn canceled(mut self, after: u32) -> Report {
        let Some(job) = self.submit().await else {
            return self.report;
        };
        self.follow(&job, Some(after)).await;
        self.report.history.was_canceled = true;
        let path = format!("/v1/tasks/{job}/cancel");
        loop {
            let gateway = self.gateway();
            let nothing = json!({});
            let asked = gateway.post(&path, &nothing);
            let error = match timeout_at(self.deadline, asked).await {
                Ok(Ok(answer)) if answer.status == 204 => break,
                Ok(Ok(answer)) => Error::Status(Box::new(answer)),
                Ok(Err(error)) => error,
                Err(_) => return self.report,
            };
            if !self.again(&error).await {
                break;
            }
        }
        self.follow_to_end(&job).await;
        self.report
    }

    /// Somebody who comes late looks at the same job from its beginning.
    pub(crate) async fn look_late(
        report: &mut Report,
        gateways: &[HttpClient],
        at: usize,
        ask: Ask,
    ) {
        let Some(job) = report.job.clone() else {
            return;
        };
        let mut late = Self::new(gateways, at, ask);
        late.follow_to_end(&job).await;
        let after_cancel = report.history.was_canceled;
        let views = late.report.history.views.into_iter();
        report.history.views.extend(views.map(|view| View {
            after_cancel,
            ..view
        }));
    }

    fn messages(&self) -> Value {
        json!([{"role": "user", "content": format!("{} please", self.ask.marker())}])
    }

    fn gateway(&self) -> HttpClient {
        self.gateways[self.at % self.gateways.len()].clone()
    }

    /// Whether to ask again, at another gateway, after a failure.
    async fn again(&mut self, error: &Error) -> bool {
        let is_passing = match error {
            Error::Connect(_) | Error::BeforeHead(_) | Error::InBody(_) | Error::Timeout(_) => true,
            Error::Status(answer) => answer.status == 429 || answer.status >= 500,
        };
        let text = match error {
            Error::Status(answer) => format!("{}: {}", answer.status, answer.text()),
            Error::Connect(_) | Error::BeforeHead(_) | Error::InBody(_) | Error::Timeout(_) => {
                format!("{error:?}")
            }
        };
        self.report.trouble = Some(text.chars().take(300).collect());
        self.report.again += 1;
        self.at += 1;
        tokio::time::sleep(RETRY).await;
        is_passing && tokio::time::Instant::now() < self.deadline
    }

    async fn submit(&mut self) -> Option<String> {
        let job = uuid::Uuid::now_v7().to_string();
        let body = json!({
            "task_id": job, "workload": "chat", "model_ref": "mock",
            "messages": self.messages(), "max_tokens": self.ask.tokens,
        });
        loop {
            let gateway = self.gateway();
            let asked = gateway.post("/v1/tasks", &body);
            let error = match timeout_at(self.deadline, asked).await {
                Ok(Ok(answer)) if answer.status == 202 => {
                    self.report.job = Some(job.clone());
                    return Some(job);
                }
                Ok(Ok(answer)) => Error::Status(Box::new(answer)),
                Ok(Err(error)) => error,
                Err(_) => return None,
            };
            if !self.again(&error).await {
                return None;
            }
        }
    }

    /// Follows a task until its end, at whichever gateway answers.
    async fn follow_to_end(&mut self, job: &str) {
        loop {
            match self.follow(job, None).await {
                Stopped::Ended | Stopped::Enough => return,
                Stopped::Broken if tokio::time::Instant::now() >= self.deadline => return,
                Stopped::Broken => {
                    self.report.resumes += 1;
                    self.at += 1;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Follows a task at one gateway, from where the view before it broke off
    /// when that was a task's too: a view is what one reader has seen, over all
    /// of its connections.
    async fn follow(&mut self, job: &str, enough: Option<u32>) -> Stopped {
        let path = format!("/v1/tasks/{job}/stream");
        self.is_resume = true;
        let resumed = self
            .report
            .history
            .views
            .pop_if(|view| view.is_cut && view.next > 0);
        let mut view = resumed.unwrap_or_default();
        let last = view.next.to_string();
        let headers = [("last-event-id", last.as_str())];
        let headers = if view.next > 0 { &headers[..] } else { &[] };
        let gateway = self.gateway();
        let opened = timeout_at(self.deadline, gateway.events(&path, headers)).await;
        let mut stream = match opened {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.report.trouble = Some(format!("{error:?}").chars().take(300).collect());
                self.keep(view, true);
                return Stopped::Broken;
            }
            Err(_) => {
                self.keep(view, false);
                return Stopped::Broken;
            }
        };
        let mut cutter = Cutter::new(self.ask.nonce);
        loop {
            let next = timeout_at(self.deadline, stream.next()).await;
            let Ok(Ok(Some(event))) = next else {
                let is_over = view.ending().is_some();
                self.keep(view, true);
                return if is_over {
                    Stopped::Ended
                } else {
                    Stopped::Broken
                };
            };
            let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
            match event.event.as_str() {
                "token" => {
                    view.next = data["i"].as_u64().map_or(view.next, |index| index + 1);
                    self.hear(&mut view, &mut cutter, data["t"].as_str());
                }
                "end" => {
                    cutter.finish(&mut view.events);
                    let tokens = data["tokens_out"].as_u64().unwrap_or_default();
                    let is_canceled = data["canceled"] == true;
                    view.events.push(Event::End(match is_canceled {
                        true => Ending::Canceled,
                        false => Ending::Completed(tokens),
                    }));
                }
                "error" if is_of_the_job(&data) => {
                    view.events.push(Event::End(failed(&data)));
                }
                "error" => {
                    self.report.trouble = Some(data.to_string());
                    self.keep(view, true);
                    return Stopped::Broken;
                }
                // What was shown is void: nobody here asked for an engine that needs it.
                "restart" => view.events.push(Event::Garbled),
                _ => {}
            }
            if enough.is_some_and(|enough| self.highest >= enough) {
                self.keep(view, true);
                return Stopped::Enough;
            }
        }
    }

    async fn read_chat(&mut self, mut stream: EventStream) -> Stopped {
        let mut view = View::default();
        let mut cutter = Cutter::new(self.ask.nonce);
        let (mut finish, mut usage) = (None, None);
        loop {
            let next = timeout_at(self.deadline, stream.next()).await;
            let Ok(Ok(Some(event))) = next else {
                let is_over = view.ending().is_some();
                self.keep(view, true);
                return if is_over {
                    Stopped::Ended
                } else {
                    Stopped::Broken
                };
            };
            if event.data == "[DONE]" {
                cutter.finish(&mut view.events);
                view.events.push(Event::End(match finish {
                    Some(_) => Ending::Completed(usage.unwrap_or_default()),
                    None => Ending::Failed("no finish reason".to_owned()),
                }));
                continue;
            }
            let chunk: Value = serde_json::from_str(&event.data).unwrap_or_default();
            if let Some(error) = chunk.get("error") {
                if is_of_the_job(error) {
                    view.events.push(Event::End(failed(error)));
                    self.keep(view, false);
                    return Stopped::Ended;
                }
                self.report.trouble = Some(error.to_string());
                self.keep(view, true);
                return Stopped::Broken;
            }
            usage = chunk["usage"]["completion_tokens"].as_u64().or(usage);
            let choice = &chunk["choices"][0];
            finish = choice["finish_reason"]
                .as_str()
                .map(str::to_owned)
                .or(finish);
            let text = choice["delta"]["content"].as_str().map(str::to_owned);
            self.hear(&mut view, &mut cutter, text.as_deref());
        }
    }

    fn take_whole(&mut self, answer: &Value) {
        let mut view = View::default();
        let mut cutter = Cutter::new(self.ask.nonce);
        let choice = &answer["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap_or_default();
        cutter.feed(text, &mut view.events);
        cutter.finish(&mut view.events);
        let usage = answer["usage"]["completion_tokens"].as_u64();
        view.events
            .push(Event::End(Ending::Completed(usage.unwrap_or_default())));
        self.keep(view, false);
    }

    fn hear(&mut self, view: &mut View, cutter: &mut Cutter, text: Option<&str>) {
        let text = text.unwrap_or_default();
        cutter.feed(text, &mut view.events);
        if view.tokens() <= self.highest {
            return;
        }
        self.highest = view.tokens();
        self.progress.0.store(self.highest, Relaxed);
        self.report.text.push_str(text);
        let now = Instant::now();
        let is_resume = std::mem::take(&mut self.is_resume);
        if let Some(from) = self.last.replace(now).filter(|from| now - *from > NOTABLE) {
            self.report.silences.push(Silence {
                from,
                to: now,
                is_resume,
            });
        }
    }

    fn keep(&mut self, mut view: View, is_cut: bool) {
        view.is_cut = is_cut && view.ending().is_none();
        self.report.history.views.push(view);
    }
}

/// Whether an error ends the job, or tells of a gateway that cannot read now.
fn is_of_the_job(error: &Value) -> bool {
    error["code"] != "pool_unready"
}

fn failed(error: &Value) -> Ending {
    Ending::Failed(error["code"].as_str().unwrap_or("unknown").to_owned())
}
