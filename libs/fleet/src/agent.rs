//! A light agent: a connection of its own and the messages of a real one.
//!
//! It registers, beats, answers orders, writes real transcripts by the product's
//! own writer, and tells ends. It has no engine: an answer is three tokens.

use anyhow::Context;
use orchion_bus::{Bus, Config, Identity, Service};
use orchion_contract::job::{
    AttemptEnd, AttemptOutcome, CancelReply, EndedBatch, JobEnd, Outcome, RunOrder, RunReply, Usage,
};
use orchion_contract::log::ServiceName;
use orchion_contract::node::{Heartbeat, Registration, ReplicaLoad, client_name};
use orchion_contract::rpc::{CANCEL, ENDED, REGISTER, RUN};
use orchion_contract::subjects::{HEARTBEAT, REGISTER_AGAIN, REGISTRY_HELLO, TRANSCRIPT};
use orchion_contract::transcript::{Entry, Final, Piece, Times};
use orchion_contract::{InstanceId, JobId, ModelName, NodeId};
use orchion_service::Stop;
use orchion_transcript::{Effect, Writer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two heartbeats, as an idle agent beats.
pub(crate) const BEAT: Duration = Duration::from_secs(5);
/// Tokens of an answer.
const TOKENS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(30);

/// When orders arrived and jobs ended, for whoever asked for them.
#[derive(Clone, Default)]
pub(crate) struct Arrivals(Arc<Mutex<HashMap<JobId, Arrival>>>);

/// What became of a job at its agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) ordered: Instant,
    pub(crate) ended: Option<Instant>,
}

impl Arrivals {
    fn ordered(&self, job: JobId) {
        let arrival = Arrival {
            ordered: Instant::now(),
            ended: None,
        };
        self.lock().entry(job).or_insert(arrival);
    }

    fn ended(&self, job: JobId) {
        if let Some(arrival) = self.lock().get_mut(&job) {
            arrival.ended.get_or_insert_with(Instant::now);
        }
    }

    pub(crate) fn of(&self, job: &JobId) -> Option<Arrival> {
        self.lock().get(job).copied()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Arrival>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registration as the contract's sample has it, with another name and model.
pub(crate) fn registration(number: usize, instance: &InstanceId) -> anyhow::Result<Registration> {
    let sample = include_str!("../../contract/samples/registration.json");
    let mut registration: Registration = serde_json::from_str(sample)?;
    registration.node = NodeId::new(format!("n{number}"))?;
    registration.instance = instance.clone();
    registration.hostname = format!("host-{number}");
    for replica in &mut registration.replicas {
        replica.model = model(number);
    }
    Ok(registration)
}

/// Twenty models over all nodes.
pub(crate) fn model(number: usize) -> ModelName {
    format!("model-{}", number % 20).into()
}

/// Connects and registers; what follows belongs to the caller.
pub(crate) struct Agent {
    bus: Bus,
    service: Service,
    registration: Registration,
    arrivals: Arrivals,
}

impl Agent {
    pub(crate) async fn start(
        url: &str,
        number: usize,
        arrivals: Arrivals,
    ) -> anyhow::Result<Self> {
        let instance = InstanceId::random();
        let registration = registration(number, &instance)?;
        let identity = Identity {
            client: client_name(&registration.node),
            service: ServiceName::new("node-agent")?,
            instance,
        };
        let config = Config {
            url: url.to_owned(),
            ..Config::default()
        };
        let bus = Bus::connect(&config, identity, &Stop::new()).await?;
        let service = bus.service("Runs attempts").await?;
        Ok(Self {
            bus,
            service,
            registration,
            arrivals,
        })
    }

    /// Lives until it is dropped.
    ///
    /// # Errors
    /// When its connection is closed.
    pub(crate) async fn live(self) -> anyhow::Result<()> {
        let node = &self.registration.node;
        let mut runs = self.service.endpoint_for(RUN, node, node.as_str()).await?;
        let mut stops = self
            .service
            .endpoint_for(CANCEL, node, node.as_str())
            .await?;
        let mut hello = self.bus.subscribe(REGISTRY_HELLO).await?;
        let mut again = self.bus.subscribe_to(REGISTER_AGAIN, node).await?;
        self.register().await?;
        let mut beats = tokio::time::interval(BEAT);
        let mut sequence = 0;
        let mut work = futures_util::stream::FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = beats.tick() => {
                    self.beat(sequence).await?;
                    sequence += 1;
                }
                asked = runs.next() => {
                    let (order, asked) = asked.context("listen for orders")?.split();
                    self.arrivals.ordered(order.job);
                    asked.answer(Ok(RunReply::Accepted)).await;
                    work.push(self.run(order));
                }
                asked = stops.next() => {
                    let asked = asked.context("listen for stop orders")?;
                    asked.answer(Ok(CancelReply::NotRunning)).await;
                }
                said = hello.next() => {
                    said.context("listen to the registry")?;
                    self.register().await?;
                }
                said = again.next() => {
                    said.context("listen to the registry")?;
                    self.register().await?;
                }
                Some(done) = futures_util::StreamExt::next(&mut work), if !work.is_empty() => done?,
            }
        }
    }

    async fn register(&self) -> anyhow::Result<()> {
        self.bus
            .ask_patiently(&REGISTER, &(), &self.registration, PATIENCE)
            .await
            .context("register")?;
        Ok(())
    }

    async fn beat(&self, sequence: u64) -> anyhow::Result<()> {
        let sample = include_str!("../../contract/samples/heartbeat.json");
        let mut beat: Heartbeat = serde_json::from_str(sample)?;
        beat.node = self.registration.node.clone();
        beat.instance = self.registration.instance.clone();
        beat.sequence = sequence;
        beat.interval_ms = u64::try_from(BEAT.as_millis())?;
        beat.running = Vec::new();
        let replicas = self.registration.replicas.iter();
        beat.replicas = replicas
            .zip(&beat.replicas)
            .map(|(replica, load)| ReplicaLoad {
                id: replica.id.clone(),
                slots: replica.slots,
                busy: 0,
                ready: true,
                ..load.clone()
            })
            .collect();
        self.bus.publish(&HEARTBEAT, &beat.node, &beat).await?;
        Ok(())
    }

    /// Writes the answer and tells its end.
    async fn run(&self, order: RunOrder) -> anyhow::Result<()> {
        let end = Final {
            attempt: order.attempt,
            rest: None,
            outcome: Outcome::Completed,
            finish_reason: Some("stop".to_owned()),
            usage: Usage {
                completion_tokens: TOKENS.into(),
                ..Usage::default()
            },
            error: None,
            engine: None,
            node: Some(self.registration.node.clone()),
            continued: None,
            times: Times::default(),
        };
        let mut writer = Writer::new(order.attempt, 0, 0);
        let subject = TRANSCRIPT.to(&(order.reader.clone(), order.job));
        for token in 0..TOKENS {
            writer.push(Piece {
                text: Some(format!("{token} ")),
                tokens: 1,
                ..Piece::default()
            });
            self.write(&mut writer, &subject).await?;
        }
        writer.finish(end.clone());
        self.write(&mut writer, &subject).await?;
        let ended = EndedBatch {
            node: self.registration.node.clone(),
            instance: self.registration.instance.clone(),
            granted: Vec::new(),
            ends: vec![AttemptEnd {
                job: order.job,
                attempt: order.attempt,
                how: AttemptOutcome::Final {
                    end: Box::new(JobEnd {
                        outcome: end.outcome,
                        at_ms: 0,
                        finish_reason: end.finish_reason,
                        usage: end.usage,
                        error: None,
                        continued: None,
                        times: end.times,
                    }),
                },
                sequence: writer.sequence(),
                stored: true,
            }],
        };
        self.bus
            .ask_patiently(&ENDED, &(), &ended, PATIENCE)
            .await
            .context("tell an end")?;
        self.arrivals.ended(order.job);
        Ok(())
    }

    /// Does what the writer asks for. Nobody else writes, and nothing is killed:
    /// whatever is refused is an error of this program.
    async fn write(&self, writer: &mut Writer, subject: &str) -> anyhow::Result<()> {
        while let Some(effect) = writer.next_effect() {
            let Effect::Publish { after, entry } = effect else {
                anyhow::bail!("the store did not take an entry");
            };
            let entry: Entry = entry;
            let payload = serde_json::to_vec(&entry)?;
            match self.bus.append(subject, payload.into(), after).await {
                Ok(sequence) => writer.acked(sequence),
                Err(_) => writer.unsure(),
            }
        }
        Ok(())
    }
}
