//! The loop: waits for the lease, and while it is held turns what comes into
//! inputs of the core and carries out what the core decides.

use crate::connections::{News, Watching};
use crate::desk::{Desk, Said};
use crate::store::{self, Store};
use anyhow::Context;
use orchion_bus::{Bus, ConnectionId, LeaseHandle, Question};
use orchion_contract::node::{Empty, Hello, Node, NodeEvent, NodePage, RegisterAgain};
use orchion_contract::subjects::{
    NODE_LOST, NODE_ONLINE, NODE_REGISTERED, NODE_SUSPECT, NODE_UNREGISTERED, REGISTER_AGAIN,
    REGISTRY_HELLO,
};
use orchion_contract::{ErrorBody, ErrorCode, NodeId, UnixMs};
use orchion_registry_core::{Announcement, Effect, Moment, Registry, Settings};
use orchion_service::Stop;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime};

/// How long what could not be carried out waits for the next try.
const RETRY: Duration = Duration::from_millis(100);
/// How many events may wait to be stored.
const UNTOLD: usize = 10_000;
/// How long reading the bucket may take.
const LOADING: Duration = Duration::from_secs(5);

/// Serves until `stop`.
pub(crate) async fn run(
    bus: Bus,
    mut desk: Desk,
    mut watching: Watching,
    lease: LeaseHandle,
    settings: Settings,
    stop: Stop,
) -> anyhow::Result<()> {
    let mut changes = lease.changes();
    while !stop.is_stopping() {
        if lease.epoch().is_none() {
            tokio::select! {
                () = stop.stopped() => {}
                changed = changes.changed() => changed?,
                // A standby hears and forgets; what counts is asked for when its turn comes.
                said = desk.next() => drop(open(said)?),
                _ = watching.next() => {}
            }
            continue;
        }
        match Active::begin(&bus, &lease, settings).await {
            Ok(active) => active.serve(&mut desk, &mut watching, &stop).await?,
            Err(error) => {
                tracing::warn!("the node records cannot be read: {error:#}; trying again");
                stop.unless_stopped(tokio::time::sleep(RETRY)).await;
            }
        }
    }
    Ok(())
}

fn open(said: Option<Said>) -> anyhow::Result<Said> {
    said.context("the connection to NATS was closed for good")
}

/// The registry while it holds the lease.
struct Active<'a> {
    bus: &'a Bus,
    lease: &'a LeaseHandle,
    registry: Registry,
    store: Store,
    start: Instant,
    owed: VecDeque<Effect>,
    /// Events that are still to be stored: they are history, and hold up nothing.
    untold: VecDeque<(Announcement, NodeEvent)>,
    retry: Option<tokio::time::Instant>,
    failures: u32,
    check: Option<Check>,
    next_check: tokio::time::Instant,
    sweep_interval: Duration,
}

/// A reading of the bucket, under way beside everything else.
type Check = Pin<Box<dyn Future<Output = Option<BTreeMap<NodeId, Node>>> + Send>>;

impl<'a> Active<'a> {
    async fn begin(
        bus: &'a Bus,
        lease: &'a LeaseHandle,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let mut store = Store::new(bus);
        let stored = tokio::time::timeout(LOADING, store.load()).await??;
        let (start, known) = (Instant::now(), stored.len());
        tracing::info!(
            nodes = known,
            "this registry is active, with {known} nodes on record"
        );
        let registry = Registry::new(settings, stored.into_values(), moment(start));
        let instance = bus.identity().instance.clone();
        bus.publish(&REGISTRY_HELLO, &(), &Hello { instance })
            .await?;
        Ok(Self {
            bus,
            lease,
            registry,
            store,
            start,
            owed: VecDeque::new(),
            untold: VecDeque::new(),
            retry: None,
            failures: 0,
            check: None,
            next_check: tokio::time::Instant::now() + settings.sweep_interval,
            sweep_interval: settings.sweep_interval,
        })
    }

    /// Serves until the lease is lost or the process stops.
    async fn serve(
        mut self,
        desk: &mut Desk,
        watching: &mut Watching,
        stop: &Stop,
    ) -> anyhow::Result<()> {
        while self.lease.epoch().is_some() && !stop.is_stopping() {
            self.look(watching);
            self.carry_out(watching).await;
            let (deadline, retry) = (self.deadline(), self.retry);
            // What came goes before what did not: a tick judges absence.
            tokio::select! {
                biased;
                () = stop.stopped() => {}
                news = watching.next() => {
                    self.look(watching);
                    self.hear(news);
                }
                said = desk.next() => {
                    self.look(watching);
                    self.answer(open(said)?, watching).await;
                }
                stored = reading(&mut self.check) => self.checked(stored),
                () = tokio::time::sleep_until(deadline) => self.tick(),
                () = until(retry) => self.retry = None,
            }
        }
        Ok(())
    }

    /// Tells the core how long its own eyes have been open.
    fn look(&mut self, watching: &Watching) {
        let now = self.now();
        let since = |since: Instant| since.saturating_duration_since(self.start);
        let beats = self.bus.connected_since().map(since);
        let connections = watching.since().map(since);
        self.registry.watching(beats, connections, now);
    }

    fn hear(&mut self, news: News) {
        let now = self.now();
        match news {
            News::Change(change) if change.connected => {
                self.registry
                    .connected(&change.client, numbered(change.id), now);
            }
            News::Change(change) => {
                let id = numbered(change.id);
                self.registry
                    .disconnected(&change.client, id, change.reason, now);
            }
            News::Listed { asked, connections } => {
                let asked = asked.saturating_duration_since(self.start);
                let clients = connections.0.into_iter();
                let clients = clients.map(|listed| (listed.client, numbered(listed.id)));
                self.registry.listed(asked, clients, now);
            }
        }
    }

    async fn answer(&mut self, said: Said, watching: &Watching) {
        let now = self.now();
        match said {
            Said::Heartbeat(beat) => self.registry.heartbeat(&beat, now),
            Said::Capability(registration) => self.registry.capability(*registration, now),
            Said::Register(question) => {
                let (asked, question) = question.split();
                let node = asked.node.clone();
                let answer = self.registry.register(asked, now);
                let answer = self.once_saved(&node, answer, watching).await;
                reply(self.lease, &question, answer).await;
            }
            Said::Unregister(question) => {
                let answer = self.registry.unregister(&question.asked, now);
                let node = &question.asked.node;
                let answer = self.once_saved(node, answer, watching).await;
                reply(self.lease, &question, answer.map(|()| Empty {})).await;
            }
            Said::Get(question) => {
                let answer = self.registry.get(&question.asked);
                reply(self.lease, &question, answer).await;
            }
            Said::List(question) => {
                let directory = self.registry.directory();
                let page = match &question.asked.after {
                    None => NodePage::of(directory.nodes()),
                    Some(after) => NodePage::of(directory.nodes_after(after)),
                };
                reply(self.lease, &question, Ok(page)).await;
            }
        }
    }

    /// Nobody is told what a crash could take back.
    async fn once_saved<T>(
        &mut self,
        node: &NodeId,
        answer: Result<T, ErrorBody>,
        watching: &Watching,
    ) -> Result<T, ErrorBody> {
        let answer = answer?;
        self.carry_out(watching).await;
        if self.owed.contains(&Effect::Save(node.clone())) {
            let message = format!("the record of node {node} could not be stored: ask again");
            return Err(ErrorBody::new(ErrorCode::Internal, message).with_retriable(true));
        }
        Ok(answer)
    }

    /// Carries out what is owed, in order; what fails stays and waits.
    async fn carry_out(&mut self, watching: &Watching) {
        self.owed
            .extend(std::iter::from_fn(|| self.registry.next_effect()));
        if self.retry.is_some() || self.lease.epoch().is_none() {
            return;
        }
        match self.try_to_carry_out(watching).await {
            Ok(()) => self.failures = 0,
            Err(error) => {
                self.failures += 1;
                if self.failures.is_power_of_two() {
                    tracing::warn!("{error:#}; trying again");
                }
                self.retry = Some(tokio::time::Instant::now() + RETRY);
            }
        }
    }

    async fn try_to_carry_out(&mut self, watching: &Watching) -> anyhow::Result<()> {
        while let Some(effect) = self.owed.front() {
            match effect {
                Effect::Save(node) => {
                    let record = self.registry.directory().get(node);
                    self.store.save(node, record).await?;
                }
                Effect::Announce(what, event) => {
                    self.untold.push_back((*what, event.clone()));
                    self.untold.truncate(UNTOLD);
                }
                Effect::AskToRegister(node) => {
                    let registry = self.bus.identity().instance.clone();
                    let ask = RegisterAgain { registry };
                    self.bus.publish(&REGISTER_AGAIN, node, &ask).await?;
                }
                Effect::List => watching.ask(),
            }
            self.owed.pop_front();
        }
        while let Some((what, event)) = self.untold.front() {
            announce(self.bus, *what, event).await?;
            self.untold.pop_front();
        }
        Ok(())
    }

    fn tick(&mut self) {
        let now = self.now();
        self.registry.tick(now);
        if self.check.is_none() && tokio::time::Instant::now() >= self.next_check {
            self.next_check = tokio::time::Instant::now() + self.sweep_interval;
            let kv = self.store.kv();
            self.check = Some(Box::pin(async move {
                let read = tokio::time::timeout(LOADING, store::contents(&kv)).await;
                read.ok()?.ok().map(|contents| contents.nodes)
            }));
        }
    }

    fn checked(&mut self, stored: Option<BTreeMap<NodeId, Node>>) {
        self.check = None;
        match stored {
            Some(stored) if self.owed.is_empty() => self.registry.stored(&stored),
            // What is owed is not stored yet: the next check will tell.
            Some(_) => {}
            None => tracing::debug!("the stored records could not be compared; trying again later"),
        }
    }

    fn deadline(&self) -> tokio::time::Instant {
        let deadline = tokio::time::Instant::from_std(self.start + self.registry.next_deadline());
        match self.check {
            None => deadline.min(self.next_check),
            Some(_) => deadline,
        }
    }

    fn now(&self) -> Moment {
        moment(self.start)
    }
}

async fn announce(bus: &Bus, what: Announcement, event: &NodeEvent) -> anyhow::Result<()> {
    let (subject, verb) = match what {
        Announcement::Registered => (NODE_REGISTERED, "is registered"),
        Announcement::Online => (NODE_ONLINE, "is online"),
        Announcement::Suspect => (NODE_SUSPECT, "is suspect"),
        Announcement::Lost => (NODE_LOST, "is lost"),
        Announcement::Unregistered => (NODE_UNREGISTERED, "has left"),
    };
    let NodeEvent { node, reason, .. } = event;
    let id = format!("{node}.{verb}.{}.{}", event.instance, event.at_ms);
    bus.store_once(&subject, node, &id, event).await?;
    tracing::info!(node.id = %node, reason, "node {node} {verb}: {reason}");
    Ok(())
}

/// Only the holder of the lease speaks.
async fn reply<A, Q, R: serde::Serialize>(
    lease: &LeaseHandle,
    question: &Question<A, Q, R>,
    answer: Result<R, ErrorBody>,
) {
    if lease.epoch().is_some() {
        question.answer(answer).await;
    }
}

async fn reading(check: &mut Option<Check>) -> Option<BTreeMap<NodeId, Node>> {
    match check {
        Some(check) => check.await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn moment(start: Instant) -> Moment {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Moment {
        now: start.elapsed(),
        unix_ms: UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX),
    }
}

fn numbered(id: ConnectionId) -> (String, u64) {
    (id.0, id.1)
}
