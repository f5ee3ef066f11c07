//! A real bus, gateways on it, and somebody who plays the rest by the contract, so
//! that a test decides what happens when.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use orchion_bus::{Bus, Identity};
use orchion_contract::job::{CancelJob, FollowJob, JobSummary, Submit};
use orchion_contract::log::ServiceName;
use orchion_contract::subject::{Address, Rpc};
use orchion_contract::{ErrorBody, InstanceId, JobId};
use orchion_gateway::Config;
use orchion_service::Stop;
use orchion_testkit::{NatsServer, eventually, free_port};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

use crate::agent::Agent;
use crate::running::{Running, launch};
use crate::stand_in::{Books, Told, summary};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Cluster {
    pub(crate) nats: NatsServer,
    pub(crate) bus: Bus,
    pub(crate) books: Arc<Mutex<Books>>,
    pub(crate) told: Told,
    submitted: UnboundedReceiver<Submit>,
    canceled: UnboundedReceiver<CancelJob>,
    followed: UnboundedReceiver<FollowJob>,
    tasks: JoinSet<()>,
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
        cluster.play_registry().await;
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

    /// The next one that is another: who hangs up before the answer leaves it to be
    /// submitted once more.
    pub(crate) async fn submitted_beside(&mut self, job: JobId) -> Submit {
        loop {
            let submit = self.submitted().await;
            if submit.job != job {
                return submit;
            }
        }
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
        Agent::new(self.bus.clone(), self.books.clone(), submit)
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
