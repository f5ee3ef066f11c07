//! Slots that gateways may fill by themselves.
//!
//! Where the next chats of a gateway would go is decided beforehand, and told. A
//! grant reserves nothing: agents take no more than they have slots for, and the
//! scheduler goes on as if there were none. So it is given only while nobody
//! waits, for half of what is left beside recorded jobs, and for a moment.

use crate::Now;
use crate::filter::offers;
use crate::score::{Load, Strategy};
use crate::state::{ClusterState, ReplicaKey, ReplicaView};
use orchion_contract::job::{Assignment, Grant, Grants, ModelGrants, Workload};
use orchion_contract::node::NodeState;
use orchion_contract::{ModelName, ReaderId, UnixMs};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long slots are granted.
const FOR: Duration = Duration::from_secs(2);
/// How often they are granted anew, while they are wanted.
const EVERY: Duration = Duration::from_secs(1);
/// How long after its last chat a gateway is granted slots.
const WANTED: Duration = Duration::from_secs(2);
/// How long after what was recorded has changed.
const PACE: Duration = Duration::from_millis(50);
/// Replicas that one gateway may choose from, and chats that it may send at a time.
const CHOICES: usize = 8;
const TURNS: usize = 256;
/// Longest request of a replica that does not tell its context.
const LONGEST: u64 = 2048;

/// Who was granted what.
#[derive(Debug, Default)]
pub(crate) struct Granting {
    gateways: BTreeMap<ReaderId, Given>,
    /// When slots are granted again.
    due: Option<Now>,
    /// When they were granted last.
    told_at: Now,
}

#[derive(Debug, Default)]
struct Given {
    /// Models it had chats with, and when the last ones.
    wants: BTreeMap<ModelName, Now>,
    /// What it has.
    has: BTreeSet<(ModelName, ReplicaKey)>,
    until: Now,
}

impl Granting {
    /// A gateway has a chat with this model.
    pub(crate) fn wants(&mut self, gateway: &ReaderId, model: &ModelName, now: Now) {
        if !self.gateways.contains_key(gateway) {
            self.gateways.insert(gateway.clone(), Given::default());
        }
        let Some(given) = self.gateways.get_mut(gateway) else {
            return;
        };
        match given.wants.get_mut(model) {
            Some(last) => *last = now,
            None => {
                given.wants.insert(model.clone(), now);
                self.due = Some(now);
            }
        }
    }

    /// What is recorded of some replica has changed.
    pub(crate) fn has_changed(&mut self) {
        let soon = self.told_at + PACE;
        self.due = self.due.map(|due| due.min(soon));
    }

    /// When slots are granted again.
    pub(crate) fn next_due(&self) -> Option<Now> {
        self.due
    }

    /// What gateways are to be told now: slots anew, or that they have some no more.
    pub(crate) fn tell(
        &mut self,
        state: &ClusterState,
        epoch: u64,
        now: Now,
        unix_ms: UnixMs,
    ) -> Vec<(ReaderId, Grants)> {
        let is_due = self.due.is_some_and(|due| due <= now);
        if !is_due && self.is_good(state, now) {
            return Vec::new();
        }
        self.told_at = now;
        self.forget_unwanted(now);
        let gateways = self.gateways_of_models();
        let mut told = Vec::new();
        for (gateway, given) in &mut self.gateways {
            let wants = given.wants.keys();
            let models: Vec<ModelGrants> = wants
                .filter_map(|model| grants_of(state, model, gateways[model], now, unix_ms))
                .collect();
            let had = !given.has.is_empty() && given.until > now;
            given.has = models.iter().flat_map(places_of).collect();
            given.until = now + FOR;
            if had || !models.is_empty() {
                let for_ms = u64::try_from(FOR.as_millis()).unwrap_or_default();
                let grants = Grants {
                    epoch,
                    for_ms,
                    models,
                };
                told.push((gateway.clone(), grants));
            }
        }
        self.gateways.retain(|_, given| !given.wants.is_empty());
        self.due = (!self.gateways.is_empty()).then(|| now + EVERY);
        told
    }

    fn forget_unwanted(&mut self, now: Now) {
        for given in self.gateways.values_mut() {
            let is_wanted = |last: Now| now.saturating_sub(last) < WANTED;
            given.wants.retain(|_, last| is_wanted(*last));
        }
    }

    /// How many gateways share what is left of each model.
    fn gateways_of_models(&self) -> BTreeMap<ModelName, u32> {
        let mut gateways = BTreeMap::new();
        for model in self.gateways.values().flat_map(|given| given.wants.keys()) {
            *gateways.entry(model.clone()).or_default() += 1;
        }
        gateways
    }

    /// Whether all that was granted may still be used.
    fn is_good(&self, state: &ClusterState, now: Now) -> bool {
        let given = self.gateways.values().filter(|given| given.until > now);
        let mut has = given.flat_map(|given| &given.has);
        has.all(|(model, key)| state.queue_length(model) == 0 && is_there(state, key))
    }
}

fn places_of(grants: &ModelGrants) -> impl Iterator<Item = (ModelName, ReplicaKey)> {
    let place = |grant: &Grant| (grant.to.node.clone(), grant.to.replica.clone());
    let places = grants.places.iter().map(place);
    places.map(|place| (grants.model.clone(), place))
}

fn is_there(state: &ClusterState, key: &ReplicaKey) -> bool {
    let replica = state.replica(key);
    replica.is_some_and(|(node, view)| node.state == NodeState::Online && view.replica.ready)
}

/// The places of the next chats with a model of one of so many gateways, as the
/// strategy would choose them one after the other.
fn grants_of(
    state: &ClusterState,
    model: &ModelName,
    gateways: u32,
    now: Now,
    unix_ms: UnixMs,
) -> Option<ModelGrants> {
    if state.queue_length(model) > 0 || state.settings().pool(model).gpu_only {
        return None;
    }
    let free = state.free_of(model).filter_map(|(_, key)| {
        let (_, view) = state.replica(key)?;
        let load = state.load(key, view, 0, 0);
        is_trusted(view, now).then_some((key, view, load))
    });
    let mut free = free.peekable();
    let class = |load: &Load| (load.slow, load.loaded);
    let best = free.peek().map(|(_, _, load)| class(load))?;
    // Others are for when these are full.
    let fit = free.take_while(|(_, _, load)| class(load) == best);
    let mut rooms: Vec<Room<'_>> = fit
        .map(|(key, view, load)| Room {
            key,
            load,
            left: view.replica.slots.saturating_sub(view.recorded) / 2 / gateways.max(1),
        })
        .filter(|room| room.left > 0)
        .take(CHOICES)
        .collect();
    let turns = turns(&mut rooms, state.settings().strategy, state.turns());
    let place = |room: &Room<'_>| place(state, room.key, unix_ms);
    Some(ModelGrants {
        model: model.clone(),
        places: rooms.iter().filter_map(place).collect(),
        turns,
    })
    .filter(|grants| !grants.turns.is_empty())
}

/// Whether a replica may be given to whoever asks for its model. What takes memory by
/// the request is placed by what it needs.
fn is_trusted(view: &ReplicaView, now: Now) -> bool {
    let rests = view.breaker.rests_until(now).is_some() || view.breaker.is_on_trial(now);
    !rests && view.replica.memory_per_token_bytes.is_none() && offers(view, Workload::Chat)
}

/// A replica, while its turns are given out.
struct Room<'a> {
    key: &'a ReplicaKey,
    load: Load,
    left: u32,
}

fn turns(rooms: &mut [Room<'_>], strategy: &dyn Strategy, mut turn: u64) -> Vec<u8> {
    let mut turns = Vec::new();
    while turns.len() < TURNS {
        let rank = |room: &Room<'_>| (strategy.score(&room.load), room.key.clone());
        let open = rooms
            .iter_mut()
            .enumerate()
            .filter(|(_, room)| room.left > 0);
        let Some((number, best)) = open.min_by_key(|(_, room)| rank(room)) else {
            break;
        };
        turn += 1;
        best.left -= 1;
        best.load.used += 1;
        best.load.turn = turn;
        turns.extend(u8::try_from(number));
    }
    turns
}

fn place(state: &ClusterState, key: &ReplicaKey, unix_ms: UnixMs) -> Option<Grant> {
    let (node, view) = state.replica(key)?;
    let replica = &view.replica;
    Some(Grant {
        to: Assignment {
            node: key.0.clone(),
            instance: node.instance.clone(),
            replica: key.1.clone(),
            engine: replica.engine.clone(),
            at_ms: unix_ms,
        },
        longest: replica.ctx.map_or(LONGEST, u64::from),
    })
}
