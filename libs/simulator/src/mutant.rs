//! Faults that are planted on purpose: the simulator must catch each.

/// A planted fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Appends go without an expected sequence.
    SequenceLeftOut,
    /// A later attempt is ordered first and marked afterwards.
    MarkAfterDispatch,
    /// A takeover believes the record and does not read the transcript.
    RecordBelieved,
    /// Agents take orders of any epoch.
    EpochIgnored,
    /// A new agent process takes the order for the one before it.
    SameAttemptNewProcess,
    /// Absence counts for who has just reconnected.
    AbsenceAfterReconnect,
    /// A placed job takes no slot until its agent reports.
    ReservationForgotten,
    /// A job is admitted though its record waits for its end.
    AdmittedUnrecorded,
    /// Records are written without comparing revisions.
    RecordsNotCompared,
    /// A write of a record that got no answer counts as stored.
    UnansweredRecordStored,
    /// An append that got no answer counts as stored.
    UnansweredAppendStored,
    /// A final of the scheduler goes behind a final that is there.
    FinalNotLookedFor,
    /// An agent does not tell an end again that got no answer.
    EndToldOnce,
    /// Heartbeats are not compared with what is assigned.
    HeartbeatsIgnored,
    /// A scheduler acts on after its lease.
    LeaseOutlived,
    /// A caller that resumes gets everything again.
    ResumedFromStart,
    /// A feed that was interrupted goes on with what is new.
    FeedWithHole,
    /// An attempt that was stopped keeps its slot.
    SlotKept,
    /// The order of the queue begins anew with each scheduler.
    QueueForgotten,
    /// A record says ended before history knows.
    HistorySkipped,
    /// Records of ended jobs stay for ever.
    EndedForGood,
    /// A busy agent counts as a failed attempt.
    BusyIsFailure,
    /// Records are read at a takeover and never again.
    RecordsReadOnce,
    /// A gateway that reconnects does not look whether the store was rolled back.
    RollbackUnnoticed,
    /// An agent tells nobody of the ends of jobs that their gateways have ordered.
    GrantedEndUntold,
}

/// All of them, with the word that names each on the command line.
pub const MUTANTS: &[(Mutant, &str)] = &[
    (Mutant::SequenceLeftOut, "sequence-left-out"),
    (Mutant::MarkAfterDispatch, "mark-after-dispatch"),
    (Mutant::RecordBelieved, "record-believed"),
    (Mutant::EpochIgnored, "epoch-ignored"),
    (Mutant::SameAttemptNewProcess, "same-attempt-new-process"),
    (Mutant::AbsenceAfterReconnect, "absence-after-reconnect"),
    (Mutant::ReservationForgotten, "reservation-forgotten"),
    (Mutant::AdmittedUnrecorded, "admitted-unrecorded"),
    (Mutant::RecordsNotCompared, "records-not-compared"),
    (Mutant::UnansweredRecordStored, "unanswered-record-stored"),
    (Mutant::UnansweredAppendStored, "unanswered-append-stored"),
    (Mutant::FinalNotLookedFor, "final-not-looked-for"),
    (Mutant::EndToldOnce, "end-told-once"),
    (Mutant::HeartbeatsIgnored, "heartbeats-ignored"),
    (Mutant::LeaseOutlived, "lease-outlived"),
    (Mutant::ResumedFromStart, "resumed-from-start"),
    (Mutant::FeedWithHole, "feed-with-hole"),
    (Mutant::SlotKept, "slot-kept"),
    (Mutant::QueueForgotten, "queue-forgotten"),
    (Mutant::HistorySkipped, "history-skipped"),
    (Mutant::EndedForGood, "ended-for-good"),
    (Mutant::BusyIsFailure, "busy-is-failure"),
    (Mutant::RecordsReadOnce, "records-read-once"),
    (Mutant::RollbackUnnoticed, "rollback-unnoticed"),
    (Mutant::GrantedEndUntold, "granted-end-untold"),
];
