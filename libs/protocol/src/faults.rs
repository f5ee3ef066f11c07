//! What may go wrong, how often, and what is done wrong on purpose.

use crate::model::{Beginning, Protocol};
use stateright::{Checker, HasDiscoveries, Model};

/// How many faults of each kind one history may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Faults {
    /// All kinds together.
    pub together: u8,
    /// A scheduler dies; it starts again as a standby.
    pub scheduler_crashes: u8,
    /// A lease ends while its holder is paused: it goes on as a zombie.
    pub lost_leases: u8,
    /// Steps that a zombie's writing into the transcript takes before it looks at
    /// its clock; everything else it does is behind such a look.
    pub zombie_steps: u8,
    /// An agent dies; it starts again as another process.
    pub agent_crashes: u8,
    /// A message or its answer is lost, late or doubled.
    pub network: u8,
    /// A node that lives is held for lost.
    pub suspicions: u8,
    /// An engine fails in mid-answer.
    pub engine_failures: u8,
    /// The caller cancels.
    pub cancels: u8,
}

impl Faults {
    /// None at all.
    pub const NONE: Self = Self {
        together: 0,
        scheduler_crashes: 0,
        lost_leases: 0,
        zombie_steps: 0,
        agent_crashes: 0,
        network: 0,
        suspicions: 0,
        engine_failures: 0,
        cancels: 0,
    };

    /// Two at a time of those that leave schedulers and network alone.
    pub(crate) const TWO: Self = Self {
        scheduler_crashes: 0,
        lost_leases: 0,
        zombie_steps: 0,
        network: 0,
        ..Self::up_to(2)
    };

    /// Every kind may happen, and `together` of them in one history.
    #[must_use]
    pub const fn up_to(together: u8) -> Self {
        Self {
            together,
            scheduler_crashes: 1,
            lost_leases: 1,
            zombie_steps: 2,
            agent_crashes: 1,
            network: 2,
            suspicions: 1,
            engine_failures: 1,
            cancels: 1,
        }
    }
}

/// One rule of the protocol, left out to see that the check notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The store takes an entry whatever it expects before itself.
    NoExpectedSequence,
    /// An attempt is ordered beside its mark, and its agent does not look for it.
    OrderBeforeMark,
    /// The record of an attempt is written beside its mark, and its order follows
    /// the record.
    RecordBeforeMark,
    /// A mark is written behind whatever stands last, a newer mark too.
    MarkBehindNewer,
    /// A scheduler believes the record and not the transcript: when it takes over,
    /// and when it opens an attempt.
    RecordOverTranscript,
    /// Agents obey whoever orders.
    EpochIgnored,
    /// A new process of an agent runs an attempt of the old one.
    SameAttemptNewProcess,
    /// An attempt is placed again without a mark.
    NoMark,
    /// The record is written whatever stands there.
    NoCompareAndSet,
    /// Who submits is told of an admission that is on no record.
    AdmittedUnrecorded,
    /// Nobody looks whether last records, of which nobody heard, were stored.
    LastRecordBelieved,
    /// A scheduler places the first attempt of a job that its gateway has ordered.
    FactIgnored,
    /// The order that a gateway has given is repeated to another process.
    RepeatedElsewhere,
}

impl Planted {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::NoExpectedSequence,
        Self::OrderBeforeMark,
        Self::RecordBeforeMark,
        Self::MarkBehindNewer,
        Self::RecordOverTranscript,
        Self::EpochIgnored,
        Self::SameAttemptNewProcess,
        Self::NoMark,
        Self::NoCompareAndSet,
        Self::AdmittedUnrecorded,
        Self::LastRecordBelieved,
        Self::FactIgnored,
        Self::RepeatedElsewhere,
    ];
}

impl Planted {
    /// The faults that bring it to light.
    fn faults(self) -> Faults {
        let two = Faults {
            together: 2,
            ..Faults::NONE
        };
        match self {
            Self::NoExpectedSequence
            | Self::OrderBeforeMark
            | Self::RecordBeforeMark
            | Self::NoMark
            | Self::EpochIgnored
            | Self::NoCompareAndSet
            | Self::AdmittedUnrecorded
            | Self::LastRecordBelieved
            | Self::FactIgnored
            | Self::RepeatedElsewhere => Faults::up_to(1),
            Self::MarkBehindNewer => Faults {
                lost_leases: 1,
                zombie_steps: 2,
                engine_failures: 1,
                ..two
            },
            Self::RecordOverTranscript => Faults {
                scheduler_crashes: 1,
                suspicions: 1,
                ..two
            },
            Self::SameAttemptNewProcess => Faults {
                agent_crashes: 1,
                suspicions: 1,
                ..two
            },
        }
    }

    /// The beginnings that bring it to light.
    fn begins(self) -> &'static [Beginning] {
        match self {
            Self::FactIgnored | Self::RepeatedElsewhere => Beginning::GRANTED,
            Self::NoExpectedSequence
            | Self::OrderBeforeMark
            | Self::RecordBeforeMark
            | Self::MarkBehindNewer
            | Self::RecordOverTranscript
            | Self::EpochIgnored
            | Self::SameAttemptNewProcess
            | Self::NoMark
            | Self::NoCompareAndSet
            | Self::AdmittedUnrecorded
            | Self::LastRecordBelieved => Beginning::USUAL,
        }
    }

    /// Looks for a state that shows it; how many states were looked at, and what
    /// was noticed. None when nothing was.
    #[must_use]
    pub fn search(self, threads: usize) -> Option<(usize, String)> {
        let model = Protocol {
            begins: self.begins(),
            planted: Some(self),
            ..Protocol::with(self.faults())
        };
        let builder = model.checker().threads(threads);
        let found = builder
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let (name, path) = found
            .model()
            .properties()
            .into_iter()
            .find_map(|property| {
                let is_failure = property.expectation.discovery_is_failure();
                let path = found.discovery(property.name).filter(|_| is_failure)?;
                Some((property.name, path))
            })?;
        let steps = path.into_actions().len();
        let states = found.unique_state_count();
        Some((states, format!("not true after {steps} steps: {name}")))
    }
}
