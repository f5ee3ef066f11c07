//! What was covered.

use std::collections::BTreeMap;
use std::fmt;

/// What happened in one life, or in many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lives.
    pub lives: u64,
    /// Jobs whose admission was confirmed.
    pub admitted: u64,
    /// Jobs that were refused.
    pub refused: u64,
    /// Jobs that their gateways have ordered by themselves.
    pub granted: u64,
    /// Those of which the scheduler heard when they had ended.
    pub untold: u64,
    /// Pieces shown to callers.
    pub pieces: u64,
    /// Attempts that an agent took.
    pub attempts: u64,
    /// Attempts that went on behind what an earlier one had stored.
    pub continued: u64,
    /// Attempts that took back what an earlier one had stored.
    pub restarted: u64,
    /// Marks stored.
    pub marks: u64,
    /// Schedulers that came into charge.
    pub takeovers: u64,
    /// Jobs that such a scheduler found open.
    pub adopted: u64,
    /// Orders that were sent again.
    pub ordered_again: u64,
    /// Appends that were refused for their sequence.
    pub fenced: u64,
    /// Answers of which callers read the rest at another gateway.
    pub resumed: u64,
    /// Chats that ended because their gateway was gone.
    pub gateways_gone: u64,
    /// Batch attempts that made room.
    pub preempted: u64,
    /// Positions that callers were told.
    pub positions: u64,
    /// Jobs by how they ended.
    pub ends: BTreeMap<&'static str, u64>,
    /// Messages lost.
    pub lost: u64,
    /// Messages that came twice.
    pub twice: u64,
    /// Events of the simulation.
    pub events: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Adds another life.
    pub fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.granted += other.granted;
        self.untold += other.untold;
        self.pieces += other.pieces;
        self.attempts += other.attempts;
        self.continued += other.continued;
        self.restarted += other.restarted;
        self.marks += other.marks;
        self.takeovers += other.takeovers;
        self.adopted += other.adopted;
        self.ordered_again += other.ordered_again;
        self.fenced += other.fenced;
        self.resumed += other.resumed;
        self.gateways_gone += other.gateways_gone;
        self.preempted += other.preempted;
        self.positions += other.positions;
        self.lost += other.lost;
        self.twice += other.twice;
        self.events += other.events;
        for (name, count) in &other.ends {
            *self.ends.entry(name).or_default() += count;
        }
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("lives", self.lives),
            ("jobs admitted", self.admitted),
            ("jobs refused", self.refused),
            ("jobs to granted slots", self.granted),
            ("ended before told", self.untold),
            ("pieces shown", self.pieces),
            ("attempts", self.attempts),
            ("answers continued", self.continued),
            ("answers begun again", self.restarted),
            ("marks", self.marks),
            ("takeovers", self.takeovers),
            ("jobs adopted", self.adopted),
            ("orders sent again", self.ordered_again),
            ("appends refused", self.fenced),
            ("answers resumed", self.resumed),
            ("chats of dead gateways", self.gateways_gone),
            ("attempts that made room", self.preempted),
            ("positions told", self.positions),
            ("messages lost", self.lost),
            ("messages twice", self.twice),
            ("events", self.events),
        ];
        for (name, count) in rows {
            writeln!(f, "{name:<24} {count:>14}")?;
        }
        for (name, count) in &self.ends {
            writeln!(f, "ended {name:<18} {count:>14}")?;
        }
        for (name, count) in &self.faults {
            writeln!(f, "fault {name:<18} {count:>14}")?;
        }
        Ok(())
    }
}
