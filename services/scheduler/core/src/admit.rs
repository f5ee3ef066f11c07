//! Whether a job may enter: every check in the order that callers rely on.

mod guard;
mod queue;
mod serve;

pub(crate) use queue::dropped;

use crate::Now;
use crate::forecast::Forecast;
use crate::state::ClusterState;
use orchion_contract::job::Submit;
use orchion_contract::{ErrorBody, JobId};

/// What a newcomer is asked, first to last; the first refusal is the answer.
///
/// Authentication is the gateway's; that a known id with an equal request gets
/// its first answer again comes before all of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Is the request small enough?
    Size,
    /// Does it stay inside what the model can do?
    GuardRails,
    /// Can it be met in time?
    Deadline,
    /// Has its session turns left?
    Session,
    /// Is its budget not used up?
    Budgets,
    /// Do the places it names exist?
    Placement,
    /// Is there anybody who can do it?
    Feasibility,
    /// Has its caller not asked too often?
    RateLimit,
    /// Has the queue of its pool room?
    Capacity,
}

/// The order of the checks.
pub const ORDER: [Check; 9] = [
    Check::Size,
    Check::GuardRails,
    Check::Deadline,
    Check::Session,
    Check::Budgets,
    Check::Placement,
    Check::Feasibility,
    Check::RateLimit,
    Check::Capacity,
];

/// A job that may enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry {
    /// The waiting job that has to go for it.
    pub drops: Option<JobId>,
}

/// What a check looks at.
struct Ask<'a> {
    submit: &'a Submit,
    state: &'a ClusterState,
    /// The queue run forward; `None` when nothing waits.
    forecast: Option<&'a Forecast>,
    now: Now,
}

impl Ask<'_> {
    /// Whether it has a slot already, and wants no place in the queue.
    fn has_slot(&self) -> bool {
        let ordered = self.submit.ordered.as_ref();
        ordered.is_some_and(|ordered| ordered.declined.is_none())
    }
}

/// Checks a new job. `forecast` is that of its pool, while anything waits there.
///
/// # Errors
/// The first check that fails, with what to do about it.
pub fn admit(
    submit: &Submit,
    state: &ClusterState,
    forecast: Option<&Forecast>,
    now: Now,
) -> Result<Entry, ErrorBody> {
    let ask = Ask {
        submit,
        state,
        forecast,
        now,
    };
    let mut entry = Entry::default();
    for check in ORDER {
        match check {
            Check::Size => guard::size(&ask)?,
            Check::GuardRails => guard::rails(&ask)?,
            Check::Deadline => guard::deadline(&ask)?,
            Check::Placement => serve::placement(&ask)?,
            Check::Feasibility => serve::feasibility(&ask)?,
            Check::Capacity => entry.drops = queue::capacity(&ask)?,
            // Nothing limits them yet; this is where they are asked.
            Check::Session | Check::Budgets | Check::RateLimit => {}
        }
    }
    Ok(entry)
}
