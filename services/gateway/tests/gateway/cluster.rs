//! A real bus, gateways on it, and somebody who plays scheduler, registry and
//! agent by the contract, so that a test decides what happens when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use orchion_bus::{Bus, Identity};
use orchion_contract::job::{
    Admission, CancelJob, FollowJob, JobList, JobState, JobSummary, ListJobs, Outcome, Submit,
    Usage,
};
use orchion_contract::log::ServiceName;
use orchion_contract::node::{Node, NodePage};
use orchion_contract::subject::{Address, Rpc};
use orchion_contract::subjects::TRANSCRIPT;
use orchion_contract::transcript::{Entry, Final, Frame, Piece, Restart, Times};
use orchion_contract::{ErrorBody, ErrorCode, InstanceId, JobId, rpc};
use orchion_gateway::Config;
use orchion_service::{Stop, Supervisor};
use orchion_testkit::{HttpClient, NatsServer, eventually, free_port};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What the stand-in knows of jobs, and what it was told.
#[derive(Default)]
struct Books {
    jobs: BTreeMap<JobId, (Submit, JobState)>,
}

pub(crate) struct Cluster {
    pub(crate) nats: NatsServer,
    pub(crate) bus: Bus,
    books: Arc<Mutex<Books>>,
    told: Told,
    submitted: UnboundedReceiver<Submit>,
    canceled: UnboundedReceiver<CancelJob>,
    followed: UnboundedReceiver<FollowJob>,
    tasks: JoinSet<()>,
}

/// Where the stand-in notes what it was told.
#[derive(Clone)]
struct Told {
    submitted: UnboundedSender<Submit>,
    canceled: UnboundedSender<CancelJob>,
    followed: UnboundedSender<FollowJob>,
}

/// A gateway in this process.
pub(crate) struct Running {
    pub(crate) http: HttpClient,
    pub(crate) url: String,
    stop: Stop,
    ended: tokio::sync::oneshot::Receiver<bool>,
}

impl Cluster {
    /// A bus with a scheduler and a registry, but no gateway yet.
    pub(crate) async fn start() -> Self {
        let mut cluster = Self::without_scheduler().await;
        cluster.play_scheduler().await;
        cluster
    }

    /// A bus with a registry alone.
    pub(crate) async fn without_scheduler() -> Self {
        let nats = NatsServer::start().await;
        let bus = connect(&nats.url()).await;
        bus.ensure_all().await.expect("create the streams");
        let (submitted_in, submitted) = unbounded_channel();
        let (canceled_in, canceled) = unbounded_channel();
        let (followed_in, followed) = unbounded_channel();
        let told = Told {
            submitted: submitted_in,
            canceled: canceled_in,
            followed: followed_in,
        };
        let mut cluster = Self {
            nats,
            bus,
            books: Arc::default(),
            told,
            submitted,
            canceled,
            followed,
            tasks: JoinSet::new(),
        };
        cluster
            .answer(rpc::LIST_NODES, |_| {
                Ok(NodePage::of([node("alpha")].iter()))
            })
            .await;
        cluster
            .answer(rpc::GET_NODE, |id| match id.as_str() {
                "alpha" => Ok(node("alpha")),
                other => Err(ErrorBody::new(
                    ErrorCode::NotFound,
                    format!("no node {other}"),
                )),
            })
            .await;
        cluster
    }

    /// Waits until somebody asks a question on `subject`, answered or not.
    pub(crate) async fn next_question(&self, subject: &str) {
        let mut questions = Box::pin(self.bus.tap(subject).await.expect("listen"));
        soon("a question", questions.next()).await;
    }

    /// A gateway with default settings.
    pub(crate) async fn gateway(&mut self) -> Running {
        self.gateway_with(|_| {}).await
    }

    pub(crate) async fn gateway_with(&mut self, change: impl FnOnce(&mut Config)) -> Running {
        let mut config = Config::default();
        config.nats.url = self.nats.url();
        config.gateway.http_port = free_port();
        change(&mut config);
        let running = self.launch(config);
        eventually("the gateway to be ready", PATIENCE, async || {
            let answer = running
                .http
                .get("/readyz")
                .await
                .map_err(|error| error.to_string())?;
            (answer.status == 200)
                .then_some(())
                .ok_or_else(|| answer.text())
        })
        .await;
        running
    }

    /// Starts a gateway without waiting for it.
    pub(crate) fn launch(&mut self, config: Config) -> Running {
        launch(&mut self.tasks, config)
    }

    /// The next job that was submitted.
    pub(crate) async fn submitted(&mut self) -> Submit {
        soon("a submission", self.submitted.recv()).await
    }

    /// The next order to cancel.
    pub(crate) async fn canceled(&mut self) -> CancelJob {
        soon("an order to cancel", self.canceled.recv()).await
    }

    /// The next gateway that follows a job of another.
    pub(crate) async fn followed(&mut self) -> FollowJob {
        soon("a gateway that follows", self.followed.recv()).await
    }

    /// Nobody has submitted anything that the test does not know.
    pub(crate) fn has_no_submission(&mut self) -> bool {
        self.submitted.try_recv().is_err()
    }

    /// Forgets a job, as time does; returns what was known of it.
    pub(crate) fn forget(&self, job: JobId) -> JobSummary {
        let known = summary(&self.books, job).expect("a known job");
        self.books.lock().unwrap().jobs.remove(&job);
        known
    }

    /// Nobody has canceled anything so far.
    pub(crate) fn has_no_cancel(&mut self) -> bool {
        self.canceled.try_recv().is_err()
    }

    /// The agent that answers a job.
    pub(crate) fn agent(&self, submit: &Submit) -> Agent {
        Agent {
            bus: self.bus.clone(),
            subject: TRANSCRIPT.to(&(submit.reader.clone(), submit.job)),
            books: self.books.clone(),
            job: submit.job,
            last: 0,
            next: 0,
        }
    }

    /// From now on there is a scheduler.
    pub(crate) async fn play_scheduler(&mut self) {
        let (books, told) = (self.books.clone(), self.told.clone());
        self.answer(rpc::SUBMIT, move |submit: Submit| {
            let admission = admit(&books, &submit)?;
            let _ = told.submitted.send(submit);
            Ok(admission)
        })
        .await;
        let books = self.books.clone();
        self.answer(rpc::GET_JOB, move |job| summary(&books, job))
            .await;
        let (books, told) = (self.books.clone(), self.told.clone());
        self.answer(rpc::CANCEL_JOB, move |cancel: CancelJob| {
            let summary = summary(&books, cancel.job)?;
            let _ = told.canceled.send(cancel);
            Ok(summary)
        })
        .await;
        let (books, told) = (self.books.clone(), self.told.clone());
        self.answer(rpc::FOLLOW_JOB, move |follow: FollowJob| {
            let summary = summary(&books, follow.job)?;
            let _ = told.followed.send(follow);
            Ok(summary)
        })
        .await;
        let books = self.books.clone();
        self.answer(rpc::LIST_JOBS, move |filter: ListJobs| {
            let ids: Vec<JobId> = books.lock().unwrap().jobs.keys().rev().copied().collect();
            let jobs = ids.into_iter().map(|id| summary(&books, id).unwrap());
            let is_wanted = |job: &JobSummary| filter.state.is_none_or(|state| state == job.state);
            let jobs = jobs.filter(is_wanted).collect();
            Ok(JobList { jobs })
        })
        .await;
    }

    /// Answers every question of a kind.
    pub(crate) async fn answer<A, Q, R>(
        &mut self,
        rpc: Rpc<A, Q, R>,
        answer: impl Fn(Q) -> Result<R, ErrorBody> + Send + 'static,
    ) where
        A: Address + Send + Sync + 'static,
        Q: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
    {
        let service = self.bus.service("plays its part").await.expect("announce");
        let mut endpoint = service.endpoint(rpc, "double").await.expect("answer");
        self.bus.flush().await.expect("be heard");
        self.tasks.spawn(async move {
            let _service = service;
            while let Some(question) = endpoint.next().await {
                let (asked, question) = question.split();
                question.answer(answer(asked)).await;
            }
        });
    }
}

/// Starts a gateway without waiting for it.
pub(crate) fn launch(tasks: &mut JoinSet<()>, config: Config) -> Running {
    let url = format!("http://127.0.0.1:{}", config.gateway.http_port);
    let supervisor = Supervisor::new("gateway", Duration::from_secs(8));
    let stop = supervisor.stop();
    let (ended_in, ended) = tokio::sync::oneshot::channel();
    tasks.spawn(async move {
        let run = supervisor.run(async |tasks: &orchion_service::Tasks| {
            orchion_gateway::start(config, tasks).await
        });
        let _ = ended_in.send(run.await.is_ok());
    });
    Running {
        http: HttpClient::new(&url),
        url,
        stop,
        ended,
    }
}

impl Running {
    /// Where it listens.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.http.target().addr()
    }

    /// Asks the gateway to stop, as a signal does.
    pub(crate) fn stop(&self) {
        self.stop.request();
    }

    /// Waits until it has ended; true when it ended well.
    pub(crate) async fn ended(&mut self) -> bool {
        soon("the gateway to end", async { (&mut self.ended).await.ok() }).await
    }
}

/// Writes a transcript, as an agent does.
pub(crate) struct Agent {
    bus: Bus,
    subject: String,
    books: Arc<Mutex<Books>>,
    job: JobId,
    last: u64,
    next: u64,
}

impl Agent {
    /// Stores one frame of texts.
    pub(crate) async fn says(&mut self, texts: &[&str]) {
        let piece = |text: &&str| Piece {
            text: Some((*text).to_owned()),
            tokens: 1,
            ..Piece::default()
        };
        self.frame(texts.iter().map(piece).collect()).await;
    }

    pub(crate) async fn frame(&mut self, pieces: Vec<Piece>) {
        let count = pieces.len() as u64;
        let frame = Frame {
            attempt: 1,
            index: self.next,
            pieces,
        };
        self.append(&Entry::Frame(frame)).await;
        self.next += count;
    }

    pub(crate) async fn restarts(&mut self) {
        let restart = Restart {
            attempt: 1,
            index: self.next,
            engine: None,
        };
        self.append(&Entry::Restart(restart)).await;
        self.next += 1;
    }

    /// Stores the end of a whole answer.
    pub(crate) async fn completes(&mut self) {
        let usage = Usage {
            prompt_tokens: 3,
            completion_tokens: self.next,
            cached_tokens: None,
        };
        self.ends(Outcome::Completed, usage, None).await;
    }

    pub(crate) async fn fails(&mut self, error: ErrorBody) {
        self.ends(Outcome::Failed, Usage::default(), Some(error))
            .await;
    }

    pub(crate) async fn ends(&mut self, outcome: Outcome, usage: Usage, error: Option<ErrorBody>) {
        let end = Final {
            attempt: 1,
            rest: None,
            outcome,
            finish_reason: (outcome == Outcome::Completed).then(|| "stop".to_owned()),
            usage,
            error,
            engine: None,
            node: None,
            continued: None,
            times: Times {
                started_ms: Some(1_000),
                first_token_ms: Some(1_200),
                ended_ms: Some(1_500),
            },
        };
        self.append(&Entry::Final(Box::new(end))).await;
        let mut books = self.books.lock().unwrap();
        if let Some((_, state)) = books.jobs.get_mut(&self.job) {
            *state = outcome.state();
        }
    }

    async fn append(&mut self, entry: &Entry) {
        let payload = Bytes::from(serde_json::to_vec(entry).unwrap());
        let stored = self.bus.append(&self.subject, payload, self.last).await;
        self.last = stored.expect("append to the transcript");
    }
}

/// Waits for something with a deadline.
pub(crate) async fn soon<T>(what: &str, event: impl Future<Output = Option<T>>) -> T {
    let waited = tokio::time::timeout(PATIENCE, event).await;
    let came = waited.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"));
    came.unwrap_or_else(|| panic!("{what} will never come"))
}

async fn connect(url: &str) -> Bus {
    let config = orchion_bus::Config {
        url: url.to_owned(),
        ..orchion_bus::Config::default()
    };
    let identity = Identity {
        client: "double".to_owned(),
        service: ServiceName::new("double").unwrap(),
        instance: InstanceId::random(),
    };
    Bus::connect(&config, identity, &Stop::new())
        .await
        .expect("connect to NATS")
}

fn admit(books: &Mutex<Books>, submit: &Submit) -> Result<Admission, ErrorBody> {
    match submit.spec.model.as_str() {
        "tiny" | "queued" => {}
        "busy" => {
            let mut error = ErrorBody::new(ErrorCode::AdmissionReject, "the queue is full");
            error.retry_after_ms = Some(1500);
            return Err(error);
        }
        refused if refused.starts_with("refuse:") => {
            let code = serde_json::from_value(json!(refused["refuse:".len()..]));
            return Err(ErrorBody::new(code.unwrap(), "no"));
        }
        other => {
            let message = format!("no node serves the model '{other}'; did you mean tiny?");
            return Err(ErrorBody::new(ErrorCode::NotFound, message).about("model"));
        }
    }
    let mut books = books.lock().unwrap();
    let known = books.jobs.get(&submit.job);
    if known.is_some_and(|(known, _)| known.spec.digest() != submit.spec.digest()) {
        return Err(ErrorBody::new(
            ErrorCode::Conflict,
            "this id exists with another body",
        ));
    }
    let existed = known.is_some();
    let reader = known
        .map_or(&submit.reader, |(known, _)| &known.reader)
        .clone();
    if !existed {
        books
            .jobs
            .insert(submit.job, (submit.clone(), JobState::Assigned));
    }
    let is_queued = submit.spec.model.as_str() == "queued";
    Ok(Admission {
        job: submit.job,
        reader,
        state: match books.jobs.get(&submit.job) {
            Some((_, state)) if state.is_ended() => *state,
            Some(_) | None if is_queued => JobState::Pending,
            Some(_) | None => JobState::Assigned,
        },
        queue_position: if is_queued { 2 } else { 0 },
        predicted_start_ms: if is_queued { 900 } else { 0 },
        backoff_ms: if is_queued { 300 } else { 0 },
        existed,
    })
}

fn summary(books: &Mutex<Books>, job: JobId) -> Result<JobSummary, ErrorBody> {
    let books = books.lock().unwrap();
    let found = books.jobs.get(&job);
    let (submit, state) =
        found.ok_or_else(|| ErrorBody::new(ErrorCode::NotFound, format!("no job {job}")))?;
    Ok(JobSummary {
        id: job,
        reader: submit.reader.clone(),
        door: submit.door,
        workload: submit.spec.workload,
        model: submit.spec.model.clone(),
        priority: submit.spec.priority,
        state: *state,
        queue_position: None,
        attempt: 1,
        node: None,
        created_ms: 1,
        assigned_ms: None,
        deadline_at_ms: 2,
        correlation_id: submit.correlation_id.clone(),
        end: None,
        timeline: Default::default(),
        progress: None,
    })
}

/// A node with one replica of `tiny` and one that is not ready.
fn node(id: &str) -> Node {
    let replica = |id: &str, model: &str, ready: bool| {
        json!({
            "id": id, "model": model, "engine": {"kind": "starter"}, "slots": 2,
            "continuation": "ids", "ready": ready, "workloads": ["chat"],
        })
    };
    serde_json::from_value(json!({
        "id": id, "instance": "i", "hostname": "host", "version": "0.1.0", "capabilities": {},
        "replicas": [replica("a", "tiny", true), replica("b", "org/tiny-2", true), replica("c", "asleep", false)],
        "state": "online", "first_seen_ms": 1_700_000_000_000_u64, "last_seen_ms": 1_700_000_001_000_u64,
        "last_seen_unix": 1_700_000_001_u64, "heartbeat_ms": 5000,
    }))
    .unwrap()
}

/// A chat that is valid.
pub(crate) fn chat(stream: bool) -> serde_json::Value {
    json!({"model": "tiny", "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

/// Status and body of an answer, for snapshots.
pub(crate) fn shown(answer: &orchion_testkit::http::Answer) -> String {
    format!("{} {}", answer.status, answer.text())
}
