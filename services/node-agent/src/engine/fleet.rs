//! Which engines this agent has: those that its owner names, those that run on
//! the host already, and the starter when there is no other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orchion_contract::node::EngineKind;
use orchion_service::{Stop, Tasks};

use super::claim::Claim;
use super::digest::Digests;
use super::http::{Client, Target};
use super::launch::Launch;
use super::llamacpp::LlamaCpp;
use super::openai::OpenAi;
use super::probe::{self, Found};
use super::roster::Roster;
use super::starter::Starter;
use super::{EngineAdapter, keeper, supervise};
use crate::config::{EngineSettings, NodeAgent};

/// How often an engine of another agent is asked for again.
const RETRY: Duration = Duration::from_secs(1);

/// Everything that is needed to take in engines.
#[derive(Clone)]
pub struct Fleet {
    roster: Roster,
    tasks: Tasks,
    settings: NodeAgent,
    data: PathBuf,
    digests: Digests,
}

impl Fleet {
    /// The engines that `settings` name, for `roster`; `data` is where engines
    /// that the agent starts may keep things.
    #[must_use]
    pub fn new(roster: Roster, tasks: &Tasks, settings: &NodeAgent, data: &Path) -> Self {
        Self {
            roster,
            tasks: tasks.clone(),
            settings: settings.clone(),
            data: data.join("engines"),
            digests: Digests::new(data.join("digests.json")),
        }
    }

    /// Takes in engines, and goes on looking for new ones.
    pub fn start(self) {
        for (n, engine) in self.settings.engines.iter().enumerate() {
            match engine.url.as_deref().map(Target::parse) {
                Some(Ok(target)) => self.attach(target, engine.clone()),
                // The configuration was checked.
                Some(Err(_)) => {}
                None => self.run(&format!("{}-{}", engine.kind, n + 1), engine.clone()),
            }
        }
        let tasks = self.tasks.clone();
        // Engines run to the end: answers lean on them.
        tasks.spawn_support("engines", |stop| self.look_around(stop));
    }

    /// Looks where engines usually are, again and again.
    async fn look_around(self, stop: Stop) -> anyhow::Result<()> {
        let mut claims = Vec::new();
        let mut is_first = true;
        while !stop.is_stopping() {
            if let Some(found) = stop.unless_stopped(self.find()).await {
                for (target, kind, claim) in found {
                    claims.push(claim);
                    self.keep(target, EngineSettings::new(kind));
                }
            }
            if is_first && self.roster.is_empty() {
                self.fall_back();
            }
            is_first = false;
            let pause = tokio::time::sleep(self.settings.capability_interval.get());
            stop.unless_stopped(pause).await;
        }
        Ok(())
    }

    /// Engines that run and are nobody's.
    async fn find(&self) -> Vec<(Target, EngineKind, Claim)> {
        let mut found = Vec::new();
        let known: BTreeSet<String> = self.roster.addresses();
        for url in &self.settings.probe {
            let Ok(target) = Target::parse(url) else {
                continue;
            };
            if known.contains(&target.authority()) {
                continue;
            }
            let kind = match probe::look(&Client::new(target.clone(), None)).await {
                Found::Engine(kind) => kind,
                Found::Gateway | Found::Nothing => continue,
            };
            match Claim::of(&target) {
                Ok(claim) => found.push((target, kind, claim)),
                Err(taken) => tracing::debug!("{taken}: leaving it alone"),
            }
        }
        found
    }

    /// Serves the engine at `target` as soon as no other agent does.
    fn attach(&self, target: Target, settings: EngineSettings) {
        let fleet = self.clone();
        // Counted from now on: the starter is not needed.
        let engine = self.add(name_at(settings.kind, &target), target.clone(), settings);
        self.tasks.spawn_support("engine", move |stop| async move {
            let claim = stop.unless_stopped(claim(&target)).await;
            let look = fleet.settings.capability_interval.get();
            keeper::keep(engine, fleet.roster, look, stop).await;
            drop(claim);
            Ok(())
        });
    }

    fn keep(&self, target: Target, settings: EngineSettings) {
        let engine = self.add(name_at(settings.kind, &target), target, settings);
        let (roster, look) = (self.roster.clone(), self.settings.capability_interval.get());
        self.tasks.spawn_support("engine", move |stop| async move {
            keeper::keep(engine, roster, look, stop).await;
            Ok(())
        });
    }

    /// Starts an engine and keeps it running.
    fn run(&self, name: &str, settings: EngineSettings) {
        let launch = match Launch::of(&settings, &self.data) {
            Ok(launch) => launch,
            Err(error) => {
                tracing::error!(
                    engine.name = name,
                    "engine {name} cannot be started: {error:#}"
                );
                return;
            }
        };
        // Learnt when it runs.
        let Ok(nowhere) = Target::parse("http://127.0.0.1:9") else {
            return;
        };
        let engine = self.add(name.to_owned(), nowhere, settings);
        let (roster, look) = (self.roster.clone(), self.settings.capability_interval.get());
        let last_call = self.tasks.stop().clone();
        self.tasks.spawn_support("engine", move |stop| async move {
            supervise::supervise(engine, launch, roster, look, last_call, stop).await;
            Ok(())
        });
    }

    /// Starts the starter engine, or says what else to do.
    fn fall_back(&self) {
        if !self.settings.starter {
            tracing::warn!(
                "this node has no engine: start one on a usual port, or name it under [[node-agent.engines]]"
            );
            return;
        }
        tracing::info!(
            "no engine runs on this host: starting the starter engine; \
             for daily use run llama-server, Ollama or vLLM"
        );
        let settings = EngineSettings {
            binary: self.settings.starter_binary.clone(),
            model: self.settings.starter_model.clone(),
            ..EngineSettings::new(EngineKind::Starter)
        };
        self.run("starter", settings);
    }

    fn add(
        &self,
        name: String,
        target: Target,
        settings: EngineSettings,
    ) -> std::sync::Arc<super::roster::Engine> {
        let client = Client::new(target, settings.api_key.as_ref());
        let adapter: Box<dyn EngineAdapter> = match settings.kind {
            EngineKind::LlamaCpp => Box::new(LlamaCpp::new(client, self.digests.clone())),
            EngineKind::Starter => Box::new(Starter::new(client)),
            EngineKind::OpenAi
            | EngineKind::Ollama
            | EngineKind::Vllm
            | EngineKind::Exo
            | EngineKind::Unknown => Box::new(OpenAi::new(client)),
        };
        self.roster.add(name, adapter, settings)
    }
}

fn name_at(kind: EngineKind, target: &Target) -> String {
    match target.is_loopback() {
        true => format!("{kind}-{}", target.port()),
        false => format!("{kind}-{}-{}", target.host(), target.port()),
    }
}

/// Waits for the engine to be nobody's; says so once.
async fn claim(target: &Target) -> Claim {
    let mut was_said = false;
    loop {
        match Claim::of(target) {
            Ok(claim) => return claim,
            Err(taken) if !was_said => {
                was_said = true;
                tracing::warn!("{taken}: waiting until it is free");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}
