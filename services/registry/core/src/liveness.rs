//! Judges who is there: by heartbeats, by the server's connection events, and
//! by their absence.
//!
//! What is *seen* counts at once: a beat, a connection that came, a connection
//! that ended. What is *missing* counts only for an observer who was itself
//! connected, and awake, without a break for [`GRACE`]: after a restart of NATS
//! everybody is missing for a moment, and nobody is dead.

use crate::{Now, Settings};
use orchion_contract::NodeId;
use orchion_contract::node::NodeState;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long an observer must have watched before absence means anything.
pub const GRACE: Duration = Duration::from_secs(5);
/// How long a node without a connection may take to come back.
pub const SUSPICION: Duration = Duration::from_millis(300);
/// A beat so soon after the end of a connection was sent before it.
const IN_FLIGHT: Duration = Duration::from_millis(100);
/// The longest pause between two inputs; [`Liveness::next_deadline`] sees to it.
const PULSE: Duration = Duration::from_secs(1);
/// A longer pause means that the observer itself was not running.
const ASLEEP: Duration = Duration::from_secs(3);
/// Bounds for the interval that a node announces.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));
/// Reason of the server for connections that end because it ends itself.
const SERVER_ENDS: &str = "Server Shutdown";

/// A connection as the server numbers it: server id and number.
pub type Connection = (String, u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Since when each of our own connections has been there without a break.
    /// Told before every other input.
    Watching {
        /// The one over which heartbeats come.
        beats: Option<Now>,
        /// The one over which the server's connection events come.
        connections: Option<Now>,
    },
    /// A record was found in the bucket.
    Restored {
        /// The node.
        node: NodeId,
        /// Its longest time between two beats.
        interval: Duration,
        /// What the record says.
        state: NodeState,
    },
    /// A node made itself known.
    Registered {
        /// The node.
        node: NodeId,
        /// Its longest time between two beats.
        interval: Duration,
    },
    /// A node was taken off the list.
    Removed(NodeId),
    /// The registered process of a node beat.
    Beat {
        /// The node.
        node: NodeId,
        /// When the next one is due.
        interval: Duration,
    },
    /// A node's agent opened a connection.
    Connected {
        /// The node.
        node: NodeId,
        /// The connection.
        connection: Connection,
    },
    /// A connection of a node's agent ended.
    Disconnected {
        /// The node.
        node: NodeId,
        /// The connection.
        connection: Connection,
        /// Why, in the server's words.
        reason: String,
    },
    /// The connections there were when the server answered.
    Listed {
        /// When the question was sent.
        asked: Now,
        /// The connections of agents.
        connections: Vec<(NodeId, Connection)>,
    },
    /// Time has passed.
    Tick,
}

/// What the shell owes the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A node's state changed.
    Changed {
        /// The node.
        node: NodeId,
        /// Its state now.
        state: NodeState,
        /// Why, as a sentence.
        reason: String,
    },
    /// Ask the server for its connections; answer with [`Input::Listed`].
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Online,
    /// Its last connection ended at this time, and we saw it.
    Unconnected(Now),
    /// Suspected when our own view was interrupted, or before our time.
    Unwatched,
    /// Two beats are missing.
    Silent,
    Lost,
}

impl State {
    fn shown(self) -> NodeState {
        match self {
            Self::Online => NodeState::Online,
            Self::Unconnected(_) | Self::Unwatched | Self::Silent => NodeState::Suspect,
            Self::Lost => NodeState::Lost,
        }
    }
}

#[derive(Debug, Clone)]
struct Member {
    state: State,
    interval: Duration,
    /// Last beat or registration.
    alive: Option<Now>,
    /// Its place in the queue of deadlines.
    due: Option<Now>,
}

/// Every node's signs of life.
#[derive(Debug, Clone)]
pub struct Liveness {
    settings: Settings,
    members: BTreeMap<NodeId, Member>,
    /// Live connections by node, each with the time we learnt of it. Known
    /// before a node registers.
    connections: BTreeMap<NodeId, BTreeMap<Connection, Now>>,
    /// Connections that ended, so that an older list does not revive them.
    ended: BTreeMap<Connection, Now>,
    deadlines: BTreeSet<(Now, NodeId)>,
    watching_beats: Option<Now>,
    watching_connections: Option<Now>,
    awake_since: Now,
    last_input: Now,
    next_list: Option<Now>,
    owed: Vec<Effect>,
}

impl Liveness {
    /// An observer who begins now and knows nobody.
    #[must_use]
    pub fn new(settings: Settings, now: Now) -> Self {
        Self {
            settings,
            members: BTreeMap::new(),
            connections: BTreeMap::new(),
            ended: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            watching_beats: None,
            watching_connections: None,
            awake_since: now,
            last_input: now,
            next_list: None,
            owed: Vec::new(),
        }
    }

    /// A node's state, if it is known.
    #[must_use]
    pub fn state(&self, node: &NodeId) -> Option<NodeState> {
        self.members.get(node).map(|member| member.state.shown())
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Now {
        let pulse = self.last_input + PULSE;
        let first = self.deadlines.first().map_or(pulse, |(due, _)| *due);
        first.min(pulse).min(self.next_list.unwrap_or(pulse))
    }

    /// What the shell must do now, if anything.
    pub fn next_effect(&mut self) -> Option<Effect> {
        (!self.owed.is_empty()).then(|| self.owed.remove(0))
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.stay_awake(now);
        match input {
            Input::Watching { beats, connections } => self.watching(beats, connections, now),
            Input::Restored {
                node,
                interval,
                state,
            } => self.restored(node, interval, state),
            Input::Registered { node, interval } => self.registered(node, interval, now),
            Input::Removed(node) => self.removed(&node),
            Input::Beat { node, interval } => self.beat(&node, interval, now),
            Input::Connected { node, connection } => self.connected(&node, connection, now),
            Input::Disconnected {
                node,
                connection,
                reason,
            } => self.disconnected(&node, connection, &reason, now),
            Input::Listed { asked, connections } => self.listed(asked, connections, now),
            Input::Tick => {}
        }
        self.judge(now);
    }

    /// Who slept cannot tell who was silent meanwhile.
    fn stay_awake(&mut self, now: Now) {
        if now.saturating_sub(self.last_input) > ASLEEP {
            self.awake_since = now;
        }
        self.last_input = now;
    }

    fn watching(&mut self, beats: Option<Now>, connections: Option<Now>, now: Now) {
        let unchanged = beats == self.watching_beats && connections == self.watching_connections;
        if unchanged {
            return;
        }
        if connections != self.watching_connections {
            self.connections.clear();
            self.ended.clear();
            self.next_list = connections.map(|_| now);
        }
        self.watching_beats = beats;
        self.watching_connections = connections;
        for member in self.members.values_mut() {
            if matches!(member.state, State::Unconnected(_)) {
                member.state = State::Unwatched;
            }
        }
        let nodes: Vec<NodeId> = self.members.keys().cloned().collect();
        for node in &nodes {
            self.schedule(node);
        }
    }

    fn restored(&mut self, node: NodeId, interval: Duration, state: NodeState) {
        let state = match state {
            NodeState::Online => State::Online,
            NodeState::Suspect | NodeState::Unknown => State::Unwatched,
            NodeState::Lost => State::Lost,
        };
        self.insert(node, state, interval, None);
    }

    fn registered(&mut self, node: NodeId, interval: Duration, now: Now) {
        let before = self.members.get(&node).map(|member| member.state.shown());
        self.insert(node.clone(), State::Online, interval, Some(now));
        if before.is_some_and(|before| before != NodeState::Online) {
            self.tell(&node, "it registered again");
        }
    }

    fn insert(&mut self, node: NodeId, state: State, interval: Duration, alive: Option<Now>) {
        let due = self.members.get(&node).and_then(|member| member.due);
        let member = Member {
            state,
            interval: interval.clamp(INTERVALS.0, INTERVALS.1),
            alive,
            due,
        };
        self.members.insert(node.clone(), member);
        self.schedule(&node);
    }

    fn removed(&mut self, node: &NodeId) {
        let member = self.members.remove(node);
        if let Some(due) = member.and_then(|member| member.due) {
            self.deadlines.remove(&(due, node.clone()));
        }
    }

    fn beat(&mut self, node: &NodeId, interval: Duration, now: Now) {
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        match member.state {
            // Sent before the connection ended; it only came another way.
            State::Unconnected(since) if now < since + IN_FLIGHT => return,
            State::Online
            | State::Unconnected(_)
            | State::Unwatched
            | State::Silent
            | State::Lost => {}
        }
        member.alive = Some(now);
        member.interval = interval.clamp(INTERVALS.0, INTERVALS.1);
        self.change(node, State::Online, "it beats");
    }

    fn connected(&mut self, node: &NodeId, connection: Connection, now: Now) {
        let known = self.connections.entry(node.clone()).or_default();
        known.insert(connection, now);
        self.reconnected(node);
    }

    /// A connection clears the suspicion that there is none, and no other. Who
    /// was lost must beat or register to be back.
    fn reconnected(&mut self, node: &NodeId) {
        match self.members.get(node).map(|member| member.state) {
            Some(State::Unconnected(_) | State::Unwatched) => {
                self.change(node, State::Online, "it is connected again");
            }
            Some(State::Online | State::Silent | State::Lost) | None => {}
        }
    }

    fn disconnected(&mut self, node: &NodeId, connection: Connection, reason: &str, now: Now) {
        if reason == SERVER_ENDS {
            // The server goes, not the node: what follows is our own reconnection.
            return;
        }
        if let Some(known) = self.connections.get_mut(node) {
            known.remove(&connection);
        }
        self.ended.insert(connection, now);
        self.ended.retain(|_, ended| *ended + GRACE * 2 > now);
        if self.has_connection(node) {
            return;
        }
        self.connections.remove(node);
        self.suspect(node, &format!("its connection ended: {reason}"), now);
    }

    fn suspect(&mut self, node: &NodeId, reason: &str, now: Now) {
        match self.members.get(node).map(|member| member.state) {
            Some(State::Online | State::Unwatched | State::Silent) => {
                self.change(node, State::Unconnected(now), reason);
            }
            Some(State::Unconnected(_) | State::Lost) | None => {}
        }
    }

    fn has_connection(&self, node: &NodeId) -> bool {
        self.connections
            .get(node)
            .is_some_and(|known| !known.is_empty())
    }

    fn listed(&mut self, asked: Now, connections: Vec<(NodeId, Connection)>, now: Now) {
        let Some(since) = self.watching_connections.filter(|since| asked >= *since) else {
            return;
        };
        let settled = since.max(self.awake_since) + GRACE;
        let mut listed = BTreeMap::<NodeId, BTreeSet<Connection>>::new();
        for (node, connection) in connections {
            if self
                .ended
                .get(&connection)
                .is_none_or(|ended| *ended < asked)
            {
                listed.entry(node).or_default().insert(connection);
            }
        }
        for (node, found) in &listed {
            let known = self.connections.entry(node.clone()).or_default();
            for connection in found {
                known.entry(connection.clone()).or_insert(now);
            }
            self.reconnected(node);
        }
        if asked >= settled {
            self.forget_unlisted(&listed, asked, now);
            self.next_list = Some(now + self.settings.sweep_interval);
        } else {
            self.next_list = Some(settled);
        }
    }

    /// Absence in the list of an observer who watched long enough.
    fn forget_unlisted(
        &mut self,
        listed: &BTreeMap<NodeId, BTreeSet<Connection>>,
        asked: Now,
        now: Now,
    ) {
        let mut missed = BTreeSet::new();
        self.connections.retain(|node, known| {
            let found = listed.get(node);
            known.retain(|connection, learnt| {
                *learnt >= asked || found.is_some_and(|found| found.contains(connection))
            });
            if known.is_empty() {
                missed.insert(node.clone());
            }
            !known.is_empty()
        });
        let since = self.watching_connections;
        // Who beats without a connection of the expected name is there all the same.
        let in_doubt = |member: &Member| member.alive < since || member.state == State::Unwatched;
        let absent = self
            .members
            .iter()
            .filter(|(node, member)| in_doubt(member) && !self.connections.contains_key(*node));
        missed.extend(absent.map(|(node, _)| node.clone()));
        for node in &missed {
            self.suspect(node, "the server knows no connection of it", now);
        }
    }

    fn judge(&mut self, now: Now) {
        if self.next_list.is_some_and(|at| now >= at) {
            // Asked again if no answer comes.
            self.next_list = Some(now + GRACE);
            self.owed.push(Effect::List);
        }
        while let Some((due, node)) = self.deadlines.pop_first() {
            if due > now {
                self.deadlines.insert((due, node));
                return;
            }
            if let Some(member) = self.members.get_mut(&node) {
                member.due = None;
            }
            match self.verdict(&node) {
                Some(verdict) if verdict.at <= now => {
                    let reason = verdict.reason();
                    self.change(&node, verdict.state, &reason);
                }
                Some(_) | None => self.schedule(&node),
            }
        }
    }

    /// What becomes of a node when nothing more is heard of it, and when.
    fn verdict(&self, node: &NodeId) -> Option<Verdict> {
        let member = self.members.get(node)?;
        let watching = self.watching_beats?.max(self.awake_since);
        let heard = member.alive.unwrap_or_default().max(watching);
        let after = |silence: Duration| (heard + silence).max(watching + GRACE);
        let timeout = self.settings.heartbeat_timeout;
        match member.state {
            State::Online => {
                // Two beats are missing, and half an interval of patience.
                let silence = (member.interval * 5 / 2).min(timeout);
                Some(Verdict {
                    at: after(silence),
                    state: State::Silent,
                    silence: Some(silence),
                })
            }
            State::Unconnected(since) => Some(Verdict {
                at: since.max(self.awake_since) + SUSPICION,
                state: State::Lost,
                silence: None,
            }),
            State::Silent | State::Unwatched => Some(Verdict {
                at: after(timeout),
                state: State::Lost,
                silence: Some(timeout),
            }),
            State::Lost => None,
        }
    }

    fn change(&mut self, node: &NodeId, state: State, reason: &str) {
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        let before = std::mem::replace(&mut member.state, state);
        if before.shown() != state.shown() {
            self.tell(node, reason);
        }
        self.schedule(node);
    }

    fn tell(&mut self, node: &NodeId, reason: &str) {
        if let Some(state) = self.state(node) {
            self.owed.push(Effect::Changed {
                node: node.clone(),
                state,
                reason: reason.to_owned(),
            });
        }
    }

    /// Puts a node into the queue. Later deadlines are found out when the
    /// earlier one passes, so that a beat costs nothing here.
    fn schedule(&mut self, node: &NodeId) {
        let Some(Verdict { at, .. }) = self.verdict(node) else {
            return;
        };
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        match member.due {
            Some(due) if due <= at => return,
            Some(due) => {
                self.deadlines.remove(&(due, node.clone()));
            }
            None => {}
        }
        member.due = Some(at);
        self.deadlines.insert((at, node.clone()));
    }
}

/// A change of state that comes if nothing else does.
struct Verdict {
    at: Now,
    state: State,
    /// The silence that it follows from, if it is silence.
    silence: Option<Duration>,
}

impl Verdict {
    fn reason(&self) -> String {
        match self.silence {
            Some(silence) => format!("no heartbeat for {:.1} s", silence.as_secs_f64()),
            None => "its connection did not come back".to_owned(),
        }
    }
}
