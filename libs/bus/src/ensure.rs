//! Creates streams, buckets and object stores from the contract's tables, idempotently.

use crate::connect::Bus;
use crate::error::Error;
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{self, DiscardPolicy, StorageType};
use orchion_contract::buckets::BucketSpec;
use orchion_contract::stores::StoreSpec;
use orchion_contract::streams::{Full, StreamSpec};
use orchion_service::Stop;
use std::time::Duration;

/// Pause between two tries to create what is missing.
const PAUSE: Duration = Duration::from_millis(250);

impl Bus {
    /// [`Bus::ensure_all`], again and again until it succeeds: says what is
    /// wrong once in a while.
    ///
    /// # Errors
    /// The last refusal, when the process is asked to stop before it succeeded.
    pub async fn ensure_patiently(&self, stop: &Stop) -> Result<(), Error> {
        let mut tries = 0_u32;
        loop {
            let Err(error) = self.ensure_all().await else {
                return Ok(());
            };
            if stop.is_stopping() {
                return Err(error);
            }
            tries += 1;
            if tries.is_power_of_two() {
                let reason = crate::error::root(&error);
                tracing::warn!(reason, "{error} was refused: still trying");
            }
            stop.unless_stopped(tokio::time::sleep(PAUSE)).await;
        }
    }

    /// Creates or updates every stream, bucket and object store of the contract.
    ///
    /// # Errors
    /// When the server refuses, for want of permission or of disk space.
    pub async fn ensure_all(&self) -> Result<(), Error> {
        for spec in orchion_contract::streams::ALL {
            self.ensure_stream(spec).await?;
        }
        for spec in orchion_contract::buckets::ALL {
            self.ensure_bucket(spec).await?;
        }
        for spec in orchion_contract::stores::ALL {
            self.ensure_store(spec).await?;
        }
        Ok(())
    }

    /// Creates or updates one stream.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn ensure_stream(&self, spec: &StreamSpec) -> Result<(), Error> {
        let config = stream::Config {
            name: spec.name.to_owned(),
            description: Some(spec.why.to_owned()),
            subjects: spec
                .subjects
                .iter()
                .map(|subject| (*subject).to_owned())
                .collect(),
            max_age: spec.max_age,
            max_bytes: spec.max_bytes,
            discard: match spec.full {
                Full::RefuseNew => DiscardPolicy::New,
                Full::DropOldest => DiscardPolicy::Old,
            },
            duplicate_window: spec.duplicate_window,
            storage: StorageType::File,
            allow_direct: true,
            compression: spec.compressed.then_some(stream::Compression::S2),
            ..stream::Config::default()
        };
        let created = self.js().create_or_update_stream(config).await;
        created.map_err(|error| Error::nats(format!("create stream {}", spec.name), error))?;
        Ok(())
    }

    /// Creates or updates one bucket.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn ensure_bucket(&self, spec: &BucketSpec) -> Result<(), Error> {
        let config = kv::Config {
            bucket: spec.name.to_owned(),
            description: spec.why.to_owned(),
            history: 1,
            max_bytes: spec.max_bytes,
            storage: StorageType::File,
            limit_markers: Some(spec.marker_ttl),
            ..kv::Config::default()
        };
        let created = self.js().create_or_update_key_value(config).await;
        created.map_err(|error| Error::nats(format!("create bucket {}", spec.name), error))?;
        Ok(())
    }

    /// Creates or updates one object store: a stream of chunks and of what is
    /// known of each object, laid out as every NATS client expects it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn ensure_store(&self, spec: &StoreSpec) -> Result<(), Error> {
        let name = spec.name;
        let config = stream::Config {
            name: format!("OBJ_{name}"),
            description: Some(spec.why.to_owned()),
            subjects: vec![format!("$O.{name}.C.>"), format!("$O.{name}.M.>")],
            max_age: spec.max_age,
            max_bytes: spec.max_bytes,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            allow_rollup: true,
            allow_direct: true,
            ..stream::Config::default()
        };
        let created = self.js().create_or_update_stream(config).await;
        created.map_err(|error| Error::nats(format!("create object store {name}"), error))?;
        Ok(())
    }
}
