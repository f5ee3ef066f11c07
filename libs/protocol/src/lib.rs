//! Looks at every interleaving of the job protocol, with every fault.
//!
//! The model is one job of three tokens, two schedulers, two agents, the store
//! and a network that delays, loses and doubles. What it is made of:
//!
//! - **the product's own machines**: the transcript's `Writer`, `Reader` and
//!   `Prefix`, the agent's `Ledger`, the record's `Ledger`, and what the
//!   scheduler's core makes of an end, of an answer to an order and of a
//!   takeover (`after_end`, `after_reply`, `adopt`);
//! - **a model of the shells around them** (`scheduler.rs`, `agent.rs`): which
//!   effect is performed when, what is forgotten when a session or a process
//!   ends. They take each step on its own and in any order, so they can do more
//!   than the product, never less: any node may be chosen at any time, and a
//!   scheduler that lost its lease goes on until it notices.
//!
//! A read takes place at once: what was read late is what was read early and
//! acted upon late, and every message may be late. Time does not exist: what a
//! time limit would do may happen at any moment. Readers change nothing, so
//! every chain is read in every way instead (`readers.rs`).
//!
//! Left out: several jobs (slots, queue, placement: the simulator's subject),
//! deadlines (they take the way of a cancel), a store that lost its tail, and what an
//! engine makes of a beginning (a token here is its place and its maker).
//!
//! Every history begins twice: with an answer that is streamed, and with a brief one,
//! whose order is answered with its end and whose first record waits for that.
//!
//! And both begin once more with the order: the gateway has sent the first attempt to
//! a slot that it was granted, and tells the scheduler when it likes, or of a brief
//! answer never. Nobody knows of the job before, so the order of such a history is
//! under way from the beginning; under a grant that is out of date it comes late. An
//! agent may have heard of a newer scheduler by orders for other jobs. A caller who hangs
//! up lets the gateway tell the agent, beside the scheduler. That the gateway
//! is so late that the scheduler repeats its order first, or stops the attempt as a
//! stranger's, takes a fault: a message that is late, or another scheduler.
//!
//! The lease has a model of its own, with time: [`lease`].

mod agent;
mod faults;
pub mod lease;
pub mod liveness;
mod model;
mod property;
mod readers;
mod real;
mod scheduler;
mod state;
mod wire;

pub use faults::{Faults, Planted};
pub use model::{Action, Beginning, Protocol};
pub use state::State;
