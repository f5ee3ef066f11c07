//! Every object store, as data, and the references to what lies there.
//!
//! What is larger than a message goes into an object store, and messages carry
//! a [`BlobRef`]. Readers of logs and events may not read there.

use std::time::Duration;

use crate::UnixMs;
use crate::job::{ENDED_RETENTION_S, MAX_DEADLINE_MS};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// An object store as the server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSpec {
    /// Its name.
    pub name: &'static str,
    /// How long an object stays.
    pub max_age: Duration,
    /// How many bytes it may hold; beyond that nothing is taken.
    pub max_bytes: i64,
    /// Why it exists, and who writes it.
    pub why: &'static str,
}

/// Bodies of requests that are larger than a message. They end with their jobs.
pub const BLOBS: StoreSpec = StoreSpec {
    name: "blobs",
    max_age: Duration::from_secs(3 * 60 * 60),
    max_bytes: 2048 * 1024 * 1024,
    why: "request bodies larger than a message, by their digest; written by gateways, read by agents",
};

/// Every object store.
pub const ALL: &[StoreSpec] = &[BLOBS];

/// Largest object that a message may refer to, in bytes.
pub const MAX_BLOB_BYTES: u64 = 64 * 1024 * 1024;

/// How long one name is used for the same content, in milliseconds.
const EPOCH_MS: u64 = 60 * 60 * 1000;

/// A blob that is named in the last moment of its epoch still outlives its job.
const _: () = assert!(
    BLOBS.max_age.as_millis() as u64 > EPOCH_MS + MAX_DEADLINE_MS + ENDED_RETENTION_S * 1000
);

/// Where content lies that is too large for a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    /// Its name in the store.
    pub name: String,
    /// SHA-256 of the content, as hexadecimal digits.
    pub digest: String,
    /// Length of the content.
    pub bytes: u64,
}

impl BlobRef {
    /// The reference to `content`. Equal content has the same name within an
    /// hour, so it is stored once, and never overwritten while it is read.
    #[must_use]
    pub fn to(content: &[u8], now: UnixMs) -> Self {
        let digest = hex(&Sha256::digest(content));
        Self {
            name: format!("{digest}.{}", now / EPOCH_MS),
            digest,
            bytes: content.len() as u64,
        }
    }

    /// Whether `content` is what is meant.
    #[must_use]
    pub fn is(&self, content: &[u8]) -> bool {
        content.len() as u64 == self.bytes && hex(&Sha256::digest(content)) == self.digest
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_content_has_one_name_for_an_hour() {
        let first = BlobRef::to(b"text", 0);
        assert_eq!(BlobRef::to(b"text", EPOCH_MS - 1), first);
        let later = BlobRef::to(b"text", EPOCH_MS);
        assert_ne!(later.name, first.name);
        assert_eq!(later.digest, first.digest);
    }

    #[test]
    fn other_content_is_told_apart() {
        let blob = BlobRef::to(b"text", 0);
        assert!(blob.is(b"text"));
        assert!(!blob.is(b"tex") && !blob.is(b"tezt"));
        assert_eq!(
            blob.digest,
            "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"
        );
    }
}
