//! Time, connections and messages on their way.

mod follow;
mod links;

use crate::check::{Oracle, Property};
use crate::counts::Counts;
use crate::mutant::Mutant;
use crate::purpose::Purpose;
use crate::random::Random;
use crate::scenario::Role;
use crate::server::Server;
use crate::wire::{
    Answer, Ask, Bucket, Call, Key, Life, MS, News, Packet, Parcel, Reader, SECOND, Said, Time,
    Whom,
};
use orchion_contract::JobId;
use orchion_contract::job::{Grant, Grants};
use orchion_contract::progress::Progress;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// What a disconnected client keeps to be sent later.
const BUFFERED: usize = 1000;
/// Subjects of one connection are spread over so many orders of arrival.
const LANES: usize = 8;
/// The day on which every life begins.
const EPOCH_MS: u64 = 1_800_000_000_000;
/// Time between two tokens of a brief answer.
pub(crate) const QUICK: Time = 3 * MS;

/// Something that will happen.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Arrive {
        from: Life,
        conn: u32,
        packet: Packet,
    },
    Deliver {
        to: Life,
        conn: u32,
        parcel: Parcel,
    },
    Wake(Life),
    TimeOut(u64),
    Expire(Key, u64),
    Begin(usize),
    End(usize),
    Start(usize),
    /// A scheduler is started anew.
    Restart(usize),
    Reconnect(usize),
    /// The server gives up a connection that is silent.
    GiveUp(usize, u32),
    Client(usize, u32),
    Sample,
}

struct Scheduled {
    at: Time,
    serial: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

/// A process and its connection.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) role: Role,
    /// Which of its role.
    pub(crate) index: usize,
    pub(crate) number: u32,
    pub(crate) is_alive: bool,
    pub(crate) is_up: bool,
    pub(crate) is_paused: bool,
    pub(crate) conn: u32,
    pub(crate) since: Time,
    pub(crate) stalled_until: Time,
    /// What it sends arrives only then.
    pub(crate) late_until: Time,
    /// No connection before.
    pub(crate) cut_until: Time,
    /// Whether what it had sent is held back while it stands still.
    pub(crate) holds_back: bool,
    /// Whether its last connection took what was on its way with it.
    pub(crate) is_severed: bool,
    /// When something last kept it from being heard.
    pub(crate) last_bad: Time,
    /// The same, but for the ends of the server itself.
    pub(crate) last_own: Time,
    pub(crate) frozen: Vec<Event>,
    buffered: Vec<Packet>,
    lanes: [[Time; LANES]; 2],
    wake_at: Option<Time>,
}

impl Link {
    /// Whether nothing comes from it, though it is connected.
    pub(crate) fn is_silent(&self, now: Time) -> bool {
        self.is_paused || self.stalled_until.max(self.late_until) > now
    }
}

/// How messages fare.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) twice: u64,
    pub(crate) slow_ms: u64,
}

/// What follows a stream or a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    pub(crate) owner: Life,
    pub(crate) what: Follows,
    /// The last that reached its owner.
    pub(crate) last: u64,
    is_loaded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    Feed(Reader),
    Chain(Reader, JobId),
    Watch(Bucket),
}

struct Pending {
    owner: Life,
    purpose: Purpose,
}

pub(crate) struct Net {
    pub(crate) now: Time,
    pub(crate) random: Random,
    pub(crate) server: Server,
    pub(crate) server_is_up: bool,
    pub(crate) links: Vec<Link>,
    pub(crate) weather: Weather,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) oracle: Oracle,
    pub(crate) counts: Counts,
    pub(crate) consumers: BTreeMap<u64, Consumer>,
    pub(crate) nats_was_down: Time,
    /// What each gateway was granted, and until when.
    grants: BTreeMap<Life, (Grants, Time)>,
    /// Tokens of each job, and the time between two of them.
    pub(crate) lengths: Vec<(u64, Time)>,
    /// The job whose story is told.
    pub(crate) watched: Option<JobId>,
    pub(crate) story: Vec<String>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    serial: u64,
    ops: BTreeMap<u64, Pending>,
    next_op: u64,
}

impl Net {
    pub(crate) fn new(random: Random, mutant: Option<Mutant>, oracle: Oracle) -> Self {
        Self {
            now: 0,
            random,
            server: Server::default(),
            server_is_up: true,
            links: Vec::new(),
            weather: Weather::default(),
            mutant,
            oracle,
            counts: Counts::default(),
            consumers: BTreeMap::new(),
            nats_was_down: 0,
            grants: BTreeMap::new(),
            lengths: Vec::new(),
            watched: None,
            story: Vec::new(),
            queue: BinaryHeap::new(),
            serial: 0,
            ops: BTreeMap::new(),
            next_op: 0,
        }
    }

    pub(crate) fn add(&mut self, role: Role, index: usize) -> usize {
        self.links.push(Link {
            role,
            index,
            number: 0,
            is_alive: false,
            is_up: false,
            is_paused: false,
            // Connections are numbered over the whole server.
            conn: self.links.len() as u32 * 100_000,
            since: 0,
            stalled_until: 0,
            late_until: 0,
            cut_until: 0,
            holds_back: false,
            is_severed: false,
            last_bad: 0,
            last_own: 0,
            frozen: Vec::new(),
            buffered: Vec::new(),
            lanes: [[0; LANES]; 2],
            wake_at: None,
        });
        self.links.len() - 1
    }

    /// Whether this fault is planted.
    pub(crate) fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// A caller is told where its job stands: later only with a named reason.
    pub(crate) fn progress(&mut self, by: (Life, u32), progress: &Progress) {
        self.counts.positions += 1;
        let Some(position) = progress.queue_position else {
            self.oracle.positions.remove(&progress.job);
            return;
        };
        let before = self.oracle.positions.insert(progress.job, (position, by));
        let rose = before.is_some_and(|(before, teller)| teller == by && position > before);
        if rose && progress.event.is_none() {
            let before = before.map_or(0, |(before, _)| before);
            self.broken(Property::Position, || {
                let job = crate::names::number(progress.job);
                format!("job {job} was told {before} and then {position}, without a reason")
            });
        }
    }

    /// A gateway is granted slots, in place of those that it had.
    pub(crate) fn granted(&mut self, gateway: Life, grants: Grants) {
        let until = self.now + grants.for_ms * MS;
        self.grants.insert(gateway, (grants, until));
    }

    /// A slot that a gateway may fill by itself, and the epoch to order it under.
    pub(crate) fn grant(&mut self, gateway: Life) -> Option<(u64, Grant)> {
        let (grants, until) = self.grants.get(&gateway)?;
        if *until <= self.now {
            return None;
        }
        // More than it was granted at a time: agents take no more than they can.
        let (epoch, places) = (grants.epoch, grants.models.first()?.places.clone());
        let chosen = self.random.below(places.len());
        Some((epoch, places.get(chosen)?.clone()))
    }

    /// Adds to the story of a job that is watched.
    pub(crate) fn tell(&mut self, job: JobId, what: impl FnOnce() -> String) {
        if self.watched == Some(job) {
            let line = format!("{:>9.3} ms  {}", self.now as f64 / MS as f64, what());
            self.story.push(line);
        }
    }

    /// How long the answer to a job is, and the time between two tokens.
    pub(crate) fn work(&self, job: usize) -> (u64, Time) {
        self.lengths.get(job).copied().unwrap_or((1, MS))
    }

    /// The time until an engine's first token of a job.
    pub(crate) fn prefill(&mut self, job: usize) -> Time {
        match self.work(job) {
            (_, QUICK) => self.random.between(1, 10) * MS,
            _ => self.random.between(5, 120) * MS,
        }
    }

    /// The wall clock of a process; hosts differ a little.
    pub(crate) fn unix_ms(&self, life: Life) -> u64 {
        EPOCH_MS + self.now / MS + (life.process as u64 % 5) * 40
    }

    pub(crate) fn broken(&mut self, property: Property, what: impl FnOnce() -> String) {
        let now = self.now;
        self.oracle.broken(property, now, what);
    }

    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse(Scheduled {
            at: at.max(self.now),
            serial: self.serial,
            event,
        }));
    }

    /// The next event, and the time goes on to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let Reverse(next) = self.queue.pop()?;
        self.now = next.at;
        Some(next.event)
    }

    pub(crate) fn lives(&self, life: Life) -> bool {
        let link = &self.links[life.process];
        link.is_alive && link.number == life.number
    }

    pub(crate) fn life(&self, process: usize) -> Life {
        Life {
            process,
            number: self.links[process].number,
        }
    }

    /// How long a process has been connected without a break, as it knows itself.
    pub(crate) fn connected_since(&self, life: Life) -> Option<Time> {
        let link = &self.links[life.process];
        (link.is_up && link.number == life.number).then_some(link.since)
    }

    /// Wakes a process at this time, unless it will be awake before.
    pub(crate) fn wake(&mut self, life: Life, at: Time) {
        if !self.lives(life) {
            return;
        }
        let at = at.max(self.now);
        let link = &mut self.links[life.process];
        if link.wake_at.is_none_or(|known| at < known) {
            link.wake_at = Some(at);
            self.at(at, Event::Wake(life));
        }
    }

    /// Whether a wake-up that came is the one that counts.
    pub(crate) fn is_awake(&mut self, life: Life) -> bool {
        let now = self.now;
        let link = &mut self.links[life.process];
        let is_due = link.wake_at.is_some_and(|at| at <= now);
        if is_due {
            link.wake_at = None;
        }
        is_due
    }

    // Asking.

    fn op(&mut self, owner: Life, purpose: Purpose, timeout: Time) -> u64 {
        self.next_op += 1;
        self.ops.insert(self.next_op, Pending { owner, purpose });
        self.at(self.now + timeout, Event::TimeOut(self.next_op));
        self.next_op
    }

    /// Asks the server; the answer comes back with the purpose.
    pub(crate) fn call(&mut self, from: Life, call: Call, timeout: Time, purpose: Purpose) -> u64 {
        let op = self.op(from, purpose, timeout);
        self.send(from, Packet::Call(op, call));
        op
    }

    /// Asks other processes.
    pub(crate) fn ask(
        &mut self,
        from: Life,
        whom: Whom,
        ask: Ask,
        timeout: Time,
        purpose: Purpose,
    ) {
        let op = self.op(from, purpose, timeout);
        self.send(from, Packet::Ask(op, whom, ask));
    }

    /// Comes back after a time, as if unanswered.
    pub(crate) fn later(&mut self, from: Life, pause: Time, purpose: Purpose) {
        self.op(from, purpose, pause);
    }

    pub(crate) fn reply(&mut self, from: Life, to: Life, op: u64, said: Said) {
        self.send(from, Packet::Reply { to, op, said });
    }

    pub(crate) fn publish(&mut self, from: Life, news: News) {
        self.send(from, Packet::News(news));
    }

    /// What hangs on an answer or its absence, once.
    pub(crate) fn take(&mut self, op: u64) -> Option<(Life, Purpose)> {
        let pending = self.ops.remove(&op)?;
        Some((pending.owner, pending.purpose))
    }

    /// Gives up waiting.
    pub(crate) fn forget_op(&mut self, op: u64) {
        self.ops.remove(&op);
    }

    pub(crate) fn owner_of(&self, op: u64) -> Option<Life> {
        self.ops.get(&op).map(|pending| pending.owner)
    }

    // Following.

    /// What the server answers goes back to who asked.
    pub(crate) fn answer(&mut self, process: usize, op: u64, answer: Answer) {
        self.deliver(process, Parcel::Answer(op, answer));
    }
}

/// How long the server waits for a silent connection.
pub(crate) const PATIENCE: Time = 3 * SECOND;
