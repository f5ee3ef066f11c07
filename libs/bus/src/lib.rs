//! NATS, for everybody: the only crate that knows its client.
//!
//! Everything here is generic over the contract and knows no noun: subjects,
//! requests, buckets and streams come in as typed constants. Stored facts are
//! acknowledged, and a refused publish is an error, never silence.
#![warn(missing_docs)]

mod attach;
mod blob;
mod bucket;
mod config;
mod connect;
mod consume;
mod ensure;
mod error;
mod lease;
mod log;
mod outage;
mod pages;
mod probe;
mod publish;
mod read;
mod rpc;
mod subscribe;
mod system;

pub use attach::NATS_URL_FLAG;
pub use bucket::{Change, Kv, Versioned, Watch};
pub use config::Config;
pub use connect::{Bus, Identity};
pub use consume::{Batch, Consumer, Disposition, Durable};
pub use error::{AppendError, Error};
pub use lease::LeaseHandle;
pub use probe::healthcheck;
pub use read::{From, Reading, Stored};
pub use rpc::{Endpoint, Question, Service};
pub use subscribe::{Answers, Message, Subscription};
pub use system::{ConnectionChange, ConnectionId, Connections, System};

/// Log targets that must not be shipped over the bus: shipping them would log again.
pub const QUIET_TARGETS: &[&str] = &["async_nats", "orchion_bus::log"];

/// How long a request or a publish waits for its answer.
pub const REQUEST_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);
