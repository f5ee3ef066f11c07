//! A nats-server, an agent in this process, and what tests say to it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orchion_bus::{Bus, From, Identity};
use orchion_contract::job::{
    AttemptEnd, CancelOrder, CancelReason, CancelReply, EndedBatch, Granted, JobSpec, Priority,
    RunOrder, RunReply, Workload,
};
use orchion_contract::node::{Continuation, Empty, EngineKind, Registered, Registration, Replica};
use orchion_contract::rpc::{CANCEL, ENDED, REGISTER, RUN};
use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::subjects::{CAPABILITY, TRANSCRIPT};
use orchion_contract::transcript::{Entry, Mark};
use orchion_contract::{InstanceId, JobId, NodeId, ReaderId};
use orchion_nats_server::{Access, Passwords, install};
use orchion_node_agent::{EngineSettings, NodeAgent};
use orchion_service::{Secret, Supervisor};
use orchion_testkit::wire::Ask;
use orchion_testkit::{MockEngine, NatsServer, eventually};
use orchion_transcript::{Reader, Shown};
use serde_json::json;
use serde_json::value::RawValue;

use crate::process::Agent;
use crate::seen::Seen;

/// Longest that anything may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// NATS, one agent, and the test as registry and scheduler.
pub(crate) struct Cluster {
    pub(crate) nats: NatsServer,
    pub(crate) bus: Bus,
    pub(crate) node: NodeId,
    pub(crate) ends: Arc<Mutex<Vec<AttemptEnd>>>,
    granted: Arc<Mutex<Vec<Granted>>>,
    pub(crate) registrations: Arc<Mutex<Vec<Registration>>>,
    /// Whether the scheduler takes note of ends.
    pub(crate) is_listening: Arc<Mutex<bool>>,
    agent: Agent,
    agent_login: orchion_bus::Config,
    own: Supervisor,
}

/// What a cluster is made of.
#[derive(Default)]
pub(crate) struct Setup {
    /// The engines that the agent is told of.
    pub(crate) engines: Vec<EngineSettings>,
    /// Where it looks for engines.
    pub(crate) probe: Vec<String>,
    /// Whether everybody logs in with the role that the product gives him.
    pub(crate) has_roles: bool,
}

impl Setup {
    pub(crate) async fn start(self) -> Cluster {
        let roles = self.has_roles.then(Passwords::generate);
        let nats = match &roles {
            Some(passwords) => {
                let folder = tempfile::tempdir().unwrap();
                let access = Access::Network(passwords.clone());
                let config = install(folder.path(), &access).unwrap();
                // Kept: a restart reads it again.
                let _kept = folder.keep();
                NatsServer::with_config(&config, &[]).await
            }
            None => NatsServer::start().await,
        };
        let at = |user: &str, password: Option<&String>| orchion_bus::Config {
            url: nats.url(),
            user: password.map(|_| user.to_owned()),
            password: password.map(|password| Secret::new(password.as_str())),
            ..orchion_bus::Config::default()
        };
        let service = at("service", roles.as_ref().map(|roles| &roles.service));
        let own = Supervisor::new("test", Duration::from_secs(1));
        let identity = Identity::of(own.tasks()).unwrap();
        let bus = Bus::connect(&service, identity, &own.stop()).await.unwrap();
        bus.ensure_all().await.unwrap();
        let (ends, granted, registrations) = (Arc::default(), Arc::default(), Arc::default());
        let is_listening = Arc::new(Mutex::new(true));
        play(&bus, &ends, &granted, &registrations, &is_listening).await;
        let node = NodeId::new("pi-4").unwrap();
        let agent_login = at("agent", roles.as_ref().map(|roles| &roles.agent));
        let settings = NodeAgent {
            node_id: Some(node.to_string()),
            probe: self.probe,
            engines: self.engines,
            ..NodeAgent::default()
        };
        Cluster {
            agent: Agent::start(agent_login.clone(), settings),
            agent_login,
            nats,
            bus,
            node,
            ends,
            granted,
            registrations,
            is_listening,
            own,
        }
    }
}

impl Cluster {
    /// One agent with this engine.
    pub(crate) async fn with(engine: &MockEngine) -> Self {
        Self::with_engines(vec![settings(engine)]).await
    }

    pub(crate) async fn with_engines(engines: Vec<EngineSettings>) -> Self {
        let count = engines.len();
        let setup = Setup {
            engines,
            ..Setup::default()
        };
        let cluster = setup.start().await;
        cluster.until_served(count).await;
        cluster
    }

    /// Another agent, as node `id`.
    pub(crate) fn join(&self, id: &str, settings: NodeAgent) -> Agent {
        let settings = NodeAgent {
            node_id: Some(id.to_owned()),
            ..settings
        };
        Agent::start(self.agent_login.clone(), settings)
    }

    /// Waits until the registry knows so many replicas that take requests.
    pub(crate) async fn until_served(&self, count: usize) {
        eventually("the replicas to be known", PATIENCE, async || {
            let ready = self
                .replicas()
                .iter()
                .filter(|replica| replica.ready)
                .count();
            (ready == count)
                .then_some(())
                .ok_or_else(|| self.replicas())
        })
        .await;
    }

    /// What the registry knows last of the first node.
    pub(crate) fn replicas(&self) -> Vec<Replica> {
        self.replicas_of(self.node.as_str())
    }

    /// What the registry knows last of a node.
    pub(crate) fn replicas_of(&self, node: &str) -> Vec<Replica> {
        let registrations = self.registrations.lock().unwrap();
        let its = registrations
            .iter()
            .rfind(|last| last.node.as_str() == node);
        its.map(|last| last.replicas.clone()).unwrap_or_default()
    }

    pub(crate) fn instance(&self) -> InstanceId {
        self.agent.instance.clone()
    }

    /// An order for the first attempt at a new job.
    pub(crate) fn order(&self, ask: &Ask) -> RunOrder {
        RunOrder {
            job: JobId::now(),
            reader: ReaderId::new("test").unwrap(),
            attempt: 1,
            instance: self.instance(),
            replica: self.replicas()[0].id.clone(),
            epoch: 1,
            spec: spec(ask),
            prefix_by: None,
            remaining_ms: 60_000,
            correlation_id: "c".to_owned(),
            granted_ms: None,
        }
    }

    /// Marks the next attempt in the transcript, as the scheduler does.
    pub(crate) async fn mark(&self, before: &RunOrder, replica: &Replica) -> RunOrder {
        let attempt = before.attempt + 1;
        let mark = Entry::Mark(Mark {
            attempt,
            node: self.node.clone(),
            instance: self.instance(),
        });
        self.append(before, &mark).await;
        RunOrder {
            attempt,
            replica: replica.id.clone(),
            prefix_by: Some(replica.engine.clone()),
            ..before.clone()
        }
    }

    /// Forces an entry behind whatever is last.
    pub(crate) async fn append(&self, order: &RunOrder, entry: &Entry) {
        let subject = subject(order);
        let payload = serde_json::to_vec(entry).unwrap();
        eventually("the entry to be stored", PATIENCE, async || {
            let last = self.bus.last(TRANSCRIPTS.name, &subject).await.unwrap();
            let after = last.map_or(0, |last| last.sequence);
            self.bus
                .append(&subject, payload.clone().into(), after)
                .await
        })
        .await;
    }

    pub(crate) async fn run(&self, order: &RunOrder) -> RunReply {
        let asked = self.bus.ask(&RUN, &self.node, order, PATIENCE);
        asked.await.unwrap()
    }

    pub(crate) async fn accepted(&self, order: &RunOrder) {
        assert_eq!(self.run(order).await, RunReply::Accepted);
    }

    pub(crate) async fn cancel(&self, order: &RunOrder, reason: CancelReason) -> CancelReply {
        let cancel = CancelOrder {
            job: order.job,
            attempt: order.attempt,
            epoch: order.epoch,
            reason,
        };
        let asked = self.bus.ask(&CANCEL, &self.node, &cancel, PATIENCE);
        asked.await.unwrap()
    }

    /// The end of an attempt, as the scheduler was told.
    pub(crate) async fn end(&self, order: &RunOrder) -> AttemptEnd {
        eventually("the end to be told", PATIENCE, async || {
            let ends = self.ends.lock().unwrap();
            let is_it = |end: &&AttemptEnd| (end.job, end.attempt) == (order.job, order.attempt);
            ends.iter().find(is_it).cloned()
        })
        .await
    }

    /// The job of an order, as the scheduler was told with its end.
    pub(crate) fn granted_of(&self, order: &RunOrder) -> Option<Granted> {
        let granted = self.granted.lock().unwrap();
        granted
            .iter()
            .find(|told| told.job.id == order.job)
            .cloned()
    }

    /// What a caller sees of a job so far.
    pub(crate) async fn shown(&self, order: &RunOrder) -> Seen {
        let last = self
            .bus
            .last(TRANSCRIPTS.name, &subject(order))
            .await
            .unwrap();
        let mut seen = Seen::default();
        let Some(last) = last else { return seen };
        let mut reading = self
            .bus
            .read(TRANSCRIPTS.name, &subject(order), From::Beginning)
            .await
            .unwrap();
        let mut reader = Reader::new();
        loop {
            let stored = reading.next().await.unwrap();
            let entry: Entry = serde_json::from_slice(&stored.payload).unwrap();
            seen.entries.push(entry.clone());
            let mut shown = Vec::new();
            reader.apply(stored.sequence, entry, &mut shown).unwrap();
            for shown in shown {
                match shown {
                    Shown::Piece { piece, .. } => {
                        seen.text.push_str(&piece.text.unwrap_or_default());
                        seen.pieces += 1;
                    }
                    Shown::Restarted { .. } => seen.text.clear(),
                    Shown::Ended(end) => seen.end = Some(*end),
                }
            }
            if stored.sequence >= last.sequence {
                return seen;
            }
        }
    }

    /// Waits until at least so many pieces are stored.
    pub(crate) async fn until_shown(&self, order: &RunOrder, pieces: usize) {
        eventually("pieces in the transcript", PATIENCE, async || {
            self.shown(order).await.pieces >= pieces
        })
        .await;
    }

    /// The final, once it is there.
    pub(crate) async fn answer(&self, order: &RunOrder) -> Seen {
        eventually("the final", PATIENCE, async || {
            let seen = self.shown(order).await;
            seen.end.is_some().then_some(seen)
        })
        .await
    }

    /// Asks the agent to stop.
    pub(crate) fn stop_agent(&self) {
        self.agent.stop();
    }

    /// Waits for the agent's end.
    pub(crate) async fn agent_ended(self) -> Result<(), String> {
        let ended = self.agent.ended().await;
        self.own.stop().request();
        ended
    }
}

/// How the agent is told of an engine.
pub(crate) fn settings(engine: &MockEngine) -> EngineSettings {
    EngineSettings {
        continuation: Some(Continuation::Text),
        slots: Some(8),
        ..EngineSettings::at(EngineKind::OpenAi, engine.url())
    }
}

pub(crate) fn spec(ask: &Ask) -> JobSpec {
    let body = json!({"messages": [{"content": ask.marker(), "role": "user"}]});
    JobSpec {
        workload: Workload::Chat,
        model: "mock".into(),
        body: RawValue::from_string(body.to_string()).unwrap(),
        body_ref: None,
        max_tokens: None,
        seed: Some(7),
        priority: Priority::Interactive,
        seed_drawn: false,
        deadline_ms: 60_000,
        whole: false,
        timeouts: Default::default(),
        expected_tokens: None,
        placement: None,
    }
}

fn subject(order: &RunOrder) -> String {
    TRANSCRIPT.to(&(order.reader.clone(), order.job))
}

/// Answers as registry and scheduler would.
async fn play(
    bus: &Bus,
    ends: &Arc<Mutex<Vec<AttemptEnd>>>,
    granted: &Arc<Mutex<Vec<Granted>>>,
    registrations: &Arc<Mutex<Vec<Registration>>>,
    is_listening: &Arc<Mutex<bool>>,
) {
    let service = bus.service("plays registry and scheduler").await.unwrap();
    let mut registers = service.endpoint(REGISTER, "registry").await.unwrap();
    let mut told = service.endpoint(ENDED, "scheduler").await.unwrap();
    let mut changes = bus.subscribe(CAPABILITY).await.unwrap();
    let (ends, known, is_listening) = (ends.clone(), registrations.clone(), is_listening.clone());
    let granted = granted.clone();
    spawn(async move {
        let _service = service;
        loop {
            tokio::select! {
                asked = registers.next() => {
                    let Some(asked) = asked else { return };
                    let (registration, asked) = asked.split();
                    known.lock().unwrap().push(registration);
                    asked.answer(Ok(Registered { first_seen_ms: 1, replaced: None })).await;
                }
                asked = told.next() => {
                    let Some(asked) = asked else { return };
                    let (batch, asked): (EndedBatch, _) = asked.split();
                    if *is_listening.lock().unwrap() {
                        granted.lock().unwrap().extend(batch.granted);
                        ends.lock().unwrap().extend(batch.ends);
                        asked.answer(Ok(Empty {})).await;
                    }
                }
                changed = changes.next() => {
                    let Some((_, registration)) = changed else { return };
                    known.lock().unwrap().push(registration);
                }
            }
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "a test is its own supervisor")]
pub(crate) fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(future)
}
