//! Judges who is there: by heartbeats, by the server's connection events, and
//! by their absence.
//!
//! What is *seen* counts at once: a beat, a connection that came, a connection
//! that ended. What is *missing* counts only for an observer who was itself
//! connected, and awake, without a break for [`GRACE`]: after a restart of NATS
//! everybody is missing for a moment, and nobody is dead.

mod connections;
mod deadlines;
mod input;

use crate::{Now, Settings};
use connections::Connections;
use deadlines::Deadlines;
pub use input::{Connection, Effect, Input};
use orchion_contract::NodeId;
use orchion_contract::node::NodeState;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long an observer must have watched before absence means anything.
pub const GRACE: Duration = Duration::from_secs(5);
/// How long a node without a connection may take to come back.
pub const SUSPICION: Duration = Duration::from_millis(300);
/// A message so soon after the end of a connection was sent before it.
const IN_FLIGHT: Duration = Duration::from_millis(100);
/// The longest pause between two inputs; [`Liveness::next_deadline`] sees to it.
const PULSE: Duration = Duration::from_secs(1);
/// A longer pause means that the observer itself was not running.
const ASLEEP: Duration = Duration::from_secs(3);
/// Bounds for the interval that a node announces.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));
/// Reason of the server for connections that end because it ends itself.
const SERVER_ENDS: &str = "Server Shutdown";

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

    /// Whether a sign of life that comes now was sent before the connection
    /// ended, and only came another way.
    fn was_in_flight(self, now: Now) -> bool {
        match self {
            Self::Unconnected(since) => now < since + IN_FLIGHT,
            Self::Online | Self::Unwatched | Self::Silent | Self::Lost => false,
        }
    }
}

#[derive(Debug, Clone)]
struct Member {
    state: State,
    interval: Duration,
    /// Last beat or registration.
    alive: Option<Now>,
}

/// Every node's signs of life.
#[derive(Debug, Clone)]
pub struct Liveness {
    settings: Settings,
    members: BTreeMap<NodeId, Member>,
    /// Known before a node registers.
    connections: Connections,
    deadlines: Deadlines,
    watching_beats: Option<Now>,
    watching_connections: Option<Now>,
    awake_since: Now,
    last_input: Now,
    next_list: Option<Now>,
    owed: VecDeque<Effect>,
}

impl Liveness {
    /// An observer who begins now and knows nobody.
    #[must_use]
    pub fn new(settings: Settings, now: Now) -> Self {
        Self {
            settings,
            members: BTreeMap::new(),
            connections: Connections::default(),
            deadlines: Deadlines::default(),
            watching_beats: None,
            watching_connections: None,
            awake_since: now,
            last_input: now,
            next_list: None,
            owed: VecDeque::new(),
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
        let first = self.deadlines.first().unwrap_or(pulse);
        first.min(pulse).min(self.next_list.unwrap_or(pulse))
    }

    /// What the shell must do now, if anything.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.owed.pop_front()
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
            self.connections = Connections::default();
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
        let before = self.members.get(&node).map(|member| member.state);
        match before {
            Some(state) if state.was_in_flight(now) => self.insert(node, state, interval, None),
            Some(_) | None => {
                self.insert(node.clone(), State::Online, interval, Some(now));
                if before.is_some_and(|before| before.shown() != NodeState::Online) {
                    self.tell(&node, "it registered again");
                }
            }
        }
    }

    fn insert(&mut self, node: NodeId, state: State, interval: Duration, alive: Option<Now>) {
        let member = Member {
            state,
            interval: interval.clamp(INTERVALS.0, INTERVALS.1),
            alive,
        };
        self.members.insert(node.clone(), member);
        self.schedule(&node);
    }

    fn removed(&mut self, node: &NodeId) {
        self.members.remove(node);
        self.deadlines.remove(node);
    }

    fn beat(&mut self, node: &NodeId, interval: Duration, now: Now) {
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        if member.state.was_in_flight(now) {
            return;
        }
        member.alive = Some(now);
        member.interval = interval.clamp(INTERVALS.0, INTERVALS.1);
        self.change(node, State::Online, "it beats");
    }

    fn connected(&mut self, node: &NodeId, connection: Connection, now: Now) {
        self.connections.opened(node, connection, now);
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
        self.connections.ended(node, connection, now);
        if self.connections.has(node) {
            return;
        }
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

    fn listed(&mut self, asked: Now, connections: Vec<(NodeId, Connection)>, now: Now) {
        let Some(since) = self.watching_connections.filter(|since| asked >= *since) else {
            return;
        };
        let mut listed = connections::Listed::new();
        for (node, connection) in connections {
            listed.entry(node).or_default().insert(connection);
        }
        self.connections.add(&listed, asked, now);
        for node in listed.keys() {
            if self.connections.has(node) {
                self.reconnected(node);
            }
        }
        let settled = since.max(self.awake_since) + GRACE;
        if asked < settled {
            self.next_list = Some(settled);
            return;
        }
        self.next_list = Some(now + self.settings.sweep_interval);
        let mut gone = self.connections.forget_unlisted(&listed, asked);
        // Who beats without a connection of the expected name is there all the same.
        let in_doubt =
            |member: &Member| member.alive < Some(since) || member.state == State::Unwatched;
        let absent = self
            .members
            .iter()
            .filter(|(node, member)| in_doubt(member) && !self.connections.has(node));
        gone.extend(absent.map(|(node, _)| node.clone()));
        for node in &gone {
            self.suspect(node, "the server knows no connection of it", now);
        }
    }

    fn judge(&mut self, now: Now) {
        if self.next_list.is_some_and(|at| now >= at) {
            // Asked again if no answer comes.
            self.next_list = Some(now + GRACE);
            self.owed.push_back(Effect::List);
        }
        while let Some(node) = self.deadlines.take_due(now) {
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
            self.owed.push_back(Effect::Changed {
                node: node.clone(),
                state,
                reason: reason.to_owned(),
            });
        }
    }

    fn schedule(&mut self, node: &NodeId) {
        if let Some(verdict) = self.verdict(node) {
            self.deadlines.look_at(node, verdict.at);
        }
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
