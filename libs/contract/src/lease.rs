//! Leases: who is in charge, for how long (bucket `leases`).
//!
//! A lease is a key with a TTL that its holder overwrites before it expires.
//! The revision of the *acquiring* write is its epoch; renewals do not count.

use crate::UnixMs;
use crate::id::{InstanceId, ReaderId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// TTL of the leases of the single active scheduler and registry, in seconds.
pub const SERVICE_TTL_S: u64 = 2;
/// TTL of a gateway's lease in seconds: its chats end this long after its death.
pub const GATEWAY_TTL_S: u64 = 10;

/// Which lease.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeaseKey {
    /// The one active scheduler.
    Scheduler,
    /// The one active registry.
    Registry,
    /// A gateway process lives; named by its reader token.
    Gateway(ReaderId),
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheduler => f.write_str("scheduler"),
            Self::Registry => f.write_str("registry"),
            Self::Gateway(reader) => write!(f, "gateway.{reader}"),
        }
    }
}

impl FromStr for LeaseKey {
    type Err = crate::id::Invalid;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('.') {
            None if text == "scheduler" => Ok(Self::Scheduler),
            None if text == "registry" => Ok(Self::Registry),
            Some(("gateway", reader)) => Ok(Self::Gateway(reader.parse()?)),
            None | Some(_) => Err(crate::id::Invalid::Empty { what: "lease key" }),
        }
    }
}

/// What stands under a lease's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The holding process.
    pub holder: InstanceId,
    /// When it acquired the lease.
    pub acquired_ms: UnixMs,
    /// Revision of the acquiring write; 0 in that write itself.
    #[serde(default)]
    pub epoch: u64,
}
