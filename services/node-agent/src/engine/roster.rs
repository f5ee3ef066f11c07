//! The engines of this agent and what they serve now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use orchion_contract::job::{JobSpec, Workload};
use orchion_contract::node::{EngineKind, EngineRef, Replica};
use orchion_contract::{ModelName, ReplicaId};
use orchion_node_agent_core::{Pace, Seat};
use tokio::sync::{Notify, watch};

use super::{Delivery, EngineAdapter, Probed, Served};
use crate::config::EngineSettings;
use crate::gpu::Gpus;

/// Requests at once, where neither the engine nor the owner says.
const USUAL_SLOTS: u32 = 4;

/// One engine of this host.
pub struct Engine {
    /// Its number within this agent process.
    pub number: u32,
    /// What its replicas are called after; unique within the node.
    pub name: String,
    /// How it is asked.
    pub adapter: Box<dyn EngineAdapter>,
    /// What the owner says about it.
    pub settings: EngineSettings,
    /// Somebody doubts that it lives: look now.
    pub doubt: Notify,
    /// How fast it answers; the slowest of its models counts.
    pace: Mutex<Pace>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.name)
    }
}

impl Engine {
    /// How it has to be asked for an answer.
    #[must_use]
    pub fn delivery(&self, spec: &JobSpec) -> Delivery {
        let is_brief = self.pace().is_brief(spec);
        match is_brief && self.adapter.notices_hang_ups() {
            true => Delivery::Whole,
            false => Delivery::Stream,
        }
    }

    /// An answer of `tokens` took so long.
    pub fn took(&self, tokens: u64, took: Duration) {
        self.pace().learn(tokens, took);
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it serves, by what it says and what its owner says.
    #[must_use]
    pub fn replicas(&self, probed: &Probed) -> Vec<Replica> {
        let wanted = |served: &&Served| {
            self.settings.models.is_empty() || self.settings.models.contains(&served.name)
        };
        probed
            .models
            .iter()
            .filter(wanted)
            .map(|served| self.replica(probed, served))
            .collect()
    }

    fn replica(&self, probed: &Probed, served: &Served) -> Replica {
        let kind = self.adapter.kind();
        let slots = self.settings.slots.or(probed.slots);
        let digest = self.settings.digest.clone();
        Replica {
            id: replica_id(&self.name, &served.name),
            model: ModelName::from(&served.name),
            engine: EngineRef {
                kind,
                version: probed.version.clone(),
                digest: digest.or_else(|| served.digest.clone()),
            },
            slots: slots.unwrap_or(USUAL_SLOTS).max(1),
            ctx: served.ctx,
            continuation: self.settings.continuation.unwrap_or(probed.continuation),
            ready: true,
            workloads: workloads(kind).to_vec(),
            devices: self.devices(),
            memory_per_token_bytes: None,
        }
    }

    /// The accelerators that it runs on, where that is certain: a starter uses
    /// none, and on a host with one there is no other.
    fn devices(&self) -> Option<Vec<u32>> {
        if self.adapter.kind() == EngineKind::Starter {
            return Some(Vec::new());
        }
        let is_here = self.adapter.client().target().is_loopback();
        let only = Gpus::find().only().filter(|_| is_here)?;
        Some(vec![only])
    }
}

fn workloads(kind: EngineKind) -> &'static [Workload] {
    match kind {
        EngineKind::LlamaCpp
        | EngineKind::Ollama
        | EngineKind::Vllm
        | EngineKind::Exo
        | EngineKind::OpenAi
        | EngineKind::Starter => &[Workload::Chat, Workload::Completion],
        EngineKind::Unknown => &[],
    }
}

/// `llamacpp-8080-qwen2-5-1a2b3c4d`: readable, unique, a safe token.
fn replica_id(engine: &str, model: &str) -> ReplicaId {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let slug: String = model.chars().map(plain).take(24).collect();
    let hash = model.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let engine: String = engine.chars().map(plain).take(28).collect();
    let id = format!("{engine}-{slug}-{hash:08x}");
    ReplicaId::new(&id).unwrap_or_else(|_| ReplicaId::random())
}

/// A replica and the engine behind it.
#[derive(Debug, Clone)]
pub struct Place {
    /// The engine.
    pub engine: Arc<Engine>,
    /// What it serves there.
    pub replica: Replica,
}

impl Place {
    /// Whether its weights are in memory. A llama-server and a starter load their
    /// one model before they answer; what others do is their own affair.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        match self.replica.engine.kind {
            EngineKind::LlamaCpp | EngineKind::Starter => self.replica.ready,
            EngineKind::Ollama
            | EngineKind::Vllm
            | EngineKind::Exo
            | EngineKind::OpenAi
            | EngineKind::Unknown => true,
        }
    }

    /// What the ledger needs to know of it.
    #[must_use]
    pub fn seat(&self) -> Seat {
        Seat {
            engine: self.engine.number,
            slots: self.replica.slots,
            is_ready: self.replica.ready,
        }
    }
}

/// Every engine of this agent; clones share it.
#[derive(Debug, Clone)]
pub struct Roster {
    state: Arc<Mutex<State>>,
    replicas: Arc<watch::Sender<Vec<Replica>>>,
}

#[derive(Debug, Default)]
struct State {
    numbers: u32,
    engines: BTreeMap<u32, Arc<Engine>>,
    places: BTreeMap<ReplicaId, Place>,
    is_closed: bool,
}

impl Roster {
    /// No engine yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            replicas: Arc::new(watch::Sender::new(Vec::new())),
        }
    }

    /// Takes in an engine that serves nothing yet.
    pub fn add(
        &self,
        name: impl Into<String>,
        adapter: Box<dyn EngineAdapter>,
        settings: EngineSettings,
    ) -> Arc<Engine> {
        let mut state = self.lock();
        state.numbers += 1;
        let engine = Arc::new(Engine {
            number: state.numbers,
            name: name.into(),
            adapter,
            settings,
            doubt: Notify::new(),
            pace: Mutex::default(),
        });
        state.engines.insert(engine.number, engine.clone());
        engine
    }

    /// An engine serves these replicas now, and no others.
    pub fn serves(&self, engine: &Arc<Engine>, replicas: Vec<Replica>) {
        let mut state = self.lock();
        state
            .places
            .retain(|_, place| place.engine.number != engine.number);
        for replica in replicas {
            let place = Place {
                engine: engine.clone(),
                replica: replica.clone(),
            };
            state.places.insert(replica.id, place);
        }
        self.publish(&state);
    }

    /// An engine does not answer: its replicas stay known and take nothing.
    pub fn is_down(&self, engine: &Engine) {
        let mut state = self.lock();
        for place in state.places.values_mut() {
            if place.engine.number == engine.number {
                place.replica.ready = false;
            }
        }
        self.publish(&state);
    }

    /// The agent stops: nothing here takes requests any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        self.publish(&state);
    }

    /// The replica of this id.
    #[must_use]
    pub fn place(&self, id: &ReplicaId) -> Option<Place> {
        let state = self.lock();
        state.places.get(id).map(|place| state.shown(place))
    }

    /// Every place, in the order of ids.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let state = self.lock();
        let shown = state.places.values().map(|place| state.shown(place));
        shown.collect()
    }

    /// Whether there is no engine, alive or not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().engines.is_empty()
    }

    /// Where engines are, alive or not.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<String> {
        let state = self.lock();
        let at = |engine: &Arc<Engine>| engine.adapter.client().target().authority();
        state.engines.values().map(at).collect()
    }

    /// What is served now, and every change of it.
    #[must_use]
    pub fn replicas(&self) -> watch::Receiver<Vec<Replica>> {
        self.replicas.subscribe()
    }

    fn publish(&self, state: &State) {
        let shown = state.places.values().map(|place| state.shown(place));
        let all: Vec<Replica> = shown.map(|place| place.replica).collect();
        self.replicas.send_if_modified(|known| {
            let is_new = *known != all;
            *known = all;
            is_new
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A place as others see it: nothing takes requests once the agent stops.
    fn shown(&self, place: &Place) -> Place {
        let mut place = place.clone();
        place.replica.ready &= !self.is_closed;
        place
    }
}

impl Default for Roster {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::http::{Client, Target};
    use crate::engine::starter::Starter;
    use orchion_contract::node::Continuation;

    #[test]
    fn a_starter_runs_on_no_accelerator_and_is_loaded_while_it_answers() {
        let target = Target::parse("http://127.0.0.1:9").unwrap();
        let adapter = Box::new(Starter::new(Client::new(target, None)));
        let roster = Roster::new();
        let engine = roster.add("starter", adapter, EngineSettings::new(EngineKind::Starter));
        let tiny = Served {
            name: "tiny".to_owned(),
            ctx: None,
            digest: None,
        };
        let probed = Probed {
            version: None,
            models: vec![tiny],
            slots: None,
            continuation: Continuation::Ids,
        };
        roster.serves(&engine, engine.replicas(&probed));
        let place = || roster.places().remove(0);
        assert_eq!(place().replica.devices, Some(Vec::new()));
        assert!(place().is_loaded());
        roster.is_down(&engine);
        assert!(!place().is_loaded());
    }

    #[test]
    fn replica_ids_are_safe_tokens_and_tell_models_apart() {
        let one = replica_id("llamacpp-8080", "Qwen/Qwen2.5-0.5B: é");
        let two = replica_id("llamacpp-8080", "Qwen/Qwen2.5-0.5B: è");
        assert!(one.as_str().starts_with("llamacpp-8080-Qwen-Qwen2-5-0-5B"));
        assert_ne!(one, two);
    }
}
