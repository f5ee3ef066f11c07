//! Both machines together: what the shell talks to.

use crate::directory::{Directory, Standing, Upsert};
use crate::liveness::{self, Connection, Liveness};
use crate::{Moment, Now, Settings};
use orchion_contract::node::{
    Heartbeat, Node, NodeEvent, NodeState, Registered, Registration, Replaced, Unregister,
    node_of_client,
};
use orchion_contract::{ErrorBody, ErrorCode, NodeId};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A change in a node's life, by its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// It registered, or registered again as another process.
    Registered,
    /// It is there again.
    Online,
    /// It is in doubt.
    Suspect,
    /// It is gone.
    Lost,
    /// It was taken off the list.
    Unregistered,
}

/// What the shell owes the registry, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make the bucket say of this node what the directory says.
    Save(NodeId),
    /// Publish an event.
    Announce(Announcement, NodeEvent),
    /// Ask this node to register again.
    AskToRegister(NodeId),
    /// Ask the server for its connections; answer with [`Registry::listed`].
    List,
}

/// Which nodes there are, and whether they live.
#[derive(Debug, Clone)]
pub struct Registry {
    settings: Settings,
    directory: Directory,
    liveness: Liveness,
    owed: VecDeque<Effect>,
}

impl Registry {
    /// Begins with the records of the bucket.
    #[must_use]
    pub fn new(settings: Settings, stored: impl IntoIterator<Item = Node>, at: Moment) -> Self {
        let mut registry = Self {
            settings,
            directory: Directory::default(),
            liveness: Liveness::new(settings, at.now),
            owed: VecDeque::new(),
        };
        for node in stored {
            let restored = liveness::Input::Restored {
                node: node.id.clone(),
                interval: Duration::from_millis(node.heartbeat_ms),
                state: node.state,
            };
            registry.directory.restore(node);
            registry.tell(restored, at);
        }
        registry
    }

    /// What is known.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// When [`Registry::tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Now {
        self.liveness.next_deadline()
    }

    /// What the shell must do now, if anything.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.owed.pop_front()
    }

    /// Since when our own connections have been there; told before every input.
    pub fn watching(&mut self, beats: Option<Now>, connections: Option<Now>, at: Moment) {
        self.tell(liveness::Input::Watching { beats, connections }, at);
    }

    /// Time has passed.
    pub fn tick(&mut self, at: Moment) {
        self.tell(liveness::Input::Tick, at);
    }

    /// An agent makes itself known, for the first time or again.
    ///
    /// # Errors
    /// `INVALID_PARAMS` when its heartbeat is too slow to be judged.
    pub fn register(
        &mut self,
        registration: Registration,
        at: Moment,
    ) -> Result<Registered, ErrorBody> {
        self.check(&registration)?;
        let node = registration.node.clone();
        let interval = Duration::from_millis(registration.heartbeat_ms);
        let replaced = self.replaced_by(&registration);
        let upsert = self.directory.register(registration, at.unix_ms);
        let registered = liveness::Input::Registered {
            node: node.clone(),
            interval,
        };
        self.liveness.handle(registered, at.now);
        if let Some(state) = self.liveness.state(&node) {
            self.directory.set_state(&node, state);
        }
        match upsert {
            Upsert::New => self.news(&node, Announcement::Registered, "it registered", at),
            Upsert::OtherProcess => {
                let reason = "its agent was started again";
                self.news(&node, Announcement::Registered, reason, at);
            }
            Upsert::Changed => self.save(&node),
            Upsert::Same => {}
        }
        self.follow(at);
        let first_seen_ms = self.directory.get(&node).map(|node| node.first_seen_ms);
        Ok(Registered {
            first_seen_ms: first_seen_ms.unwrap_or(at.unix_ms),
            replaced,
        })
    }

    /// The other process whose place a registration takes.
    fn replaced_by(&self, registration: &Registration) -> Option<Replaced> {
        let known = self.directory.get(&registration.node)?;
        (known.instance != registration.instance).then(|| Replaced {
            instance: known.instance.clone(),
            hostname: known.hostname.clone(),
        })
    }

    /// A process published what it can do; only a registered one is heard.
    pub fn capability(&mut self, registration: Registration, at: Moment) {
        let node = registration.node.clone();
        match self.directory.standing(&node, &registration.instance) {
            Standing::Registered => {
                // Too slow a heartbeat was refused at registration and stays so.
                let _ = self.register(registration, at);
            }
            Standing::Unknown => self.owed.push_back(Effect::AskToRegister(node)),
            Standing::Removed => {}
        }
    }

    /// A process beat.
    pub fn heartbeat(&mut self, beat: &Heartbeat, at: Moment) {
        match self.directory.standing(&beat.node, &beat.instance) {
            Standing::Registered => {
                self.directory.seen(&beat.node, at.unix_ms);
                let interval = Duration::from_millis(beat.interval_ms);
                let node = beat.node.clone();
                self.tell(liveness::Input::Beat { node, interval }, at);
            }
            Standing::Unknown => self
                .owed
                .push_back(Effect::AskToRegister(beat.node.clone())),
            Standing::Removed => {}
        }
    }

    /// A node leaves, or an operator takes it off the list.
    ///
    /// # Errors
    /// `NOT_FOUND` for an unknown node, `CONFLICT` when another process of the
    /// node has registered meanwhile.
    pub fn unregister(&mut self, asked: &Unregister, at: Moment) -> Result<(), ErrorBody> {
        let Some(node) = self.directory.get(&asked.node) else {
            let instance = asked.instance.as_ref();
            let again = instance.is_some_and(|instance| {
                self.directory.standing(&asked.node, instance) == Standing::Removed
            });
            return if again {
                Ok(())
            } else {
                Err(not_found(&asked.node))
            };
        };
        let reason = match &asked.instance {
            Some(instance) if *instance != node.instance => {
                let message = format!(
                    "another process of node {} has registered since: it stays on the list",
                    asked.node
                );
                return Err(ErrorBody::new(ErrorCode::Conflict, message).about("instance"));
            }
            Some(_) => "its agent stopped",
            None => "it was taken off the list",
        };
        self.news(&asked.node, Announcement::Unregistered, reason, at);
        self.directory.remove(&asked.node);
        self.tell(liveness::Input::Removed(asked.node.clone()), at);
        Ok(())
    }

    /// One node.
    ///
    /// # Errors
    /// `NOT_FOUND` for an unknown node.
    pub fn get(&self, node: &NodeId) -> Result<Node, ErrorBody> {
        let found = self.directory.get(node).cloned();
        found.ok_or_else(|| not_found(node))
    }

    /// A client opened a connection; only agents matter.
    pub fn connected(&mut self, client: &str, connection: Connection, at: Moment) {
        if let Some(node) = node_of_client(client) {
            self.tell(liveness::Input::Connected { node, connection }, at);
        }
    }

    /// A client's connection ended; only agents matter.
    pub fn disconnected(
        &mut self,
        client: &str,
        connection: Connection,
        reason: String,
        at: Moment,
    ) {
        if let Some(node) = node_of_client(client) {
            let input = liveness::Input::Disconnected {
                node,
                connection,
                reason,
            };
            self.tell(input, at);
        }
    }

    /// The server's list of connections; `asked` is when it was asked for it.
    pub fn listed(
        &mut self,
        asked: Now,
        clients: impl IntoIterator<Item = (String, Connection)>,
        at: Moment,
    ) {
        let of_agents = clients
            .into_iter()
            .filter_map(|(client, connection)| Some((node_of_client(&client)?, connection)));
        let connections = of_agents.collect();
        self.tell(liveness::Input::Listed { asked, connections }, at);
    }

    /// What the bucket holds: what differs is written again.
    pub fn stored(&mut self, stored: &BTreeMap<NodeId, Node>) {
        let differing = self.directory.differing(stored);
        for node in &differing {
            self.save(node);
        }
    }

    fn check(&self, registration: &Registration) -> Result<(), ErrorBody> {
        let interval = Duration::from_millis(registration.heartbeat_ms);
        if !interval.is_zero() && interval * 2 <= self.settings.heartbeat_timeout {
            return Ok(());
        }
        let message = format!(
            "a heartbeat every {} ms does not go with a timeout of {} ms: it must be above 0 and at most half of it; \
             shorten the agent's interval or raise registry.heartbeat_timeout",
            registration.heartbeat_ms,
            self.settings.heartbeat_timeout.as_millis()
        );
        Err(ErrorBody::new(ErrorCode::InvalidParams, message).about("heartbeat_ms"))
    }

    fn tell(&mut self, input: liveness::Input, at: Moment) {
        self.liveness.handle(input, at.now);
        self.follow(at);
    }

    fn follow(&mut self, at: Moment) {
        while let Some(effect) = self.liveness.next_effect() {
            match effect {
                liveness::Effect::Changed {
                    node,
                    state,
                    reason,
                } => self.changed(&node, state, &reason, at),
                liveness::Effect::List => self.owed.push_back(Effect::List),
            }
        }
    }

    fn changed(&mut self, node: &NodeId, state: NodeState, reason: &str, at: Moment) {
        self.directory.set_state(node, state);
        let announcement = match state {
            NodeState::Online => Announcement::Online,
            NodeState::Suspect => Announcement::Suspect,
            NodeState::Lost => Announcement::Lost,
            NodeState::Unknown => return,
        };
        self.news(node, announcement, reason, at);
    }

    fn news(&mut self, node: &NodeId, what: Announcement, reason: &str, at: Moment) {
        let Some(record) = self.directory.get(node) else {
            return;
        };
        let state = match what {
            Announcement::Unregistered => NodeState::Lost,
            Announcement::Registered
            | Announcement::Online
            | Announcement::Suspect
            | Announcement::Lost => record.state,
        };
        let event = NodeEvent {
            node: node.clone(),
            instance: record.instance.clone(),
            state,
            at_ms: at.unix_ms,
            reason: reason.to_owned(),
        };
        self.save(node);
        self.owed.push_back(Effect::Announce(what, event));
    }

    /// The record is read when it is written, so once is enough.
    fn save(&mut self, node: &NodeId) {
        let save = Effect::Save(node.clone());
        if !self.owed.contains(&save) {
            self.owed.push_back(save);
        }
    }
}

fn not_found(node: &NodeId) -> ErrorBody {
    let message = format!("no node is called '{node}': list the nodes to see their ids");
    ErrorBody::new(ErrorCode::NotFound, message).about("node")
}
