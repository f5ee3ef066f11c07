//! Callers: they submit, read, resume, cancel and hang up, and they compare
//! what they get with what an answer must look like.

mod ordering;
mod reading;

use crate::check::Property;
use crate::mutant::Mutant;
use crate::names;
use crate::net::{Event, Follows, Net};
use crate::outcome::Outcome;
use crate::purpose::{Errand, Purpose};
use crate::random::Random;
use crate::scenario::Role;
use crate::wire::{Ask, Life, MS, Reader as Place, SECOND, Said, Time, Whom};
use orchion_contract::job::{
    Assignment, CancelJob, CancelOrder, CancelReason, Declined, Door, GRANTED_TELLS_AFTER, JobSpec,
    Ordered, Priority, RunReply, Submit, Workload,
};
use orchion_contract::transcript::{Entry, Final};
use orchion_contract::{ErrorCode, JobId, ReaderId};
use orchion_transcript::Reader;
use serde_json::value::RawValue;

const TRY: Time = 300 * MS;
const TELLS_AFTER: Time = GRANTED_TELLS_AFTER.as_micros() as Time;
const PATIENCE: Time = 5 * SECOND;
const CANCEL_PATIENCE: Time = 5 * SECOND;
/// Stands among the attempts for what took back everything before.
pub(crate) const RESTARTED: u32 = 0;
const HANG_UP_TRIES: u32 = 10;

/// Where a caller stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It has not asked yet, or looks for a gateway.
    Away,
    Submitting,
    Finding,
    Following,
    Done,
    Refused,
    /// The stored answer differed from what was shown, and it was told so.
    Told,
    /// It hung up, or its connection was cut for good.
    Gone,
}

pub(crate) struct Client {
    /// Its place among all clients.
    number: usize,
    pub(crate) job: JobId,
    pub(crate) door: Door,
    /// Reads a job that somebody else submitted.
    pub(crate) is_viewer: bool,
    spec: JobSpec,
    pub(crate) state: State,
    pub(crate) admitted: bool,
    is_refused: bool,
    /// The first attempt, where its gateway has ordered it.
    ordered: Option<Box<Ordered>>,
    /// The scheduler's epoch under which it has.
    epoch: u64,
    /// Whether its gateway has told nobody yet.
    is_untold: bool,
    /// Whether its gateway still tells what it has ordered.
    pub(crate) is_telling: bool,
    /// The gateway it talks to.
    gateway: Option<Life>,
    rounds: u32,
    /// When it came for the first time.
    pub(crate) came_at: Time,
    reader: Reader,
    consumer: Option<u64>,
    is_live: bool,
    /// The first piece it wants, and the attempt that said each piece since.
    pub(crate) from: u64,
    pub(crate) shown: Vec<u32>,
    pub(crate) end: Option<Box<Final>>,
    /// When it cancels or hangs up.
    pub(crate) leaves_at: Option<Time>,
    pub(crate) canceled: bool,
}

impl Client {
    pub(crate) fn new(number: usize, n: usize, random: &mut Random) -> Self {
        let door = if random.chance(500) {
            Door::Chat
        } else {
            Door::Task
        };
        let deadline_ms = match random.between(0, 99) {
            0..=4 => random.between(300, 5_000),
            _ => 600_000,
        };
        let priority = if random.chance(250) {
            Priority::Batch
        } else {
            Priority::Interactive
        };
        #[expect(clippy::expect_used, reason = "a constant")]
        let body = RawValue::from_string("{\"messages\":[]}".to_owned()).expect("a body");
        let spec = JobSpec {
            workload: Workload::Chat,
            model: "m".into(),
            body,
            body_ref: None,
            max_tokens: None,
            seed: None,
            seed_drawn: false,
            priority,
            deadline_ms,
            timeouts: Default::default(),
            expected_tokens: None,
            placement: None,
            whole: door == Door::Chat && random.chance(400),
        };
        Self {
            number,
            job: names::job(n),
            door,
            is_viewer: false,
            spec,
            state: State::Away,
            admitted: false,
            is_refused: false,
            ordered: None,
            epoch: 0,
            is_untold: false,
            is_telling: false,
            gateway: None,
            rounds: 0,
            came_at: Time::MAX,
            reader: Reader::new(),
            consumer: None,
            is_live: false,
            from: 0,
            shown: Vec::new(),
            end: None,
            leaves_at: None,
            canceled: false,
        }
    }

    /// Reads the job of another client, from some piece on.
    pub(crate) fn viewer(number: usize, n: usize, from: u64, random: &mut Random) -> Self {
        Self {
            is_viewer: true,
            door: Door::Task,
            from,
            reader: Reader::from_index(from),
            ..Self::new(number, n, random)
        }
    }

    /// Whether it reads along, for the first time, and was not told that nothing of its
    /// job is kept.
    pub(crate) fn is_streamed(&self) -> bool {
        !self.is_viewer && !self.spec.whole && !self.is_refused
    }

    /// Whether nothing more will happen to it.
    pub(crate) fn is_over(&self) -> bool {
        match self.state {
            State::Done | State::Refused | State::Told | State::Gone => true,
            State::Away | State::Submitting | State::Finding | State::Following => false,
        }
    }

    fn next(&self) -> u64 {
        self.from + self.shown.len() as u64
    }

    fn again(&self, net: &mut Net, pause: Time) {
        net.at(net.now + pause, Event::Client(self.number, 0));
    }

    /// It asks at some gateway that is there.
    pub(crate) fn come(&mut self, net: &mut Net) {
        if self.state != State::Away {
            return;
        }
        self.came_at = self.came_at.min(net.now);
        let there: Vec<usize> = (0..net.links.len())
            .filter(|n| net.links[*n].role == Role::Gateway && net.links[*n].is_alive)
            .collect();
        if there.is_empty() {
            self.again(net, 100 * MS);
            return;
        }
        let chosen = there[net.random.below(there.len())];
        let gateway = net.life(chosen);
        self.gateway = Some(gateway);
        if self.admitted || self.is_viewer {
            self.find(net, gateway, 0);
        } else {
            self.submit(net, gateway);
        }
    }

    fn submit(&mut self, net: &mut Net, gateway: Life) {
        self.state = State::Submitting;
        self.is_live = self.door == Door::Chat;
        self.reader = Reader::new();
        let until = net.now + PATIENCE;
        self.order(net, gateway);
        if self.is_untold {
            let purpose = Purpose::Client(self.number, Errand::Tell { until });
            net.later(gateway, TELLS_AFTER, purpose);
        } else {
            self.ask(net, gateway, until);
        }
    }

    fn submission(&self, gateway: Life) -> Submit {
        Submit {
            job: self.job,
            reader: match self.door {
                Door::Chat => names::reader(gateway),
                Door::Task => ReaderId::tasks(),
            },
            door: self.door,
            spec: self.spec.clone(),
            correlation_id: String::new(),
            ordered: self.ordered.clone(),
        }
    }

    fn ask(&mut self, net: &mut Net, gateway: Life, until: Time) {
        self.is_telling = self.ordered.is_some();
        let submit = self.submission(gateway);
        let purpose = Purpose::Client(self.number, Errand::Submit { until });
        net.ask(gateway, Whom::Schedulers, Ask::Submit(submit), TRY, purpose);
    }

    fn find(&mut self, net: &mut Net, gateway: Life, tries: u32) {
        self.state = State::Finding;
        let purpose = Purpose::Client(self.number, Errand::Find { tries });
        net.ask(gateway, Whom::Schedulers, Ask::Get(self.job), TRY, purpose);
    }

    /// Reads from the store what it has not seen.
    fn follow(&mut self, net: &mut Net, gateway: Life, place: Place) {
        self.state = State::Following;
        self.is_live = false;
        let from = if net.has(Mutant::ResumedFromStart) {
            self.from
        } else {
            self.next()
        };
        self.reader = Reader::from_index(from);
        self.consumer = Some(net.follow(gateway, Follows::Chain(place, self.job)));
    }

    /// It cancels, or hangs up.
    pub(crate) fn leave(&mut self, net: &mut Net) {
        let Some(gateway) = self.gateway.filter(|gateway| net.lives(*gateway)) else {
            return;
        };
        if self.is_over() || self.state == State::Away {
            return;
        }
        self.canceled = true;
        if self.door == Door::Chat {
            self.hang_up(net, gateway);
        } else {
            self.cancel(net, gateway, net.now + CANCEL_PATIENCE, 0);
        }
    }

    fn hang_up(&mut self, net: &mut Net, gateway: Life) {
        self.stop_reading(net);
        self.state = State::Gone;
        self.canceled = true;
        self.stop_ordered(net, gateway);
        // It becomes known first.
        self.is_untold = false;
        if self.ordered.is_some() && !self.admitted {
            self.ask(net, gateway, net.now + PATIENCE);
        }
        let ask = self.cancel_order(CancelReason::Disconnect);
        let purpose = Purpose::Client(self.number, Errand::HangUp { tries: 0 });
        net.ask(gateway, Whom::Schedulers, ask, TRY, purpose);
    }

    fn cancel(&self, net: &mut Net, gateway: Life, until: Time, tries: u32) {
        let ask = self.cancel_order(CancelReason::Client);
        let purpose = Purpose::Client(self.number, Errand::Cancel { until, tries });
        net.ask(gateway, Whom::Schedulers, ask, TRY, purpose);
    }

    fn cancel_order(&self, reason: CancelReason) -> Ask {
        Ask::Cancel(CancelJob {
            job: self.job,
            reason,
        })
    }

    fn stop_reading(&mut self, net: &mut Net) {
        self.is_live = false;
        if let Some(consumer) = self.consumer.take() {
            net.unfollow(consumer);
        }
    }

    /// The gateway that it talked to is dead.
    pub(crate) fn gateway_died(&mut self, net: &mut Net, gateway: Life) {
        if self.gateway != Some(gateway) {
            return;
        }
        self.is_telling = false;
        if self.is_over() {
            return;
        }
        self.stop_reading(net);
        self.gateway = None;
        if self.door == Door::Chat {
            self.state = State::Gone;
            return;
        }
        self.state = State::Away;
        let pause = net.random.between(1, 500) * MS;
        self.again(net, pause);
        net.counts.resumed += 1;
    }

    pub(crate) fn answered(&mut self, net: &mut Net, errand: Errand, outcome: Outcome) {
        let Some(gateway) = self.gateway else { return };
        net.tell(self.job, || {
            format!("caller {}: {errand:?} has {outcome:?}", self.number)
        });
        match errand {
            Errand::Submit { until } => self.submitted(net, gateway, until, outcome),
            Errand::Tell { until } if self.state == State::Submitting => self.tell(net, until),
            Errand::Tell { .. } | Errand::Order | Errand::Stop => {}
            Errand::Find { tries } => self.found(net, gateway, tries, outcome),
            Errand::Cancel { until, tries } => match outcome {
                Outcome::Said(Said::Job(Ok(job))) => {
                    if !job.state.is_ended() {
                        net.broken(Property::Ends, || {
                            format!(
                                "job {} was canceled and is {}",
                                names::number(self.job),
                                job.state
                            )
                        });
                    }
                }
                Outcome::Said(_) => {}
                Outcome::Answer(_) | Outcome::Nobody | Outcome::TimedOut if net.now < until => {
                    self.cancel(net, gateway, until, tries + 1);
                }
                Outcome::Answer(_) | Outcome::Nobody | Outcome::TimedOut => self.canceled = true,
            },
            Errand::HangUp { tries } => match outcome {
                Outcome::Said(Said::Job(Ok(_))) => {}
                Outcome::Said(_) | Outcome::Answer(_) | Outcome::Nobody | Outcome::TimedOut => {
                    if tries < HANG_UP_TRIES * 20 && net.lives(gateway) {
                        let ask = self.cancel_order(CancelReason::Disconnect);
                        let purpose =
                            Purpose::Client(self.number, Errand::HangUp { tries: tries + 1 });
                        net.ask(gateway, Whom::Schedulers, ask, TRY, purpose);
                    }
                }
            },
        }
    }

    fn submitted(&mut self, net: &mut Net, gateway: Life, until: Time, outcome: Outcome) {
        self.is_telling &= !matches!(outcome, Outcome::Said(_)) && net.now < until;
        // Whatever came meanwhile, nothing that its gateway has ordered is left unknown.
        let is_over = matches!(self.state, State::Gone | State::Done | State::Told);
        if is_over && self.ordered.is_some() && !self.admitted {
            self.submitted_late(net, gateway, until, outcome);
            return;
        }
        if self.state != State::Submitting {
            return;
        }
        match outcome {
            Outcome::Said(Said::Admission(Ok(admission))) => {
                self.admitted = true;
                net.counts.admitted += 1;
                let place = names::life(&admission.reader);
                // What has ended before it was recorded stands in its transcript.
                let is_stored =
                    net.server.has_record(self.job) || net.server.has_ended(place, self.job);
                if !is_stored && !net.oracle.tail_was_lost {
                    net.broken(Property::Admitted, || {
                        format!(
                            "job {} was admitted and is not stored",
                            names::number(self.job)
                        )
                    });
                }
                if self.door == Door::Chat {
                    self.state = State::Following;
                } else {
                    self.follow(net, gateway, place);
                }
            }
            Outcome::Said(Said::Admission(Err(error))) => {
                if error.code == ErrorCode::Conflict {
                    net.broken(Property::Admitted, || {
                        format!("job {} conflicts with itself", names::number(self.job))
                    });
                }
                self.state = State::Refused;
                self.is_refused = true;
                net.counts.refused += 1;
            }
            Outcome::Nobody if net.now < until => {
                net.later(
                    gateway,
                    TRY,
                    Purpose::Client(self.number, Errand::Submit { until }),
                );
            }
            Outcome::Said(_) | Outcome::Answer(_) | Outcome::TimedOut if net.now < until => {
                self.ask(net, gateway, until);
            }
            Outcome::Said(_) | Outcome::Answer(_) | Outcome::TimedOut | Outcome::Nobody => {
                if self.door == Door::Chat {
                    self.hang_up(net, gateway);
                    return;
                }
                self.rounds += 1;
                self.stop_reading(net);
                if self.rounds > 12 {
                    self.state = State::Gone;
                } else {
                    self.state = State::Away;
                    self.again(net, 200 * MS);
                }
            }
        }
    }

    fn found(&mut self, net: &mut Net, gateway: Life, tries: u32, outcome: Outcome) {
        if self.state != State::Finding {
            return;
        }
        match outcome {
            Outcome::Said(Said::Job(Ok(job))) => {
                let place = names::life(&job.reader);
                self.follow(net, gateway, place);
            }
            Outcome::Said(Said::Job(Err(error))) if error.code == ErrorCode::NotFound => {
                if self.admitted && !net.oracle.tail_was_lost {
                    net.broken(Property::Admitted, || {
                        format!(
                            "job {} was admitted and is not known",
                            names::number(self.job)
                        )
                    });
                }
                self.state = State::Gone;
            }
            Outcome::Said(_) | Outcome::Answer(_) | Outcome::Nobody | Outcome::TimedOut => {
                if tries > 200 {
                    self.state = State::Gone;
                } else if matches!(outcome, Outcome::Nobody) {
                    let purpose = Purpose::Client(self.number, Errand::Find { tries: tries + 1 });
                    net.later(gateway, TRY, purpose);
                } else {
                    self.find(net, gateway, tries + 1);
                }
            }
        }
    }
}
