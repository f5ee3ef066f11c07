//! What the whole system is at one moment.

use crate::agent::Reply;
use crate::faults::Faults;
use crate::real::Real;
use orchion_node_agent_core as agent_core;
use orchion_scheduler_core as scheduler_core;
use orchion_transcript::Writer;

/// Tokens of the answer.
pub(crate) const TOKENS: u8 = 3;

/// A process of an agent; a restart makes another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Process {
    pub(crate) agent: u8,
    pub(crate) instance: u8,
}

/// A token: its place in the answer, and who generated it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token {
    pub(crate) place: u8,
    pub(crate) maker: Process,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Outcome {
    Completed,
    Failed,
    Canceled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Author {
    Agent(Process),
    Scheduler(u8),
}

/// An entry of the transcript. Its sequence is its place in the chain, from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Link {
    Frame {
        attempt: u8,
        index: u8,
        tokens: Vec<Token>,
    },
    Mark {
        attempt: u8,
        to: Process,
    },
    /// The end, with the tokens that were not told before.
    Final {
        attempt: u8,
        index: u8,
        rest: Vec<Token>,
        outcome: Outcome,
        by: Author,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Recorded {
    Pending,
    Assigned,
    Ended(Outcome),
}

/// The record of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Record {
    pub(crate) state: Recorded,
    pub(crate) attempt: u8,
    pub(crate) to: Option<Process>,
    pub(crate) failures: u8,
}

impl Record {
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, Recorded::Ended(_))
    }
}

/// How an attempt ended, as its agent tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct End {
    /// Who tells.
    pub(crate) by: Process,
    pub(crate) attempt: u8,
    pub(crate) how: How,
    pub(crate) stored: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum How {
    Final(Outcome),
    Failed,
    Superseded,
}

/// Who waits for what becomes of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Waits {
    /// The attempt of the agent's living process.
    Attempt { agent: u8, attempt: u8 },
    /// The scheduler's loop that writes a mark or a final.
    Scheduler { scheduler: u8, loops: Loop },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Loop {
    Open,
    Finalize,
}

/// Something under way. `from` is forgotten when nobody waits any more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    Append {
        from: Option<Waits>,
        after: u8,
        link: Link,
    },
    Write {
        from: Option<u8>,
        expected: u8,
        record: Record,
    },
    Order {
        from: Option<u8>,
        epoch: u8,
        attempt: u8,
        to: Process,
    },
    Stop {
        from: Option<u8>,
        epoch: u8,
        attempt: u8,
        agent: u8,
        is_superseded: bool,
    },
    /// The order of the first attempt that the gateway has given by itself.
    Granted {
        epoch: u8,
        to: Process,
        /// Whether its answer goes anywhere.
        hears: bool,
    },
    /// What the agent has answered to that, on its way to the scheduler.
    Said(Reply),
    /// What a process told before it died.
    Ended {
        end: End,
        /// With what is to be known of a job that its gateway had ordered.
        is_granted: bool,
    },
    /// The end of an attempt, as the answer to its order.
    Answer { to: Option<u8>, end: End },
}

/// The lease of schedulers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) holder: Option<u8>,
    /// Revision of the last acquiring write.
    pub(crate) epoch: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheduler {
    Standby,
    /// Takes over: the record was read, the transcript not yet.
    Reading {
        epoch: u8,
        record: Option<Option<(u8, Record)>>,
    },
    InCharge(Box<Holder>),
}

/// What a scheduler knows of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) instance: u8,
    pub(crate) is_lost: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holder {
    pub(crate) epoch: u8,
    pub(crate) nodes: [View; 2],
    pub(crate) job: Option<Job>,
}

/// The job in a scheduler's memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(crate) record: Record,
    pub(crate) phase: Phase,
    pub(crate) ledger: Real<scheduler_core::Ledger>,
    /// What was written last.
    pub(crate) written: Option<Record>,
    /// The record is to be read: nobody knows whether it was stored.
    pub(crate) reads_record: bool,
    /// The mark to write for the attempt that is being opened.
    pub(crate) opens: Option<Opening>,
    /// The final to write.
    pub(crate) finalizes: Option<Finalizing>,
    /// A stop order whose answer is awaited.
    pub(crate) stops: bool,
    /// Whether its first record waits for its end.
    pub(crate) held: Held,
}

/// Whether a first record waits for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    /// It never did.
    No,
    Waits,
    /// It has waited long enough.
    Due,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Opening {
    pub(crate) attempt: u8,
    pub(crate) to: Process,
    pub(crate) is_sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Finalizing {
    pub(crate) outcome: Outcome,
    pub(crate) is_sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Queued,
    Opening,
    Ordered,
    Running,
    Ending,
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Agent {
    pub(crate) instance: u8,
    pub(crate) ledger: Real<agent_core::Ledger>,
    pub(crate) attempts: Vec<Running>,
    /// The highest epoch that this process was told.
    pub(crate) heard: u8,
}

/// An attempt that runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Running {
    pub(crate) attempt: u8,
    /// Nothing before the beginning of the answer was read.
    pub(crate) writer: Option<Real<Writer>>,
    /// Tokens generated, those of the beginning included.
    pub(crate) said: u8,
    pub(crate) is_in_flight: bool,
    pub(crate) has_failed: bool,
    /// The engine says no more.
    pub(crate) is_closed: bool,
    /// What its final says, once it is known.
    pub(crate) end: Option<Outcome>,
    /// The scheduler that waits for its end.
    pub(crate) stopped_by: Option<u8>,
    /// Who waits for the answer to the order.
    pub(crate) asker: Option<Asker>,
    /// Whether its gateway has ordered it.
    pub(crate) is_granted: bool,
}

/// Who waits for the answer to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Asker {
    Scheduler(u8),
    /// The gateway, and with it whichever scheduler is in charge.
    Gateway {
        hears: bool,
    },
}

/// The first attempt that the gateway has ordered by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Granted {
    pub(crate) to: Process,
    /// What the agent has answered, if the gateway may tell the scheduler.
    pub(crate) said: Option<Reply>,
}

/// What the model keeps though nobody in it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    /// An agent did not refuse an order of an older scheduler after one of a newer.
    pub(crate) older_epoch_obeyed: bool,
    /// An attempt after the first was ordered before its mark was stored.
    pub(crate) ordered_before_mark: bool,
    /// A record that said ended says open.
    pub(crate) record_went_back: bool,
    /// The attempt that the gateway has ordered was ordered of another process, too.
    pub(crate) ordered_elsewhere: bool,
}

/// The whole system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The answer is wanted whole, and is thought to come soon: its order is answered
    /// with the end, and its first record waits for that.
    pub(crate) is_brief: bool,
    /// The gateway has ordered the first attempt by itself.
    pub(crate) granted: Option<Granted>,
    pub(crate) chain: Vec<Link>,
    /// The record and its revision.
    pub(crate) record: Option<(u8, Record)>,
    pub(crate) lease: Lease,
    pub(crate) schedulers: [Scheduler; 2],
    pub(crate) agents: [Agent; 2],
    /// Sorted, so that equal sets are equal.
    pub(crate) net: Vec<Message>,
    /// The caller was told that its job is admitted.
    pub(crate) is_admitted: bool,
    pub(crate) wants_cancel: bool,
    pub(crate) left: Faults,
    pub(crate) seen: Seen,
}

impl Message {
    /// The scheduler that waits for what becomes of it.
    pub(crate) fn waiting_scheduler(&self) -> Option<u8> {
        match self {
            Self::Append {
                from: Some(Waits::Scheduler { scheduler, .. }),
                ..
            } => Some(*scheduler),
            Self::Write { from, .. } | Self::Order { from, .. } | Self::Stop { from, .. } => *from,
            Self::Answer { to, .. } => *to,
            Self::Append { .. } | Self::Granted { .. } | Self::Said(_) | Self::Ended { .. } => None,
        }
    }
}

impl State {
    pub(crate) fn send(&mut self, message: Message) {
        let at = self.net.partition_point(|other| *other < message);
        self.net.insert(at, message);
    }

    /// Nobody waits for these any more; they are still under way.
    pub(crate) fn forget(&mut self, is_forgotten: impl Fn(&Message) -> bool) {
        for message in &mut self.net {
            if is_forgotten(message) {
                match message {
                    Message::Append { from, .. } => *from = None,
                    Message::Write { from, .. }
                    | Message::Order { from, .. }
                    | Message::Stop { from, .. } => *from = None,
                    Message::Answer { to, .. } => *to = None,
                    Message::Granted { .. } | Message::Said(_) | Message::Ended { .. } => {}
                }
            }
        }
        self.net.sort_unstable();
    }

    pub(crate) fn last(&self) -> Option<(u8, &Link)> {
        self.chain
            .last()
            .map(|link| (u8::try_from(self.chain.len()).unwrap_or(u8::MAX), link))
    }

    pub(crate) fn has_final(&self) -> bool {
        matches!(self.chain.last(), Some(Link::Final { .. }))
    }
}

impl Link {
    /// The tokens in it.
    pub(crate) fn tokens(&self) -> &[Token] {
        match self {
            Self::Frame { tokens, .. } | Self::Final { rest: tokens, .. } => tokens,
            Self::Mark { .. } => &[],
        }
    }

    pub(crate) fn attempt(&self) -> u8 {
        match self {
            Self::Frame { attempt, .. }
            | Self::Mark { attempt, .. }
            | Self::Final { attempt, .. } => *attempt,
        }
    }
}
