//! The transcript of a job, read and written.
//!
//! A transcript is a chain: every entry was accepted because it named the one
//! before it. [`Reader`] turns entries into what a caller sees, [`Writer`]
//! turns what an engine says into entries, and [`Prefix`] is what a later
//! attempt finds. All three are pure: no clock, no bus, no task.
#![warn(missing_docs)]

mod parts;
mod prefix;
mod reader;
mod writer;

pub use prefix::Prefix;
pub use reader::{Error, Reader, Shown};
pub use writer::{Effect, Stop, Writer};
