//! What must hold in every life.

use crate::names;
use crate::server::Stored;
use crate::wire::{Life, Reader, SECOND, Time};
use orchion_contract::JobId;
use orchion_contract::lease::SERVICE_TTL_S;
use orchion_contract::transcript::Entry;
use std::collections::BTreeMap;
use std::fmt;

/// A promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// No token is lost, doubled or reordered for any reader.
    Whole,
    /// What a reader saw is what is stored.
    AsStored,
    /// Exactly one final, and nothing behind it.
    OneFinal,
    /// Only the attempt that was opened last writes, and only the process that it was opened for.
    Fence,
    /// Every admitted job ends, in its transcript, its record and for its readers.
    Ends,
    /// A job that was admitted is on record.
    Admitted,
    /// History knows of an end before the record does.
    History,
    /// No job is placed, and no request runs, beyond the slots.
    Capacity,
    /// A position only falls, but for named events.
    Position,
    /// A job keeps its place in the queue over every change of scheduler.
    Order,
    /// A job goes only forward.
    Forward,
    /// Who was replaced does not write over what its successor wrote.
    Successor,
    /// An agent does not act for a scheduler that it knows to be replaced.
    Epoch,
    /// Nobody is declared dead who lives.
    Alive,
    /// No job fails without a cause.
    Cause,
    /// When everything has ended, nothing is left over.
    Quiet,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "whole",
            Self::AsStored => "as-stored",
            Self::OneFinal => "one-final",
            Self::Fence => "fence",
            Self::Ends => "ends",
            Self::Admitted => "admitted",
            Self::History => "history",
            Self::Capacity => "capacity",
            Self::Position => "position",
            Self::Order => "order",
            Self::Forward => "forward",
            Self::Successor => "successor",
            Self::Epoch => "epoch",
            Self::Alive => "alive",
            Self::Cause => "cause",
            Self::Quiet => "quiet",
        })
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: Property,
    /// When, in milliseconds of virtual time.
    pub at_ms: u64,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} broken at {} ms: {}",
            self.property, self.at_ms, self.what
        )
    }
}

/// Watches.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) first: Option<Violation>,
    /// The highest epoch that each agent process heard.
    epochs: BTreeMap<Life, u64>,
    /// Positions as they were told last, and by whom.
    pub(crate) positions: BTreeMap<JobId, (u32, (Life, u32))>,
    /// What the chains hold, so that each entry is looked at once.
    chains: BTreeMap<(Reader, JobId), Summary>,
    /// Whether the store forgot what it had acknowledged, and when last.
    pub(crate) tail_was_lost: bool,
    pub(crate) tail_lost_at: Time,
    /// The schedulers in the order in which each last came to the lease.
    reigns: BTreeMap<Life, u64>,
    last_reign: u64,
    /// In whose turn each record was written last.
    written_in: BTreeMap<JobId, u64>,
    /// Failed attempts that stored something, and chances to fail without one.
    pub(crate) failures: BTreeMap<JobId, u32>,
    /// Jobs that gateways have ordered by themselves, and who took them.
    pub(crate) granted: BTreeMap<JobId, Option<Life>>,
}

impl Oracle {
    pub(crate) fn broken(&mut self, property: Property, now: Time, what: impl FnOnce() -> String) {
        if self.first.is_none() {
            self.first = Some(Violation {
                property,
                at_ms: now / crate::wire::MS,
                what: what(),
            });
        }
    }

    /// Holds a new entry against what stands before it; `before` is the chain without
    /// it. Returns what it breaks.
    pub(crate) fn appended(
        &mut self,
        at: (Reader, JobId),
        before: &[Stored],
        new: &Stored,
        by_scheduler: bool,
    ) -> Option<(Property, String)> {
        let known = self.chains.entry(at).or_insert_with(|| Summary::of(before));
        let (property, what) = known.add(new, by_scheduler)?;
        Some((property, format!("job {}: {what}", names::number(at.1))))
    }

    /// The store was rolled back.
    pub(crate) fn forgotten(&mut self, now: Time) {
        self.tail_was_lost = true;
        self.tail_lost_at = now;
        self.chains.clear();
        self.positions.clear();
        self.written_in.clear();
    }

    /// A scheduler has the lease that another one had, or nobody.
    pub(crate) fn reigns(&mut self, scheduler: Life) {
        self.last_reign += 1;
        self.reigns.insert(scheduler, self.last_reign);
    }

    /// A scheduler wrote a record: nobody who came to the lease after it had done so.
    pub(crate) fn recorded(&mut self, scheduler: Life, job: JobId, now: Time) {
        let reign = self.reigns.get(&scheduler).copied().unwrap_or_default();
        let last = self.written_in.entry(job).or_default();
        let is_late = reign < *last;
        *last = reign.max(*last);
        // A store without its tail may not know who came to the lease last: for the
        // life of a lease there may be two.
        let may_be_two = self.tail_was_lost && now - self.tail_lost_at < SERVICE_TTL_S * SECOND;
        if is_late && !may_be_two {
            self.broken(Property::Successor, now, || {
                let job = names::number(job);
                format!("{scheduler:?} wrote the record of job {job} over that of its successor")
            });
        }
    }

    /// An agent process hears of an epoch; whether it is the highest it knows.
    pub(crate) fn hears(&mut self, agent: Life, epoch: u64) -> bool {
        let known = self.epochs.entry(agent).or_default();
        let is_current = epoch >= *known;
        *known = (*known).max(epoch);
        is_current
    }
}

/// What a chain holds.
#[derive(Debug, Default)]
struct Summary {
    next: u64,
    attempt: u32,
    owner: Option<Life>,
    has_ended: bool,
}

impl Summary {
    fn of(chain: &[Stored]) -> Self {
        let mut summary = Self::default();
        for stored in chain {
            let _ = summary.add(stored, true);
        }
        summary
    }

    fn add(&mut self, new: &Stored, by_scheduler: bool) -> Option<(Property, String)> {
        if self.has_ended {
            return Some((
                Property::OneFinal,
                "something was stored behind its final".to_owned(),
            ));
        }
        let mut broken = None;
        let mut look = |condition: bool, property, what: &dyn Fn() -> String| {
            if !condition && broken.is_none() {
                broken = Some((property, what()));
            }
        };
        match &new.entry {
            Entry::Mark(mark) => {
                self.attempt = mark.attempt;
                self.owner = Some(names::life_of(&mark.instance));
                return None;
            }
            Entry::Frame(frame) => {
                let (next, found) = (self.next, frame.index);
                look(next == found, Property::Whole, &|| {
                    format!("piece {found} was stored where {next} was due")
                });
                self.next = found + frame.pieces.len() as u64;
            }
            Entry::Restart(restart) => self.next = restart.index + 1,
            Entry::Final(_) => self.has_ended = true,
        }
        let is_theirs = by_scheduler && matches!(new.entry, Entry::Final(_));
        if !is_theirs {
            let (open, found) = (self.attempt.max(1), new.entry.attempt());
            look(open == found, Property::Fence, &|| {
                format!("attempt {found} wrote while {open} was open")
            });
            let owner = *self.owner.get_or_insert(new.by);
            let by = new.by;
            look(owner == by, Property::Fence, &|| {
                format!("{by:?} wrote for attempt {found} of {owner:?}")
            });
        }
        broken
    }
}
