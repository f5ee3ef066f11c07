//! Every step that the system, its network and its faults may take.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A standby takes the free lease.
    Acquire(u8),
    /// It reads the record, then the end of the transcript.
    TakeOver(u8),
    /// One that lost its lease notices.
    Notice(u8),
    /// The caller asks this scheduler for the job.
    Submit(u8),
    /// The same, and its gateway tells what the agent has answered to its order.
    SubmitAnswered(u8),
    /// The caller asks this scheduler to cancel.
    Cancel(u8),
    /// The scheduler places the job on the agent.
    Place(u8, u8),
    /// The scheduler writes the record.
    Flush(u8),
    /// The scheduler writes a last record, and does not hear what became of it.
    FlushUnheard(u8),
    /// The scheduler has waited long enough for an end, and writes the record.
    RecordIsDue(u8),
    /// The scheduler looks for records that say open what has ended.
    LookForOpen(u8),
    /// The scheduler reads the record.
    ReadRecord(u8),
    /// The scheduler's loop reads the end of the transcript and writes behind it.
    Loop(u8, bool),
    /// The stop order was not answered in time.
    StopTimesOut(u8),
    /// The registry tells the scheduler the truth about an agent.
    News(u8, u8),
    /// A heartbeat of the agent reaches the scheduler.
    Beat(u8, u8),
    /// The scheduler gives the agent an order for another job.
    Speak(u8, u8),
    /// The agent's attempt reads the beginning of the answer.
    Find(u8, u8),
    /// The agent has waited long enough for an end, and answers the order.
    Accept(u8, u8),
    /// The engine of the agent's attempt says a token, or that it is done.
    Says(u8, u8),
    /// The writer of the agent's attempt reads the end of the transcript.
    ReadLast(u8, u8),
    /// The agent tells the scheduler its ends.
    Tell(u8, u8),
    /// The message arrives and is answered.
    Deliver(usize),
    /// Fault: it arrives, and its answer is lost.
    LoseAnswer(usize),
    /// Fault: it never arrives, and its sender learns nothing.
    Lose(usize),
    /// Fault: its sender gives up waiting, and it is still under way.
    Late(usize),
    /// Fault: it arrives, and will arrive again.
    Double(usize),
    /// Fault: the agent's ends are known, and it does not learn that they are.
    TellInVain(u8, u8),
    /// Fault: the scheduler dies.
    CrashScheduler(u8),
    /// Fault: the lease ends unnoticed.
    LoseLease,
    /// Fault: the agent dies.
    CrashAgent(u8),
    /// Fault: the scheduler holds a living agent for lost.
    Suspect(u8, u8),
    /// Fault: the engine of the agent's attempt fails.
    EngineFails(u8, u8),
    /// Fault: of what the gateway has ordered no scheduler hears for so long that it is
    /// stopped as a stranger.
    Stranger(u8, u8),
    /// The caller does not want the answer any more.
    WantCancel,
}

impl Action {
    /// Whether it is none that the system takes by itself.
    #[must_use]
    pub fn is_fault(self) -> bool {
        match self {
            Self::LoseAnswer(_)
            | Self::Lose(_)
            | Self::Late(_)
            | Self::Double(_)
            | Self::TellInVain(..)
            | Self::CrashScheduler(_)
            | Self::LoseLease
            | Self::CrashAgent(_)
            | Self::Suspect(..)
            | Self::EngineFails(..)
            | Self::Stranger(..)
            | Self::WantCancel => true,
            Self::Acquire(_)
            | Self::TakeOver(_)
            | Self::Notice(_)
            | Self::Submit(_)
            | Self::SubmitAnswered(_)
            | Self::Cancel(_)
            | Self::Place(..)
            | Self::Flush(_)
            | Self::FlushUnheard(_)
            | Self::RecordIsDue(_)
            | Self::LookForOpen(_)
            | Self::Accept(..)
            | Self::ReadRecord(_)
            | Self::Loop(..)
            | Self::StopTimesOut(_)
            | Self::News(..)
            | Self::Beat(..)
            | Self::Speak(..)
            | Self::Find(..)
            | Self::Says(..)
            | Self::ReadLast(..)
            | Self::Tell(..)
            | Self::Deliver(_) => false,
        }
    }
}

impl Action {
    /// The scheduler in charge, or so it thinks, that takes this step by itself.
    pub(super) fn scheduler(self) -> Option<u8> {
        match self {
            Self::Submit(scheduler)
            | Self::SubmitAnswered(scheduler)
            | Self::Cancel(scheduler)
            | Self::Place(scheduler, _)
            | Self::Flush(scheduler)
            | Self::FlushUnheard(scheduler)
            | Self::RecordIsDue(scheduler)
            | Self::LookForOpen(scheduler)
            | Self::ReadRecord(scheduler)
            | Self::Loop(scheduler, _)
            | Self::StopTimesOut(scheduler)
            | Self::News(scheduler, _)
            | Self::Beat(scheduler, _)
            | Self::Speak(scheduler, _)
            | Self::Tell(_, scheduler) => Some(scheduler),
            Self::Acquire(_)
            | Self::TakeOver(_)
            | Self::Notice(_)
            | Self::Accept(..)
            | Self::Find(..)
            | Self::Says(..)
            | Self::ReadLast(..)
            | Self::Deliver(_)
            | Self::LoseAnswer(_)
            | Self::Lose(_)
            | Self::Late(_)
            | Self::Double(_)
            | Self::TellInVain(..)
            | Self::CrashScheduler(_)
            | Self::LoseLease
            | Self::CrashAgent(_)
            | Self::Suspect(..)
            | Self::EngineFails(..)
            | Self::Stranger(..)
            | Self::WantCancel => None,
        }
    }
}
