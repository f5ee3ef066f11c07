//! What an agent decides, as plain functions and machines.
//!
//! [`Ledger`] answers orders and remembers which attempts are in this agent's
//! hands, [`plan`] says what an attempt does with the beginning of an answer
//! that it finds, [`Replay`] swallows what is generated again, [`Seam`] joins
//! what goes on behind a text, [`Watchdog`] says how long an engine may take,
//! [`Pace`] whether an answer is worth streaming,
//! [`Backoff`] says when an engine that ended is started again,
//! and [`differs`] whether a host has changed enough to tell. No clock, no task, no
//! bus: time comes in as an argument.
#![warn(missing_docs)]

mod backoff;
mod change;
mod continuation;
mod ledger;
mod pace;
mod replay;
mod seam;
mod watchdog;

pub use backoff::Backoff;
pub use change::differs;
pub use continuation::{Ladder, Obstacle, Plan, Step, Way, plan};
pub use ledger::{Ledger, Order, Seat, StopOrder, Verdict};
pub use pace::Pace;
pub use replay::{Differs, Replay};
pub use seam::Seam;
pub use watchdog::Watchdog;
