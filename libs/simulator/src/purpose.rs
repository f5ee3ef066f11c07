//! Why a process asked: what it does with the answer.

use crate::wire::{Reader, Time};
use orchion_contract::JobId;
use orchion_contract::job::{AttemptEnd, CancelOrder, JobState, RunOrder};
use orchion_contract::node::RunningAttempt;
use orchion_contract::transcript::Entry;
use orchion_scheduler_core::Token;

/// Why.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    LeaseRead,
    LeaseWrite,
    /// A scheduler in charge; the number tells one stay from the next.
    Charge(u32, Duty),
    /// A scheduler reads everything anew after a pause.
    TakeOverAgain,
    Attempt(RunningAttempt, u64, Work),
    TellEnds(Vec<AttemptEnd>),
    /// Ends have waited for each other long enough.
    TellLater,
    Register,
    EngineBack(u32),
    Registry(u64, Office),
    Client(usize, Errand),
    FeedState,
}

/// What a scheduler in charge does.
#[derive(Debug, Clone)]
pub(crate) enum Duty {
    Records,
    LookForOpen(u64),
    ReadLast(Reader, JobId),
    Write(JobId),
    WriteEnd(JobId),
    ReadRecord(JobId),
    Order {
        node: usize,
        order: Box<RunOrder>,
        again: bool,
    },
    /// Writing a mark or a final: the last entry is being read.
    Behind(Reader, JobId, Box<Entry>),
    /// The same: it is being appended.
    Appending(Reader, JobId, Box<Entry>),
    Cancel(CancelOrder),
    Drop,
    TellEnd(JobId, JobState),
    LookUp(Token, JobId),
}

/// What an attempt does.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// The last entry, then the whole chain.
    FindLast,
    FindChain(u64),
    FindAgain,
    Append,
    Last,
    /// Nothing answered: read again.
    Again,
    /// What was gathered goes out.
    Flush,
    /// An order has waited long enough for its answer.
    Accept,
    /// The engine says the next token.
    Token(u32),
    Deadline,
}

/// What a registry does.
#[derive(Debug, Clone)]
pub(crate) enum Office {
    Load,
    Save(usize),
    Revision(usize),
    Again,
    List(Time),
}

/// What a client does.
#[derive(Debug, Clone)]
pub(crate) enum Errand {
    Submit {
        until: Time,
    },
    /// An order of the gateway's own; its answer comes to whoever listens.
    Order,
    /// The time to tell the scheduler of it.
    Tell {
        until: Time,
    },
    Find {
        tries: u32,
    },
    Cancel {
        until: Time,
        tries: u32,
    },
    HangUp {
        tries: u32,
    },
    /// The word to stop that goes to the agent itself.
    Stop,
}
