//! All that crosses the wire, written once.
//!
//! A subject, a payload, a stream or a bucket exists here and nowhere else;
//! every other form (publish address, wildcard, permission, HTTP schema) is
//! derived from it. This crate knows no service, no NATS client and no clock.
#![warn(missing_docs)]

pub mod buckets;
pub mod error;
pub mod headers;
pub mod id;
pub mod job;
pub mod lease;
pub mod log;
pub mod node;
pub mod placement;
pub mod progress;
pub mod rpc;
pub mod stores;
pub mod streams;
pub mod subject;
pub mod subjects;
pub mod transcript;

pub use error::{ErrorBody, ErrorCode};
pub use id::{InstanceId, JobId, ModelName, NodeId, ReaderId, ReplicaId};

/// Milliseconds since the Unix epoch, as stamped by whoever wrote the message.
///
/// For people and history only: liveness and durations never compare two
/// machines' clocks.
pub type UnixMs = u64;
