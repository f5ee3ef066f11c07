//! The ways of taking up an answer, best first.

use orchion_contract::job::Usage;
use orchion_contract::transcript::Continued;
use std::collections::VecDeque;

/// A way of taking up an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Behind the token ids of the beginning: exactly where it stopped.
    Ids,
    /// Behind the text of the beginning.
    Text,
    /// Generate it again and swallow what was shown.
    Replay,
    /// Take back what was shown.
    Restart,
}

/// One way, with what the engine is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which way.
    pub way: Way,
    /// Most tokens to generate now.
    pub max_tokens: Option<u32>,
    /// Seed of the sampler.
    pub seed: Option<u64>,
    /// What the final says, if this works.
    pub continued: Continued,
}

impl Step {
    /// What the caller is told to have used, of what the engine counted for
    /// this step alone: an answer counts as if it had never been cut. Where the
    /// engine did not count, `new` tokens came behind `shown` ones.
    #[must_use]
    pub fn usage(&self, shown: u64, engine: Option<Usage>, new: u64) -> Usage {
        let counted = engine.unwrap_or_default();
        let completion_tokens = match (self.way, engine) {
            (Way::Ids | Way::Text, Some(engine)) => shown + engine.completion_tokens,
            (Way::Replay | Way::Restart, Some(engine)) => engine.completion_tokens,
            (Way::Ids | Way::Text | Way::Replay | Way::Restart, None) => shown + new,
        };
        Usage {
            completion_tokens,
            ..counted
        }
    }
}

/// Why a way does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The engine refuses the request as such.
    Refused,
    /// It cannot go on behind this beginning, or says something else.
    CannotGoOn,
    /// It failed or went away: that says nothing about the way.
    Failed,
}

/// What an attempt tries, in this order. The last is always a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder {
    steps: VecDeque<Step>,
    restart: Step,
}

impl Ladder {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>, restart: Step) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            restart,
        }
    }

    /// What is tried now.
    #[must_use]
    pub fn step(&self) -> &Step {
        self.steps.front().unwrap_or(&self.restart)
    }

    /// What may be tried yet, in this order.
    pub fn ways(&self) -> impl Iterator<Item = Way> {
        let all = self.steps.iter().chain([&self.restart]);
        all.map(|step| step.way)
    }

    /// Goes on to the next way if `obstacle` leaves one that may work; whether
    /// it did.
    pub fn step_down(&mut self, obstacle: Obstacle) -> bool {
        let may_help = match (self.step().way, obstacle) {
            // A replay asks for the very answer that a restart would ask for:
            // refused once, refused again.
            (Way::Replay, Obstacle::Refused) => false,
            (_, Obstacle::Failed) => false,
            (Way::Ids | Way::Text | Way::Replay | Way::Restart, _) => true,
        };
        may_help && self.steps.pop_front().is_some()
    }
}
