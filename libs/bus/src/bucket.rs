//! Buckets with typed keys and values; every write is a compare-and-set.

use crate::connect::Bus;
use crate::error::{AppendError, Error};
use crate::publish::encode;
use crate::read::{From, Reading, Stored};
use bytes::Bytes;
use orchion_contract::buckets::Bucket;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

/// A value and the revision that wrote it.
#[derive(Debug, Clone)]
pub struct Versioned<V> {
    /// The value; `None` for a key that was deleted or has expired.
    pub value: Option<V>,
    /// The revision to expect when overwriting.
    pub revision: u64,
}

/// What a watch tells.
#[derive(Debug)]
pub enum Change<K, V> {
    /// A key has this value now, or none any more.
    Set {
        /// The key.
        key: K,
        /// Value and revision.
        found: Versioned<V>,
    },
    /// Everything that stood in the bucket at the beginning has been told.
    Loaded,
}

/// A bucket, opened.
pub struct Kv<K, V> {
    bus: Bus,
    bucket: Bucket<K, V>,
    stream: String,
    prefix: String,
}

impl<K, V> Clone for Kv<K, V> {
    fn clone(&self) -> Self {
        Self {
            bus: self.bus.clone(),
            bucket: self.bucket,
            stream: self.stream.clone(),
            prefix: self.prefix.clone(),
        }
    }
}

impl Bus {
    /// Opens a bucket.
    #[must_use]
    pub fn bucket<K: Display + FromStr, V>(&self, bucket: Bucket<K, V>) -> Kv<K, V> {
        let name = bucket.spec().name;
        Kv {
            bus: self.clone(),
            bucket,
            stream: format!("KV_{name}"),
            prefix: format!("$KV.{name}."),
        }
    }
}

impl<K: Display + FromStr, V: Serialize + DeserializeOwned> Kv<K, V> {
    /// The value and revision of a key; `None` when it was never written.
    ///
    /// # Errors
    /// When no answer came, or the value is not what the contract says.
    pub async fn get(&self, key: &K) -> Result<Option<Versioned<V>>, Error> {
        let stored = self.bus.last(&self.stream, &self.subject(key)).await?;
        stored.map(|stored| versioned(&stored)).transpose()
    }

    /// The revision to expect when writing a key, whatever it holds now; 0 when
    /// it was never written.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn revision(&self, key: &K) -> Result<u64, Error> {
        let stored = self.bus.last(&self.stream, &self.subject(key)).await?;
        Ok(stored.map_or(0, |stored| stored.sequence))
    }

    /// Writes a value if the key's revision is `expected` (0: never written).
    /// With a TTL the value expires by itself; a TTL has whole seconds.
    ///
    /// # Errors
    /// [`AppendError::WrongSequence`] when somebody else wrote meanwhile.
    pub async fn set(
        &self,
        key: &K,
        value: &V,
        expected: u64,
        ttl: Option<Duration>,
    ) -> Result<u64, AppendError> {
        let subject = self.subject(key);
        let payload = payload(&subject, value)?;
        self.bus.append_for(&subject, payload, expected, ttl).await
    }

    /// Writes the last values of several keys, each if its revision is the one
    /// expected; they expire by themselves. Nobody hears which of them somebody
    /// else has overwritten before: it stays as it is.
    ///
    /// # Errors
    /// When nobody knows what came of them, or the store takes nothing now.
    pub async fn set_all<'a>(
        &self,
        values: impl IntoIterator<Item = (&'a K, &'a V, u64)>,
        ttl: Duration,
    ) -> Result<(), AppendError>
    where
        K: 'a,
        V: 'a,
    {
        let append = |(key, value, expected)| {
            let subject = self.subject(key);
            let payload = payload(&subject, value)?;
            Ok((subject, payload, expected))
        };
        let appends: Result<Vec<_>, AppendError> = values.into_iter().map(append).collect();
        self.bus.append_all(appends?, ttl).await
    }

    /// Deletes a key if its revision is `expected`; its marker stays.
    ///
    /// # Errors
    /// When somebody else wrote meanwhile, or no answer came.
    pub async fn delete(&self, key: &K, expected: u64) -> Result<u64, AppendError> {
        self.bus.append_marker(&self.subject(key), expected).await
    }

    /// The keys whose values were written after revision `after` and do not expire
    /// by themselves, with their revisions, and the last revision of all. Values
    /// are not read. A store that has forgotten `after` is looked at from its
    /// beginning.
    ///
    /// # Errors
    /// When the bucket cannot be read.
    pub async fn lasting(&self, after: u64) -> Result<(Vec<(K, u64)>, u64), Error> {
        let last = self.bus.last_sequence(&self.stream).await?;
        let after = if last < after { 0 } else { after };
        let filter = format!("{}>", self.prefix);
        let mut heads = self.bus.heads(&self.stream, &filter, after).await?;
        let (mut keys, mut upto) = (Vec::new(), after);
        let mut left = heads.initially;
        while left > 0 {
            let head = heads.next().await?;
            left = (left - 1).min(head.pending);
            upto = head.sequence;
            let name = head.subject.strip_prefix(&self.prefix).unwrap_or_default();
            if !head.is_marker && !head.expires {
                keys.extend(self.bucket.parse(name).map(|key| (key, head.sequence)));
            }
        }
        Ok((keys, upto))
    }

    /// Tells every key as it stands, then [`Change::Loaded`], then every change.
    ///
    /// # Errors
    /// When the bucket cannot be read.
    pub async fn watch(&self) -> Result<Watch<K, V>, Error> {
        let reading = self
            .bus
            .read(
                &self.stream,
                &format!("{}>", self.prefix),
                From::LastPerSubject,
            )
            .await?;
        let loading = reading.initially;
        Ok(Watch {
            kv: self.clone(),
            reading,
            loading: Some(loading),
        })
    }

    fn subject(&self, key: &K) -> String {
        format!("{}{}", self.prefix, self.bucket.key(key))
    }
}

fn payload<V: Serialize>(subject: &str, value: &V) -> Result<Bytes, AppendError> {
    encode(subject, value).map_err(|error| AppendError::Full {
        subject: subject.to_owned(),
        reason: error.to_string(),
    })
}

fn versioned<V: DeserializeOwned>(stored: &Stored) -> Result<Versioned<V>, Error> {
    let value = if stored.is_marker {
        None
    } else {
        let parsed = serde_json::from_slice(&stored.payload);
        Some(parsed.map_err(|error| Error::payload(&stored.subject, error))?)
    };
    Ok(Versioned {
        value,
        revision: stored.sequence,
    })
}

/// A watch over a whole bucket.
pub struct Watch<K, V> {
    kv: Kv<K, V>,
    reading: Reading,
    /// Entries of the beginning that are still to come; `None` once told.
    loading: Option<u64>,
}

impl<K: Display + FromStr, V: Serialize + DeserializeOwned> Watch<K, V> {
    /// The next change. A key or value that is not ours is passed over.
    ///
    /// # Errors
    /// When the watch cannot be taken up again and must be opened anew.
    pub async fn next(&mut self) -> Result<Change<K, V>, Error> {
        loop {
            if self.loading == Some(0) {
                self.loading = None;
                return Ok(Change::Loaded);
            }
            let stored = self.reading.next().await?;
            if let Some(loading) = &mut self.loading {
                *loading = (*loading - 1).min(stored.pending);
            }
            let name = stored
                .subject
                .strip_prefix(&self.kv.prefix)
                .unwrap_or_default();
            let Some(key) = self.kv.bucket.parse(name) else {
                continue;
            };
            match versioned(&stored) {
                Ok(found) => return Ok(Change::Set { key, found }),
                Err(error) => {
                    tracing::warn!(%error, key = name, "passed over a value that cannot be read")
                }
            }
        }
    }
}
