//! A node-agent process: the real ledger, the real writer and the real plan of
//! continuation, with an engine that says numbered tokens.

mod orders;
mod work;

use crate::check::Property;
use crate::mutant::Mutant;
use crate::names;
use crate::net::Net;
use crate::outcome::Outcome;
use crate::purpose::{Purpose, Work};
use crate::scenario::Role;
use crate::scheduler::REQUEST;
use crate::wire::{
    Answer, Ask, Call, Life, MS, News, Parcel, Reader, Refusal, SECOND, Said, Time, Whom, span,
    time,
};
use orchion_contract::job::{
    Assignment, AttemptEnd, AttemptOutcome, CancelOrder, CancelReason, CancelReply, EndedBatch,
    GRANTED_HELD, GRANTED_TELLS_AFTER, Granted, JobEnd, Outcome as Ending, RunOrder, RunReply,
    Usage, Workload,
};
use orchion_contract::node::{
    Continuation, EngineKind, EngineRef, Heartbeat, Registration, Replica, ReplicaLoad,
    RunningAttempt,
};
use orchion_contract::transcript::{Continued, Entry, Final, Piece, Times};
use orchion_contract::{ErrorBody, ErrorCode, JobId, ReplicaId};
use orchion_node_agent_core::{Ledger, Order, Plan, Seat, StopOrder, Verdict, Way, plan};
use orchion_transcript::{Effect, Prefix, Stop, Writer};
use std::collections::BTreeMap;
use std::time::Duration;

const TRY: Time = 300 * MS;
const PAUSE: Time = 50 * MS;
const PAUSE_WHEN_FULL: Time = 500 * MS;
const IDLE: Time = 5 * SECOND;
const BUSY: Time = SECOND;
/// How long the pieces of an answer that is wanted at once are gathered.
const GATHERING: Time = 50 * MS;
/// How long an order for an answer that is wanted at once waits for its end.
const HELD: Time = 100 * MS;
/// The same for an order of a gateway.
const GRANTED: Time = GRANTED_HELD.as_micros() as Time;
const MOST: usize = 256;

pub(crate) struct Agent {
    pub(crate) life: Life,
    index: usize,
    born: Time,
    pub(crate) ledger: Ledger,
    replica: Replica,
    attempts: BTreeMap<RunningAttempt, Attempt>,
    runs: u64,
    engine: u32,
    /// The HTTP status that its engine has for every new request.
    pub(crate) sick: Option<u16>,
    is_telling: bool,
    is_registering: bool,
    is_known: bool,
    next_beat: Time,
    last_beat: Option<Time>,
    /// When the next one is due, as the last one said.
    announced: Time,
    beats: u64,
}

struct Attempt {
    run: u64,
    order: Box<RunOrder>,
    reader: Reader,
    writer: Option<Writer>,
    prefix: Prefix,
    continued: Option<Continued>,
    /// Whether the engine works on it.
    source: bool,
    /// Index of the token that the engine says next.
    next: u64,
    /// Tokens of the answer so far.
    said: u64,
    /// Whether what was shown is void once the engine says something.
    takes_back: bool,
    /// Whether it made room for another: it ends once all that was said is stored.
    makes_room: bool,
    failure: Option<ErrorBody>,
    end: Option<Final>,
    /// What is under way at the server.
    op: Option<u64>,
    waiting: Vec<(Life, u64)>,
    /// Who ordered it and has no answer yet.
    asker: Option<(Life, u64)>,
    started_ms: u64,
    began: Time,
}

/// What a node serves; the last one of some cannot continue.
pub(crate) fn replica(slots: u32, continuation: Continuation) -> Replica {
    let engine = EngineRef {
        kind: EngineKind::OpenAi,
        version: None,
        digest: Some("sha256:0".to_owned()),
    };
    #[expect(clippy::expect_used, reason = "a constant")]
    let id = ReplicaId::new("r").expect("a replica id");
    Replica {
        id,
        model: "m".into(),
        engine,
        slots,
        ctx: None,
        continuation,
        ready: true,
        workloads: vec![Workload::Chat],
        devices: None,
        memory_per_token_bytes: None,
    }
}

impl Agent {
    pub(crate) fn new(net: &mut Net, life: Life, index: usize, replica: Replica) -> Self {
        let mut agent = Self {
            life,
            index,
            born: net.now,
            ledger: Ledger::new(names::instance(life)),
            replica,
            attempts: BTreeMap::new(),
            runs: 0,
            engine: 0,
            sick: None,
            is_telling: false,
            is_registering: false,
            is_known: false,
            next_beat: net.now,
            last_beat: None,
            announced: IDLE,
            beats: 0,
        };
        agent.register(net);
        agent.wake(net);
        agent
    }

    pub(crate) fn wake(&mut self, net: &mut Net) {
        if net.now >= self.next_beat {
            self.next_beat = net.now + BUSY;
            self.beat(net);
        }
        net.wake(self.life, self.next_beat);
    }

    fn beat(&mut self, net: &mut Net) {
        let running = self.ledger.in_hand();
        let is_due = self
            .last_beat
            .is_none_or(|last| net.now - last + 5 * MS >= self.announced);
        if running.is_empty() && !is_due {
            return;
        }
        self.last_beat = Some(net.now);
        let next = if running.is_empty() { IDLE } else { BUSY };
        self.announced = next;
        let beat = Heartbeat {
            node: names::node(self.index),
            instance: names::instance(self.life),
            sequence: self.beats,
            interval_ms: next / MS,
            running,
            replicas: vec![ReplicaLoad {
                id: self.replica.id.clone(),
                slots: self.replica.slots,
                busy: self.ledger.known_busy(0),
                ready: self.replica.ready,
                loaded: true,
                memory_free_bytes: None,
            }],
            memory_available_bytes: 0,
            cpu_percent: 0.0,
        };
        self.beats += 1;
        net.publish(self.life, News::Beat(beat));
    }

    fn registration(&self) -> Registration {
        Registration {
            node: names::node(self.index),
            instance: names::instance(self.life),
            hostname: String::new(),
            version: String::new(),
            labels: BTreeMap::new(),
            capabilities: Default::default(),
            replicas: vec![self.replica.clone()],
            heartbeat_ms: IDLE / MS,
        }
    }

    fn register(&mut self, net: &mut Net) {
        if !std::mem::replace(&mut self.is_registering, true) {
            let ask = Ask::Register(self.registration());
            net.ask(self.life, Whom::Registries, ask, TRY, Purpose::Register);
        }
    }

    /// The connection is a new one.
    pub(crate) fn reconnected(&mut self, net: &mut Net) {
        self.register(net);
        let keys: Vec<RunningAttempt> = self.attempts.keys().copied().collect();
        for key in keys {
            if let Some(attempt) = self.attempts.get_mut(&key)
                && let Some(writer) = &mut attempt.writer
            {
                if let Some(op) = attempt.op.take() {
                    net.forget_op(op);
                }
                writer.unsure();
            }
            self.advance(net, key);
        }
    }

    pub(crate) fn engine_dies(&mut self, net: &mut Net, pause: Time) {
        self.engine += 1;
        self.replica.ready = false;
        self.tell_changes(net);
        let keys: Vec<RunningAttempt> = self.attempts.keys().copied().collect();
        for key in keys {
            if let Some(attempt) = self.attempts.get_mut(&key)
                && attempt.source
            {
                attempt.source = false;
                attempt.fail(ErrorBody::new(
                    ErrorCode::WorkerReset,
                    "the engine went away",
                ));
            }
            self.advance(net, key);
        }
        net.later(self.life, pause, Purpose::EngineBack(self.engine));
    }

    fn tell_changes(&self, net: &mut Net) {
        if self.is_known {
            let registration = self.registration();
            net.publish(self.life, News::Capability(Box::new(registration)));
        }
    }

    pub(crate) fn parcel(&mut self, net: &mut Net, parcel: Parcel) {
        match parcel {
            Parcel::Ask { from, op, ask } => match ask {
                Ask::Run(order) => self.order(net, from, op, order),
                Ask::Stop(order) => self.stop(net, from, op, &order),
                Ask::Submit(_)
                | Ask::Get(_)
                | Ask::Cancel(_)
                | Ask::Ended(_)
                | Ask::Register(_) => {}
            },
            Parcel::News(News::Hello) => self.register(net),
            Parcel::News(News::RegisterAgain(node)) if node == self.index => self.register(net),
            Parcel::News(_)
            | Parcel::Entry { .. }
            | Parcel::Change { .. }
            | Parcel::Loaded(_)
            | Parcel::Answer(..)
            | Parcel::Said(..)
            | Parcel::Nobody(_)
            | Parcel::Connected(..)
            | Parcel::Disconnected(..) => {}
        }
    }

    pub(crate) fn answered(&mut self, net: &mut Net, op: u64, purpose: Purpose, outcome: Outcome) {
        match purpose {
            Purpose::Register => {
                self.is_registering = false;
                match outcome {
                    Outcome::Said(Said::Registered) => self.is_known = true,
                    Outcome::Said(_) | Outcome::Answer(_) | Outcome::Nobody | Outcome::TimedOut => {
                        let is_early = matches!(outcome, Outcome::Nobody);
                        self.is_registering = is_early;
                        if is_early {
                            net.later(self.life, TRY, Purpose::Register);
                        } else {
                            self.register(net);
                        }
                    }
                }
            }
            Purpose::TellEnds(ends) => {
                self.is_telling = false;
                if matches!(outcome, Outcome::Said(_)) {
                    self.ledger.acknowledged(&ends, span(net.now - self.born));
                } else if net.has(Mutant::EndToldOnce) {
                    return;
                } else if matches!(outcome, Outcome::Nobody) {
                    self.is_telling = true;
                    net.later(self.life, TRY, Purpose::TellEnds(Vec::new()));
                    return;
                }
                self.tell(net);
            }
            Purpose::TellLater => self.tell(net),
            Purpose::EngineBack(engine) => {
                if engine == self.engine {
                    self.replica.ready = true;
                    self.tell_changes(net);
                }
            }
            Purpose::Attempt(key, run, work) => {
                if self
                    .attempts
                    .get(&key)
                    .is_some_and(|attempt| attempt.run == run)
                {
                    self.work(net, key, op, work, outcome);
                }
            }
            Purpose::LeaseRead
            | Purpose::LeaseWrite
            | Purpose::Charge(..)
            | Purpose::TakeOverAgain
            | Purpose::Registry(..)
            | Purpose::Client(..)
            | Purpose::FeedState => {}
        }
    }

    fn tell(&mut self, net: &mut Net) {
        if self.is_telling {
            return;
        }
        let Some(due) = self.ledger.due() else { return };
        let due = self.born + time(due);
        if due > net.now {
            net.later(self.life, due - net.now, Purpose::TellLater);
            return;
        }
        let ends = self.ledger.untold(MOST);
        self.is_telling = true;
        let batch = EndedBatch {
            node: names::node(self.index),
            instance: names::instance(self.life),
            ends: ends.clone(),
            granted: self.ledger.granted(&ends),
        };
        net.ask(
            self.life,
            Whom::Schedulers,
            Ask::Ended(batch),
            TRY,
            Purpose::TellEnds(ends),
        );
    }
}

impl Attempt {
    fn fail(&mut self, error: ErrorBody) {
        if self.end.is_none() {
            self.failure.get_or_insert(error);
        }
    }

    fn finish(&mut self, mut end: Final, now_ms: u64) {
        self.failure = None;
        if self.end.is_some() {
            return;
        }
        end.times = Times {
            started_ms: Some(self.started_ms),
            first_token_ms: None,
            ended_ms: Some(now_ms),
        };
        self.end = Some(end.clone());
        // While the beginning is still being read, the end waits for it.
        if let Some(writer) = &mut self.writer {
            writer.finish(end);
        }
    }

    fn unfinished(&self, outcome: Ending, error: Option<ErrorBody>) -> Final {
        Final {
            attempt: self.order.attempt,
            outcome,
            finish_reason: None,
            usage: Usage {
                completion_tokens: self.said,
                ..Usage::default()
            },
            error,
            engine: None,
            node: None,
            continued: self.continued.clone(),
            times: Times::default(),
            rest: None,
        }
    }
}

fn job_end(end: &Final) -> JobEnd {
    JobEnd {
        outcome: end.outcome,
        at_ms: end.times.ended_ms.unwrap_or_default(),
        finish_reason: end.finish_reason.clone(),
        usage: end.usage,
        error: end.error.clone(),
        continued: end.continued.clone(),
        times: end.times,
    }
}

fn too_late() -> ErrorBody {
    ErrorBody::new(ErrorCode::DeadlineUnmet, "the deadline passed")
}
