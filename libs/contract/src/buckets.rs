//! Every key-value bucket, as data, with typed keys and values.

use crate::id::{JobId, NodeId};
use crate::job::Job;
use crate::lease::{Lease, LeaseKey};
use crate::node::Node;
use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

/// A bucket as the server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSpec {
    /// Its name.
    pub name: &'static str,
    /// How long the marker of an expired key stays: longer than the longest outage of a watcher.
    pub marker_ttl: Duration,
    /// How many bytes it may hold.
    pub max_bytes: i64,
    /// Why it exists, and who alone writes it.
    pub why: &'static str,
}

/// A bucket with keys `K` and values `V`.
#[derive(Debug)]
pub struct Bucket<K, V> {
    spec: BucketSpec,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Bucket<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Bucket<K, V> {}

impl<K: Display + FromStr, V> Bucket<K, V> {
    const fn new(spec: BucketSpec) -> Self {
        Self {
            spec,
            types: PhantomData,
        }
    }

    /// The bucket as the server sees it.
    #[must_use]
    pub const fn spec(&self) -> BucketSpec {
        self.spec
    }

    /// The key as it is stored.
    #[must_use]
    pub fn key(&self, key: &K) -> String {
        key.to_string()
    }

    /// The key as it was stored; `None` when it is not one of ours.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<K> {
        text.parse().ok()
    }
}

const MARKER: Duration = Duration::from_secs(10 * 60);
const MIB: i64 = 1024 * 1024;

/// Nodes; written by the registry alone.
pub const NODES: Bucket<NodeId, Node> = Bucket::new(BucketSpec {
    name: "nodes",
    marker_ttl: MARKER,
    max_bytes: 256 * MIB,
    why: "the last record of every node; written by the registry alone",
});
/// Jobs; written by the scheduler alone.
pub const JOBS: Bucket<JobId, Job> = Bucket::new(BucketSpec {
    name: "jobs",
    marker_ttl: MARKER,
    max_bytes: 4096 * MIB,
    why: "one record per job, prompt included while it is open; written by the scheduler alone",
});
/// Leases; each written by its holder.
pub const LEASES: Bucket<LeaseKey, Lease> = Bucket::new(BucketSpec {
    name: "leases",
    marker_ttl: MARKER,
    max_bytes: 16 * MIB,
    why: "who is in charge, with a TTL; each key written by its holder",
});

/// Every bucket.
pub const ALL: &[BucketSpec] = &[NODES.spec, JOBS.spec, LEASES.spec];
