//! What the scheduler sees: a bus, a registry's bucket, and who asks; agents are in
//! [`agent`](crate::agent).
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::agent::Agent;
use orchion_bus::{Bus, Config as NatsConfig, Error, From, Identity, Subscription};
use orchion_contract::buckets::{JOBS, NODES};
use orchion_contract::job::*;
use orchion_contract::log::ServiceName;
use orchion_contract::node::*;
use orchion_contract::placement::Explanation;
use orchion_contract::progress::Progress;
use orchion_contract::streams::{HISTORY, TRANSCRIPTS};
use orchion_contract::subjects::{JOB_PROGRESS, JOB_STATES, TRANSCRIPT};
use orchion_contract::transcript::Entry;
use orchion_contract::{ErrorBody, InstanceId, JobId, NodeId, ReaderId, rpc};
use orchion_service::{Stop, Supervisor};
use orchion_testkit::{NatsServer, eventually};
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::runtime::Runtime;

pub(crate) const SOON: Duration = Duration::from_secs(15);
/// A scheduler that does not hold the lease yet answers nothing.
const TRY: Duration = Duration::from_millis(300);

pub(crate) struct World {
    nats: NatsServer,
    bus: Bus,
    settings: orchion_scheduler::Scheduler,
    /// In a runtime of its own, so that it can end without any order.
    scheduler: Option<Runtime>,
}

async fn connect(nats: &NatsServer, name: &str) -> Bus {
    let config = NatsConfig {
        url: nats.url(),
        ..NatsConfig::default()
    };
    let service = ServiceName::new(name).unwrap();
    let identity = Identity {
        client: name.to_owned(),
        service,
        instance: InstanceId::random(),
    };
    Bus::connect(&config, identity, &Stop::new()).await.unwrap()
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(orchion_scheduler::Scheduler::default()).await
    }

    /// With other settings than the usual ones.
    pub(crate) async fn start_with(settings: orchion_scheduler::Scheduler) -> Self {
        let nats = NatsServer::start().await;
        let bus = connect(&nats, "test").await;
        bus.ensure_all().await.unwrap();
        let mut world = Self {
            nats,
            bus,
            settings,
            scheduler: None,
        };
        world.start_scheduler("first").await;
        world
    }

    pub(crate) async fn start_scheduler(&mut self, name: &'static str) {
        let config = orchion_scheduler::Config {
            nats: NatsConfig {
                url: self.nats.url(),
                ..NatsConfig::default()
            },
            scheduler: self.settings.clone(),
            ..Default::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let supervisor = Supervisor::new("scheduler", SOON);
            let ended = supervisor
                .run(async |tasks| orchion_scheduler::start(config, tasks).await)
                .await;
            assert!(ended.is_ok(), "the {name} scheduler failed");
        });
        self.scheduler = Some(runtime);
        let answers = || async {
            self.bus
                .ask(&rpc::LIST_JOBS, &(), &ListJobs::default(), TRY)
                .await
                .ok()
        };
        eventually("the scheduler answers", SOON, answers).await;
    }

    /// Ends it without any order: its tasks are dropped where they stand.
    pub(crate) fn kill_scheduler(&mut self) {
        self.scheduler.take().unwrap().shutdown_background();
    }

    pub(crate) async fn agent(&self, name: &str, slots: u32) -> Agent {
        let bus = connect(&self.nats, "node-agent").await;
        let agent = Agent::listening(bus, name, slots).await;
        self.put(&agent.record(NodeState::Online)).await;
        let known = || async {
            let probe = self
                .submit(&submit("nobody serves this"))
                .await
                .unwrap_err();
            probe.message.contains("served are: m")
        };
        eventually("the scheduler knows the node", SOON, known).await;
        agent
    }

    pub(crate) async fn set_state(&self, name: &str, state: NodeState) {
        let kv = self.bus.bucket(NODES);
        let found = kv.get(&NodeId::new(name).unwrap()).await.unwrap().unwrap();
        let node = Node {
            state,
            ..found.value.unwrap()
        };
        kv.set(&node.id, &node, found.revision, None).await.unwrap();
    }

    async fn put(&self, node: &Node) {
        let kv = self.bus.bucket(NODES);
        let revision = kv
            .get(&node.id)
            .await
            .unwrap()
            .map_or(0, |found| found.revision);
        kv.set(&node.id, node, revision, None).await.unwrap();
    }

    pub(crate) async fn submit(&self, submit: &Submit) -> Result<Admission, ErrorBody> {
        remote(
            self.bus
                .ask_patiently(&rpc::SUBMIT, &(), submit, SOON)
                .await,
        )
    }

    pub(crate) async fn cancel(
        &self,
        job: JobId,
        reason: CancelReason,
    ) -> Result<JobSummary, ErrorBody> {
        remote(
            self.bus
                .ask_patiently(&rpc::CANCEL_JOB, &(), &CancelJob { job, reason }, SOON)
                .await,
        )
    }

    pub(crate) async fn get(&self, job: JobId) -> Result<JobSummary, ErrorBody> {
        remote(self.bus.ask_patiently(&rpc::GET_JOB, &(), &job, SOON).await)
    }

    pub(crate) async fn explain(&self, job: JobId) -> Result<Explanation, ErrorBody> {
        let asked = self.bus.ask_patiently(&rpc::EXPLAIN_JOB, &(), &job, SOON);
        remote(asked.await)
    }

    /// What readers are told of jobs that wait.
    pub(crate) async fn progress(&self) -> Subscription<(ReaderId, JobId), Progress> {
        let told = self.bus.subscribe(JOB_PROGRESS).await.unwrap();
        self.bus.flush().await.unwrap();
        told
    }

    /// Changes of state of all jobs.
    pub(crate) async fn states(&self) -> Subscription<(), JobEvents> {
        let told = self.bus.subscribe(JOB_STATES).await.unwrap();
        self.bus.flush().await.unwrap();
        told
    }

    pub(crate) async fn ended(&self, job: JobId) -> JobSummary {
        let ended = || async {
            let summary = self.get(job).await.unwrap();
            if summary.state.is_ended() {
                Ok(summary)
            } else {
                Err(summary.state)
            }
        };
        eventually("the job ends", SOON, ended).await
    }

    pub(crate) async fn transcript(&self, submit: &Submit) -> Vec<Entry> {
        let subject = TRANSCRIPT.to(&(submit.reader.clone(), submit.job));
        let mut reading = self
            .bus
            .read(TRANSCRIPTS.name, &subject, From::Beginning)
            .await
            .unwrap();
        let mut entries = Vec::new();
        for _ in 0..reading.initially {
            entries.push(serde_json::from_slice(&reading.next().await.unwrap().payload).unwrap());
        }
        entries
    }

    /// Whether the job was ever recorded.
    pub(crate) async fn has_record(&self, job: JobId) -> bool {
        let record = self.bus.bucket(JOBS).get(&job).await.unwrap();
        record.is_some()
    }

    /// How often history tells the end of a job, once it does.
    pub(crate) async fn history(&self, job: JobId) -> usize {
        let told = || async {
            let reading = self
                .bus
                .read(HISTORY.name, HISTORY.subjects[0], From::Beginning);
            let mut reading = reading.await.unwrap();
            let mut found = 0;
            for _ in 0..reading.initially {
                let stored = reading.next().await.unwrap();
                let ended: EndedJobs = serde_json::from_slice(&stored.payload).unwrap();
                found += ended.jobs.iter().filter(|ended| ended.id == job).count();
            }
            (found > 0).then_some(found).ok_or("nothing")
        };
        eventually("history is told", SOON, told).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(runtime) = self.scheduler.take() {
            runtime.shutdown_background();
        }
    }
}

/// A chat that a gateway waits for, and shows nothing of before its end.
pub(crate) fn whole_chat(model: &str) -> Submit {
    let mut submit = submit(model);
    submit.door = Door::Chat;
    submit.spec.whole = true;
    submit
}

pub(crate) fn submit(model: &str) -> Submit {
    let spec = JobSpec {
        workload: Workload::Chat,
        model: model.into(),
        body: RawValue::from_string("{\"messages\":[]}".to_owned()).unwrap(),
        body_ref: None,
        max_tokens: None,
        seed: None,
        priority: Priority::Interactive,
        seed_drawn: false,
        deadline_ms: DEFAULT_DEADLINE_MS,
        whole: false,
        timeouts: Default::default(),
        expected_tokens: None,
        placement: None,
    };
    let reader = ReaderId::new("g").unwrap();
    Submit {
        job: JobId::now(),
        reader,
        door: Door::Task,
        spec,
        correlation_id: "c".to_owned(),
        ordered: None,
    }
}

fn remote<T>(answer: Result<T, Error>) -> Result<T, ErrorBody> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(Error::Remote(refusal)) => Err(refusal),
        Err(error) => panic!("no answer: {error}"),
    }
}
